"""The store contract over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from lro_aio.core.record import State
from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing.store_contract import StoreContract, WriteContract


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
    def test_a_thousand_rows_in_one_batch(self, store: PostgresStore) -> None:
        super().test_a_thousand_rows_in_one_batch(store)

    @pytest.mark.slow
    def test_many_rows_in_one_read(self, store: PostgresStore) -> None:
        super().test_many_rows_in_one_read(store)

    @pytest.mark.slow
    def test_the_largest_payloads(self, store: PostgresStore) -> None:
        super().test_the_largest_payloads(store)

    @pytest.mark.slow
    def test_large_payloads_come_back(self, kept_by: PostgresStore) -> None:
        super().test_large_payloads_come_back(kept_by)

    # Of the races, one of claims and one of entries are enough here.

    @pytest.mark.slow
    def test_no_update_is_lost(self, clients: tuple[PostgresStore, PostgresStore]) -> None:
        super().test_no_update_is_lost(clients)

    @pytest.mark.slow
    def test_of_fifty_creators_one_makes_the_row(self, clients: tuple[PostgresStore, PostgresStore]) -> None:
        super().test_of_fifty_creators_one_makes_the_row(clients)

    @pytest.mark.slow
    def test_of_two_writers_no_entry_is_lost(self, clients: tuple[PostgresStore, PostgresStore]) -> None:
        super().test_of_two_writers_no_entry_is_lost(clients)


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
