"""The fields of dataclasses, pydantic models and named tuples, and what they are where nothing is said."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any

__all__ = ["defaults", "field_names", "fields"]

_CLASSES = 1024
"""How many classes are looked into once."""


def field_names(kind: Any) -> tuple[str, ...] | None:
    """The names of the fields of a dataclass, pydantic model or named tuple; None for any other class."""
    return _names(kind)


@functools.lru_cache(_CLASSES)
def _names(kind: Any) -> tuple[str, ...] | None:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, tuple):
        return tuple(getattr(kind, "_fields", ())) or None
    found = getattr(kind, "model_fields", None)
    return None if found is None else tuple(found)


def fields(value: object) -> dict[str, Any] | None:
    """The fields of an instance, shallow, with the extra ones of a model; None for anything else."""
    names = field_names(type(value))
    if names is None:
        return None
    extra = getattr(value, "__pydantic_extra__", None) or {}
    return {name: getattr(value, name, None) for name in names} | extra


@functools.lru_cache(_CLASSES)
def defaults(kind: type) -> dict[str, Callable[[], Any]]:
    """What makes the default of each field that may be left out.

    The tag of a union's member (a ``Literal`` of one value) is not among them: it is the only thing that tells members
    with the same fields apart.
    """
    tags = _tags(kind)
    return {name: make for name, make in _factories(kind).items() if name not in tags}


def _factories(kind: Any) -> dict[str, Callable[[], Any]]:
    if dataclasses.is_dataclass(kind):
        found = {}
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                found[field.name] = _always(field.default)
            elif field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory
        return found
    if issubclass(kind, tuple):
        return {name: _always(value) for name, value in getattr(kind, "_field_defaults", {}).items()}
    return {
        name: functools.partial(field.get_default, call_default_factory=True)
        for name, field in getattr(kind, "model_fields", {}).items()
        if not field.is_required() and not getattr(field, "default_factory_takes_validated_data", False)
    }


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


def _tags(kind: type) -> set[str]:
    try:
        hints = typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001 (a name that is known only where the class is defined: no tag is known then)
        return set()
    literals = {name: hint.__args__ for name, hint in hints.items() if typing.get_origin(hint) is typing.Literal}
    return {name for name, values in literals.items() if len(values) == 1}
