"""The schema as Spanner shows it: ``INFORMATION_SCHEMA`` and the statements of GetDatabaseDdl.

The columns are those of https://cloud.google.com/spanner/docs/information-schema that a client may want to ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lro_aio.testing.spanner.catalog import Catalog
from lro_aio.testing.spanner.ddl import Column, KeyPart
from lro_aio.testing.spanner.storage import Index, Table
from lro_aio.testing.spanner.values import Type

__all__ = ["COLUMNS", "rows", "statements"]

_STRING, _INT64, _BOOL = Type("STRING"), Type("INT64"), Type("BOOL")

COLUMNS: dict[str, dict[str, Type]] = {
    "TABLES": dict.fromkeys(
        (
            "TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "PARENT_TABLE_NAME", "ON_DELETE_ACTION", "TABLE_TYPE",
            "SPANNER_STATE", "INTERLEAVE_TYPE", "ROW_DELETION_POLICY_EXPRESSION",
        ),
        _STRING,
    ),
    "COLUMNS": {
        **dict.fromkeys(("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME"), _STRING),
        "ORDINAL_POSITION": _INT64,
        **dict.fromkeys(
            (
                "COLUMN_DEFAULT", "DATA_TYPE", "IS_NULLABLE", "SPANNER_TYPE", "IS_GENERATED", "GENERATION_EXPRESSION",
                "IS_STORED", "SPANNER_STATE",
            ),
            _STRING,
        ),
    },
    "INDEXES": {
        **dict.fromkeys(
            ("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "INDEX_NAME", "INDEX_TYPE", "PARENT_TABLE_NAME"), _STRING
        ),
        "IS_UNIQUE": _BOOL,
        "IS_NULL_FILTERED": _BOOL,
        "INDEX_STATE": _STRING,
        "SPANNER_IS_MANAGED": _BOOL,
    },
    "INDEX_COLUMNS": {
        **dict.fromkeys(
            ("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "INDEX_NAME", "INDEX_TYPE", "COLUMN_NAME"), _STRING
        ),
        "ORDINAL_POSITION": _INT64,
        **dict.fromkeys(("COLUMN_ORDERING", "IS_NULLABLE", "SPANNER_TYPE"), _STRING),
    },
    "COLUMN_OPTIONS": dict.fromkeys(
        (
            "TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME", "OPTION_NAME", "OPTION_TYPE", "OPTION_VALUE",
        ),
        _STRING,
    ),
}  # fmt: skip
"""The columns of each view, by its name without the schema's."""


def rows(view: str, catalog: Catalog) -> Iterator[dict[str, Any]]:
    """The rows of a view."""
    blank = dict.fromkeys(COLUMNS[view])
    for table in catalog.tables.values():
        common = {"TABLE_CATALOG": "", "TABLE_SCHEMA": "", "TABLE_NAME": table.name}
        for row in _VIEWS[view](table):
            yield {**blank, **common, **row}


def _tables(table: Table) -> Iterator[dict[str, Any]]:
    policy = table.declared.row_deletion_policy
    yield {
        "TABLE_TYPE": "BASE TABLE",
        "SPANNER_STATE": "COMMITTED",
        "ROW_DELETION_POLICY_EXPRESSION": None if policy is None else policy.text,
    }


def _columns(table: Table) -> Iterator[dict[str, Any]]:
    for position, column in enumerate(table.columns.values(), 1):
        generated = column.generated is not None
        yield {
            "COLUMN_NAME": column.name,
            "ORDINAL_POSITION": position,
            "COLUMN_DEFAULT": column.default,
            "IS_NULLABLE": _yes(not column.not_null),
            "SPANNER_TYPE": column.type.ddl,
            "IS_GENERATED": "ALWAYS" if generated else "NEVER",
            "GENERATION_EXPRESSION": column.generated,
            "IS_STORED": "YES" if generated else None,
            "SPANNER_STATE": "COMMITTED",
        }


def _indexes(table: Table) -> Iterator[dict[str, Any]]:
    for index in (table.primary, *table.indexes.values()):
        declared = index.declared
        yield {
            "INDEX_NAME": index.name,
            "INDEX_TYPE": "INDEX" if declared else "PRIMARY_KEY",
            "PARENT_TABLE_NAME": "",
            "IS_UNIQUE": declared.unique if declared else True,
            "IS_NULL_FILTERED": index.null_filtered,
            "INDEX_STATE": "READ_WRITE" if declared else None,
            "SPANNER_IS_MANAGED": False,
        }


def _index_columns(table: Table) -> Iterator[dict[str, Any]]:
    for index in (table.primary, *table.indexes.values()):
        declared = index.declared
        kind = "INDEX" if declared else "PRIMARY_KEY"
        for position, part in enumerate(declared.key if declared else index.parts, 1):
            column = table.columns[part.column]
            nullable = not column.not_null and not index.null_filtered
            yield {
                **_index_column(index, kind, column),
                "ORDINAL_POSITION": position,
                "COLUMN_ORDERING": "DESC" if part.descending else "ASC",
                "IS_NULLABLE": _yes(nullable),
            }
        for name in declared.storing if declared else ():
            column = table.columns[name]
            yield {**_index_column(index, kind, column), "IS_NULLABLE": _yes(not column.not_null)}


def _index_column(index: Index, kind: str, column: Column) -> dict[str, Any]:
    return {
        "INDEX_NAME": index.name,
        "INDEX_TYPE": kind,
        "COLUMN_NAME": column.name,
        "SPANNER_TYPE": column.type.ddl,
    }


def _column_options(table: Table) -> Iterator[dict[str, Any]]:
    for column in table.columns.values():
        for name, value in column.options:
            yield {
                "COLUMN_NAME": column.name,
                "OPTION_NAME": name,
                "OPTION_TYPE": "BOOL" if value.lower() in ("true", "false") else "STRING",
                "OPTION_VALUE": value.upper() if value.lower() in ("true", "false") else value,
            }


_VIEWS: dict[str, Callable[[Table], Iterator[dict[str, Any]]]] = {
    "TABLES": _tables,
    "COLUMNS": _columns,
    "INDEXES": _indexes,
    "INDEX_COLUMNS": _index_columns,
    "COLUMN_OPTIONS": _column_options,
}


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def statements(catalog: Catalog) -> list[str]:
    """The DDL that makes this schema, as GetDatabaseDdl writes it."""
    found = []
    if catalog.bundle:
        found.append(f"CREATE PROTO BUNDLE (\n{''.join(f'  {name},{chr(10)}' for name in sorted(catalog.bundle))})")
    for table in catalog.tables.values():
        found.append(_create_table(table))
        found += [_create_index(table.indexes[name]) for name in sorted(table.indexes)]
    return found


def _create_table(table: Table) -> str:
    columns = "".join(f"  {_column(column)},\n" for column in table.columns.values())
    text = f"CREATE TABLE {table.name} (\n{columns}) PRIMARY KEY({_parts(table.declared.primary_key)})"
    policy = table.declared.row_deletion_policy
    return text if policy is None else f"{text}, ROW DELETION POLICY ({policy.text})"


def _column(column: Column) -> str:
    text = f"{column.name} {column.type.ddl}"
    if column.not_null:
        text += " NOT NULL"
    if column.default is not None:
        text += f" DEFAULT ({column.default})"
    if column.generated is not None:
        text += f" AS ({column.generated}) STORED"
    if column.options:
        text += " OPTIONS (\n" + ",\n".join(f"    {name} = {value}" for name, value in column.options) + "\n  )"
    return text


def _create_index(index: Index) -> str:
    declared = index.declared
    assert declared is not None
    kind = ("UNIQUE " if declared.unique else "") + ("NULL_FILTERED " if declared.null_filtered else "")
    text = f"CREATE {kind}INDEX {declared.index} ON {declared.table}({_parts(declared.key)})"
    return f"{text} STORING ({', '.join(declared.storing)})" if declared.storing else text


def _parts(parts: tuple[KeyPart, ...]) -> str:
    return ", ".join(part.column + (" DESC" if part.descending else "") for part in parts)
