"""Who waits for an operation that runs in this process needs no look at the store, and misses nothing all the same."""

import asyncio

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.engine.changes import Feed
from lro_aio.testing import FaultyStore
from lro_aio.testing._store_rows import row

from ..waiting import all_blocked, until
from .far_store import FarStore


@pytest.fixture
def started():
    """A handler "held" that runs until ``go`` is set."""
    handlers = lro.Handlers()
    go = asyncio.Event()

    @handlers.handler("held")
    async def held(op):
        await go.wait()
        return wrappers_pb2.StringValue(value="done")

    return handlers, go


@pytest.mark.asyncio
async def test_a_result_of_what_runs_here_costs_no_read(open_client, store, started):
    handlers, go = started
    client = await open_client(store, handlers=[handlers])
    operation = await client.start("held")
    waiter = asyncio.create_task(operation.result(wrappers_pb2.StringValue, timeout=60))
    await all_blocked()
    go.set()
    assert (await waiter).value == "done"
    assert store.calls["read"] == 0


@pytest.mark.asyncio
async def test_a_result_of_what_has_ended_is_read(open_client, store, started):
    handlers, go = started
    go.set()
    client = await open_client(store, handlers=[handlers])
    operation = await client.start("held")
    await operation.result()
    reads = store.calls["read"]
    assert (await operation.result(wrappers_pb2.StringValue)).value == "done"
    assert store.calls["read"] == reads + 1


@pytest.mark.asyncio
async def test_what_this_process_has_deleted_is_not_found_at_once(open_client, store, started):
    handlers, _ = started
    client = await open_client(store, handlers=[handlers])
    operation = await client.start("held")
    await operation.delete()
    with pytest.raises(lro.OperationNotFoundError):
        await operation.result()


@pytest.mark.asyncio
async def test_a_wait_that_ends_before_any_notice_reads(open_client, store, started):
    """Its answer is the latest state at its end, and nobody tells it in time what others did."""
    handlers, _ = started
    client = await open_client(store, handlers=[handlers])
    operation = await client.start("held")
    with pytest.raises(lro.WaitDeadlineExceededError):
        await operation.result(timeout=0)
    assert store.calls["read"] == 1


@pytest.mark.asyncio
async def test_a_store_that_gives_no_notices_is_read(open_client, store, started):
    handlers, go = started
    store = FarStore(store.inner)
    client = await open_client(store, handlers=[handlers])
    operation = await client.start("held")
    waiter = asyncio.create_task(operation.result())
    await all_blocked()
    go.set()
    await waiter
    assert store.calls["read"] >= 1


@pytest.mark.asyncio
@pytest.mark.parametrize("before", [True, False])
async def test_what_another_process_deletes_is_not_found(tmp_path, started, before):
    """Whether it did so before the wait began or after: the notice ends what is remembered, and wakes who waits."""
    handlers, _ = started
    path = tmp_path / "operations.db"
    store = FaultyStore(lro.SqliteStore(path))
    async with (
        lro.Client(store, handlers=[handlers], drain_timeout=0) as client,
        lro.Client(lro.SqliteStore(path), worker=False) as other,
    ):
        operation = await client.start("held")
        if before:
            await other.delete_operation(operation.name)
        waiter = asyncio.create_task(operation.result())
        if not before:
            await all_blocked()
            await other.delete_operation(operation.name)
        with pytest.raises(lro.OperationNotFoundError):
            await asyncio.wait_for(waiter, 10)


@pytest.mark.asyncio
async def test_what_is_remembered_goes_when_another_process_commits(tmp_path, started):
    """Each row that another process may have changed is read once more."""
    handlers, go = started
    path = tmp_path / "operations.db"
    store = FaultyStore(lro.SqliteStore(path))
    async with (
        lro.Client(store, handlers=[handlers]) as client,
        lro.Client(lro.SqliteStore(path), worker=False) as other,
    ):
        operation = await client.start("held")
        rows = client.engine.rows
        assert rows.own(operation.name) is not None
        noticed = asyncio.Event()
        undo = client.engine.feed.listen(lambda _name, _record: None, noticed.set)
        await other.create(lease=False)
        await asyncio.wait_for(noticed.wait(), 10)
        undo()
        assert rows.own(operation.name) is None
        reads = store.calls["read"]
        waiter = asyncio.create_task(operation.result())
        await until(lambda: store.calls["read"] > reads)
        go.set()
        await waiter


@pytest.mark.asyncio
async def test_nothing_is_remembered_of_what_has_ended(open_client, store, started):
    handlers, go = started
    go.set()
    client = await open_client(store, handlers=[handlers])
    for operation in await asyncio.gather(*(client.start("held") for _ in range(20))):
        await operation.result()
    driven = await client.create()
    await driven.done()
    assert client.engine.rows._own == {}


def test_what_a_reader_would_not_see_wakes_nobody_who_waits_for_a_result():
    """A step that is stored, or a lease that is renewed, leaves the public message as it is."""
    feed = Feed(lambda: 0.0)
    record = row(1, state=State.RUNNING)
    with feed.subscribe((record.name,)) as changes:
        changes.known = record
        feed.publish(record.name, record.evolve(entries=1, lease_expire_time=5.0))
        assert changes.take() == ({}, False)
        for news in (record.evolve(revision=2), record.evolve(uid="another"), None):
            feed.publish(record.name, news)
            assert changes.take() == ({record.name: news}, False)
        foreign = changes.known = record.evolve(uid="")  # of another program, whose revision never moves
        feed.publish(record.name, foreign)
        assert changes.take() == ({record.name: foreign}, False)
