"""Entries of the journal as rows of their table, and back; and which of them are stored already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from google.cloud.spanner_v1 import types
from google.protobuf import struct_pb2

from lro_aio.core.journal import Entry, Place
from lro_aio.stores.spanner.table import JOURNAL, JOURNAL_KEY, journal_of
from lro_aio.stores.spanner.values import blob, moment, number, values_of

__all__ = ["ENTRY", "Stored", "decode_entry", "insertions"]

ENTRY = tuple(column.name for column in JOURNAL)
"""The columns that ``decode_entry`` takes, in order. The key comes first."""

Rows = Iterable[struct_pb2.ListValue]
Owned = tuple[str, Entry]
"""An entry with the name of its operation."""


class Stored:
    """Which entries are stored already, as far as the attempts at one transaction have found out.

    They are not read before they are inserted: that would be a call more each time, and they are there in one case
    only, after a lost answer. An insert that is refused for that reason, and a journal that is full, tell to look.

    Args:
        read: Reads rows of the journal's table, by columns and keys.
    """

    def __init__(self, read: Callable[[Sequence[str], Sequence[tuple[str, ...]]], Rows]) -> None:
        self._read = read
        self.wanted: list[Owned] = []
        """What the last attempt was to insert."""
        self.places: set[Place] = set()
        """Those that are known to be taken: for good, since an entry goes with its row, and with its uid."""

    def find(self, entries: Sequence[Owned]) -> bool:
        """Whether any of these is stored already, and was not known to be. One call, or none for no entries."""
        known = len(self.places)
        if entries:
            self.places.update(map(_place_of, self._read(JOURNAL_KEY, list(map(_key_of_entry, entries)))))
        return len(self.places) > known

    def look_again(self) -> bool:
        """The same for what the last attempt was to insert."""
        return self.find(self.wanted)


def decode_entry(row: struct_pb2.ListValue) -> Owned:
    """The entry of a row of ``ENTRY``."""
    name, uid, kind, key, place, when, codec, payload = row.values
    entry = Entry(
        uid=uid.string_value,
        kind=kind.string_value,
        key=key.string_value,
        number=number(place),
        time=moment(when) or 0.0,
        codec=codec.string_value,
        payload=blob(payload),
    )
    return name.string_value, entry


def _key_of_entry(owned: Owned) -> tuple[str, str, str, str]:
    """The values of ``JOURNAL_KEY``."""
    name, entry = owned
    return name, entry.uid, str(entry.kind), entry.key


def _place_of(row: struct_pb2.ListValue) -> Place:
    """The place of an entry, from a row of ``JOURNAL_KEY``."""
    _, uid, kind, key = (value.string_value for value in row.values)
    return uid, kind, key


def insertions(table: str, entries: Iterable[Owned]) -> list[Any]:
    """The mutation that stores new entries of a table's operations; none where there are none."""
    values = [values_of(*_key_of_entry(owned), *_rest(owned[1])) for owned in entries]
    if not values:
        return []
    mutation: Any = types.Mutation.pb()()
    mutation.insert.table = journal_of(table)
    mutation.insert.columns.extend(ENTRY)
    mutation.insert.values.extend(values)
    return [mutation]


def _rest(entry: Entry) -> tuple[Any, ...]:
    return entry.number, float(entry.time), entry.codec, entry.payload
