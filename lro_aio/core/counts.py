"""How many there are, as far as anybody counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Count", "count_json", "total"]


@dataclass(frozen=True, slots=True, order=True)
class Count:
    """How many there are, as far as they were counted."""

    number: int
    more: bool = False
    """There are more, or may be: the number is the least that there are."""

    def __str__(self) -> str:
        return f"{self.number:,}{'+' if self.more else ''}"

    @classmethod
    def up_to(cls, found: int, most: int) -> Count:
        """The count where so many were ``found`` and nobody counts beyond ``most``. For the engine."""
        return cls(most, more=True) if found > most else cls(found)


def count_json(count: Count) -> dict[str, Any]:
    """A count as members of a JSON object; with ``more`` it is the least that there are."""
    return {"count": count.number, "more": True} if count.more else {"count": count.number}


def total(counts: Iterable[Count]) -> Count:
    """All of them together."""
    found = list(counts)
    return Count(sum(count.number for count in found), more=any(count.more for count in found))
