"""When a handler fails: the operation is paused for somebody to look at it, or puts away what it began."""

import asyncio

import pytest
from google.protobuf import struct_pb2

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore

from ..waiting import until


@pytest.fixture
def log():
    """What the handlers of a test saw, in order."""
    return []


@pytest.mark.asyncio
async def test_an_exception_pauses_and_unpaused_the_segment_runs_again(client, lro_clock, row, log):
    @client.handler("work", pause_on_failure=True)
    async def work(op):
        log.append(op.attempt)
        if len(log) == 1:
            raise KeyError("a secret")
        return struct_pb2.Value(string_value="done")

    op = await client.start("work")
    await lro_clock.advance(1000)
    record = row(op.name)
    assert (record.state, record.paused, log) == (State.SUSPENDED, True, [1])
    assert not (await op.fetch()).done
    failure = op.metadata["failure"]
    assert (failure["code"], failure["reason"]) == ("UNKNOWN", "HANDLER_ERROR")
    assert "secret" not in failure["message"]
    (told,) = [entry.error for entry in await client.history(op.name) if entry.kind == "FAILURE"]
    assert "KeyError: 'a secret'" in told
    await client.unpause_operation(op.name)
    assert await asyncio.wait_for(op.result(), 5) == struct_pb2.Value(string_value="done")
    await op.fetch()
    assert (op.metadata, log) == (None, [1, 1])


@pytest.mark.asyncio
@pytest.mark.parametrize(("default", "declared", "paused"), [(True, None, True), (True, False, False)])
async def test_the_client_has_a_default(open_client, store, lro_clock, row, default, declared, paused):
    client = await open_client(store, pause_on_failure=default)

    @client.handler("work", pause_on_failure=declared)
    async def work(op):
        raise ValueError

    op = await client.start("work")
    await lro_clock.settle()
    assert row(op.name).paused is paused


@pytest.mark.asyncio
async def test_a_failure_on_purpose_ends_it_and_that_of_a_child_does_not(client, lro_clock, row):
    @client.handler("refuses", pause_on_failure=True)
    async def refuses(op):
        raise lro.OperationFailedError("no such bucket", code=lro.Code.NOT_FOUND)

    @client.handler("asks", pause_on_failure=True)
    async def asks(op):
        child = await op.start_child("refuses", key="a")
        await child.result()

    op = await client.start("asks")
    await lro_clock.settle()
    await until(lambda: row(op.name).paused)
    (child,) = [found async for found in client.iter_operations('handler = "refuses"')]
    assert child.error.code == lro.Code.NOT_FOUND


@pytest.mark.asyncio
async def test_the_last_retry_pauses_and_unpaused_the_retries_count_anew(client, lro_clock, row, log):
    @client.handler("work", pause_on_failure=True, retry=lro.RetryPolicy(on=(OSError,), max_attempts=2))
    async def work(op):
        log.append(op.retries)
        raise OSError

    op = await client.start("work")
    await lro_clock.advance(1000)
    assert (log, row(op.name).paused) == ([0, 1], True)
    await client.unpause_operation(op.name)
    await lro_clock.advance(1000)
    assert (log, row(op.name).paused) == ([0, 1, 0, 1], True)


@pytest.mark.asyncio
async def test_what_crashes_its_processes_is_paused_and_no_other_takes_it(open_client, lro_clock, tmp_path, log):
    registry = lro.Handlers()

    @registry.handler("work", pause_on_failure=True)
    async def work(op):
        log.append(op.attempt)
        await asyncio.Event().wait()

    def stores():
        return FaultyStore(lro.SqliteStore(tmp_path / "o.db"))

    watching = await open_client(stores(), worker=False)
    dying = await open_client(stores(), handlers=registry, max_attempts=1)
    op = await dying.start("work")
    await lro_clock.settle()
    dying.engine.leases.close()
    dying.store.fail("apply", times=float("inf"))
    await open_client(stores(), handlers=registry, max_attempts=1)
    for _ in range(6):
        await lro_clock.advance(30)
    record = await watching.server_host.record(op.name)
    assert (record.state, record.paused, log) == (State.SUSPENDED, True, [1])
    assert (await watching.operation(op.name)).failure.details[0].reason == "ATTEMPTS_EXHAUSTED"


# -- the clean-up -------------------------------------------------------------------------------------------------


@pytest.fixture
def tidy(log):
    """A handler that fails as its state says, and cleans up."""
    registry = lro.Handlers()

    @registry.handler("tidy", state=str, on_failure="undo", run_timeout=60)
    async def tidy(op):
        if op.resume_point == "undo":
            log.append(("undo", op.failure.code, op.failure.message, op.wake_reason))
            if op.state == "worse":
                raise RuntimeError("it cannot be undone either")
            return
        log.append("work")
        if op.state == "hangs":
            await asyncio.Event().wait()
        raise lro.OperationFailedError("no such bucket", code=lro.Code.NOT_FOUND)

    return registry


@pytest.mark.asyncio
@pytest.mark.parametrize("state", ["fails", "worse"])
async def test_a_clean_up_runs_once_and_the_operation_fails_as_it_would_have(open_client, store, tidy, log, state):
    client = await open_client(store, handlers=tidy, pause_on_failure=True)
    op = await client.start("tidy", state)
    with pytest.raises(lro.OperationFailedError, match="no such bucket") as failed:
        await asyncio.wait_for(op.result(), 5)
    assert failed.value.code is lro.Code.NOT_FOUND
    assert log == ["work", ("undo", lro.Code.NOT_FOUND, "no such bucket", lro.WakeReason.FAILED)]


@pytest.mark.asyncio
async def test_the_cause_is_the_exception_of_the_handler_and_not_of_its_clean_up(client):
    @client.handler("work", on_failure="undo")
    async def work(op):
        raise KeyError("first") if not op.resume_point else ValueError("second")

    with pytest.raises(lro.OperationFailedError) as failed:
        await asyncio.wait_for((await client.start("work")).result(), 5)
    assert isinstance(failed.value.__cause__, KeyError)


@pytest.mark.asyncio
async def test_a_run_that_takes_too_long_is_cleaned_up_after(open_client, store, lro_clock, tidy, row, log):
    client = await open_client(store, handlers=tidy)
    op = await client.start("tidy", "hangs")
    await lro_clock.advance(60)
    assert row(op.name).state is State.FAILED
    assert (log[-1][0], log[-1][1]) == ("undo", lro.Code.DEADLINE_EXCEEDED)


@pytest.mark.asyncio
async def test_a_state_that_cannot_be_read_keeps_no_clean_up_from_running(open_client, lro_clock, tmp_path, log):
    reading, writing = lro.Handlers(), lro.Handlers()

    @reading.handler("work", state=int, on_failure="undo")
    async def reads(op):
        log.append((op.resume_point, op.failure.details[0].reason))

    @writing.handler("work", state=str)
    async def writes(op): ...

    front, worker = [
        await open_client(lro.SqliteStore(tmp_path / "o.db"), handlers=handlers, worker=handlers is reading)
        for handlers in (writing, reading)
    ]
    op = await front.start("work", "no number")
    await worker.sweep()
    await lro_clock.settle()
    assert log == [("undo", "STATE_UNREADABLE")]
    assert (await worker.server_host.record(op.name)).state is State.FAILED


@pytest.mark.asyncio
async def test_a_crash_in_the_clean_up_runs_it_again(open_client, lro_clock, tmp_path, log, abandon):
    registry = lro.Handlers()

    @registry.handler("work", on_failure="undo")
    async def work(op):
        log.append((op.resume_point, op.failure and op.failure.message))
        if not op.resume_point:
            raise lro.OperationFailedError("broken")
        if len(log) == 2:
            await asyncio.Event().wait()

    clients = [await open_client(FaultyStore(lro.SqliteStore(tmp_path / "o.db")), handlers=registry) for _ in range(2)]
    op = await clients[0].start("work")
    await until(lambda: len(log) == 2)
    cleaning, other = clients if clients[0].engine.worker.running else reversed(clients)
    abandon(cleaning)
    for _ in range(6):
        await lro_clock.advance(30)
    assert log == [("", None), ("undo", "broken"), ("undo", "broken")]
    assert (await other.server_host.record(op.name)).state is State.FAILED


@pytest.mark.asyncio
async def test_a_cancel_during_the_clean_up_lets_it_end(client, lro_clock, row, log):
    gate = asyncio.Event()

    @client.handler("work", on_failure="undo", on_cancel="never")
    async def work(op):
        log.append(op.resume_point)
        if not op.resume_point:
            raise ValueError
        await gate.wait()
        log.append("undone")

    op = await client.start("work")
    await until(lambda: log == ["", "undo"])
    await op.cancel()
    gate.set()
    await lro_clock.settle()
    assert log == ["", "undo", "undone"]
    assert row(op.name).state is State.FAILED


@pytest.mark.asyncio
async def test_paused_first_and_cleaned_up_after_only_when_it_ends(client, lro_clock, row, log):
    @client.handler("work", on_failure="undo", pause_on_failure=True, deadline=100)
    async def work(op):
        log.append((op.resume_point, op.failure and op.failure.code))
        raise ValueError

    op = await client.start("work")
    await lro_clock.advance(99)
    assert (log, row(op.name).paused) == ([("", None)], True)
    await lro_clock.advance(1)
    assert log == [("", None), ("undo", lro.Code.DEADLINE_EXCEEDED)]
    assert row(op.name).state is State.FAILED


@pytest.mark.asyncio
async def test_the_clean_up_may_be_a_function(client, lro_clock, row, log):
    async def undo(op):
        log.append(op.failure.message)

    @client.handler("work", on_failure=undo)
    async def work(op):
        raise lro.OperationFailedError("broken")

    op = await client.start("work")
    await lro_clock.settle()
    assert log == ["broken"]
    assert row(op.name).state is State.FAILED


def test_a_bad_default_is_refused():
    with pytest.raises(TypeError, match="pause_on_failure"):
        lro.Client("sqlite://", pause_on_failure=None)


@pytest.mark.parametrize("options", [{"pause_on_failure": "yes"}, {"on_failure": "a\nb"}])
def test_bad_options_are_refused(options):
    with pytest.raises((TypeError, ValueError)):
        lro.Handlers().handler("work", **options)
