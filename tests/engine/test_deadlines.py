"""A deadline bounds the whole operation: what runs, what waits, what is paused, and what nobody runs."""

import asyncio
import datetime

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.core.status import reason_of
from lro_aio.testing import FaultyStore


@pytest.fixture
def handlers():
    registry = lro.Handlers()

    @registry.handler("sleeps", resume_points=("on",), deadline=datetime.timedelta(seconds=50))
    async def sleeps(op):
        return op.suspend(resume_at="on", sleep=20) if not op.resume_point else op.suspend(resume_at="on", sleep=1000)

    @registry.handler("hangs")
    async def hangs(op):
        await asyncio.Event().wait()

    @registry.handler("stubborn", deadline=50)
    async def stubborn(op):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert op.cancel_reason is lro.CancelReason.DEADLINE_EXCEEDED

    @registry.handler("waits", deadline=50, resume_points=("on",))
    async def waits(op):
        child = await op.start_child("hangs", key="a")
        return op.suspend(resume_at="on", children=[child])

    @registry.handler("retries", deadline=50)
    async def retries(op):
        raise lro.RetryLater(after=30)

    return registry


async def failed_at_50(client, clock, op):
    await clock.advance(49)
    assert not (await op.fetch()).done
    await clock.advance(1)
    error = (await op.fetch()).error
    return (error.code, reason_of(error)) == (lro.Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["sleeps", "waits", "retries"])
async def test_what_waits_fails(open_client, store, handlers, lro_clock, name):
    client = await open_client(store, handlers=handlers)
    assert await failed_at_50(client, lro_clock, await client.start(name))


@pytest.mark.asyncio
async def test_what_runs_is_stopped_and_fails(open_client, store, handlers, lro_clock):
    client = await open_client(store, handlers=handlers)
    op = await client.start("hangs", deadline=datetime.timedelta(seconds=50))
    assert await failed_at_50(client, lro_clock, op)


@pytest.mark.asyncio
async def test_the_start_decides_over_the_handler(open_client, store, handlers, lro_clock, row):
    client = await open_client(store, handlers=handlers)
    op = await client.start("sleeps", deadline=5)
    await lro_clock.advance(5)
    assert row(op.name).state is State.FAILED


@pytest.mark.asyncio
async def test_a_handler_that_finishes_all_the_same_has_finished(open_client, store, handlers, lro_clock, row):
    client = await open_client(store, handlers=handlers)
    op = await client.start("stubborn")
    await lro_clock.advance(50)
    assert row(op.name).state is State.SUCCEEDED


@pytest.mark.asyncio
async def test_a_pause_does_not_stop_the_clock(open_client, store, handlers, lro_clock):
    client = await open_client(store, handlers=handlers)
    op = await client.start("sleeps")
    await lro_clock.settle()
    await client.pause_operation(op.name)
    assert await failed_at_50(client, lro_clock, op)


@pytest.mark.asyncio
async def test_what_finds_no_slot_fails_too_where_it_waits(open_client, store, handlers, lro_clock, row):
    client = await open_client(store, handlers=handlers, max_running=1)
    op = await client.start("sleeps")
    await lro_clock.settle()
    await client.start("hangs")
    await lro_clock.advance(49)
    assert not (await op.fetch()).done
    await lro_clock.advance(100)  # a process that is full looks once in a sweep interval
    assert row(op.name).state is State.FAILED


@pytest.mark.asyncio
async def test_a_service_method_that_drives_it_hears_that_it_is_over(open_client, store, handlers, lro_clock, row):
    client = await open_client(store, handlers=handlers, worker=False)
    op = await client.server_host.start_by_hand("sleeps")
    await op.commit(op.suspend(resume_at="on", sleep=1000))
    await lro_clock.advance(50)
    with pytest.raises(lro.OperationDoneError):
        await client.server_host.claim_suspended(op.name)
    assert row(op.name).state is State.FAILED


@pytest.mark.asyncio
async def test_it_outlives_the_process(open_client, handlers, lro_clock, tmp_path):
    def stores():
        return FaultyStore(lro.SqliteStore(tmp_path / "o.db"))

    first = await open_client(stores(), handlers=handlers)
    ops = [await first.start("sleeps"), await first.start("hangs", deadline=50)]
    await lro_clock.advance(10)
    await first.aclose()
    await lro_clock.advance(100)
    second = await open_client(stores(), handlers=handlers)
    await second.sweep()
    await lro_clock.settle()
    for op in ops:
        record = await second.server_host.record(op.name)
        assert record.state is State.FAILED
        assert record.to_operation().error.code == lro.Code.DEADLINE_EXCEEDED


@pytest.mark.asyncio
@pytest.mark.parametrize("bad", [0, -1, 1e12, float("inf"), float("nan"), datetime.timedelta(0), "5", True])
async def test_bad_values_are_refused(open_client, store, handlers, bad):
    client = await open_client(store, handlers=handlers)
    with pytest.raises((TypeError, ValueError), match="deadline"):
        await client.start("hangs", deadline=bad)


@pytest.mark.parametrize("bad", [0, -1, float("inf"), datetime.timedelta(0), "5", True])
def test_bad_values_are_refused_of_handlers_too(bad):
    with pytest.raises((TypeError, ValueError), match="deadline"):
        lro.Handlers().handler("x", deadline=bad)
