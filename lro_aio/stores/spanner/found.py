"""What INFORMATION_SCHEMA says about an existing table, read through any function that runs statements."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from google.protobuf import struct_pb2

from lro_aio.stores.spanner.table import MESSAGE, OPTIONAL, TTL_COLUMN, Variant, journal_of

__all__ = ["Execute", "Found", "FoundColumn", "FoundIndex", "read_schema"]


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
        return self.journal is True and all(map(self.column, OPTIONAL))

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
_PARENT = """SELECT PARENT_TABLE_NAME, ON_DELETE_ACTION
 FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @table"""
_INDEXES = """SELECT INDEX_NAME, INDEX_STATE, IS_NULL_FILTERED
 FROM INFORMATION_SCHEMA.INDEXES WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @table ORDER BY INDEX_NAME"""
_INDEX_COLUMNS = """SELECT INDEX_NAME, COLUMN_NAME, COLUMN_ORDERING
 FROM INFORMATION_SCHEMA.INDEX_COLUMNS WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @table
 ORDER BY INDEX_NAME, ORDINAL_POSITION"""
_PRIMARY = "PRIMARY_KEY"


def read_schema(execute: Execute, table: str) -> Found | None:
    """Read the schema of a table: five statements, or one if there is no such table (None).

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
    parents = list(map(_texts, execute(_PARENT, {"table": journal_of(table)})))
    return Found(
        columns=columns,
        primary_key=primary.keys if primary else (),
        indexes=indexes,
        policy=policy,
        journal=parents[0] == (table, "CASCADE") if parents else None,
    )


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
