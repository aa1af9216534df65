"""What the annotations of a handler say: the type of its state, and of what it returns."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from lro_aio.core.data import ANY_RESPONSE, ResponseType
from lro_aio.core.payloads import members_of
from lro_aio.engine.suspension import Suspended

__all__ = ["Returns", "Stateful", "returned_by", "state_of"]

PACKAGE = __name__.partition(".")[0]

_UNKNOWN: Any = object()


class Stateful:
    """Base of ``Operation``, whose first type argument is the type of the state."""


def state_of(function: Callable[..., Any]) -> Any:
    """The state's type, as the first parameter's ``Operation[S]`` says; None where it says none."""
    signature = inspect.signature(function)
    first = next(iter(signature.parameters.values()), None)
    found = _UNKNOWN if first is None else _resolved(function, first.annotation)
    if get_origin(found) is Annotated:
        found = get_args(found)[0]
    origin, arguments = get_origin(found), get_args(found)
    if not arguments or not isinstance(origin, type) or not issubclass(origin, Stateful):
        return None
    state = arguments[0]
    return None if state is types.NoneType or isinstance(state, TypeVar) else state


def returned_by(function: Callable[..., Any]) -> Any:
    """The type that a function's annotation says it returns; None where it says none, or nothing that can be stored."""
    try:
        found = _resolved(function, inspect.signature(function).return_annotation)
    except (TypeError, ValueError):  # a builtin has no signature
        return None
    members = members_of(found)
    if any(member is _UNKNOWN or isinstance(member, TypeVar) for member in members):
        return None
    try:
        ResponseType(found)
    except TypeError:
        return None
    return found


class Returns:
    """What a handler and its segments return: what was declared for all of them, or what their annotations say.

    One function that says nothing leaves it open. ``Suspended`` is no result.

    Args:
        declared: The type; None for what the annotations say.

    Raises:
        TypeError: pydantic has no schema for the declared type.
    """

    def __init__(self, declared: Any = None) -> None:
        self.type = self.declared = ANY_RESPONSE if declared is None else ResponseType(declared)
        """What they return, and what was declared: only that binds who ends the operation by hand."""
        self._open = declared is None
        self._found: list[Any] = []

    def add(self, function: Callable[..., Any]) -> None:
        """Take account of one more function."""
        if not self._open:
            return
        self._found += _results(_resolved(function, inspect.signature(function).return_annotation))
        known = self._found and _UNKNOWN not in self._found
        self.type = _lenient(self._found) if known else ANY_RESPONSE


def _results(kind: Any) -> list[Any]:
    """The members of a return type that are results."""
    members = [member for member in members_of(kind) if member is not Suspended]
    return [_UNKNOWN if isinstance(member, TypeVar) else member for member in members]


def _lenient(members: list[Any]) -> ResponseType:
    """An annotation may be a protocol, or another type that pydantic does not know: then it declares nothing."""
    try:
        return ResponseType(Union[tuple(members)])  # noqa: UP007 (the members are known at run time alone)
    except TypeError:
        return ANY_RESPONSE


def _resolved(function: Callable[..., Any], annotation: Any) -> Any:
    """An annotation as a type. Unknown where there is none, or where its names mean nothing at run time."""
    if annotation is inspect.Signature.empty:
        return _UNKNOWN
    plain: Any = inspect.unwrap(function)
    plain = getattr(plain, "func", plain)  # of a partial
    holder: Any = types.SimpleNamespace(__annotations__={"it": annotation})
    known = getattr(plain, "__globals__", {})
    try:
        return typing.get_type_hints(holder, known, _callers_names(known), include_extras=True)["it"]
    except Exception:  # noqa: BLE001 (user's names: of a type checker alone, of another Python, misspelt)
        return _UNKNOWN


def _callers_names(known: dict[str, Any]) -> dict[str, Any]:
    """The local names where a function of a module is registered: its types may be defined in another function."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        frame = frame.f_back
    return dict(frame.f_locals) if frame is not None and frame.f_globals is known else {}
