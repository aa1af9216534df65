"""The schema as INFORMATION_SCHEMA and GetDatabaseDdl show it: what ``SpannerStore`` and its migration read of them.

https://cloud.google.com/spanner/docs/information-schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lro_aio.testing.spanner.catalog import Catalog
from lro_aio.testing.spanner.storage import Table
from lro_aio.testing.spanner.values import BOOL, INT64, STRING, Type

__all__ = ["COLUMNS", "bundle", "rows"]

_TABLE = {"TABLE_SCHEMA": STRING, "TABLE_NAME": STRING}

COLUMNS: dict[str, dict[str, Type]] = {
    "TABLES": {
        **_TABLE,
        "PARENT_TABLE_NAME": STRING,
        "ON_DELETE_ACTION": STRING,
        "ROW_DELETION_POLICY_EXPRESSION": STRING,
    },
    "COLUMNS": {
        **_TABLE,
        "COLUMN_NAME": STRING,
        "ORDINAL_POSITION": INT64,
        "COLUMN_DEFAULT": STRING,
        "IS_NULLABLE": STRING,
        "SPANNER_TYPE": STRING,
        "GENERATION_EXPRESSION": STRING,
    },
    "INDEXES": {**_TABLE, "INDEX_NAME": STRING, "INDEX_STATE": STRING, "IS_NULL_FILTERED": BOOL},
    "INDEX_COLUMNS": {
        **_TABLE,
        "INDEX_NAME": STRING,
        "COLUMN_NAME": STRING,
        "ORDINAL_POSITION": INT64,
        "COLUMN_ORDERING": STRING,
    },
}
"""The columns of each view that the fake has, by the view's name without the schema's."""


def rows(view: str, catalog: Catalog) -> Iterator[dict[str, Any]]:
    """The rows of a view."""
    for table in catalog.tables.values():
        for row in _VIEWS[view](table):
            yield {"TABLE_SCHEMA": "", "TABLE_NAME": table.name, **row}


def _tables(table: Table) -> Iterator[dict[str, Any]]:
    policy, parent = table.declared.row_deletion_policy, table.declared.parent
    yield {
        "PARENT_TABLE_NAME": parent or None,
        "ON_DELETE_ACTION": "CASCADE" if parent else None,
        "ROW_DELETION_POLICY_EXPRESSION": None if policy is None else policy.text,
    }


def _columns(table: Table) -> Iterator[dict[str, Any]]:
    for position, column in enumerate(table.columns.values(), 1):
        yield {
            "COLUMN_NAME": column.name,
            "ORDINAL_POSITION": position,
            "COLUMN_DEFAULT": column.default,
            "IS_NULLABLE": "NO" if column.not_null else "YES",
            "SPANNER_TYPE": column.type.ddl,
            "GENERATION_EXPRESSION": column.generated,
        }


def _indexes(table: Table) -> Iterator[dict[str, Any]]:
    for index in (table.primary, *table.indexes.values()):
        yield {
            "INDEX_NAME": index.name,
            "INDEX_STATE": "READ_WRITE" if index.declared else None,
            "IS_NULL_FILTERED": index.null_filtered,
        }


def _index_columns(table: Table) -> Iterator[dict[str, Any]]:
    for index in (table.primary, *table.indexes.values()):
        for position, part in enumerate(index.declared.key if index.declared else index.parts, 1):
            yield {
                "INDEX_NAME": index.name,
                "COLUMN_NAME": part.column,
                "ORDINAL_POSITION": position,
                "COLUMN_ORDERING": "DESC" if part.descending else "ASC",
            }
        for name in index.declared.storing if index.declared else ():
            yield {"INDEX_NAME": index.name, "COLUMN_NAME": name, "ORDINAL_POSITION": None, "COLUMN_ORDERING": None}


_VIEWS: dict[str, Callable[[Table], Iterator[dict[str, Any]]]] = {
    "TABLES": _tables,
    "COLUMNS": _columns,
    "INDEXES": _indexes,
    "INDEX_COLUMNS": _index_columns,
}


def bundle(catalog: Catalog) -> list[str]:
    """The statement that creates the proto bundle, as GetDatabaseDdl writes it; empty if there is no bundle."""
    if not catalog.bundle:
        return []
    return [f"CREATE PROTO BUNDLE (\n{''.join(f'  {name},{chr(10)}' for name in sorted(catalog.bundle))})"]
