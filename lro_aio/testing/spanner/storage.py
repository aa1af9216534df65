"""The committed rows: tables and their indexes, in memory, in the order of their keys."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.descriptor_pool import DescriptorPool

from lro_aio.testing.spanner import wire
from lro_aio.testing.spanner.ddl import Column, CreateIndex, CreateTable, KeyPart
from lro_aio.testing.spanner.expressions import Bound, parse_expression
from lro_aio.testing.spanner.keys import encode_part, successor
from lro_aio.testing.spanner.problems import not_found
from lro_aio.testing.spanner.select import KeyRange
from lro_aio.testing.spanner.values import Type

__all__ = ["Index", "Row", "Table", "Touched"]

MOST_REMOVED = 10_000
"""Removed entries of an index that are still in its way; more are compacted away."""


class Row:
    """One version of a row; never changed."""

    __slots__ = ("_cells", "key", "values")

    def __init__(self, key: bytes, values: dict[str, Any]) -> None:
        self.key = key
        self.values = values
        self._cells: dict[str, bytes] = {}

    def then(self, values: dict[str, Any]) -> Row:
        """The next version, which keeps the encoded cells that have not changed."""
        following = Row(self.key, values)
        old = self.values
        following._cells = {name: cell for name, cell in self._cells.items() if values.get(name) == old[name]}
        return following

    def cell(self, name: str, type_: Type) -> bytes:
        """The value of a column as it goes over the wire."""
        found = self._cells.get(name)
        if found is None:
            found = self._cells[name] = wire.cell(type_, self.values[name])
        return found


class Touched(NamedTuple):
    """What the change of one row did to one index."""

    name: str
    """Of the index."""
    first: Any
    """The value of the index's first column, by which its entries are spread."""
    written: int
    deleted: int


class Index:
    """The keys of a table's rows in the order of some of their columns, and then of the primary key."""

    def __init__(
        self, name: str, rows: dict[bytes, Row], parts: Sequence[KeyPart], declared: CreateIndex | None = None
    ) -> None:
        """Over ``rows``, by primary key; ``declared`` is None for the primary key itself."""
        self.name = name
        self.parts = tuple(parts)
        self.declared = declared
        self._table = rows
        self._columns = tuple((part.column, part.descending) for part in parts)
        self._entries: list[bytes] = []
        self._keys: dict[bytes, bytes] = {}
        for row in rows.values():
            if (entry := self.entry(row.values)) is not None:
                self._keys[entry] = row.key
        self._entries = sorted(self._keys)
        self._removed: list[bytes] = []
        self._stored = tuple(declared.storing) if declared is not None else ()
        self.columns = frozenset([*(column for column, _ in self._columns), *self._stored])
        """Those that it can tell without the table's rows."""

    @property
    def null_filtered(self) -> bool:
        """Whether rows with a NULL in one of the index's columns are left out."""
        return self.declared is not None and self.declared.null_filtered

    def entry(self, values: Mapping[str, Any]) -> bytes | None:
        """The key of a row in this index; None: the index leaves it out."""
        if self.declared is not None and self.declared.null_filtered:
            for part in self.declared.key:
                if values[part.column] is None:
                    return None
        return b"".join([encode_part(values[column], descending=down) for column, down in self._columns])

    def add(self, row: Row) -> bool:
        """Add a row; returns whether the index has it."""
        entry = self.entry(row.values)
        if entry is None:
            return False
        insort(self._entries, entry)
        self._keys[entry] = row.key
        place = bisect_left(self._removed, entry)
        if self._removed[place : place + 1] == [entry]:
            del self._removed[place]
        return True

    def remove(self, row: Row) -> bool:
        """Remove a row; returns whether the index had it."""
        entry = self.entry(row.values)
        if entry is None:
            return False
        del self._entries[bisect_left(self._entries, entry)]
        del self._keys[entry]
        if self.declared is not None:
            insort(self._removed, entry)
            if len(self._removed) > MOST_REMOVED:
                self._removed.clear()
        return True

    def touch(self, old: Row | None, new: Row | None) -> Touched | None:
        """Replace a row by its next version (None: there is none); None if that changes nothing here."""
        row = new or old
        assert row is not None
        if old is not None and new is not None and self._stays(old, new):
            stored = any(old.values[column] != new.values[column] for column in self._stored)
            written, deleted = int(stored and self.entry(new.values) is not None), 0
        else:
            deleted = int(old is not None and self.remove(old))
            written = int(new is not None and self.add(new))
        first = row.values[self.parts[0].column]
        return Touched(self.name, first, written, deleted) if written or deleted else None

    def _stays(self, old: Row, new: Row) -> bool:
        return all(old.values[column] == new.values[column] for column, _ in self._columns)

    def prefix(self, values: Sequence[Any]) -> bytes:
        """The common prefix of all keys with these values in their first parts."""
        return b"".join(
            [encode_part(value, descending=down) for value, (_, down) in zip(values, self._columns, strict=False)]
        )

    def between(self, low: bytes, high: bytes | None) -> Iterator[Row]:
        """The rows from the key ``low`` up to, but not including, ``high`` (None: to the end), in order."""
        start = bisect_left(self._entries, low)
        end = len(self._entries) if high is None else bisect_left(self._entries, high, start)
        rows, keys, entries = self._table, self._keys, self._entries
        return (rows[keys[entries[position]]] for position in range(start, end))

    def scan(self, equal: Mapping[str, Any], span: KeyRange | None) -> Iterator[Row]:
        """The rows with these values in the first parts, and within ``span`` in the next one."""
        return self.between(*self._limits(equal, span))

    def walk(self, equal: Mapping[str, Any], span: KeyRange | None, work: Counter[str]) -> Iterator[Row]:
        """The same, and what it takes: the entries that are read, and the removed ones that lie between them."""
        low, high = self._limits(equal, span)
        reached: bytes | None = low
        try:
            for row in self.between(low, high):
                reached = self.entry(row.values)
                work["entries_read"] += 1
                yield row
            reached = high
        finally:
            end = len(self._removed) if reached is None else bisect_left(self._removed, reached)
            work["removed_entries_passed"] += max(0, end - bisect_left(self._removed, low))

    def _limits(self, equal: Mapping[str, Any], span: KeyRange | None) -> tuple[bytes, bytes | None]:
        prefix = self.prefix([equal[part.column] for part in self.parts[: len(equal)]])
        if span is None:
            return prefix, successor(prefix)
        return _bounds(prefix, span, descending=self.parts[len(equal)].descending)


class Table:
    """A table, as declared now, with its rows."""

    def __init__(self, declared: CreateTable, messages: DescriptorPool | None) -> None:
        self.name = declared.table
        self.rows: dict[bytes, Row] = {}
        self.indexes: dict[str, Index] = {}
        self.declare(declared, messages)

    def declare(self, declared: CreateTable, messages: DescriptorPool | None) -> None:
        """Adopt a changed declaration; ``rebuild`` adds new columns to the rows.

        Raises:
            ValueError: An expression of a column is wrong.
        """
        columns = {column.name: column for column in declared.columns}
        types = {name: column.type for name, column in columns.items()}
        bound = {
            name: parse_expression(text).bind(types, messages)
            for name, column in columns.items()
            if (text := column.generated if column.generated is not None else column.default) is not None
        }
        self.generated = _in_order(columns, bound)
        self.defaults = {name: bound[name] for name, column in columns.items() if column.default is not None}
        self.declared = declared
        self.columns = columns
        self.types = types
        self.key_columns = tuple(part.column for part in declared.primary_key)
        self.primary = Index("PRIMARY_KEY", self.rows, declared.primary_key)
        self.heads: dict[tuple[tuple[str, ...], bool], bytes] = {}
        self._names = {name.lower(): name for name in columns}

    def column(self, name: str) -> Column:
        """A column by its name, in any case.

        Raises:
            SpannerError: NOT_FOUND.
        """
        found = self.columns.get(name) or self.columns.get(self._names.get(name.lower(), ""))
        if found is None:
            raise not_found(f"Column not found in table {self.name}: {name}")
        return found

    def add_index(self, declared: CreateIndex) -> Index:
        """Create an index over the existing rows. Its entries end with the primary key."""
        parts = [*declared.key, *self.declared.primary_key]
        index = self.indexes[declared.index] = Index(declared.index, self.rows, parts, declared)
        return index

    def put(self, key: bytes, row: Row | None) -> list[Touched]:
        """Replace the row with this key (None: delete it). Returns what that did to the indexes."""
        old = self.rows.get(key)
        if old is None and row is None:
            return []
        if row is not None:
            self.rows[key] = row
        else:
            del self.rows[key]
        if old is None or row is None:
            self.primary.touch(old, row)
        return [touched for index in self.indexes.values() if (touched := index.touch(old, row)) is not None]

    def rebuild(self, now: int) -> None:
        """Add the missing columns to every row, and compute the generated ones again."""
        rows = {}
        for old in self.rows.values():
            values = {name: old.values.get(name) for name in self.columns}
            for name, default in self.defaults.items():
                if name not in old.values:
                    values[name] = default(values, now)
            for name, (compute, _) in self.generated.items():
                values[name] = compute(values, now)
            rows[old.key] = Row(old.key, values)
        self.rows = rows
        self.primary = Index("PRIMARY_KEY", rows, self.declared.primary_key)
        for name, index in self.indexes.items():
            self.indexes[name] = Index(name, rows, index.parts, index.declared)

    def head(self, names: tuple[str, ...], *, partial: bool) -> bytes:
        """The metadata of a read of these columns; built once."""
        found = self.heads.get((names, partial))
        if found is None:
            types = [self.types[name].plain for name in names]
            found = self.heads[names, partial] = wire.head(names, types, partial=partial)
        return found


def _in_order(columns: Mapping[str, Column], bound: Mapping[str, Bound]) -> dict[str, tuple[Bound, frozenset[str]]]:
    """The generated columns, each after those that it reads, with the columns that they read."""
    lower = {name.lower(): name for name in columns}
    reads = {
        name: frozenset(lower.get(read.lower(), read) for read in parse_expression(column.generated).columns)
        for name, column in columns.items()
        if column.generated is not None
    }
    ordered: dict[str, tuple[Bound, frozenset[str]]] = {}
    while len(ordered) < len(reads):
        ready = [name for name in reads if name not in ordered and not (reads[name] & reads.keys()) - ordered.keys()]
        if not ready:
            raise ValueError("Generated columns refer to each other in a cycle.")
        ordered |= {name: (bound[name], reads[name]) for name in ready}
    return ordered


def _bounds(prefix: bytes, span: KeyRange, *, descending: bool) -> tuple[bytes, bytes | None]:
    """First key in, first key out. NULL is in no range; it is the first ascending and the last descending."""
    low = None if span.low is None else prefix + encode_part(span.low, descending=descending)
    high = None if span.high is None else prefix + encode_part(span.high, descending=descending)
    low_open, high_open = span.low_open, span.high_open
    if descending:
        low, high, low_open, high_open = high, low, high_open, low_open
    first = prefix + (b"" if descending else b"\x01") if low is None else (successor(low) if low_open else low)
    if high is None:
        after = prefix + b"\xff" if descending else successor(prefix)
    else:
        after = high if high_open else successor(high)
    assert first is not None  # an encoded value has a successor: its last byte or its terminator does
    return first, after
