"""What a handler raises while it is being stopped decides nothing: why it is stopped does."""

import asyncio
import logging

import pytest

import lro_aio as lro
from lro_aio.core.record import State


async def fails_on_the_way_out():
    try:
        await asyncio.Event().wait()
    finally:
        raise ConnectionError("rollback failed")


async def translates():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as exc:
        raise RuntimeError("the driver was interrupted") from exc


async def fails_in_a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(fails_on_the_way_out())


async def fails_on_purpose():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as exc:
        raise lro.OperationFailedError("half done", code=lro.Code.DATA_LOSS) from exc


WAYS = pytest.mark.parametrize("leave", [fails_on_the_way_out, translates, fails_in_a_group, fails_on_purpose])


@WAYS
@pytest.mark.asyncio
async def test_a_shutdown_releases_the_row_whatever_the_handler_raises(
    open_client, store, row, lro_clock, caplog, leave
):
    handlers = lro.Handlers()
    runs = []

    @handlers.handler("work", retry=lro.RetryPolicy(on=(ConnectionError,)))
    async def work(op):
        runs.append((op.attempt, op.retries))
        if len(runs) == 1:
            await leave()

    client = lro.Client(store, handlers=[handlers], clock=lro_clock, drain_timeout=0)
    async with client:
        op = await client.start("work")
        await lro_clock.settle()
        await client.drain(0)
        released = row(op.name)
    assert (released.state, released.attempt, released.retries) == (State.PENDING, 0, 0)
    told = [entry for entry in caplog.records if getattr(entry, "event", "") == "raised_while_stopped"]
    assert [(entry.operation, entry.levelno) for entry in told] == [(op.name, logging.ERROR)]
    assert told[0].exc_info is not None


@WAYS
@pytest.mark.asyncio
async def test_a_cancel_ends_it_cancelled_and_the_clean_up_runs(client, lro_clock, row, leave):
    cleaned = []

    @client.handler("work", on_cancel="put-away")
    async def work(op):
        if op.resume_point == "put-away":
            cleaned.append(op.wake_reason)
            return
        await leave()

    @client.handler("bare", retry=lro.RetryPolicy(on=(ConnectionError, ExceptionGroup)))
    async def bare(op):
        await leave()

    ops = [await client.start("work"), await client.start("bare")]
    await lro_clock.settle()
    for op in ops:
        await op.cancel()
    await lro_clock.settle()
    assert [row(op.name).state for op in ops] == [State.CANCELLED, State.CANCELLED]
    assert cleaned == [lro.WakeReason.CANCEL_REQUESTED]


@WAYS
@pytest.mark.asyncio
async def test_a_run_timeout_is_deadline_exceeded(client, lro_clock, leave):
    @client.handler("slow", run_timeout=5)
    async def slow(op):
        await leave()

    op = await client.start("slow")
    await lro_clock.advance(6)
    with pytest.raises(lro.failures.DeadlineExceededError, match="took longer than 5 s"):
        await op.result(timeout=1)


@WAYS
@pytest.mark.asyncio
async def test_a_clean_up_that_is_stopped_by_a_shutdown_runs_again(store, row, lro_clock, leave):
    handlers = lro.Handlers()
    cleanings = []

    @handlers.handler("work", on_cancel="put-away")
    async def work(op):
        if op.resume_point == "put-away":
            cleanings.append(op.attempt)
            if len(cleanings) == 1:
                await leave()
            return
        await asyncio.Event().wait()

    async with lro.Client(store, handlers=[handlers], clock=lro_clock, drain_timeout=0) as client:
        op = await client.start("work")
        await lro_clock.settle()
        await op.cancel()
        await lro_clock.settle()
        await client.drain(0)
        assert row(op.name).state is State.PENDING
        assert row(op.name).cleaning


class Broken(lro.OperationFailedError):
    """Forgets what every exception class may forget."""

    def __init__(self):
        pass


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (
            lro.OperationFailedError(ValueError("declined"), code=lro.Code.FAILED_PRECONDITION),
            "FAILED_PRECONDITION",
            "declined",
        ),
        (Broken(), "INTERNAL", "could not be told"),
        (Unprintable(), "UNKNOWN", "does not disclose"),
        (SystemExit(3), "UNKNOWN", "does not disclose"),
    ],
)
@pytest.mark.asyncio
async def test_an_error_that_is_hard_to_tell_ends_the_operation_at_once(client, lro_clock, raised, code, told):
    runs = []

    @client.handler("pay")
    async def pay(op):
        runs.append(op.attempt)
        raise raised

    op = await client.start("pay")
    await lro_clock.advance(1000)
    ended = await client.get_operation(op.name)
    assert runs == [1]
    assert lro.Code(ended.error.code).name == code
    assert told in ended.error.message


@pytest.mark.asyncio
async def test_a_system_exit_in_one_handler_leaves_the_others_alone(client, lro_clock):
    gate = asyncio.Event()

    @client.handler("exits")
    async def exits(op):
        raise SystemExit

    @client.handler("works")
    async def works(op):
        await gate.wait()

    other = await client.start("works")
    await client.start("exits")
    await lro_clock.settle()
    gate.set()
    await other.result(timeout=5)


async def in_groups(*raised):
    """Nested: a group in a group, as task groups within task groups make them."""

    async def one(exc):
        raise exc

    async def inner():
        async with asyncio.TaskGroup() as group:
            for exc in raised:
                group.create_task(one(exc))

    async with asyncio.TaskGroup() as group:
        group.create_task(inner())


@pytest.mark.parametrize(
    "raised",
    [
        (ConnectionError("nobody answers"),),
        (lro.RetryLater(after=5),),
        (ConnectionError("one"), lro.RetryLater(after=5)),
        (lro.StoreUnavailableError("away"),),
    ],
)
@pytest.mark.asyncio
async def test_what_is_worth_a_retry_is_worth_it_in_a_group(client, lro_clock, row, raised):
    runs = []

    @client.handler("flaky", retry=lro.RetryPolicy(on=(ConnectionError,), initial_delay=1))
    async def flaky(op):
        runs.append(op.retries)
        if len(runs) == 1:
            await in_groups(*raised)

    op = await client.start("flaky")
    await lro_clock.advance(60)
    assert row(op.name).state is State.SUCCEEDED
    assert runs == [0, 0 if isinstance(raised[0], lro.StoreUnavailableError) else 1]


@pytest.mark.asyncio
async def test_a_group_ends_the_operation_as_its_leaf_would(client, lro_clock):
    @client.handler("poor")
    async def poor(op):
        await in_groups(lro.OperationFailedError("no money", code=lro.Code.FAILED_PRECONDITION))

    op = await client.start("poor")
    await lro_clock.settle()
    with pytest.raises(lro.failures.FailedPreconditionError, match="no money"):
        await op.result(timeout=1)


@pytest.mark.asyncio
async def test_a_group_whose_leaves_disagree_is_told_with_all_of_them(client, lro_clock):
    @client.handler("torn", retry=lro.RetryPolicy(on=(ConnectionError,)))
    async def torn(op):
        await in_groups(
            lro.OperationFailedError("no money", code=lro.Code.FAILED_PRECONDITION),
            lro.OperationFailedError("no such account", code=lro.Code.NOT_FOUND),
            ConnectionError("secret address"),
        )

    op = await client.start("torn")
    await lro_clock.settle()
    error = (await client.get_operation(op.name)).error
    assert error.code == lro.Code.UNKNOWN
    assert "no money" in error.message
    assert "no such account" in error.message
    assert "secret" not in error.message


@pytest.fixture
def deaf(client):
    """A handler that swallows what stops it, as some libraries do, until it was told ``often`` times."""
    told = []

    @client.handler("deaf", state=int, run_timeout=50)
    async def deaf(op):
        while len(told) < op.state:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append(op.cancel_reason)
        raise asyncio.CancelledError

    return told


@pytest.mark.asyncio
async def test_a_swallowed_cancel_comes_again_with_the_next_request(client, lro_clock, row, deaf):
    op = await client.start("deaf", 3)
    await lro_clock.settle()
    for _ in range(3):
        assert row(op.name).state is State.RUNNING
        await op.cancel()
        await lro_clock.settle()
    assert deaf == [lro.CancelReason.CANCEL_REQUESTED] * 3
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_swallowed_cancel_comes_again_with_the_renewals_and_leaves_time_to_clean_up(
    client, lro_clock, row, deaf
):
    op = await client.start("deaf", 3)
    await lro_clock.advance(9)
    await op.cancel()
    await lro_clock.advance(5)  # a renewal comes too soon to be a sign of anything
    assert len(deaf) == 1
    for seen in (2, 3):
        await lro_clock.advance(10)
        assert len(deaf) == seen
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_swallowed_timeout_comes_again_with_the_renewals(client, lro_clock, row, deaf):
    op = await client.start("deaf", 3)
    for seconds in (50, 10, 10):
        await lro_clock.advance(seconds)
    assert deaf == [lro.CancelReason.RUN_TIMEOUT] * 3
    assert (await op.fetch()).error.code == lro.Code.DEADLINE_EXCEEDED


@pytest.mark.asyncio
async def test_what_a_handler_writes_while_it_cleans_up_does_not_stop_it_again(client, lro_clock, row):
    told = []

    @client.handler("slow", state=str)
    async def slow(op):
        try:
            await asyncio.Event().wait()
        finally:
            told.append(op.cancel_reason)
            for step in ("one", "two"):
                op.state = step
                await op.save()
                await op.progress(message=step)
            told.append("tidy")

    op = await client.start("slow")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    assert told == [lro.CancelReason.CANCEL_REQUESTED, "tidy"]
    assert row(op.name).state is State.CANCELLED
