"""Whether a value comes back from storage as what it was: the first part of it that does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

from lro_aio.core.fields import field_names

__all__ = ["ATOMS", "Difference", "difference"]

ATOMS = frozenset({str, int, bool, float, type(None)})
"""Types without parts: nobody can change an instance in place, and the interpreter alone compares many at a time."""
_ARRAYS = (list, tuple)
_MISSING: Any = object()


class Difference(NamedTuple):
    """A part that would be read back as something else."""

    path: str
    """Names of fields, keys and numbers, with dots between; "" for the whole."""
    problem: str
    """For people. It shows no value: clients may read it."""


def difference(given: Any, read: Any, *, base: bool = False) -> Difference | None:
    """The first part of a value that is read back as something else; None where all of it comes back.

    Lists and tuples with equal members are equal, as are numbers and texts of different types: JSON does not tell them
    apart. Instances of classes with fields must be of the same class. What cannot be compared counts as equal.

    Args:
        given: What was stored.
        read: What reading gives.
        base: Accept an instance of the class of which ``given``'s is a subclass, if all fields are there.
    """
    kind = type(given)
    if kind in ATOMS and kind is type(read):
        return None if _same(given, read) else _changed(given, read)
    names = field_names(kind)
    if names and (kind is type(read) or (base and isinstance(given, type(read)))):
        return _fields(given, read, names) or _keyed(_extra(given), _extra(read)) or _stray(given, read)
    if isinstance(given, dict) and isinstance(read, dict):
        return None if _plain(given.values()) and given == read else _keyed(given, read)
    if kind in _ARRAYS and type(read) in _ARRAYS and len(given) == len(read):
        if _plain(given) and (given == read or list(given) == list(read)):
            return None
        return _first(zip(count(), given, read))
    return None if _same(given, read) else _lost(given, read)


def _plain(values: Iterable[Any]) -> bool:
    return ATOMS.issuperset(map(type, values))


def _fields(given: Any, read: Any, names: Iterable[str]) -> Difference | None:
    for name in names:
        mine, theirs = getattr(given, name, _MISSING), getattr(read, name, _MISSING)
        # Most fields end here; there may be many of them.
        if mine is theirs or (type(mine) in ATOMS and type(mine) is type(theirs) and mine == theirs):
            continue
        if (found := _first([(name, mine, theirs)])) is not None:
            return found
    return None


def _extra(value: Any) -> Mapping[str, Any]:
    return getattr(value, "__pydantic_extra__", None) or {}


def _stray(given: Any, read: Any) -> Difference | None:
    """An attribute that is no field: a typo, or set in the belief that it is kept. Private ones and caches may go."""
    had, has = getattr(given, "__dict__", {}), getattr(read, "__dict__", {})
    if had.keys() <= has.keys():
        return None
    lost = (name for name in had if name not in has and not name.startswith("_") and not hasattr(type(given), name))
    name = next(lost, None)
    return None if name is None else Difference(name, f"{type(given).__name__} has no such field, and would lose it")


def _keyed(given: Mapping[Any, Any], read: Mapping[Any, Any]) -> Difference | None:
    found = _first((name, value, read.get(name, _MISSING)) for name, value in given.items()) if given else None
    if found is not None or len(given) == len(read):
        return found
    more = next(name for name in read if name not in given)
    return Difference(str(more), "it was not given, and would be read back")


def _first(parts: Iterable[tuple[Any, Any, Any]]) -> Difference | None:
    """The first difference in parts of (name, given, read)."""
    for name, given, read in parts:
        if given is read or (type(given) in ATOMS and type(given) is type(read) and given == read):
            continue
        if read is _MISSING:
            return Difference(str(name), "it would not be read back")
        found = difference(given, read)
        if found is not None:
            return Difference(f"{name}.{found.path}" if found.path else str(name), found.problem)
    return None


def _same(given: Any, read: Any) -> bool:
    try:
        if given == read or (given != given and read != read):
            return True
        compares: Any = type(given).__eq__
        return type(given) is type(read) and compares is object.__eq__
    except Exception:  # noqa: BLE001 (the user's class: it may raise anything)
        return type(given) is type(read)


def _lost(given: Any, read: Any) -> Difference:
    """What is lost of a value with parts: the first field that a base class does not have, if it is that."""
    kind, becomes = type(given), type(read)
    if isinstance(given, becomes):
        more = [name for name in field_names(kind) or () if name not in (field_names(becomes) or ())]
        if more:
            return Difference(more[0], f"{kind.__name__} would be read back as {becomes.__name__}, without this field")
    return _changed(given, read)


def _changed(given: Any, read: Any) -> Difference:
    was, becomes = type(given).__name__, type(read).__name__
    if was != becomes:
        return Difference("", f"{was} would be read back as {becomes}")
    return Difference("", f"{was} would be read back with another value")
