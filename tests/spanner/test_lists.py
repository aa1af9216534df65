"""A page costs what is on it: its keys come from an index alone, and its rows are read by key."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.ports import ListQuery, StatsQuery
from lro_aio.stores.spanner import schema
from lro_aio.testing import FakeSpanner
from lro_aio.testing._store_rows import NOW, create_all, ended, name_of, names, put, row, status_of

from .test_journal import ddl_of_before

pytestmark = pytest.mark.skipif(bool(os.environ.get("SPANNER_EMULATOR_HOST")), reason="the fake tells the work")

PAGE = 5
EVERY = 300


@pytest.fixture(params=["proto", "bytes"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeSpanner]:
    with FakeSpanner(variant=request.param) as fake:
        yield fake


@pytest.fixture
def store(fake: FakeSpanner) -> Iterator[lro.SpannerStore]:
    store = lro.SpannerStore.from_url(f"{fake.url}&timeout=5")
    store.open()
    yield store
    store.close()


@pytest.fixture
def filled(store: lro.SpannerStore) -> lro.SpannerStore:
    """Rows of each outcome in every shard, two in three of them ended, all children of one."""
    records = []
    for number in range(EVERY):
        made: dict[str, Any] = {"create_time": NOW + number, "parent_operation": name_of("top"), "parent": "p"}
        if number % 3 == 0:
            records.append(row(number, state=State.RUNNING, **made))
        elif number % 3 == 1:
            records.append(ended(number, **made))
        else:
            records.append(ended(number, state=State.FAILED, error=status_of("lost"), **made))
    create_all(store, *records)
    return store


LISTS: dict[str, dict[str, Any]] = {
    "all": {},
    "live": {"done": False},
    "ended": {"done": True},
    "of a parent": {"parent": "p"},
    "of a handler": {"handler": "job"},
    "of a handler and a parent": {"handler": "job", "parent": "p"},
    "children": {"parent_operation": name_of("top")},
    "live children": {"parent_operation": name_of("top"), "done": False},
    "that succeeded": {"states": frozenset({State.SUCCEEDED})},
    "that did not": {"states": frozenset({State.FAILED, State.CANCELLED})},
    "that are not paused": {"paused": False, "done": False},
    "created later": {"created_from": NOW + 100, "created_to": NOW + 200},
}


@pytest.mark.parametrize("conditions", LISTS.values(), ids=LISTS)
def test_a_page_reads_its_own_rows_and_no_others(
    fake: FakeSpanner, filled: lro.SpannerStore, conditions: dict[str, Any]
) -> None:
    query = ListQuery(now=NOW, limit=PAGE, **conditions)
    fake.rpcs.clear()
    fake.work.clear()
    page = filled.list(query)
    assert len(page) == PAGE
    assert fake.rpcs == {"ExecuteSql": 1, "Read": 1}
    assert fake.work["rows_looked_up"] == 0


def test_a_page_of_one_state_reads_the_newest_rows_first_and_looks_for_others_only_then(
    fake: FakeSpanner, filled: lro.SpannerStore
) -> None:
    """No index has the state. Most live rows are of one or two."""
    running = ListQuery(now=NOW, limit=PAGE, states=frozenset({State.RUNNING}))
    fake.rpcs.clear()
    fake.work.clear()
    assert len(filled.list(running)) == PAGE
    assert fake.work["rows_looked_up"] == 0
    assert fake.rpcs == {"ExecuteSql": 1, "Read": 1}
    create_all(filled, *(row(f"s{n}", state=State.SUSPENDED, create_time=NOW + 1_000 + n) for n in range(2 * PAGE)))
    page = filled.list(running)
    assert [record.create_time for record in page] == [NOW + n for n in (297, 294, 291, 288, 285)]
    assert fake.work["rows_looked_up"] > 0


def test_failures_are_counted_from_the_rows_that_failed(fake: FakeSpanner, filled: lro.SpannerStore) -> None:
    """The states of those that have not ended well are in no index: these are looked up, so many and no more."""
    fake.work.clear()
    found = filled.stats(StatsQuery(now=NOW, most=10, failures=PAGE))
    assert sum(group.count.number for group in found.failures) == PAGE
    live = 2 * 16 * (1 // 8 + 16)  # as in ``counts``, of each shard
    assert fake.work["rows_looked_up"] <= live + EVERY


def changing(fake: FakeSpanner, store: lro.SpannerStore, change: Any) -> None:
    """Let something happen between the statement and the read of the next list."""
    connection: Any = store._connection
    query = connection.query

    def then(*args: Any, **options: Any) -> Any:
        found = query(*args, **options)
        connection.query = query
        change()
        return found

    connection.query = then


def test_a_row_that_changes_between_the_two_is_on_no_page_where_it_does_not_belong(
    fake: FakeSpanner, store: lro.SpannerStore
) -> None:
    create_all(store, *(row(n, create_time=NOW - n) for n in range(8)))
    query = ListQuery(now=NOW, limit=4, done=False)

    def change() -> None:
        create_all(store, ended(0, create_time=NOW))
        store.apply([put(row(1, create_time=NOW - 1, deleted=True))])
        fake.write("Operations", "delete", ["key"], [[name_of(2)]])
        store.apply([put(row(3, uid="another", create_time=NOW + 3))])

    changing(fake, store, change)
    page = store.list(query)
    assert names(page) == [name_of(n) for n in (4, 5, 6, 7)], "the page goes on behind them"
    assert names(store.list(query)) == [name_of(3), *(name_of(n) for n in (4, 5, 6))]


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_a_table_of_an_older_release_is_listed_as_before(variant: schema.Variant) -> None:
    with FakeSpanner(variant=None) as fake:
        fake.execute_ddl(*ddl_of_before(variant), descriptors=schema.descriptor_set())
        store = lro.SpannerStore.from_url(fake.url)
        store.open()
        create_all(store, *(row(n, create_time=NOW + n) for n in range(50)))
        assert names(store.list(ListQuery(now=NOW, limit=2))) == [name_of(49), name_of(48)]
        assert fake.work["rows_looked_up"] > 2
        store.close()


@pytest.mark.slow
def test_rows_are_no_more_in_memory_than_one_answer(fake: FakeSpanner, store: lro.SpannerStore) -> None:
    """What an answer does not hold is divided, and a page that is full is read no further."""
    create_all(store, *(row(n, create_time=NOW - n, state_data=bytes(3 * 2**20)) for n in range(8)))
    fake.rpcs.clear()
    page = store.list(ListQuery(now=NOW, limit=8, max_bytes=5 * 2**20))
    assert names(page) == [name_of(0), name_of(1)]
    assert fake.rpcs == Counter({"ExecuteSql": 1, "Read": 3}), "eight, four, two"
