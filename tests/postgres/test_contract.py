"""The store contract over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from lro_aio.core.record import State
from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing.store_contract import StoreContract, WriteContract

from .schemas import a_schema_of_its_own

MANY = 100
"""Rows that leave something for VACUUM to do."""


@pytest.fixture(scope="module")
def shared(database: str) -> Iterator[str]:
    """The URL of all tests here: to make one for each would take most of their time."""
    with a_schema_of_its_own(database) as url:
        yield url


@pytest.fixture(scope="module")
def broom(database: str, shared: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection in the schema of all tests here."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"SET search_path = {shared.rpartition('=')[2]}".encode())
        yield connection


@pytest.fixture
def emptied(shared: str, broom: psycopg.Connection[tuple[object, ...]]) -> Iterator[str]:
    """The same URL; nothing is left there by a test."""
    yield shared
    if broom.execute("DELETE FROM operations").rowcount > MANY:
        broom.execute("VACUUM operations")


@pytest.fixture(scope="module")
def lasting(shared: str) -> Iterator[PostgresStore]:
    """One store for many tests."""
    with closing(PostgresStore(shared, timeout=20)) as store:
        yield store


class TestPostgres(StoreContract):
    @pytest.fixture
    def make_store(self, emptied: str) -> Callable[[], PostgresStore]:
        return lambda: PostgresStore(emptied, timeout=20)

    @pytest.fixture
    def store(self, lasting: PostgresStore, emptied: str) -> PostgresStore:
        """To open one for each test would take half of their time; behind a pooler, each has its own."""
        with suppress(RuntimeError):  # it is open, unless the test before was about closing it
            lasting.open()
        return lasting

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
