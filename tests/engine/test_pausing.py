"""Pausing by hand: nothing new begins, nothing is lost, and it goes on from there."""

import asyncio

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore

from ..waiting import until


@pytest.fixture
def log():
    """The runs of a test, in order."""
    return []


@pytest.fixture
def handlers(client, log):
    @client.handler("sleeper", resume_points=("on",))
    async def sleeper(op):
        log.append(op.resume_point)
        return None if op.resume_point else op.suspend(resume_at="on", sleep=100)

    return client


@pytest.mark.asyncio
async def test_a_paused_sleep_is_not_woken_and_unpaused_it_is_at_once(handlers, client, lro_clock, row, log):
    op = await client.start("sleeper")
    await lro_clock.settle()
    await client.pause_operation(op.name, reason="the disk is full")
    await lro_clock.advance(1000)
    assert log == [""]
    assert row(op.name).paused
    assert (await client.history(op.name))[-1].text == "the disk is full"
    await client.unpause_operation(op.name)
    await asyncio.wait_for(op.result(), 5)
    assert log == ["", "on"]


@pytest.mark.asyncio
async def test_unpaused_before_its_time_it_sleeps_on(handlers, client, lro_clock, row, log):
    op = await client.start("sleeper")
    await lro_clock.settle()
    await client.pause_operation(op.name)
    await client.unpause_operation(op.name)
    await lro_clock.advance(99)
    assert log == [""]
    await lro_clock.advance(1)
    assert row(op.name).state is State.SUCCEEDED


@pytest.mark.asyncio
async def test_a_running_segment_goes_on_to_its_stop(client, lro_clock, row, log):
    gate = asyncio.Event()

    @client.handler("work", resume_points=("on",))
    async def work(op):
        log.append(op.resume_point)
        await gate.wait()
        return None if op.resume_point else op.suspend(resume_at="on", sleep=0)

    op = await client.start("work")
    await lro_clock.settle()
    await client.pause_operation(op.name)
    assert row(op.name).state is State.RUNNING
    gate.set()
    await lro_clock.advance(100)
    assert log == [""]
    assert (row(op.name).state, row(op.name).resume_point) == (State.SUSPENDED, "on")
    await client.unpause_operation(op.name)
    await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_the_end_of_a_child_during_a_pause_is_remembered(client, lro_clock, row, log):
    gate = asyncio.Event()

    @client.handler("child")
    async def child(op):
        await gate.wait()

    @client.handler("parent", resume_points=("on",))
    async def parent(op):
        if op.resume_point:
            log.append([found.done for found in op.children])
            return None
        started = await op.start_child("child", key="a")
        return op.suspend(resume_at="on", children=[started])

    op = await client.start("parent")
    await lro_clock.settle()
    await client.pause_operation(op.name)
    gate.set()
    await lro_clock.advance(1000)
    assert log == []
    await client.unpause_operation(op.name)
    await asyncio.wait_for(op.result(), 5)
    assert log == [[True]]


@pytest.mark.asyncio
async def test_a_paused_operation_can_be_cancelled_and_deleted(handlers, client, lro_clock, row):
    cancelled, deleted = await client.start("sleeper"), await client.start("sleeper")
    await lro_clock.settle()
    for op in (cancelled, deleted):
        await client.pause_operation(op.name)
    await client.cancel_operation(cancelled.name)
    with pytest.raises(lro.OperationCancelledError):
        await asyncio.wait_for(cancelled.result(), 5)
    await client.delete_operation(deleted.name)
    assert row(deleted.name) is None
    with pytest.raises(lro.OperationNotFoundError):
        await client.unpause_operation(deleted.name)


@pytest.mark.asyncio
async def test_each_wrong_use_has_its_error(handlers, client, lro_clock):
    op = await client.start("sleeper")
    await lro_clock.settle()
    with pytest.raises(lro.InvalidTransitionError, match="not paused"):
        await client.unpause_operation(op.name)
    await lro_clock.advance(100)
    for act in (client.pause_operation, client.unpause_operation):
        with pytest.raises(lro.OperationDoneError):
            await act(op.name)
        with pytest.raises(lro.OperationNotFoundError):
            await act("operations/never")
        with pytest.raises(lro.InvalidOperationNameError):
            await act("no name")
    driven = await client.create()
    with pytest.raises(lro.InvalidTransitionError, match="without a handler"):
        await client.pause_operation(driven.name)
    with pytest.raises(TypeError, match="reason"):
        await client.pause_operation(op.name, reason=7)


@pytest.mark.asyncio
async def test_two_who_pause_at_once_pause_it_once(handlers, client, lro_clock, row, log):
    op = await client.start("sleeper")
    await lro_clock.settle()
    await asyncio.gather(client.pause_operation(op.name, "one"), client.pause_operation(op.name, "two"))
    pauses = [entry for entry in await client.history(op.name) if entry.kind == "PAUSED"]
    assert [entry.text for entry in pauses] == ["one"]
    results = await asyncio.gather(*(client.unpause_operation(op.name) for _ in range(2)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["InvalidTransitionError", "NoneType"]


@pytest.fixture
def file_store(tmp_path):
    """``file_store()``: one more store of one file, as each process has its own."""
    return lambda: FaultyStore(lro.SqliteStore(tmp_path / "operations.db"))


@pytest.fixture
def blocking(log):
    """A handler whose first run never ends by itself."""
    registry = lro.Handlers()

    @registry.handler("work")
    async def work(op):
        log.append(op.attempt)
        if len(log) == 1:
            await asyncio.Event().wait()

    return registry


@pytest.mark.asyncio
async def test_a_restart_of_the_process_leaves_it_paused(open_client, lro_clock, file_store, blocking, log):
    first = await open_client(file_store(), handlers=blocking)
    op = await first.start("work")
    await lro_clock.settle()
    await first.pause_operation(op.name)
    await first.aclose()
    second = await open_client(file_store(), handlers=blocking)
    await second.sweep()
    await lro_clock.advance(1000)
    record = await second.server_host.record(op.name)
    assert (record.state, record.check_time, log) == (State.SUSPENDED, None, [1])
    await second.unpause_operation(op.name)
    await until(lambda: log == [1, 1])


@pytest.mark.asyncio
async def test_a_run_hears_at_its_stop_of_a_pause_by_another_process(open_client, lro_clock, file_store, log):
    registry, gate = lro.Handlers(), asyncio.Event()

    @registry.handler("work", resume_points=("on",))
    async def work(op):
        log.append(op.resume_point)
        if not op.resume_point:
            await gate.wait()
            return op.suspend(resume_at="on", sleep=0)
        return None

    runs, other = [await open_client(file_store(), handlers=registry, worker=worker) for worker in (True, False)]
    op = await runs.start("work")
    await lro_clock.settle()
    await other.pause_operation(op.name)
    gate.set()
    await lro_clock.advance(100)
    assert (log, (await other.server_host.record(op.name)).paused) == ([""], True)
    await other.unpause_operation(op.name)
    await until(lambda: log == ["", "on"])


@pytest.mark.asyncio
async def test_a_run_whose_process_died_is_not_begun_again(open_client, lro_clock, file_store, blocking, log, abandon):
    dying = await open_client(file_store(), handlers=blocking)
    other = await open_client(file_store(), handlers=blocking)
    op = await dying.start("work")
    await lro_clock.settle()
    await other.pause_operation(op.name)
    abandon(dying)
    for _ in range(10):
        await lro_clock.advance(30)
    record = await other.server_host.record(op.name)
    assert (record.state, record.paused, log) == (State.SUSPENDED, True, [1])
    await other.unpause_operation(op.name)
    await until(lambda: log == [1, 1])


@pytest.mark.asyncio
async def test_nobody_who_has_an_old_token_wakes_it(handlers, client, lro_clock, row, log):
    op = await client.start("sleeper")
    await lro_clock.settle()
    token = row(op.name).wait.token
    await client.pause_operation(op.name)
    assert not await client.resume(op.name, token)
    assert not await client.resume(op.name, row(op.name).wait.token)
    with pytest.raises(lro.InvalidTransitionError):
        await client.server_host.claim_suspended(op.name)
    await lro_clock.settle()
    assert log == [""]


@pytest.mark.asyncio
async def test_an_answer_that_is_lost_pauses_all_the_same(handlers, client, lro_clock, store, row):
    op = await client.start("sleeper")
    await lro_clock.settle()
    store.fail("apply", when="after")
    with pytest.raises(lro.StoreUnavailableError):
        await client.pause_operation(op.name)
    await client.pause_operation(op.name)
    assert row(op.name).paused


@pytest.mark.asyncio
async def test_the_filter_finds_what_is_paused(handlers, client, lro_clock):
    ops = [await client.start("sleeper") for _ in range(3)]
    await lro_clock.settle()
    await client.pause_operation(ops[1].name)

    async def found(text):
        return {operation.name async for operation in client.iter_operations(text)}

    assert await found("paused = true") == {ops[1].name}
    assert await found('paused = true AND handler = "sleeper" AND done = false') == {ops[1].name}
    assert await found("paused = false") == {ops[0].name, ops[2].name}
    assert await found("NOT paused = true") == {ops[0].name, ops[2].name}
    with pytest.raises(lro.InvalidFilterError):
        await found("paused = yes")
