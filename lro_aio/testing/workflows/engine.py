"""Runs a definition in the thread of its caller; the iterations of a parallel step get threads of their own.

Every step in a list of steps is counted, blocks such as ``try`` and ``for`` too, and so are the iterations of parallel
steps and the retries. If anything, that is more than the service counts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from lro_aio.testing.workflows.definition import (
    DEFAULT_PREDICATES,
    Action,
    Assign,
    Block,
    Call,
    Definition,
    For,
    Parallel,
    Raise,
    Retry,
    Return,
    Switch,
    Target,
    Try,
)
from lro_aio.testing.workflows.expressions import Context, item
from lro_aio.testing.workflows.functions import FUNCTIONS
from lro_aio.testing.workflows.values import (
    MAX_MEMORY,
    ResourceLimitError,
    UndefinedError,
    WorkflowError,
    is_number,
    kind,
    size,
)

__all__ = ["Host", "run"]

MAX_STEPS = 100_000
MAX_SECONDS = 31_536_000
"""Of an execution, and of one ``sys.sleep``: a year."""
MAX_DEPTH = 20
"""Calls of subworkflows within each other."""
MAX_PARALLEL = 20
MAX_TIMEOUT = 1800
"""Seconds of an HTTP call (https://cloud.google.com/workflows/docs/reference/stdlib/http/post).

The others are from https://cloud.google.com/workflows/quotas.
"""
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
"""https://cloud.google.com/workflows/docs/reference/stdlib/sys/log"""


T = TypeVar("T")


class Host(Protocol):
    """What an execution runs on. Iterations of parallel steps call it from several threads."""

    def now(self) -> float:
        """Epoch seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return so many seconds later."""
        ...

    def request(self, method: str, args: dict[str, Any]) -> dict[str, Any]:
        """Make an HTTP call.

        Args:
            method: In lower case; "request": the one in ``args``.
            args: The arguments of the ``http.*`` step.

        Raises:
            WorkflowError: The call failed.
        """
        ...

    def log(self, entry: dict[str, Any]) -> None:
        """Receive the arguments of a call of ``sys.log``."""
        ...

    def step(self, name: str) -> int:
        """Count a step that begins; returns how many have begun."""
        ...

    def memory(self, used: int) -> None:
        """Be told how many bytes the variables hold."""
        ...

    def branches(self, count: int) -> Callable[[], None]:
        """Be told how many threads begin to run iterations, while their parent waits for them.

        Returns:
            What each of these threads calls when it ends.
        """
        ...


def run(definition: Definition, argument: Any, host: Host) -> Any:
    """Run a definition to its end; returns its result.

    Args:
        definition: What to run.
        argument: The execution's argument, as plain values.
        host: What the execution runs on.

    Raises:
        WorkflowError: An error was not caught.
        ResourceLimitError: A limit was exceeded.
        UndefinedError: A variable was read before it had a value.
    """
    return _Execution(definition, host).run(argument)


class _Jump(NamedTuple):
    """Go to a step, or "end", "break" or "continue"."""

    target: str


class _Result(NamedTuple):
    """Return from the workflow."""

    value: Any


_Outcome = _Jump | _Result | None
"""Where a step leads; None: to the step that follows."""


class _Memory:
    """Adds up the memory of all variables of an execution."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._used = 0
        self._lock = threading.Lock()

    def change(self, difference: int) -> None:
        """A variable takes so many bytes more than before."""
        with self._lock:
            self._used += difference
            used = self._used
        self._host.memory(used)
        if difference > 0 and used > MAX_MEMORY:
            raise ResourceLimitError(f"the variables hold {used} bytes; the limit is {MAX_MEMORY}")


class _Scope:
    """The variables of a workflow, a loop, an iteration or an ``except``, with access to those around it.

    https://cloud.google.com/workflows/docs/reference/syntax/variables. Values are never changed in place, so an
    assignment can share what the service would copy. Every copy is measured all the same.
    """

    def __init__(
        self, execution: _Execution, parent: _Scope | None, *, depth: int = 0, shared: frozenset[str] | None = None
    ) -> None:
        self.execution = execution
        self.parent = parent
        self.depth: int = depth if parent is None else parent.depth
        """How deep the calls of subworkflows are nested."""
        self.shared = shared
        """Outer variables that this iteration of a parallel step may write; None: the scope is not an iteration."""
        self.values: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}

    def lookup(self, name: str) -> Any:
        """The value of a variable."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        raise UndefinedError(f"the variable {name!r} has no value yet")

    def now(self) -> float:
        """Epoch seconds."""
        return self.execution.host.now()

    def assign(self, name: str, value: Any) -> None:
        """Set the variable of this name in this scope or around it; if there is none, make one here."""
        scope: _Scope | None = self
        while scope is not None and name not in scope.values:
            beyond = scope.shared is None or name in scope.shared
            scope = scope.parent if beyond else None
        (scope or self).declare(name, value)

    def declare(self, name: str, value: Any) -> None:
        """Set a variable of this scope itself."""
        taken = size(value)
        with self.execution.lock:
            before = self._sizes.get(name, 0)
            self.values[name], self._sizes[name] = value, taken
            self.execution.memory.change(taken - before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Forget the variables."""
        self.execution.memory.change(-sum(self._sizes.values()))


class _Execution:
    def __init__(self, definition: Definition, host: Host) -> None:
        self.host = host
        self.memory = _Memory(host)
        self._workflows = definition.workflows
        self._ends = host.now() + MAX_SECONDS
        self.lock = threading.RLock()
        """Held while a variable is read and written in one go."""
        self._calls: dict[str, Callable[[dict[str, Any]], Any]] = {
            "sys.log": self._log,
            "sys.now": lambda args: self.host.now(),  # noqa: ARG005 (it takes none)
            "sys.sleep": self._sleep,
        }

    def run(self, argument: Any) -> Any:
        arguments = dict.fromkeys(self._workflows["main"].parameters, argument)
        return self._invoke("main", arguments, 0)

    def _invoke(self, name: str, arguments: Mapping[str, Any], depth: int) -> Any:
        """Call a workflow."""
        if depth > MAX_DEPTH:
            raise WorkflowError(f"calls are nested more than {MAX_DEPTH} deep", "RecursionError")
        workflow = self._workflows[name]
        with _Scope(self, None, depth=depth) as scope:
            for parameter, default in workflow.parameters.items():
                left_out = default is not None and parameter not in arguments
                scope.declare(parameter, default(scope) if default and left_out else arguments[parameter])
            outcome = self._block(workflow.block, scope)
        return outcome.value if isinstance(outcome, _Result) else None

    def _count(self, name: str) -> None:
        if self.host.step(name) > MAX_STEPS:
            raise ResourceLimitError("the execution has taken more than 100,000 steps")
        if self.host.now() >= self._ends:
            raise ResourceLimitError("the execution has lasted for a year")

    def _block(self, block: Block, scope: _Scope) -> _Outcome:
        position = 0
        while position < len(block.steps):
            step = block.steps[position]
            self._count(step.name)
            outcome = None if step.action is None else self._act(step.action, scope)
            if outcome is None and step.next:
                outcome = _Jump(step.next)
            if isinstance(outcome, _Jump) and outcome.target in block.places:
                position = block.places[outcome.target]
            elif outcome is not None:
                return outcome
            else:
                position += 1
        return None

    def _act(self, action: Action, scope: _Scope) -> _Outcome:
        match action:
            case Assign():
                self._assign(action, scope)
            case Call():
                self._call(action, scope)
            case Switch():
                return self._switch(action, scope)
            case Block():
                return self._block(action, scope)
            case Try():
                return self._try(action, scope)
            case For():
                return self._for(action, scope)
            case Parallel():
                self._parallel(action, scope)
            case Return():
                return _Result(action.value(scope))
            case Raise():
                raise WorkflowError.raised(action.value(scope))
        return None

    def _assign(self, action: Assign, scope: _Scope) -> None:
        for target, value in action.entries:
            with self.lock:
                scope.assign(target.name, self._placed(target, value(scope), scope))

    @staticmethod
    def _placed(target: Target, value: Any, scope: _Scope) -> Any:
        """The value of a variable, changed at one place in it."""
        if not target.path:
            return value
        keys = [key(scope) for key in target.path]
        owners = [scope.lookup(target.name)]
        for key in keys[:-1]:
            owners.append(item(owners[-1], key))
        for owner, key in zip(reversed(owners), reversed(keys), strict=True):
            changed: Any = owner.copy() if isinstance(owner, dict | list) else owner
            if not (isinstance(changed, dict) and isinstance(key, str)):
                item(changed, key)  # an error if it is not there; only keys of maps may be new
            changed[key] = value
            value = changed
        return value

    def _call(self, action: Call, scope: _Scope) -> None:
        arguments = {name: value(scope) for name, value in action.arguments.items()}
        if action.function in self._workflows:
            result = self._invoke(action.function, arguments, scope.depth + 1)
        elif action.function in FUNCTIONS:
            function = FUNCTIONS[action.function]
            result = function.call(*(arguments[name] for name in function.parameters))
        elif action.function in self._calls:
            result = self._calls[action.function](arguments)
        else:
            result = self._request(action.function, arguments)
        if action.result:
            scope.assign(action.result, result)

    def _request(self, function: str, args: dict[str, Any]) -> dict[str, Any]:
        timeout = _number("timeout", args.get("timeout", 300))
        if not 0 < timeout <= MAX_TIMEOUT:
            raise WorkflowError(f"timeout is {timeout:g} seconds; the limit is {MAX_TIMEOUT}", "ValueError")
        if not isinstance(args["url"], str):
            raise WorkflowError(f"url must be a string, not {kind(args['url'])}", "TypeError")
        return self.host.request(function.removeprefix("http."), args)

    def _sleep(self, args: dict[str, Any]) -> None:
        seconds = _number("seconds", args["seconds"])
        if not 0 <= seconds <= MAX_SECONDS:
            raise WorkflowError(f"cannot sleep for {seconds:g} seconds", "ValueError")
        self.host.sleep(min(seconds, max(0.0, self._ends - self.host.now())))

    def _log(self, args: dict[str, Any]) -> None:
        said = [args[name] for name in ("data", "text", "json") if args.get(name) is not None]
        if len(said) != 1 or ("json" in args and not isinstance(args["json"], dict)):
            raise WorkflowError("sys.log takes one of data, text and json, and json must be a map", "TypeError")
        if args.get("severity", "DEFAULT") not in SEVERITIES:
            raise WorkflowError(f"severity must be one of {', '.join(SEVERITIES)}", "ValueError")
        self.host.log(args)

    def _switch(self, action: Switch, scope: _Scope) -> _Outcome:
        for condition, step in action.arms:
            matches = condition(scope)
            if not isinstance(matches, bool):
                raise WorkflowError(f"a condition must be a boolean, not {kind(matches)}", "TypeError")
            if matches:
                outcome = None if step.action is None else self._act(step.action, scope)
                return _Jump(step.next) if outcome is None and step.next else outcome
        return None

    def _for(self, action: For, scope: _Scope) -> _Outcome:
        with _Scope(self, scope) as inside:
            for index, value in enumerate(_items(action, scope)):
                outcome = self._iterate(action, index, value, inside)
                if outcome == _Jump("break"):
                    break
                if outcome is not None and outcome != _Jump("continue"):
                    return outcome
        return None

    def _iterate(self, action: For, index: int, value: Any, inside: _Scope) -> _Outcome:
        inside.declare(action.value, value)
        if action.index:
            inside.declare(action.index, index)
        return self._block(action.block, inside)

    def _try(self, action: Try, scope: _Scope) -> _Outcome:
        try:
            return self._retried(action, scope)
        except WorkflowError as exc:
            if action.handler is None:
                raise
            payload = exc.payload
        with _Scope(self, scope) as inside:
            inside.declare(action.error, payload)
            return self._block(action.handler, inside)

    def _retried(self, action: Try, scope: _Scope) -> _Outcome:
        retry = action.retry
        if retry is None:
            return self._act(action.body, scope)
        left = _number("max_retries", retry.max_retries(scope))
        longest = _number("max_delay", retry.max_delay(scope))
        delay = min(_number("initial_delay", retry.initial_delay(scope)), longest)
        multiplier = _number("multiplier", retry.multiplier(scope))
        while True:
            try:
                return self._act(action.body, scope)
            except WorkflowError as exc:
                if left <= 0 or not self._again(retry, exc.payload, scope):
                    raise
            left -= 1
            self._sleep({"seconds": delay})
            delay = min(delay * multiplier, longest)
            self._count("retry")

    def _again(self, retry: Retry, error: Any, scope: _Scope) -> bool:
        if retry.predicate in DEFAULT_PREDICATES:
            return _by_default(retry.predicate, error)
        (parameter,) = self._workflows[retry.predicate].parameters
        answer = self._invoke(retry.predicate, {parameter: error}, scope.depth + 1)
        if not isinstance(answer, bool):
            raise WorkflowError(f"a predicate must return a boolean, not {kind(answer)}", "TypeError")
        return answer

    def _parallel(self, action: Parallel, scope: _Scope) -> None:
        """https://cloud.google.com/workflows/docs/reference/syntax/parallel-steps."""
        items = _items(action.loop, scope)
        limit = _number("concurrency_limit", action.limit(scope))
        for name in action.shared:
            scope.lookup(name)
        if not items:
            return
        waiting = deque(enumerate(items))
        errors: dict[int, Any] = {}
        at_once = max(1, min(MAX_PARALLEL, int(limit), len(items)))
        ended = self.host.branches(at_once)

        def work() -> None:
            try:
                while (pair := _next(waiting)) is not None:
                    self._branch(action, *pair, scope, errors)
            except BaseException:
                waiting.clear()  # the execution is over
                raise
            finally:
                ended()

        if at_once == 1:
            work()
        else:
            with ThreadPoolExecutor(at_once, thread_name_prefix="fake-workflows-branch") as pool:
                tasks = [pool.submit(work) for _ in range(at_once)]
            for task in tasks:
                task.result()
        if errors:
            branches = [{"id": str(index), "error": error} for index, error in sorted(errors.items())]
            sentence = "One or more branches or iterations encountered an unhandled runtime error"
            raise WorkflowError(sentence, "UnhandledBranchError", branches=branches)

    def _branch(self, action: Parallel, index: int, value: Any, scope: _Scope, errors: dict[int, Any]) -> None:
        """One iteration of a parallel step."""
        self._count("iteration")
        try:
            with _Scope(self, scope, shared=action.shared) as inside:
                self._iterate(action.loop, index, value, inside)
        except WorkflowError as exc:
            errors[index] = exc.payload


def _number(name: str, value: Any) -> float:
    if not is_number(value):
        raise WorkflowError(f"{name} must be a number, not {kind(value)}", "TypeError")
    return value


def _next(waiting: deque[T]) -> T | None:
    """Take the first; None: another thread took the last."""
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _items(action: For, context: Context) -> list[Any]:
    items = action.items(context)
    if not isinstance(items, list):
        raise WorkflowError(f"a loop takes a list, not {kind(items)}", "TypeError")
    if not action.ranged:
        return items
    if len(items) != 2:
        raise WorkflowError(f"range takes a list of two numbers, not of {len(items)}", "ValueError")
    first, last = (_number("range", bound) for bound in items)
    return [first + step for step in range(max(0, int(last - first) + 1))] if last >= first else []


def _by_default(predicate: str, error: Any) -> bool:
    """https://cloud.google.com/workflows/docs/reference/syntax/retrying#default-retry-policies."""
    error = error if isinstance(error, dict) else {}
    idempotent = predicate == DEFAULT_PREDICATES[0]
    codes = (429, 502, 503, 504) if idempotent else (429, 503)
    tags = {"ConnectionFailedError"} | ({"ConnectionError", "TimeoutError"} if idempotent else set())
    return error.get("code") in codes or bool(tags & set(error.get("tags", ())))
