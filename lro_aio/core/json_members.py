"""Dataclasses that stand in a column as JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Self

from lro_aio.core.codegen import compiled
from lro_aio.core.quick import dataclass

__all__ = ["JsonMembers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonMembers:
    """Mixin: a dataclass as compact JSON; absent members take their defaults, unknown ones are ignored.

    Both so that two releases can share one store during a deploy.
    """

    text: str = field(default="", init=False, repr=False, compare=False)
    """The text that it was read from, which is written again as it is; "" where it is not remembered."""

    def to_json(self) -> str:
        """Compact JSON without the members that have their default."""
        kind: Any = type(self)
        return self.text or _encode(_told(kind)(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``."""
        kind: Any = cls
        found: Self = _decoded_before(kind, text) if len(text) <= SHORT else _decoded(kind, text)
        return found


SHORT = 512
"""Characters of a JSON text up to which its object is remembered: a row is read by a look, and again by its claim."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


def _decoded(kind: Any, text: str) -> Any:
    known = _members(kind)
    members: Mapping[str, Any] = json.loads(text)
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in members.items() if k in known})


@functools.lru_cache(maxsize=4096)
def _decoded_before(kind: Any, text: str) -> Any:
    found = _decoded(kind, text)
    object.__setattr__(found, "text", text)
    return found


@functools.cache
def _members(kind: Any) -> dict[str, Any]:
    """The members of a dataclass, and the default of each."""
    return {item.name: item.default for item in dataclasses.fields(kind) if item.init}


@functools.cache
def _told(kind: Any) -> Callable[[Any], dict[str, Any]]:
    """A function that gives the members of a dataclass that have not their default."""
    lines = ["def told(item):", "    members = {}"]
    for name, default in _members(kind).items():
        differs = "" if default is dataclasses.MISSING else f"if item.{name} != {default!r}: "
        lines.append(f"    {differs}members[{name!r}] = item.{name}")
    told: Callable[[Any], dict[str, Any]] = compiled(
        f"{__name__}, {kind.__name__}", [*lines, "    return members"], {}
    )["told"]
    return told
