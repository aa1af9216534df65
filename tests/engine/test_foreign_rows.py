"""Rows that another program makes, drives and ends: it writes the public message, and nothing that is ours."""

import asyncio
import dataclasses

import pytest
import pytest_asyncio
from google.protobuf import any_pb2, wrappers_pb2
from google.rpc import status_pb2

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.record import Record, State

from .far_store import FarStore

NAME = "operations/theirs"


def packed(value):
    message = any_pb2.Any()
    message.Pack(wrappers_pb2.Int64Value(value=value))
    return message.SerializeToString()


@pytest.fixture
def store():
    return FarStore(lro.SqliteStore("sqlite://"))


@pytest.fixture
def theirs(store, lro_clock):
    """``theirs(name, **columns)``: the other program writes; its rows have no uid, and no revision moves."""

    def write(name=NAME, **columns):
        now = lro_clock.time()
        new = Record(name=name, uid="", state=State.RUNNING, create_time=now, update_time=now, revision=0)

        def event(row):
            return dataclasses.replace(row if row is not None else new, **columns)

        (outcome,) = store.inner.apply([Change(name, event, creates=True)])
        assert isinstance(outcome, Record)
        return outcome

    return write


@pytest_asyncio.fixture
async def client(open_client, store):
    return await open_client(store)


@pytest.mark.asyncio
async def test_their_end_is_seen_though_no_revision_tells_of_it(client, theirs, lro_clock):
    theirs()
    op, parent = await client.operation(NAME), await client.create(lease=False)
    result = op.result(wrappers_pb2.Int64Value)
    waiting = asyncio.gather(client.wait_operation(NAME), result, parent.wait(children=[NAME]))
    await lro_clock.advance(5)
    assert not waiting.done()
    theirs(state=State.SUCCEEDED, response=packed(7))
    await lro_clock.advance(5)
    last, result, children = await asyncio.wait_for(waiting, 5)
    assert last.done
    assert result.value == 7
    assert children == [last]


@pytest.mark.asyncio
async def test_who_watches_sees_each_of_their_messages_once(client, theirs, lro_clock):
    theirs(metadata=packed(0))
    seen = []

    async def watch():
        async for operation in client.watch(NAME):
            value = wrappers_pb2.Int64Value()
            operation.metadata.Unpack(value)
            seen.append((value.value, operation.done))

    watching = asyncio.create_task(watch())
    await lro_clock.settle()
    for number in (1, 2):
        theirs(metadata=packed(number))
        await lro_clock.advance(3)
    theirs(state=State.FAILED, error=status_pb2.Status(code=13, message="no").SerializeToString())
    await lro_clock.advance(3)
    await asyncio.wait_for(watching, 5)
    assert seen == [(0, False), (1, False), (2, False), (2, True)]


@pytest.mark.asyncio
async def test_a_cancel_ends_their_operation(client, theirs, row, lro_clock):
    theirs()
    await client.cancel_operation(NAME)
    operation = await client.get_operation(NAME)
    assert (operation.done, operation.error.code) == (True, lro.Code.CANCELLED)
    assert row(NAME).expire_time is not None
    await client.cancel_operation(NAME)
    assert await client.get_operation(NAME) == operation


@pytest.mark.asyncio
async def test_whoever_has_the_name_drives_their_operation(client, theirs, row):
    theirs()
    op = await client.operation(NAME)
    await op.set_metadata(wrappers_pb2.Int64Value(value=1))
    await op.done(wrappers_pb2.Int64Value(value=2))
    ended = row(NAME)
    assert (ended.state, ended.uid) == (State.SUCCEEDED, "")
    assert (await op.result(wrappers_pb2.Int64Value)).value == 2


@pytest.mark.asyncio
async def test_no_sweep_touches_their_live_operation(client, theirs, row, lro_clock):
    before = theirs()
    await client.sweep()
    await lro_clock.advance(86_400 * 365)
    await client.sweep()
    assert row(NAME) == before


@pytest.mark.asyncio
async def test_the_sweep_gives_their_ends_a_retention(open_client, store, theirs, row, lro_clock):
    client = await open_client(store, retention=lro.RetentionPolicy(100))
    now = lro_clock.time()
    theirs(state=State.SUCCEEDED, response=packed(7), check_time=now)
    await client.sweep()
    ended = row(NAME)
    assert (ended.end_time, ended.expire_time, ended.check_time) == (now, now + 100, None)
    before = store.calls["apply"]
    await client.sweep()
    assert store.calls["apply"] == before
    await lro_clock.advance(100)
    await client.sweep()
    assert row(NAME) is None


@pytest.mark.asyncio
async def test_the_sweep_removes_their_end_of_what_was_deleted(client, theirs, row, lro_clock):
    """Rule 13: to delete a live operation is to forget it, and it goes when it ends."""
    theirs()
    await client.delete_operation(NAME)
    theirs(state=State.SUCCEEDED, response=packed(7), check_time=lro_clock.time())
    await client.sweep()
    assert row(NAME) is None


@pytest.mark.asyncio
async def test_the_sweep_passes_a_cancel_on_that_their_end_came_before(client, theirs, row, lro_clock):
    theirs()
    op = await client.operation(NAME)

    @client.handler("child")
    async def child(op):
        await op.wait(sleep=3600)

    started = await op.start_child(child, key="a")
    await lro_clock.settle()
    theirs(
        state=State.SUCCEEDED,
        response=packed(7),
        cancel_requested=True,
        cancel_children=True,
        check_time=lro_clock.time(),
    )
    await client.sweep()
    ended = await asyncio.wait_for(client.wait_operation(started.name), 5)
    assert ended.error.code == lro.Code.CANCELLED
    assert (row(NAME).cancel_children, row(NAME).check_time) == (False, None)
    assert row(NAME).expire_time is not None


@pytest.mark.asyncio
async def test_children_of_two_of_their_operations_are_two(client, theirs, lro_clock):
    """The same key under another parent is another child, though neither parent has a uid."""
    theirs("operations/one")
    theirs("operations/two")
    client.handler("child")(_nothing)
    parents = [await client.operation(f"operations/{name}") for name in ("one", "two")]
    first, second = [await op.start_child(_nothing, key="a") for op in parents]
    again = await parents[0].start_child(_nothing, key="a")
    assert first.name != second.name
    assert again.name == first.name


async def _nothing(op):
    return None


@pytest.mark.asyncio
async def test_a_run_stops_when_somebody_else_ends_its_operation(client, theirs, row, lro_clock):
    """The row is ours and its claim is as it was; the next renewal finds the end, and nothing is written over it."""
    reasons = []

    @client.handler("work")
    async def work(op):
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(op.cancel_reason)

    op = await client.start(work)
    await lro_clock.settle()
    held = row(op.name)
    theirs(op.name, state=State.SUCCEEDED, response=packed(7))
    await lro_clock.settle()
    assert reasons == [], "nobody knows before the renewal"
    await lro_clock.advance(10)
    assert reasons == [lro.CancelReason.LEASE_LOST]
    assert client.engine.worker.running == {}
    assert client.engine.leases.held == 0
    assert (row(op.name).claim, row(op.name).revision) == (held.claim, held.revision)
    assert (await op.result(wrappers_pb2.Int64Value)).value == 7


@pytest.mark.asyncio
async def test_what_a_run_returns_is_dropped_where_somebody_else_has_ended_it(client, theirs, row, lro_clock):
    go = asyncio.Event()

    @client.handler("work")
    async def work(op):
        await go.wait()
        return wrappers_pb2.Int64Value(value=1)

    op = await client.start(work)
    await lro_clock.settle()
    theirs(op.name, state=State.SUCCEEDED, response=packed(7))
    go.set()
    await lro_clock.settle()
    assert (await op.result(wrappers_pb2.Int64Value)).value == 7
    assert client.engine.leases.held == 0


@pytest.mark.asyncio
async def test_who_drives_an_operation_that_somebody_else_ended_is_told(client, theirs, lro_clock):
    op = await client.create()
    theirs(op.name, state=State.SUCCEEDED, response=packed(7))
    with pytest.raises(lro.OperationDoneError):
        await op.set_metadata(wrappers_pb2.Int64Value(value=1))
    with pytest.raises(lro.OperationDoneError):
        await op.done()
    await lro_clock.advance(1)
    assert client.engine.leases.held == 0
