"""A sweep begins behind what is done with, and misses nothing: the entries that were due are not walked over again."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import lro_aio as lro
from lro_aio.core.record import Record
from lro_aio.ports import Look, Route, StatsQuery
from lro_aio.stores.spanner.floors import SLACK, WHOLE_EVERY, Floor
from lro_aio.stores.spanner.store import SpannerStore
from lro_aio.testing import FakeSpanner
from lro_aio.testing._store_rows import NOW, create_all, name_of, names, remove, row, update

on_the_fake = pytest.mark.skipif(bool(os.environ.get("SPANNER_EMULATOR_HOST")), reason="the fake tells the work")

DONE = 100
"""Rows that were due, and are not any more."""
LATER = NOW + 3600


class Hours:
    """Monotonic time that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def floor() -> Floor:
    return Floor(Hours())


def cleared(floor: Floor, until: float) -> None:
    floor.clear(floor.seek(until), until)


def test_a_scan_begins_at_the_beginning_until_one_has_found_nothing(floor: Floor) -> None:
    assert floor.seek(NOW).since == -math.inf
    cleared(floor, NOW)
    assert floor.seek(NOW + 1).since == NOW - SLACK


def test_a_clock_that_was_ahead_takes_nothing_away(floor: Floor) -> None:
    cleared(floor, NOW + 3600)
    assert floor.seek(NOW).since == NOW - SLACK


def test_a_scan_begins_at_the_beginning_again_after_a_while(floor: Floor) -> None:
    """For a row that another process wrote with a time of long ago."""
    cleared(floor, NOW)
    floor._monotonic.now = WHOLE_EVERY  # type: ignore[attr-defined]
    assert floor.seek(NOW).since == -math.inf


def test_what_this_process_writes_is_found_however_early_it_is_due(floor: Floor) -> None:
    cleared(floor, NOW)
    floor.wrote([NOW, None, NOW - 7200])
    assert floor.seek(NOW + 1).since == NOW - 7200


def test_what_it_writes_while_a_scan_is_under_way_is_found_by_the_next(floor: Floor) -> None:
    """The first scan, too, may have been too early for it."""
    for whole in (True, False):
        seek = floor.seek(NOW)
        assert (seek.since == -math.inf) is whole
        floor.wrote([NOW - 7200])
        floor.clear(seek, NOW)
        assert floor.seek(NOW).since <= NOW - 7200
        cleared(floor, NOW)


def test_a_scan_for_others_begins_at_the_beginning(floor: Floor) -> None:
    floor.clear(floor.seek(NOW), NOW, seen="a")
    assert floor.seek(NOW, lambda seen: seen == "b").since == -math.inf
    assert floor.seek(NOW, lambda seen: seen == "a").since == NOW - SLACK


@pytest.fixture
def fake() -> Iterator[FakeSpanner]:
    with FakeSpanner() as fake:
        yield fake


@pytest.fixture
def store(fake: FakeSpanner) -> Iterator[SpannerStore]:
    store = lro.SpannerStore.from_url(fake.url)
    store.open()
    yield store
    store.close()


def swept(store: SpannerStore, now: float = LATER, routes: Sequence[Route] = (("job", ""),), **options: Any) -> Look:
    """A full pass of one process."""
    return store.look(**{"now": now, "routes": routes, "limit": 10, "owner": "me", "own": True, **options})


def passed(fake: FakeSpanner) -> int:
    found = fake.work["removed_entries_passed"]
    fake.work.clear()
    return found


def through(store: SpannerStore, *records: Record) -> None:
    """Rows that were due, and are done with."""
    create_all(store, *records)
    store.apply([update(record.name, check_time=None) for record in records])


@on_the_fake
def test_a_sweep_walks_once_over_what_was_due_before(fake: FakeSpanner, store: SpannerStore) -> None:
    through(store, *(row(n, check_time=NOW + n) for n in range(DONE)))
    fake.work.clear()
    swept(store, overdue=LATER - 30)
    assert passed(fake) == 2 * DONE, "for what this process runs, and for what nobody does"
    swept(store, overdue=LATER - 30)
    swept(store, own=False)
    assert passed(fake) == 0


@on_the_fake
def test_a_row_that_is_due_for_long_is_where_the_next_sweep_begins(fake: FakeSpanner, store: SpannerStore) -> None:
    """A backlog is worked off in its order, whatever comes in behind it."""
    through(store, *(row(n, check_time=NOW + n) for n in range(DONE)))
    create_all(store, row("old", check_time=NOW + 2 * SLACK), row("new", check_time=LATER))
    assert names(swept(store).due) == [name_of("old"), name_of("new")]
    fake.work.clear()
    assert names(swept(store).due) == [name_of("old"), name_of("new")]
    assert passed(fake) == 0


def test_a_sweep_for_other_routes_or_of_another_process_misses_nothing(store: SpannerStore) -> None:
    create_all(store, row(1, check_time=NOW), row(2, check_time=NOW, handler="other"), row(3, owner="you"))
    assert names(swept(store, own=False, owner="you").due) == [name_of(1)]
    store.apply([remove(name_of(1)), remove(name_of(3))])
    assert swept(store).due == []
    assert names(swept(store, routes=[("job", ""), ("other", "")]).due) == [name_of(2)]


def test_rows_that_nobody_runs_are_named_again_and_again(store: SpannerStore) -> None:
    create_all(store, *(row(n, handler=f"lost-{n}", check_time=NOW + n) for n in range(3)))
    for _ in range(3):
        routes: list[Route] = [("job", "")]
        while (unknown := swept(store, routes=routes, overdue=LATER).unknown) is not None:
            routes.append(unknown)
        assert sorted(routes[1:]) == [(f"lost-{n}", "") for n in range(3)]


def test_what_another_process_wrote_late_is_found_within_the_slack(fake: FakeSpanner, store: SpannerStore) -> None:
    other = lro.SpannerStore.from_url(fake.url)
    other.open()
    swept(store)
    create_all(other, row(1, check_time=LATER - SLACK + 1))
    assert names(swept(store).due) == [name_of(1)]
    other.close()


def test_what_this_process_made_due_long_ago_is_found(store: SpannerStore) -> None:
    create_all(store, row(1, check_time=None))
    swept(store)
    store.apply([update(name_of(1), check_time=NOW)])
    assert names(swept(store).due) == [name_of(1)]


@on_the_fake
def test_so_does_a_count_of_what_is_due(fake: FakeSpanner, store: SpannerStore) -> None:
    through(store, *(row(n, check_time=NOW + n) for n in range(DONE)))
    create_all(store, row("old", check_time=NOW + 2 * SLACK, handler="other"))
    query = StatsQuery(now=LATER)
    first = store.stats(query)
    fake.work.clear()
    assert store.stats(query) == first
    assert [route.name for route in first.due] == [name_of("old")]
    assert passed(fake) == 0


@on_the_fake
def test_a_purge_walks_once_over_what_it_has_removed(fake: FakeSpanner, store: SpannerStore) -> None:
    create_all(store, *(row(n, expire_time=NOW + n) for n in range(DONE)))
    while store.purge(now=LATER, limit=DONE // 2):
        pass
    store.purge(now=LATER, limit=DONE // 2)
    fake.work.clear()
    assert store.purge(now=LATER, limit=DONE // 2) == 0
    assert passed(fake) == 0
    create_all(store, row("again", expire_time=NOW))
    assert store.purge(now=LATER, limit=5) == 1
