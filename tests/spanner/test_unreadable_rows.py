"""A row that cannot be decoded hurts whoever asks for it, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from google.cloud.spanner_v1 import types

import lro_aio as lro
from lro_aio.core.codes import Code
from lro_aio.core.record import Record
from lro_aio.ports import ListQuery
from lro_aio.testing._store_rows import NOW, create_all, name_of, names, row, update

from .go_service import GoService

GOOD, BAD, OTHER = (name_of(number) for number in (1, 2, 3))


@pytest.fixture
def url(spanner_database: Callable[[str], str]) -> str:
    """Of a table where another program has spoiled the second of three rows."""
    url = spanner_database("bytes")  # a PROTO column takes no such bytes
    store = lro.SpannerStore.from_url(url)
    store.open()
    create_all(store, *(row(number) for number in (1, 2, 3)))
    store.close()
    mutation = types.Mutation(
        update={"table": "Operations", "columns": ["key", "Operation"], "values": [[BAD, "/w=="]]}
    )
    with GoService(url) as other:
        other._commit(types.Mutation.pb(mutation))
    return url


@pytest.fixture
def store(url: str) -> Iterator[lro.SpannerStore]:
    store = lro.SpannerStore.from_url(url)
    store.open()
    yield store
    store.close()


@pytest.mark.asyncio
async def test_of_two_that_read_at_once_only_the_one_that_asked_for_it_gets_the_error(url: str) -> None:
    async with lro.Client(url, worker=False) as client:
        good, bad, missing = await asyncio.gather(
            *(client.get_operation(name) for name in (GOOD, BAD, name_of(9))), return_exceptions=True
        )
    assert good.name == GOOD
    assert isinstance(bad, lro.StoreDataError)
    assert bad.name == BAD
    assert bad.code is Code.DATA_LOSS
    assert BAD in str(bad)
    assert isinstance(missing, lro.OperationNotFoundError)


def test_whoever_waits_for_it_as_a_child_is_told_of_an_end_with_an_error(store: lro.SpannerStore) -> None:
    """As for a child that does not exist."""
    records = {record.name: record for record in store.read([GOOD, BAD])}
    operation = records[BAD].to_operation()
    assert (operation.name, operation.done, operation.error.code) == (BAD, True, Code.DATA_LOSS)
    assert not records[GOOD].to_operation().done


def test_of_a_batch_only_its_own_change_is_refused(store: lro.SpannerStore) -> None:
    first, second, third = store.apply([update(name, claim=7) for name in (GOOD, BAD, OTHER)])
    assert isinstance(first, Record)
    assert isinstance(second, lro.StoreDataError)
    assert isinstance(third, Record)
    assert [record.claim for record in store.read([GOOD, OTHER])] == [7, 7]


def test_a_change_that_it_guards_is_refused_with_it(store: lro.SpannerStore) -> None:
    guarded = update(GOOD, claim=7)
    guarded.guard = (BAD, lambda _: None)
    refused, committed = store.apply([guarded, update(OTHER, claim=7)])
    assert isinstance(refused, lro.StoreDataError)
    assert isinstance(committed, Record)
    assert [record.claim for record in store.read([GOOD])] == [0]


def test_nobody_is_told_that_it_has_ended(store: lro.SpannerStore) -> None:
    """Nor does a parent that waits for others fail for it."""
    assert store.unfinished([GOOD, BAD, OTHER, name_of(9)]) == {GOOD, BAD, OTHER}


def test_a_sweep_and_a_list_go_on_without_it_and_say_so(
    store: lro.SpannerStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert names(store.look(now=NOW, routes=[("job", "")], limit=9, owner="me").due) == [GOOD, OTHER]
    assert names(store.list(ListQuery(now=NOW, limit=9))) == [GOOD, OTHER]
    assert [(record.operation, record.event) for record in caplog.records] == [(BAD, "row_unreadable")] * 2
