"""Cancelling: what a handler sees, who ends CANCELLED, and the clean-up."""

import asyncio
import math

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import State

from ..waiting import all_blocked, until


@pytest.fixture
def log():
    """What the handlers of a test saw, in order."""
    return []


@pytest.fixture
def handlers(client, log):
    @client.handler("work")
    async def work(op):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append((op.cancel_reason, op.cancel_requested))
            raise

    @client.handler("tidy", state=str, resume_points=("on", "again"), on_cancel="cleanup")
    async def tidy(op):
        match op.resume_point, op.state:
            case "", "sleep":
                op.state = "slept"
                return op.suspend(resume_at="on", sleep=1000)
            case "", _:
                op.state = "worked"
                await op.save()
                await asyncio.Event().wait()
            case "cleanup", _:
                log.append((op.wake_reason, op.state, op.attempt))
                return wrappers_pb2.StringValue(value="ignored")
            case _:
                raise AssertionError(op.resume_point)
        return None

    return client


@pytest.mark.asyncio
async def test_a_running_handler_is_told_why_before_it_is_cancelled(handlers, client, lro_clock, row, log):
    op = await client.start("work")
    await lro_clock.settle()
    await op.cancel()
    with pytest.raises(lro.OperationCancelledError):
        await asyncio.wait_for(op.result(), 5)
    assert log == [(lro.CancelReason.CANCEL_REQUESTED, True)]
    assert row(op.name).state is State.CANCELLED
    assert (await op.fetch()).error.code == lro.Code.CANCELLED


@pytest.mark.asyncio
async def test_a_handler_that_finishes_all_the_same_has_finished(client, lro_clock, row):
    @client.handler("stubborn")
    async def stubborn(op):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return wrappers_pb2.Int64Value(value=1)

    op = await client.start("stubborn")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    assert row(op.name).state is State.SUCCEEDED


@pytest.mark.asyncio
async def test_a_suspend_of_a_cancelled_operation_is_its_end(client, lro_clock, row):
    @client.handler("deaf", resume_points=("on",))
    async def deaf(op):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return op.suspend(resume_at="on", sleep=1000)

    op = await client.start("deaf")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_suspended_operation_ends_at_once(client, lro_clock, row):
    @client.handler("nap", resume_points=("on",))
    async def nap(op):
        return op.suspend(resume_at="on", sleep=1000)

    op = await client.start("nap")
    await lro_clock.settle()
    await op.cancel()
    assert row(op.name).state is State.CANCELLED
    await lro_clock.advance(2000)
    assert row(op.name).claim == 1


@pytest.mark.asyncio
async def test_a_pending_operation_ends_at_once(open_client, store, row):
    front = await open_client(store, worker=False)
    op = await front.start("anything")
    await op.cancel()
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_finished_operation_is_not_touched(client, row):
    op = await client.create()
    await op.done()
    before = row(op.name)
    await client.cancel_operation(op.name)
    assert row(op.name) == before


@pytest.mark.parametrize("state", ["sleep", "work"])
@pytest.mark.asyncio
async def test_the_clean_up_runs_once_and_the_operation_ends_cancelled(handlers, client, lro_clock, row, log, state):
    op = await client.start("tidy", state)
    await lro_clock.settle()
    await op.cancel()
    await op.cancel()
    await lro_clock.settle()
    ended = {"sleep": "slept", "work": "worked"}[state]
    assert log == [(lro.WakeReason.CANCEL_REQUESTED, ended, 1)]
    assert row(op.name).state is State.CANCELLED
    assert (await op.fetch()).error.code == lro.Code.CANCELLED
    await op.cancel()
    await lro_clock.advance(5000)
    assert len(log) == 1


@pytest.mark.asyncio
async def test_a_pending_operation_of_a_front_end_has_nothing_to_clean_up(open_client, store, lro_clock, log, row):
    handlers = lro.Handlers()

    @handlers.handler("tidy", on_cancel="cleanup")
    async def tidy(op):
        log.append(op.resume_point)

    front = await open_client(store, worker=False, handlers=[handlers])
    op = await front.start("tidy")
    await op.cancel()
    assert row(op.name).state is State.CANCELLED
    assert not log


@pytest.mark.asyncio
async def test_a_clean_up_that_raises_fails_the_operation(client, lro_clock, row):
    @client.handler("messy", resume_points=("on",), on_cancel="cleanup")
    async def messy(op):
        if op.resume_point == "cleanup":
            raise lro.OperationFailedError("stuck", code=lro.Code.INTERNAL)
        return op.suspend(resume_at="on", sleep=1000)

    op = await client.start("messy")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    assert row(op.name).state is State.FAILED
    assert (await op.fetch()).error.message == "stuck"


@pytest.mark.asyncio
async def test_a_clean_up_may_suspend_and_retry_and_still_ends_cancelled(client, lro_clock, row, log):
    @client.handler("slow", resume_points=("on", "more"), on_cancel="cleanup", retry=lro.RetryPolicy(jitter=0))
    async def slow(op):
        log.append(op.resume_point)
        match op.resume_point:
            case "":
                return op.suspend(resume_at="on", sleep=1000)
            case "cleanup":
                return op.suspend(resume_at="more", sleep=10)
            case "more" if log.count("more") == 1:
                raise lro.RetryLater
        return None

    op = await client.start("slow")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.advance(60)
    assert log == ["", "cleanup", "more", "more"]
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_the_clean_up_is_told_of_the_children(client, lro_clock, log):
    @client.handler("parent", resume_points=("on",), on_cancel="cleanup")
    async def parent(op):
        if op.resume_point == "cleanup":
            log.append([child.name for child in op.children])
            return None
        return op.suspend(resume_at="on", children=["operations/a", child.name])

    child = await client.create()
    op = await client.start("parent")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    assert log == [["operations/a", child.name]]


@pytest.mark.asyncio
async def test_a_cancel_while_a_retry_is_waited_for_ends_it(client, lro_clock, row):
    @client.handler("flaky", retry=lro.RetryPolicy(on=OSError, initial_delay=1000))
    async def flaky(op):
        raise OSError

    op = await client.start("flaky")
    await lro_clock.settle()
    assert row(op.name).state is State.SUSPENDED
    await op.cancel()
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_cancel_between_claim_and_handler_start_is_not_lost(client, store, lro_clock, row, log):
    @client.handler("work", state=dict, resume_points=("on",))
    async def work(op):
        log.append(op.resume_point)
        if op.resume_point == "":
            return op.suspend(resume_at="on", sleep=10)
        await asyncio.Event().wait()
        return None

    op = await client.start("work")
    await lro_clock.settle()
    let_go = store.hold("apply")
    advancing = asyncio.create_task(lro_clock.advance(10))
    await until(lambda: store.calls["apply"] == 3)
    cancelling = asyncio.create_task(op.cancel())
    await all_blocked()
    let_go()
    await cancelling
    await advancing
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_cancel_in_the_batch_of_the_start_is_not_lost(client, store, lro_clock, row):
    @client.handler("work")
    async def work(op):
        await asyncio.Event().wait()

    let_go = store.hold("apply")
    busy = asyncio.create_task(client.create())
    await until(lambda: store.calls["apply"])
    starting = asyncio.create_task(client.start("work", operation_id="one"))
    await all_blocked()
    from lro_aio.core import transitions
    from lro_aio.core.change import Change

    client.engine.batcher.submit(
        Change(
            "operations/one",
            lambda record: transitions.request_cancel(record, now=lro_clock.time(), retention=60, token="t"),
        )
    )
    let_go()
    await asyncio.gather(busy, starting)
    await lro_clock.settle()
    assert row("operations/one").state is State.CANCELLED


@pytest.mark.asyncio
async def test_another_processs_cancel_arrives_with_the_renewal(open_client, tmp_path, lro_clock, log):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()

    @handlers.handler("work")
    async def work(op):
        try:
            await asyncio.Event().wait()
        finally:
            log.append(op.cancel_reason)

    worker = await open_client(url, handlers=[handlers])
    front = await open_client(url, worker=False)
    op = await worker.start("work")
    await lro_clock.settle()
    await front.cancel_operation(op.name)
    await lro_clock.advance(10)
    with pytest.raises(lro.OperationCancelledError):
        await asyncio.wait_for(op.result(), 5)
    assert log == [lro.CancelReason.CANCEL_REQUESTED]


@pytest.mark.asyncio
async def test_the_clean_up_of_a_run_that_died_is_run_by_another_process(
    open_client, tmp_path, lro_clock, abandon, log
):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()

    @handlers.handler("work", on_cancel="cleanup")
    async def work(op):
        log.append(op.resume_point)
        if op.resume_point == "":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.Event().wait()

    first = await open_client(url, handlers=[handlers])
    op = await first.start("work")
    await lro_clock.settle()
    second = await open_client(url, handlers=[handlers])
    abandon(first)
    await second.cancel_operation(op.name)
    await lro_clock.advance(46)  # a lease, and what it takes to know that nobody renews it
    ended = await asyncio.wait_for(second.wait_operation(op.name), 5)
    assert ended.error.code == lro.Code.CANCELLED
    assert log == ["", "cleanup"]
    for run in first.engine.worker.running.values():
        run.task.cancel()


@pytest.mark.asyncio
async def test_the_outcome_of_a_cancelled_run_waits_for_the_store(client, store, lro_clock, row):
    @client.handler("works")
    async def works(op):
        try:
            await asyncio.Event().wait()
        finally:
            store.fail("apply", times=math.inf)

    op = await client.start("works")
    await lro_clock.settle()
    before = store.calls["apply"]
    await client.cancel_operation(op.name)
    await until(lambda: store.calls["apply"] > before + 1)
    store.fail("apply", times=0)
    await lro_clock.advance(30)
    assert row(op.name).state is State.CANCELLED


@pytest.mark.parametrize("second", ["RUN_TIMEOUT", "SHUTDOWN"])
@pytest.mark.asyncio
async def test_a_handler_that_goes_on_after_a_cancel_is_still_stopped_by_its_timeout_and_by_a_shutdown(
    client, lro_clock, row, second
):
    stops = []

    @client.handler("slow-cleanup", run_timeout=5)
    async def slow_cleanup(op):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stops.append(op.cancel_reason)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                stops.append(op.cancel_reason)
                raise

    op = await client.start("slow-cleanup")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    assert stops == [lro.CancelReason.CANCEL_REQUESTED]
    if second == "SHUTDOWN":
        await client.drain(0)
    else:
        await lro_clock.advance(5)
    assert stops == [lro.CancelReason.CANCEL_REQUESTED] * 2, "the first reason stays"
    assert row(op.name).state is State.CANCELLED
