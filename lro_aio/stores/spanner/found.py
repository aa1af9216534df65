"""What INFORMATION_SCHEMA says about an existing table, read through any function that runs statements."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from google.protobuf import struct_pb2

from lro_aio.stores.spanner.queue_tables import QUEUE_TABLES, TICKETS, QueueTable
from lro_aio.stores.spanner.table import MESSAGE, TTL_COLUMN, WITH_JOURNAL, WITH_QUEUES, Variant, journal_of

__all__ = ["Execute", "Found", "FoundBeside", "FoundColumn", "FoundIndex", "read_schema"]


Execute = Callable[[str, Mapping[str, str]], Iterable[struct_pb2.ListValue]]
"""A function that runs a statement with STRING parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundColumn:
    """An existing column."""

    name: str
    type: str
    """Without backticks; for a message, just its name."""
    nullable: bool = True
    default: str = ""
    """Expression; "" for none."""
    generated: str = ""
    """Expression; "" for none."""

    @property
    def accepts_null(self) -> bool:
        """Whether an insert may leave the column out."""
        return self.nullable or bool(self.default) or bool(self.generated)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundIndex:
    """An existing secondary index."""

    name: str
    keys: tuple[str, ...] = ()
    """In order, each followed by `` DESC`` if descending."""
    storing: frozenset[str] = frozenset()
    null_filtered: bool = False
    state: str = "READ_WRITE"
    """Anything else: Spanner is still building it, and it cannot be read yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBeside:
    """An existing table with the name of one of the queues' tables."""

    columns: frozenset[tuple[str, str]]
    """Names and types."""
    below: bool = False
    """Whether it is interleaved in that of the operations, and its rows go with those."""
    indexes: Mapping[str, str] = field(default_factory=dict)
    """Their states, by their names."""

    def is_(self, table: QueueTable) -> bool:
        """Whether it is that table, apart from the indexes."""
        return self.below == table.below and self.columns >= {(column.name, column.type) for column in table.columns}

    def serves(self, table: QueueTable, operations: str) -> bool:
        """Whether it can be used as that table."""
        names = [index.name(operations) for index in table.indexes]
        return self.is_(table) and all(self.indexes.get(name) == "READ_WRITE" for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An existing table."""

    columns: Mapping[str, FoundColumn] = field(default_factory=dict)
    """By name, in the order of the table."""
    primary_key: tuple[str, ...] = ()
    indexes: Mapping[str, FoundIndex] = field(default_factory=dict)
    policy: str = ""
    """The row deletion policy; "" for none."""
    journal: bool | None = None
    """Whether the table with the name of its journal is interleaved in it; None: there is no such table."""
    queues: Mapping[str, FoundBeside] = field(default_factory=dict)
    """The tables with the names of the queues' tables, by these."""

    def column(self, name: str) -> FoundColumn | None:
        """A column by its name. Names in Spanner are not case-sensitive."""
        return next((column for column in self.columns.values() if column.name.lower() == name.lower()), None)

    @property
    def variant(self) -> Variant | None:
        """The variant, by the type of the column Operation; None: it is neither."""
        column = self.column("Operation")
        if column is None:
            return None
        if column.type.startswith("BYTES("):
            return "bytes"
        return "proto" if column.type == MESSAGE else None

    @property
    def keeps_journal(self) -> bool:
        """Whether operations can have a journal and a trail."""
        return self.journal is True and all(map(self.column, WITH_JOURNAL))

    def keeps_queues(self, table: str) -> bool:
        """Whether operations of the table of this name can wait in queues."""
        if not self.keeps_journal or not all(map(self.column, WITH_QUEUES)):
            return False
        beside = ((one, self.queues.get(one.name(table))) for one in QUEUE_TABLES)
        return all(found is not None and found.serves(one, table) for one, found in beside)

    @property
    def version(self) -> int:
        """The schema's version, from the default of SchemaVersion; 0: none, so another program made the table."""
        column = self.column("SchemaVersion")
        digits = re.search(r"\d+", column.default) if column else None
        return int(digits[0]) if digits else 0

    @property
    def other_policy(self) -> tuple[str, int] | None:
        """Column and days of a row deletion policy on another column than our expiry; None: there is none."""
        parts = _POLICY.fullmatch(self.policy.strip())
        if parts is None or parts[1].lower() == TTL_COLUMN.lower():
            return None
        return parts[1], int(parts[2])


_POLICY = re.compile(r"OLDER_THAN\s*\(\s*`?(\w+)`?\s*,\s*INTERVAL\s+(\d+)\s+DAY\s*\)", re.IGNORECASE)

_COLUMNS = """SELECT COLUMN_NAME, SPANNER_TYPE, IS_NULLABLE, COLUMN_DEFAULT, GENERATION_EXPRESSION
 FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @table ORDER BY ORDINAL_POSITION"""
_TABLES = """SELECT ROW_DELETION_POLICY_EXPRESSION
 FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @table"""
_PARENTS = """SELECT TABLE_NAME, PARENT_TABLE_NAME, ON_DELETE_ACTION
 FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = '' AND (TABLE_NAME = @journal OR TABLE_NAME = @tickets)"""
_BESIDE = " OR ".join(f"TABLE_NAME = @{one.suffix.lower()}" for one in QUEUE_TABLES)
_COLUMNS_BESIDE = f"""SELECT TABLE_NAME, COLUMN_NAME, SPANNER_TYPE
 FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = '' AND ({_BESIDE})"""  # noqa: S608 (names of parameters)
_INDEXES_BESIDE = f"""SELECT TABLE_NAME, INDEX_NAME, INDEX_STATE
 FROM INFORMATION_SCHEMA.INDEXES WHERE TABLE_SCHEMA = '' AND ({_BESIDE})"""  # noqa: S608 (names of parameters)
_INDEXES = """SELECT INDEX_NAME, INDEX_STATE, IS_NULL_FILTERED
 FROM INFORMATION_SCHEMA.INDEXES WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @table ORDER BY INDEX_NAME"""
_INDEX_COLUMNS = """SELECT INDEX_NAME, COLUMN_NAME, COLUMN_ORDERING
 FROM INFORMATION_SCHEMA.INDEX_COLUMNS WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @table
 ORDER BY INDEX_NAME, ORDINAL_POSITION"""
_PRIMARY = "PRIMARY_KEY"


def read_schema(execute: Execute, table: str) -> Found | None:
    """Read the schema of a table: seven statements, or one if there is no such table (None).

    With fine-grained access control, a role sees only the tables and columns that it may use. To a role that may not
    read the table, it does not exist; ``spanner_info_reader`` sees everything.

    Raises:
        Exception: Whatever ``execute`` raises.
    """
    columns = dict(map(_column, execute(_COLUMNS, {"table": table})))
    if not columns:
        return None
    policy = "".join(text for (text,) in map(_texts, execute(_TABLES, {"table": table})))
    indexes: dict[str, FoundIndex] = {}
    for row in execute(_INDEXES, {"table": table}):
        name, state, filtered = row.values
        indexes[name.string_value] = FoundIndex(
            name=name.string_value, state=state.string_value, null_filtered=filtered.bool_value
        )
    for index, column, ordering in map(_texts, execute(_INDEX_COLUMNS, {"table": table})):
        before = indexes.get(index) or FoundIndex(name=index)
        if ordering:
            key = f"{column} DESC" if ordering == "DESC" else column
            indexes[index] = replace(before, keys=(*before.keys, key))
        else:
            indexes[index] = replace(before, storing=before.storing | {column})
    primary = indexes.pop(_PRIMARY, None)
    wanted = {"journal": journal_of(table), "tickets": TICKETS.name(table)}
    below = {name: rest == [table, "CASCADE"] for name, *rest in map(_texts, execute(_PARENTS, wanted))}
    return Found(
        columns=columns,
        primary_key=primary.keys if primary else (),
        indexes=indexes,
        policy=policy,
        journal=below.get(journal_of(table)),
        queues=_beside(execute, table, below),
    )


def _beside(execute: Execute, table: str, below: Mapping[str, bool]) -> dict[str, FoundBeside]:
    """What there is of the queues' tables."""
    wanted = {one.suffix.lower(): one.name(table) for one in QUEUE_TABLES}
    columns: dict[str, set[tuple[str, str]]] = {}
    for name, column, type_ in map(_texts, execute(_COLUMNS_BESIDE, wanted)):
        columns.setdefault(name, set()).add((column, type_))
    if not columns:
        return {}
    indexes: dict[str, dict[str, str]] = {}
    for name, index, state in map(_texts, execute(_INDEXES_BESIDE, wanted)):
        indexes.setdefault(name, {})[index] = state
    return {
        name: FoundBeside(columns=frozenset(found), below=below.get(name, False), indexes=indexes.get(name, {}))
        for name, found in columns.items()
    }


def _column(row: struct_pb2.ListValue) -> tuple[str, FoundColumn]:
    name, type_, nullable, default, generated = _texts(row)
    message = re.fullmatch(r"(?:PROTO<)?`?([\w.`]+\.[\w`]+)>?", type_)
    return name, FoundColumn(
        name=name,
        type=message[1].replace("`", "") if message else type_,
        nullable=nullable != "NO",
        default=default,
        generated=generated,
    )


def _texts(row: struct_pb2.ListValue) -> tuple[str, ...]:
    return tuple(value.string_value for value in row.values)
