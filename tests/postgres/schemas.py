"""A schema for each test: the server is shared."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

    import lro_aio as lro

TABLES = ("", "_journal", "_tickets", "_queues", "_queue_keys", "_queue_starts")
"""Those of a store: what stands behind `operations`."""


@contextmanager
def a_schema_of_its_own(database: str) -> Iterator[str]:
    """The URL of a store that has a schema of its own, which is gone afterwards."""
    import psycopg

    schema = f"t{uuid.uuid4().hex[:16]}"
    yield f"{database}?schema={schema}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


def analyze_emptied(sql: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    """Have the server take the tables for empty, as where they were analyzed when all rows had gone, and fill again."""
    analyze_all_but(sql, schema, 0)


def analyze_all_but(sql: psycopg.Connection[tuple[object, ...]], schema: str, rows: int) -> None:
    """Have the server believe that each of the tables has so many rows, as where the others came after it was analyzed.

    It finds pages with few rows or none, and goes by that whatever they hold later. What it has found outlives the
    rollback.
    """
    with sql.transaction(force_rollback=True):
        for table in TABLES:
            sql.execute(f'ALTER TABLE "{schema}".operations{table} DISABLE TRIGGER USER'.encode())
            place = f'"{schema}".operations{table}'
            left = f"SELECT ctid FROM {place} LIMIT {rows}"
            sql.execute(f"DELETE FROM {place} WHERE ctid <> ALL(ARRAY({left}))".encode())
            sql.execute(f"ANALYZE {place}".encode())


@contextmanager
def a_store_of_its_own() -> Iterator[lro.PostgresStore]:
    """A store that is not open yet, on the server that the environment names."""
    import lro_aio as lro

    with a_schema_of_its_own(os.environ["LRO_TEST_POSTGRES"]) as url:
        yield lro.PostgresStore(url)
