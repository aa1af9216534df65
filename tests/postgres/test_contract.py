"""The store contract over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from lro_aio.core.record import State
from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing.store_contract import StoreContract, WriteContract

from .schemas import a_schema_of_its_own


@pytest.fixture(scope="module")
def shared(database: str) -> Iterator[str]:
    """The URL of all tests here: to make one for each would take most of their time."""
    with a_schema_of_its_own(database) as url:
        yield url


@pytest.fixture
def emptied(database: str, shared: str) -> Iterator[str]:
    """The same URL; nothing is left there by a test."""
    yield shared
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"SET search_path = {shared.rpartition('=')[2]}".encode())
        connection.execute("DELETE FROM operations")
        connection.execute("VACUUM operations")


class TestPostgres(StoreContract):
    @pytest.fixture
    def make_store(self, emptied: str) -> Callable[[], PostgresStore]:
        return lambda: PostgresStore(emptied, timeout=20)

    # Half a second each, for hundreds of calls: the slow lane has them.

    @pytest.mark.slow
    @pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED])
    def test_every_field_comes_back_from_a_changed_row(self, store: PostgresStore, state: State) -> None:
        super().test_every_field_comes_back_from_a_changed_row(store, state)

    @pytest.mark.slow
    def test_every_look_gives_what_a_plain_loop_gives(self, store: PostgresStore) -> None:
        super().test_every_look_gives_what_a_plain_loop_gives(store)

    @pytest.mark.slow
    def test_every_condition_holds_with_every_other(self, store: PostgresStore) -> None:
        super().test_every_condition_holds_with_every_other(store)

    @pytest.mark.slow
    def test_large_payloads_come_back(self, kept_by: PostgresStore) -> None:
        super().test_large_payloads_come_back(kept_by)


@pytest.mark.slow
class TestBehindAPooler(StoreContract):
    """What is left out for the sake of a pooler in transaction mode: the same in every other respect."""

    @pytest.fixture
    def make_store(self, emptied: str) -> Callable[[], PostgresStore]:
        return lambda: PostgresStore(emptied, timeout=20, pooled=True)


@pytest.mark.slow
class TestManyLanes(WriteContract):
    """More connections than cores."""

    @pytest.fixture
    def make_store(self, emptied: str) -> Callable[[], PostgresStore]:
        return lambda: PostgresStore(emptied, timeout=20, lanes=8)
