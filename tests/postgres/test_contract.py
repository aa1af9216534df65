"""The store contract over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing.store_contract import StoreContract

from .schemas import a_schema_of_its_own


@pytest.fixture(scope="module")
def shared(database: str) -> Iterator[str]:
    """The URL of all tests here: to make one for each would take most of their time."""
    with a_schema_of_its_own(database) as url:
        yield url


class TestPostgres(StoreContract):
    @pytest.fixture
    def make_store(self, database: str, shared: str) -> Iterator[Callable[[], PostgresStore]]:
        yield lambda: PostgresStore(shared, timeout=20)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"SET search_path = {shared.rpartition('=')[2]}".encode())
            connection.execute("DELETE FROM operations")
            connection.execute("VACUUM operations")
