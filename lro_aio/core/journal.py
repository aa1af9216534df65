"""The journal: what an operation has done, or was told, that must not be done or told again.

An entry belongs to one operation, by its uid. It is appended in the transaction of a change of the row, is never
changed, and goes with the row.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

from lro_aio.core.errors import InvalidTransitionError, PayloadTooLargeError, StoreSchemaError
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record

__all__ = ["MOST_ENTRIES", "Appending", "Entry", "Kind", "Place", "by_name", "key_of", "parts_of"]

MOST_ENTRIES = 10_000
"""Entries of one operation, unless ``Limits.entries`` says otherwise."""

Place = tuple[str, str, str]
"""(uid, kind, key): what no two entries have in common."""


class Kind(enum.StrEnum):
    """What an entry keeps."""

    STEP = "STEP"
    """The result of a step."""
    TIMER = "TIMER"
    """When a sleep with a name ends."""
    MESSAGE = "MESSAGE"
    """What was sent to the operation."""
    DEADLINE = "DEADLINE"
    """When a wait for a message or for other operations times out."""
    TIMEOUT = "TIMEOUT"
    """That it did."""
    RETRY = "RETRY"
    """A step failed and is tried again; when, and why."""
    RECEIVED = "RECEIVED"
    """How many messages of each topic the segments up to here have received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry. Order and owner are given to it when it is appended."""

    kind: str
    """A ``Kind``, or one of a newer release."""
    key: str
    """Tells it from the others of its kind: ``key_of``."""
    time: float
    """Epoch seconds."""
    payload: bytes = field(default=b"", repr=False)
    codec: str = ""
    """How to read the payload; "" for none."""
    uid: str = ""
    """The operation's."""
    number: int = 0
    """Its place among the operation's entries, which count from 1."""

    @property
    def size(self) -> int:
        """Approximate bytes, for the caps of a batch."""
        return len(self.payload) + len(self.key) + 128


class Appending:
    """The entries of one transaction.

    Args:
        stored: Of what is to be appended, the places that are taken already.
        missing: Why the store has no journal; "" where it has one.
    """

    def __init__(self, stored: Iterable[Place] = (), *, missing: str = "") -> None:
        self._taken = set(stored)
        self._missing = missing
        self._appended: list[tuple[str, Entry]] = []
        self.too_many: list[tuple[str, Entry]] = []
        """What was refused because there would be too many, each with the name of its operation. Not of those that
        turn out to be stored: for a store that does not know ``stored`` beforehand."""

    def append(self, row: Record, entries: Sequence[Entry], most: int) -> Record:
        """Append what is not there yet; returns the row that counts it, or the same row where there is nothing new.

        Args:
            row: The operation's.
            entries: In their order.
            most: Entries that the journal may have then.

        Raises:
            StoreSchemaError: The store has no journal.
            InvalidTransitionError: Another program drives the operation.
            PayloadTooLargeError: There would be more than ``most`` entries. Nothing is appended.
        """
        if self._missing:
            raise StoreSchemaError(self._missing)
        if row.foreign:
            raise InvalidTransitionError(row.name, row.state, "append to the journal")
        new: dict[Place, Entry] = {}
        for entry in entries:
            place = (row.uid, entry.kind, entry.key)
            if place not in self._taken and place not in new:
                new[place] = replace(entry, uid=row.uid, number=row.entries + len(new) + 1)
        if not new:
            return row
        if row.entries + len(new) > most:
            self.too_many += [(row.name, entry) for entry in new.values()]
            raise PayloadTooLargeError("entries", row.entries + len(new), most)
        self._taken.update(new)
        self._appended += [(row.name, entry) for entry in new.values()]
        return row.evolve(entries=row.entries + len(new))

    def left(self, rows: Mapping[str, Record | None]) -> list[tuple[str, Entry]]:
        """What is to be stored, each with the name of its operation: nothing of a row that is gone again."""
        kept = []
        for name, entry in self._appended:
            row = rows.get(name)
            if row is not None and row.uid == entry.uid:
                kept.append((name, entry))
        return kept


def by_name(found: Iterable[tuple[str, Entry]]) -> dict[str, list[Entry]]:
    """The journals of operations: their entries, found with the operations' names, each in the order of its numbers."""
    journals: dict[str, list[Entry]] = {}
    for name, entry in found:
        journals.setdefault(name, []).append(entry)
    for entries in journals.values():
        entries.sort(key=lambda entry: entry.number)
    return journals


def key_of(name: str, key: str | None = None) -> str:
    """The key of an entry with a name, and perhaps with a key of its own. A name has no line break."""
    return name if key is None else f"{name}\n{key}"


def parts_of(key: str) -> tuple[str, str]:
    """The name and the own key ("" for none) in the key of an entry."""
    name, _, own = key.partition("\n")
    return name, own
