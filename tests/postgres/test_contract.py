"""The store contract over PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest

from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing.store_contract import StoreContract


@pytest.fixture(scope="module")
def shared(database: str) -> Iterator[str]:
    """The schema of all tests here: to make one for each would take most of their time."""
    schema = f"t{uuid.uuid4().hex[:16]}"
    yield schema
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


class TestPostgres(StoreContract):
    @pytest.fixture
    def make_store(self, database: str, shared: str) -> Iterator[Callable[[], PostgresStore]]:
        yield lambda: PostgresStore(database, schema=shared, timeout=20)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f'DELETE FROM "{shared}".operations'.encode())
            connection.execute(f'VACUUM "{shared}".operations'.encode())
