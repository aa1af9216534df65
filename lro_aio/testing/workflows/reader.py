"""Reads a definition into steps, and refuses what Workflows or this interpreter would not run.

The language is described at https://cloud.google.com/workflows/docs/reference/syntax. These parts of it are covered:

- the steps ``assign``, ``call``, ``switch``, ``for``, ``steps``, ``next``, ``return``, ``raise``, ``try`` with
  ``retry`` and ``except``, and ``parallel`` around a ``for``
- subworkflows, with parameters and their defaults
- the calls ``http.*`` with OIDC tokens, ``sys.sleep``, ``sys.log``, ``sys.now``, and the functions of ``functions.py``

A definition that uses anything else is refused with a ``DefinitionError``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml

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
    Step,
    Switch,
    Target,
    Try,
    Workflow,
)
from lro_aio.testing.workflows.expressions import DefinitionError, Evaluate, parse
from lro_aio.testing.workflows.functions import FUNCTIONS
from lro_aio.testing.workflows.values import WorkflowError, kind

__all__ = ["load", "read"]

MAX_SOURCE = 128 * 1024
"""Bytes (https://cloud.google.com/workflows/quotas)."""
MAX_ENTRIES = 50
"""Assignments of a step, and conditions of a switch, from the same page."""

_DEFAULT_RETRIES = dict(
    zip(("http.default_retry", "http.default_retry_non_idempotent"), DEFAULT_PREDICATES, strict=True)
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEP_NAME = re.compile(r"[A-Za-z0-9_]+")
_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_][A-Za-z0-9_.]*)\s*\}")
_RESERVED = ("end", "break", "continue")
_KINDS = ("assign", "call", "switch", "for", "parallel", "try", "return", "raise", "steps")
_HTTP = {"timeout", "body", "headers", "query", "auth"}
_BUILTIN: dict[str, tuple[set[str], set[str]]] = {
    **{f"http.{verb}": ({"url"}, _HTTP) for verb in ("get", "post", "put", "patch", "delete")},
    "http.request": ({"url", "method"}, _HTTP),
    "sys.log": (set(), {"data", "text", "json", "severity"}),
    "sys.now": (set(), set()),
    "sys.sleep": ({"seconds"}, set()),
}
"""The required and the optional arguments of the functions that ``functions.py`` does not have."""
_COMPANIONS = {"call": ("args", "result"), "try": ("retry", "except")}


def load(path: Path) -> Definition:
    """Read a definition from a file.

    Args:
        path: YAML or JSON.

    Raises:
        DefinitionError: It cannot be deployed.
        OSError: The file cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    if len(text.encode()) > MAX_SOURCE:
        raise DefinitionError(f"{path.name} has {len(text.encode())} bytes; the limit is {MAX_SOURCE}")
    try:
        for key in _duplicates(yaml.compose(text)):
            raise DefinitionError(f"{path.name}, line {key.start_mark.line + 1}: duplicate key {key.value!r}")
        return read(yaml.safe_load(text))
    except yaml.YAMLError as exc:
        raise DefinitionError(f"{path.name} is not YAML: {exc}") from exc


def _duplicates(node: Any) -> Iterator[Any]:
    """Keys that occur more than once in a map; the YAML reader would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key
            seen.add(key.value)
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for element in node.value:
            yield from _duplicates(element)


def read(document: Any) -> Definition:
    """Read a definition from its plain values.

    Args:
        document: A map of workflows with ``main``, or the list of its steps.

    Raises:
        DefinitionError: It cannot be deployed.
    """
    if isinstance(document, list):
        document = {"main": {"steps": document}}
    if not isinstance(document, dict) or "main" not in document:
        raise DefinitionError("a definition is a map of workflows with `main`, or a list of steps")
    expressions: list[str] = []
    parameters = {name: _parameters(str(name), body) for name, body in document.items()}
    workflows = {
        name: _Reader(str(name), parameters, expressions).workflow(document[name]["steps"]) for name in document
    }
    return Definition(workflows, tuple(expressions))


def _parameters(name: str, body: Any) -> dict[str, Evaluate | None]:
    if not _VARIABLE.fullmatch(name) or name in FUNCTIONS:
        raise DefinitionError(f"{name!r} cannot be the name of a workflow")
    if not isinstance(body, dict) or "steps" not in body or not body.keys() <= {"params", "steps"}:
        raise DefinitionError(f"{name}: a workflow has `steps`, and may have `params`")
    found: dict[str, Evaluate | None] = {}
    if not isinstance(entries := body.get("params", []), list):
        raise DefinitionError(f"{name}: `params` is a list")
    for entry in entries:
        ((parameter, default),) = entry.items() if isinstance(entry, dict) and len(entry) == 1 else ((entry, None),)
        if not isinstance(parameter, str) or not _VARIABLE.fullmatch(parameter) or parameter in found:
            raise DefinitionError(f"{name}: {parameter!r} cannot be a parameter")
        if isinstance(default, dict | list) or (isinstance(default, str) and "${" in default):
            raise DefinitionError(f"{name}: the default of {parameter!r} is not a plain value")
        found[parameter] = _constant(default) if isinstance(entry, dict) else None
    if name == "main" and len(found) > 1:
        raise DefinitionError("main: it has at most one parameter, the argument of the execution")
    return found


def _constant(value: Any) -> Evaluate:
    return lambda context: value  # noqa: ARG005 (the same in every context)


def _key(value: Any) -> str:
    if not isinstance(value, str):
        raise WorkflowError(f"the key of a map is a string, not {kind(value)}", "TypeError")
    return value


@dataclass(slots=True)
class _Scope:
    """Which variables there are in a part of a workflow.

    https://cloud.google.com/workflows/docs/reference/syntax/variables
    """

    parent: _Scope | None = None
    own: set[str] = field(default_factory=set)
    """Parameters, loop variables and caught errors."""
    assigned: set[str] = field(default_factory=set)
    shared: frozenset[str] | None = None
    """Outer variables that an iteration of a parallel step may write; None: the scope is not an iteration."""

    def knows(self, name: str) -> bool:
        return name in self.own or name in self.assigned or (self.parent is not None and self.parent.knows(name))

    def may_assign(self, name: str) -> bool:
        """False for an outer variable that an iteration of a parallel step does not share."""
        if name in self.own or self.parent is None:
            return True
        if self.shared is not None:
            return name in self.shared or not self.parent.knows(name)
        return self.parent.may_assign(name)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something is in a workflow."""

    path: str
    """Workflow and step, for messages."""
    scope: _Scope
    targets: frozenset[str] = frozenset()
    """The steps that a jump may go to."""
    parallel: bool = False

    def refuse(self, problem: str) -> NoReturn:
        raise DefinitionError(f"{self.path}: {problem}")


class _Reader:
    """Reads one workflow."""

    def __init__(self, name: str, parameters: Mapping[str, Mapping[str, Any]], expressions: list[str]) -> None:
        self._name = name
        self._parameters = parameters
        self._expressions = expressions
        self._checks: list[Callable[[], None]] = []

    def workflow(self, steps: Any) -> Workflow:
        """Read it from its steps."""
        parameters = self._parameters[self._name]
        place = _Place(self._name, _Scope(own=set(parameters)), frozenset({"end"}))
        block = self._block(steps, place)
        for check in self._checks:  # only now are all assignments known: a jump may lead to one further down
            check()
        return Workflow(parameters, block)

    # Steps

    def _block(self, steps: Any, place: _Place) -> Block:
        if (
            not isinstance(steps, list)
            or not steps
            or not all(isinstance(one, dict) and len(one) == 1 for one in steps)
        ):
            place.refuse("`steps` is a list of maps, each with the name of one step")
        names = [str(name) for one in steps for name in one]
        for name in names:
            if not _STEP_NAME.fullmatch(name) or name in _RESERVED or names.count(name) > 1:
                place.refuse(f"{name!r} cannot be the name of a step here")
        place = replace(place, targets=place.targets | frozenset(names))
        found = []
        for name, one in zip(names, steps, strict=True):
            (body,) = one.values()
            found.append(self._step(name, body, replace(place, path=f"{self._name}, step {name!r}")))
        return Block(tuple(found), {name: number for number, name in enumerate(names)})

    def _step(self, name: str, body: Any, place: _Place) -> Step:
        if not isinstance(body, dict) or not body:
            place.refuse("a step is a map")
        target = body.get("next", "")
        if not isinstance(target, str) or (target and target not in place.targets):
            place.refuse(f"there is no step {target!r} to go to from here")
        rest = {key: value for key, value in body.items() if key != "next"}
        if target and ("return" in rest or "raise" in rest):
            place.refuse("a step with `return` or `raise` cannot have `next`")
        return Step(name, self._action(rest, place) if rest else None, target)

    def _action(self, body: dict[str, Any], place: _Place) -> Action:
        kinds = [kind for kind in _KINDS if kind in body]
        if len(kinds) != 1:
            place.refuse(f"a step is one of {', '.join(_KINDS)}, not {' and '.join(map(str, body)) or 'nothing'}")
        unknown = body.keys() - {kinds[0], *_COMPANIONS.get(kinds[0], ())}
        if unknown:
            place.refuse(f"a step with `{kinds[0]}` cannot have {', '.join(sorted(map(str, unknown)))}")
        method: Callable[[dict[str, Any], _Place], Action] = getattr(self, f"_{kinds[0]}")
        return method(body, place)

    def _steps(self, body: dict[str, Any], place: _Place) -> Action:
        return self._block(body["steps"], place)

    def _assign(self, body: dict[str, Any], place: _Place) -> Action:
        entries = body["assign"]
        if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_ENTRIES:
            place.refuse(f"`assign` is a list of 1 to {MAX_ENTRIES} assignments")
        found = []
        for entry in entries:
            if not isinstance(entry, dict) or len(entry) != 1:
                place.refuse("an assignment is a map with one variable")
            ((target, value),) = entry.items()
            found.append((self._target(target, place), self._value(value, place)))
        return Assign(tuple(found))

    def _target(self, text: Any, place: _Place) -> Target:
        match = _VARIABLE.match(text) if isinstance(text, str) else None
        if match is None:
            place.refuse(f"{text!r} cannot be assigned to")
        path: list[Evaluate] = []
        rest = text[match.end() :]
        while rest:
            key = re.match(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([^\[\]]+)\]", rest)
            if key is None:
                place.refuse(f"{text!r} cannot be assigned to")
            path.append(_constant(key[1]) if key[1] else self._value(f"${{{key[2]}}}", place))
            rest = rest[key.end() :]
        self._assigns(match[0], place, new=not path)
        return Target(match[0], tuple(path))

    def _assigns(self, name: str, place: _Place, *, new: bool = True) -> None:
        """Note that a step writes a variable."""
        if new:
            place.scope.assigned.add(name)

        def check() -> None:
            if not place.scope.may_assign(name):
                place.refuse(f"{name!r} is set in a parallel step and is not shared")
            if not place.scope.knows(name):
                place.refuse(f"there is no variable {name!r} here")

        self._checks.append(check)

    def _call(self, body: dict[str, Any], place: _Place) -> Action:
        function, arguments, result = body["call"], body.get("args", {}), body.get("result", "")
        if not isinstance(arguments, dict):
            place.refuse("`args` must be a map")
        required, optional = self._signature(function, place)
        unknown, missing = arguments.keys() - required - optional, required - arguments.keys()
        if unknown or missing:
            wrong = ", ".join(sorted(map(str, unknown or missing)))
            place.refuse(f"{function} {'does not take' if unknown else 'needs'} {wrong}")
        self._check_auth(arguments.get("auth"), place)
        if result != "":
            self._variable(result, place)
            self._assigns(result, place)
        return Call(function, {name: self._value(value, place) for name, value in arguments.items()}, result)

    def _signature(self, function: Any, place: _Place) -> tuple[set[str], set[str]]:
        """The required and the optional arguments of a function or subworkflow."""
        if function in self._parameters:
            parameters = self._parameters[function]
            required = {name for name, default in parameters.items() if default is None}
            return required, set(parameters) - required
        if function in FUNCTIONS:
            return set(FUNCTIONS[function].parameters), set()
        if function not in _BUILTIN:
            place.refuse(f"there is no workflow {function!r}, and this interpreter has no such function")
        return _BUILTIN[function]

    @staticmethod
    def _check_auth(auth: Any, place: _Place) -> None:
        if auth is None:
            return
        if not isinstance(auth, dict) or auth.get("type") != "OIDC" or not auth.keys() <= {"type", "audience"}:
            place.refuse("this interpreter covers `auth` with `type: OIDC` and `audience` only")

    def _switch(self, body: dict[str, Any], place: _Place) -> Action:
        arms = body["switch"]
        if not isinstance(arms, list) or not 1 <= len(arms) <= MAX_ENTRIES:
            place.refuse(f"`switch` is a list of 1 to {MAX_ENTRIES} conditions")
        found = []
        for arm in arms:
            if not isinstance(arm, dict) or "condition" not in arm:
                place.refuse("an arm of a `switch` has a `condition`")
            inside = {key: value for key, value in arm.items() if key != "condition"}
            step = self._step("", inside, place) if inside else Step("", None, "")
            found.append((self._value(arm["condition"], place), step))
        return Switch(tuple(found))

    def _for(self, body: dict[str, Any], place: _Place) -> Action:
        inside = replace(place, scope=_Scope(place.scope), targets=place.targets | {"break", "continue"})
        return self._loop(body["for"], place, inside)

    def _loop(self, loop: Any, place: _Place, inside: _Place) -> For:
        if not isinstance(loop, dict) or not loop.keys() <= {"value", "index", "in", "range", "steps"}:
            place.refuse("`for` is a map with `value`, `index`, `steps`, and `in` or `range`")
        if "value" not in loop or "steps" not in loop or ("in" in loop) == ("range" in loop):
            place.refuse("`for` needs `value`, `steps`, and either `in` or `range`")
        for name in (loop["value"], *([loop["index"]] if "index" in loop else [])):
            self._variable(name, place)
            inside.scope.own.add(name)
        items = self._value(loop["range"] if "range" in loop else loop["in"], place)
        return For(loop["value"], loop.get("index", ""), items, "range" in loop, self._block(loop["steps"], inside))

    def _parallel(self, body: dict[str, Any], place: _Place) -> Action:
        block = body["parallel"]
        if place.parallel:
            place.refuse("this interpreter does not cover a parallel step within another")
        if not isinstance(block, dict) or "for" not in block:
            place.refuse("this interpreter covers `parallel` with `for` only")
        if not block.keys() <= {"for", "shared", "concurrency_limit", "exception_policy"}:
            place.refuse("`parallel` takes `for`, `shared`, `concurrency_limit` and `exception_policy`")
        if block.get("exception_policy", "continueAll") != "continueAll":
            place.refuse("`exception_policy` must be `continueAll`")
        shared = block.get("shared", [])
        for name in shared:
            self._variable(name, place)
            self._checks.append(partial(self._check_known, name, place))
        scope = _Scope(place.scope, shared=frozenset(shared))
        inside = _Place(place.path, scope, parallel=True)
        limit = self._value(block.get("concurrency_limit", 20), place)
        return Parallel(self._loop(block["for"], place, inside), frozenset(shared), limit)

    def _try(self, body: dict[str, Any], place: _Place) -> Action:
        inner = body["try"]
        if not isinstance(inner, dict) or "for" in inner or ("retry" not in body and "except" not in body):
            # https://cloud.google.com/workflows/docs/issues: a `for` directly after `try` cannot be deployed.
            place.refuse("`try` takes a step other than `for`, or `steps`, and needs `retry`, `except`, or both")
        retry = self._retry(body["retry"], place) if "retry" in body else None
        action = self._action(inner, place)
        if "except" not in body:
            return Try(action, retry, "", None)
        handler = body["except"]
        if not isinstance(handler, dict) or handler.keys() != {"as", "steps"}:
            place.refuse("`except` has `as` and `steps`")
        self._variable(handler["as"], place)
        inside = replace(place, scope=_Scope(place.scope, own={handler["as"]}))
        return Try(action, retry, handler["as"], self._block(handler["steps"], inside))

    def _retry(self, body: Any, place: _Place) -> Retry:
        if isinstance(body, str):
            predicate = _DEFAULT_RETRIES.get(self._reference(body))
            if predicate is None:
                place.refuse(f"`retry` is a map, or one of {', '.join(_DEFAULT_RETRIES)}")
            return Retry(predicate, *map(_constant, (5, 1, 60, 1.25)))
        if not isinstance(body, dict) or body.keys() != {"predicate", "max_retries", "backoff"}:
            place.refuse("`retry` has `predicate`, `max_retries` and `backoff`")
        predicate, backoff = self._reference(body["predicate"]), body["backoff"]
        if predicate not in DEFAULT_PREDICATES and len(self._parameters.get(predicate, ())) != 1:
            place.refuse("`predicate` is the name of a subworkflow with one parameter, as an expression")
        if not isinstance(backoff, dict) or backoff.keys() != {"initial_delay", "max_delay", "multiplier"}:
            place.refuse("`backoff` has `initial_delay`, `max_delay` and `multiplier`")
        numbers = (body["max_retries"], backoff["initial_delay"], backoff["max_delay"], backoff["multiplier"])
        return Retry(predicate, *(self._value(number, place) for number in numbers))

    @staticmethod
    def _reference(text: Any) -> str:
        """The name in an expression that is nothing but a name; "" for any other."""
        match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        return match[1] if match else ""

    def _return(self, body: dict[str, Any], place: _Place) -> Action:
        if place.parallel:
            place.refuse("this interpreter does not cover `return` within a parallel step")
        return Return(self._value(body["return"], place))

    def _raise(self, body: dict[str, Any], place: _Place) -> Action:
        if not isinstance(body["raise"], str | dict):
            place.refuse("`raise` takes a string or a map")
        return Raise(self._value(body["raise"], place))

    # Values

    def _variable(self, name: Any, place: _Place) -> None:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            place.refuse(f"{name!r} cannot be the name of a variable")

    def _value(self, value: Any, place: _Place) -> Evaluate:
        """What evaluates a value of the definition: expressions in it, at any depth, are evaluated each time."""
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                place.refuse("the keys of a map are strings")
            pairs = [(self._text(key, place), self._value(inner, place)) for key, inner in value.items()]
            return lambda context: {_key(key(context)): inner(context) for key, inner in pairs}
        if isinstance(value, list):
            items = [self._value(inner, place) for inner in value]
            return lambda context: [item(context) for item in items]
        if value is not None and not isinstance(value, bool | int | float):
            place.refuse(f"{value!r} is not a value that a workflow can have; put it in quotes")
        return _constant(value)

    def _text(self, text: str, place: _Place) -> Evaluate:
        stripped = text.strip()
        if not (stripped.startswith("${") and stripped.endswith("}")):
            if "${" in text:
                place.refuse(f"an expression must be the whole string: {text}")
            return _constant(text)
        try:
            expression = parse(stripped)
        except DefinitionError as exc:
            place.refuse(str(exc))
        self._expressions.append(stripped)
        for name in sorted(expression.variables):
            self._checks.append(partial(self._check_known, name, place))
        return expression.evaluate

    @staticmethod
    def _check_known(name: str, place: _Place) -> None:
        if not place.scope.knows(name):
            place.refuse(f"there is no variable {name!r} here")
