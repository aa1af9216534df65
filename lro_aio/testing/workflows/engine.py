"""The engine of the package ``workflows-emulator``, with its gaps bridged.

The engine's module is loaded a second time under a name of our own, and what differs from the service is replaced in
that copy; whoever uses the package beside us is not affected. Kept: the reading and the schema of definitions, lists of
steps and jumps, subworkflows and their parameters, ``for``, ``raise``, ``return``, ``steps``, and the functions of
``text``, ``math``, ``json``, ``time``, ``uuid``, ``base64``. Replaced, and what the engine does:

- expressions: see ``expressions.py``.
- ``assign``: an error in it leaves a lock of the whole process held.
- ``call``: OIDC is not implemented; connection errors escape ``try``; HTTP errors are tagged ``HTTPError``; sleeping
  and the time are the machine's.
- ``try``, ``retry``: the initial delay is ignored, and reaching the longest delay ends the retries.
- ``switch``: an arm that matches and has no ``next`` goes on with the arms below it.
- ``parallel``: iterations share their variables and run all at once.
- ``next`` beside ``try``, ``for``, ``steps`` is ignored.
- limits: steps, memory, expressions, sleeps and answers are not bounded.

A step is counted for every name in a list of steps, for every iteration of a parallel step and for every retry, blocks
such as ``try`` and ``for`` too: if anything more than the service counts. Not there: connectors, callbacks, OAuth2, a
``return`` of null before the end of a list, private services.
"""

from __future__ import annotations

import contextvars
import importlib
import importlib.util
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from lro_aio.testing.workflows.expressions import UndefinedError, expressions, library, parse, render

__all__ = ["ENDED", "Host", "WorkflowError", "load", "run"]

MAX_STEPS = 100_000
MAX_MEMORY = 512 * 1024
MAX_SLEEP = 31_536_000
MAX_PARALLEL = 20
"""Limits of the service (https://cloud.google.com/workflows/quotas)."""

ENGINE = "workflows_emulator"
INSTALL = (
    "pip install --no-deps workflows-emulator==1.10.0 and"
    " pip install addict cryptography google-re2 jsonschema pyyaml requests typeguard"
)
STEP = dict[str, Any]
ENDED = (None, None)
"""(next, return) of a step that says neither."""


class Host(Protocol):
    """What an execution stands on."""

    def now(self) -> float:
        """Epoch seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return so many seconds later."""
        ...

    def request(self, method: str, args: dict[str, Any]) -> dict[str, Any]:
        """Carry an HTTP call out.

        Raises:
            WorkflowError: It failed, in the service's words.
        """
        ...

    def log(self, entry: dict[str, Any]) -> None:
        """Take what ``sys.log`` was given."""
        ...

    def step(self, name: str) -> int:
        """A step begins; returns how many have."""
        ...

    def memory(self, used: int) -> None:
        """So many bytes of variables are held."""
        ...

    def branches(self, count: int) -> Callable[[], None]:
        """So many branches begin and their parent waits; each calls the result at its end."""
        ...


class WorkflowError(Exception):
    """An error that a workflow can catch, as the map that it gets to see."""

    def __init__(self, message: str, *tags: str, **more: Any) -> None:
        super().__init__(message)
        self.payload: dict[str, Any] = {"message": message, "tags": list(tags), **more}


class ResourceLimitError(Exception):
    """A limit that ends the execution."""


_host: contextvars.ContextVar[Host] = contextvars.ContextVar("lro_aio_workflow_host")
_library: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("lro_aio_workflow_library")


def load(path: Path) -> dict[str, Any]:
    """Read a definition, check it against the engine's schema, and check every expression's length and syntax.

    Raises:
        SyntaxError: An expression is none.
        Exception: As the schema's validator raises it.
    """
    definition: dict[str, Any] = _engine().load_workflow(str(path))
    for text in expressions(definition):
        parse(text)
    return definition


def run(definition: dict[str, Any], argument: Any, host: Host) -> Any:
    """Run a definition to its end, in this thread; returns its result.

    Raises:
        WorkflowError: It failed.
        Exception: It cannot be run, or came over a limit.
    """
    engine = _engine()
    _host.set(host)
    _library.set(library(_modules(), now=host.now))
    variables = Variables({name: body for name, body in definition.items() if name != "main"})
    try:
        main = definition["main"]
        for name, value in engine.get_params(main.get("params", []), {"args": argument}).items():
            variables[name] = value
        _context, target, result = engine.execute_steps_list(main["steps"], variables)
    except engine.WorkflowError as exc:
        failure = WorkflowError(str(exc))
        failure.payload = _plain(exc.payload)
        raise failure from exc
    if target not in (None, "end"):
        raise SyntaxError(f"there is no step {target!r}")
    return result


def _plain(payload: Any) -> Any:
    """The engine's maps have members of their own, and see context variables."""
    if isinstance(payload, dict):
        return {key: _plain(value) for key, value in dict.items(payload)}
    return [_plain(item) for item in payload] if isinstance(payload, list) else payload


class Variables(dict[str, Any]):
    """The variables of the main workflow: what they hold is measured."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lock = threading.RLock()
        self._sizes: dict[str, int] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        with self.lock:
            super().__setitem__(name, value)
            self._sizes[name] = _size(value)
            used = sum(self._sizes.values())
        _host.get().memory(used)
        if used > MAX_MEMORY:
            raise ResourceLimitError(f"the variables hold {used} bytes")

    def pop(self, name: str, *default: Any) -> Any:
        """Forget a variable."""
        with self.lock:
            self._sizes.pop(name, None)
            return super().pop(name, *default)

    def __deepcopy__(self, memo: object) -> Variables:
        return Variables(self)  # values are never changed in place


class Branch(dict[str, Any]):
    """The variables of one iteration: its own, those of its parent to read, and the shared ones to write."""

    def __init__(self, parent: dict[str, Any], shared: Iterable[str], own: dict[str, Any]) -> None:
        super().__init__({**parent, **own})
        self.lock: threading.RLock = getattr(parent, "lock", None) or threading.RLock()
        self._parent = parent
        self._shared = frozenset(shared)
        self._foreign = frozenset(parent) - self._shared - frozenset(own)

    def __getitem__(self, name: str) -> Any:
        return self._parent[name] if name in self._shared else super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self._foreign:
            raise SyntaxError(f"{name!r} is set in a parallel step and is not shared")
        if name in self._shared:
            self._parent[name] = value
        else:
            super().__setitem__(name, value)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, dict):
        return sum(len(key) + _size(item) for key, item in value.items())
    if isinstance(value, list):
        try:
            return _size("".join(value))  # a list of names, as most are: many times faster
        except TypeError:
            return sum(map(_size, value))
    return 8


@lru_cache(maxsize=1)
def _modules() -> dict[str, Any]:
    """The engine's standard library, without what has to do with the machine."""
    names = ("text", "base64", "json", "list", "map", "math", "time", "uuid")
    return {name: importlib.import_module(f"{ENGINE}.lib.{name}_utils") for name in names}


@lru_cache(maxsize=1)
def _engine() -> Any:
    """Our copy of the engine's module, bridged."""
    try:
        spec = importlib.util.find_spec(f"{ENGINE}.main")
    except ModuleNotFoundError:
        spec = None
    own = importlib.util.spec_from_file_location(f"{__name__}.{ENGINE}", spec.origin) if spec and spec.origin else None
    if own is None or own.loader is None:
        raise ImportError(f"lro_aio.testing.FakeWorkflows needs the engine of workflows-emulator: {INSTALL}")
    module = importlib.util.module_from_spec(own)
    try:
        own.loader.exec_module(module)
    except ModuleNotFoundError as exc:
        raise ImportError(f"the engine of workflows-emulator needs {exc.name}: {INSTALL}") from exc
    _bridge(module)
    return module


def _bridge(module: ModuleType) -> None:
    engine: Any = module
    engine.render_config = _render
    engine.execute_step = _Steps(engine).execute


def _render(value: Any, variables: dict[str, Any]) -> Any:
    try:
        return render(value, variables, _library.get())
    except (UndefinedError, SyntaxError):
        raise
    except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError, RecursionError) as exc:
        raise _engine().WorkflowError(message=str(exc.args[0]), tags=[type(exc).__name__]) from exc


class _Steps:
    """What runs one step, in place of the engine's ``execute_step``."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._kinds: dict[str, Callable[[str, STEP, dict[str, Any]], tuple[Any, Any]]] = {
            "call": self._call,
            "assign": self._assign,
            "try": self._try,
            "switch": self._switch,
            "parallel": self._parallel,
        }

    def execute(self, name: str, config: STEP, variables: dict[str, Any]) -> tuple[dict[str, Any], Any, Any]:
        """Run a named step; the engine calls this."""
        self._count(name)
        return (variables, *self._run(name, config, variables))

    @staticmethod
    def _count(name: str) -> None:
        if _host.get().step(name) > MAX_STEPS:
            raise ResourceLimitError("the execution has taken more than 100,000 steps")

    def _run(self, name: str, config: STEP, variables: dict[str, Any]) -> tuple[Any, Any]:
        """Run a step that is not counted: the inside of a block."""
        for kind, action in self._kinds.items():
            if kind in config:
                target, result = action(name, config, variables)
                break
        else:
            kind_of = self._engine.get_step_executor(config)
            _context, target, result = kind_of(name, config, variables).execute()
        return (config.get("next") if target is None and result is None else target), result

    def _list(self, steps: list[STEP], variables: dict[str, Any]) -> tuple[Any, Any]:
        _context, target, result = self._engine.execute_steps_list(steps, variables)
        return target, result

    def _assign(self, name: str, config: STEP, variables: dict[str, Any]) -> tuple[Any, Any]:
        for entry in config["assign"]:
            ((variable, value),) = entry.items()
            if not variable.isidentifier():
                raise SyntaxError(f"step {name!r}: this engine sets whole variables only, not {variable!r}")
            with variables.lock if isinstance(variables, Variables | Branch) else nullcontext():
                variables[variable] = _render(value, variables)
        return ENDED

    def _call(self, _name: str, config: STEP, variables: dict[str, Any]) -> tuple[Any, Any]:
        function: str = config["call"]
        args = _render(config.get("args", {}), variables)
        result = (
            self._subworkflow(function, args, variables) if function in variables else self._builtin(function, args)
        )
        if "result" in config:
            variables[config["result"]] = result
        return ENDED

    def _subworkflow(self, function: str, args: Any, variables: dict[str, Any]) -> Any:
        inner = self._engine.keep_only_subworkflows(variables)
        workflow = variables[function]
        inner.update(self._engine.get_params(workflow.get("params", []), args))
        target, result = self._list(workflow["steps"], inner)
        if target not in (None, "end"):
            raise SyntaxError(f"there is no step {target!r} in {function!r}")
        return result

    def _builtin(self, function: str, args: dict[str, Any]) -> Any:
        host = _host.get()
        module, _, verb = function.partition(".")
        if module == "http" and verb in ("get", "post", "put", "patch", "delete", "request"):
            try:
                return host.request(verb, args)
            except WorkflowError as exc:
                raise self._engine.WorkflowError(**exc.payload) from exc
        if function == "sys.sleep":
            seconds = args["seconds"]
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SLEEP:
                raise self._engine.WorkflowError(message=f"cannot sleep {seconds!r} seconds", tags=["ValueError"])
            return host.sleep(seconds)
        if function == "sys.log":
            return host.log(args)
        raise SyntaxError(f"this engine does not call {function!r}")

    def _switch(self, name: str, config: STEP, variables: dict[str, Any]) -> tuple[Any, Any]:
        for arm in config["switch"]:
            matches = _render(arm["condition"], variables)
            if not isinstance(matches, bool):
                raise self._engine.WorkflowError(message=f"not a boolean: {arm['condition']}", tags=["TypeError"])
            if matches:
                inside = {key: value for key, value in arm.items() if key != "condition"}
                return self._run(name, inside, variables) if inside else ENDED
        return ENDED

    def _try(self, name: str, config: STEP, variables: dict[str, Any]) -> tuple[Any, Any]:
        retry = _render(config.get("retry", {}), variables)
        backoff = retry.get("backoff", {})
        delay, longest = backoff.get("initial_delay", 1), backoff.get("max_delay", 60)
        left = retry.get("max_retries", 0)
        while True:
            try:
                return self._run(name, config["try"], variables)
            except self._engine.WorkflowError as exc:
                error = _plain(exc.payload)
                if left <= 0 or not self._again(retry, error, variables):
                    if "except" not in config:
                        raise
                    break
            left -= 1
            _host.get().sleep(min(delay, longest))
            delay = min(delay * backoff.get("multiplier", 1.25), longest)
            self._count(name)
        return self._except(config["except"], error, variables)

    def _again(self, retry: dict[str, Any], error: Any, variables: dict[str, Any]) -> bool:
        predicate = retry.get("predicate")
        if predicate is None:
            return True
        inner = self._engine.keep_only_subworkflows(variables)
        inner[predicate["params"][0]] = error
        return self._list(predicate["steps"], inner)[1] is True

    def _except(self, config: STEP, error: Any, variables: dict[str, Any]) -> tuple[Any, Any]:
        variables[config["as"]] = error
        try:
            return self._list(config["steps"], variables)
        finally:
            variables.pop(config["as"], None)

    def _parallel(self, name: str, config: STEP, variables: dict[str, Any]) -> tuple[Any, Any]:
        block = config["parallel"]
        if "for" not in block:
            raise SyntaxError(f"step {name!r}: of parallel steps this engine runs `for` only")
        loop = block["for"]
        items = _render(loop["in"], variables)
        if not items:
            return ENDED
        ended = _host.get().branches(len(items))
        errors: dict[int, Any] = {}

        def iterate(index: int, item: Any) -> None:
            own = {loop["value"]: item, **({loop["index"]: index} if "index" in loop else {})}
            try:
                self._count(name)
                self._list(loop["steps"], Branch(variables, block.get("shared", ()), own))
            except self._engine.WorkflowError as exc:
                errors[index] = _plain(exc.payload)
            finally:
                ended()

        if len(items) == 1:
            contextvars.copy_context().run(iterate, 0, items[0])
            return self._joined(errors)
        limit = min(MAX_PARALLEL, block.get("concurrency_limit", MAX_PARALLEL))
        with ThreadPoolExecutor(limit, thread_name_prefix="fake-workflows-branch") as pool:
            tasks = [pool.submit(contextvars.copy_context().run, iterate, *pair) for pair in enumerate(items)]
        for task in tasks:
            task.result()
        return self._joined(errors)

    def _joined(self, errors: dict[int, Any]) -> tuple[Any, Any]:
        if errors:
            branches = [{"id": str(index), "error": error} for index, error in sorted(errors.items())]
            sentence = "One or more branches or iterations encountered an unhandled runtime error"
            raise self._engine.WorkflowError(message=sentence, tags=["UnhandledBranchError"], branches=branches)
        return ENDED
