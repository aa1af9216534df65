"""Which calls ask for the leader's region, and that each names its database: as Google's own client does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import grpc
import pytest

import lro_aio as lro
from lro_aio.ports import ListQuery, StatsQuery
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.migrate import migrate
from lro_aio.testing import FakeSpanner
from lro_aio.testing._store_rows import NOW, create_all, name_of, row, update
from tests.waiting import block_until

pytestmark = pytest.mark.skipif(bool(os.environ.get("SPANNER_EMULATOR_HOST")), reason="the fake tells what was sent")

PREFIX, TO_LEADER = "google-cloud-resource-prefix", "x-goog-spanner-route-to-leader"


@pytest.fixture
def fake() -> Iterator[FakeSpanner]:
    with FakeSpanner() as fake:
        yield fake


@pytest.fixture
def store(fake: FakeSpanner) -> Iterator[lro.SpannerStore]:
    store = lro.SpannerStore.from_url(f"{fake.url}&timeout=2")
    store.open()
    create_all(store, row())
    yield store
    store.close()


def routed(fake: FakeSpanner, action: Callable[[], object]) -> set[tuple[str, str | bytes | None]]:
    """The calls of an action, and what each says of the leader. Each names the database."""
    fake.calls.clear()
    action()
    assert {call.metadata.get(PREFIX) for call in fake.calls} == {fake.database_path}
    return {(call.rpc, call.metadata.get(TO_LEADER)) for call in fake.calls}


def test_a_session_is_asked_of_the_leader_and_the_schema_of_any_replica(fake: FakeSpanner) -> None:
    store = lro.SpannerStore.from_url(fake.url)
    assert routed(fake, store.open) == {("CreateSession", "true"), ("ExecuteSql", None)}
    store.close()


def test_what_writes_goes_to_the_leader(fake: FakeSpanner, store: lro.SpannerStore) -> None:
    assert routed(fake, lambda: create_all(store, row(2))) == {("Read", "true"), ("Commit", "true")}


def test_a_purge_scans_anywhere_and_removes_at_the_leader(fake: FakeSpanner, store: lro.SpannerStore) -> None:
    create_all(store, row(2, expire_time=NOW - 1))
    calls = routed(fake, lambda: store.purge(now=NOW, limit=5))
    assert calls == {("ExecuteSql", None), ("Read", "true"), ("Commit", "true")}


def test_a_read_that_begins_no_transaction_may_be_answered_by_any_replica(
    fake: FakeSpanner, store: lro.SpannerStore
) -> None:
    def read() -> None:
        assert store.read([name_of(1)])
        assert store.unfinished([name_of(1)])
        assert store.list(ListQuery(now=NOW, limit=5))
        assert store.look(now=NOW + 1, routes=[("job", "")], limit=5, owner="me").due
        store.journal([name_of(1)])
        store.stats(StatsQuery(now=NOW))

    assert routed(fake, read) == {("Read", None), ("ExecuteSql", None), ("ExecuteStreamingSql", None)}


def test_a_rollback_goes_to_the_leader(fake: FakeSpanner, store: lro.SpannerStore) -> None:
    def decide_a_lost_commit() -> None:
        fake.fail("Commit", grpc.StatusCode.UNAVAILABLE)
        fake.fail("Commit", grpc.StatusCode.FAILED_PRECONDITION)
        store.apply([update(name_of(1), owner="me")])

    assert routed(fake, decide_a_lost_commit) == {("Read", "true"), ("Commit", "true"), ("Rollback", "true")}


def test_so_does_one_that_nobody_waits_for(fake: FakeSpanner, store: lro.SpannerStore) -> None:
    def give_up() -> None:
        fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, times=1_000)
        with pytest.raises(lro.StoreUnavailableError):
            store.apply([update(name_of(1), owner="me")])
        block_until(lambda: fake.rpcs["Rollback"] > 0)

    assert routed(fake, give_up) == {("Read", "true"), ("Commit", "true"), ("Rollback", "true")}


def test_the_admin_api_is_told_the_database() -> None:
    with FakeSpanner(variant=None) as empty:
        location = Location.parse(empty.url)
        calls = {rpc for rpc, _ in routed(empty, lambda: migrate(location))}
        assert {"UpdateDatabaseDdl", "GetDatabaseDdl"} <= calls
