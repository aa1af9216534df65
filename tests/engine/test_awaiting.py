"""``await op``, what ``Operation`` and ``RemoteOperation`` have in common, and why an operation failed."""

import asyncio
import contextlib
import gc
import weakref

import pytest
from google.protobuf import any_pb2, struct_pb2, wrappers_pb2

import lro_aio as lro

from ..waiting import PATIENCE, until


def handles(client, op):
    """The same operation in the hands of a visitor and of a caller of a service."""
    return op, lro.RemoteOperation(lro.remote.LocalTransport(client), op, response_type=dict)


@pytest.mark.asyncio
async def test_an_operation_is_awaited_to_its_result(client):
    @client.handler
    async def double(op: lro.Operation[int]) -> int:
        return 2 * op.state

    op = await client.start(double, 21)
    assert await asyncio.wait_for(op, PATIENCE) == 42
    assert (await op, op.is_done, op.ended, op.value) == (42, True, True, 42)


@pytest.mark.asyncio
async def test_both_kinds_of_handle_tell_what_they_saw_last(client):
    driven = await client.create()
    visitor, remote = handles(client, await client.operation(driven.name, response=dict))
    for handle in (visitor, remote):
        assert (handle.is_done, handle.metadata) == (False, None)
        with pytest.raises(lro.OperationNotDoneError):
            _ = handle.value
    await driven.progress(0.5)
    for handle in (visitor, remote):
        assert handle.metadata is None, "no I/O"
        assert await handle.refresh() is None
        assert handle.metadata == struct_pb2.Struct(fields={"progress": struct_pb2.Value(number_value=0.5)})
    await driven.done({"n": 3})
    for handle in (visitor, remote):
        assert not handle.is_done
        await handle.refresh()
        assert (handle.is_done, handle.value, await handle) == (True, {"n": 3}, {"n": 3})
    await client.delete_operation(driven.name)
    for handle in (visitor, remote):
        with pytest.raises(lro.OperationNotFoundError):
            await handle.refresh()


@pytest.mark.asyncio
async def test_both_kinds_of_handle_raise_how_it_failed(client):
    driven = await client.create()
    visitor = await client.operation(driven.name)
    await driven.fail(lro.failures.DataLossError("gone"))
    for handle in handles(client, visitor):
        await handle.refresh()
        with pytest.raises(lro.failures.DataLossError, match="gone"):
            _ = handle.value
        with pytest.raises(lro.failures.DataLossError, match="gone"):
            await handle


@pytest.mark.asyncio
async def test_metadata_of_an_unknown_type_stays_packed(client):
    packed = any_pb2.Any(type_url="type.googleapis.com/acme.Unknown", value=b"\x08\x01")
    op = await client.create(packed)
    assert [handle.metadata for handle in handles(client, op)] == [packed, packed]
    assert (await client.create(wrappers_pb2.Int64Value(value=1))).metadata == wrappers_pb2.Int64Value(value=1)


@pytest.mark.asyncio
async def test_a_handler_that_would_wait_for_itself_is_told_so(client):
    @client.handler
    async def own(op):
        with pytest.raises(RuntimeError, match="cannot wait for the end of its own operation"):
            await op
        await op.done(5)
        return (await op).number_value if (await op) else None

    assert await (await client.start(own)).result(int, timeout=PATIENCE) == 5


class OutOfPaper(Exception):
    """The handler's own."""


@pytest.mark.asyncio
async def test_in_the_same_process_the_handlers_exception_is_the_cause(client):
    raised = OutOfPaper("tray 2")

    @client.handler
    async def fails(op):
        raise raised

    op = await client.start(fails)
    for _ in range(2):
        with pytest.raises(lro.OperationFailedError) as caught:
            await op.result(timeout=PATIENCE)
        assert caught.value.__cause__ is raised
    other = await client.operation(op.name)
    with pytest.raises(lro.OperationFailedError) as caught:
        _ = other.value
    assert caught.value.__cause__ is raised


@pytest.mark.asyncio
async def test_the_exception_of_a_creator_and_a_time_that_ran_out_are_causes_too(client, lro_clock):
    driven = await client.create()
    visitor = await client.operation(driven.name)
    with pytest.raises(OutOfPaper):
        async with driven:
            raise OutOfPaper
    with pytest.raises(lro.OperationFailedError) as caught:
        await visitor
    assert isinstance(caught.value.__cause__, OutOfPaper)

    @client.handler(run_timeout=5)
    async def slow(op):
        await asyncio.Event().wait()

    op = await client.start(slow)
    await lro_clock.advance(6)
    with pytest.raises(lro.failures.DeadlineExceededError) as caught:
        await op
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.asyncio
async def test_nothing_is_kept_of_operations_of_which_nobody_has_an_object(client):
    @client.handler
    async def fails(op):
        raise OutOfPaper

    @client.handler
    async def works(op) -> None: ...

    async def start_both():
        for handler in (fails, works):
            op = await client.start(handler)
            with contextlib.suppress(lro.OperationFailedError):
                await op.result(timeout=PATIENCE)

    await start_both()
    gc.collect()
    assert len(client.engine.host.causes) == 0


@pytest.mark.asyncio
async def test_an_exception_that_did_not_end_the_operation_is_no_cause(client, lro_clock):
    """It was retried, and then another process, or the handler by hand, ended it otherwise."""

    @client.handler(retry=lro.RetryPolicy(on=OutOfPaper, initial_delay=1, jitter=0))
    async def fails(op):
        if op.retries == 0:
            raise OutOfPaper
        await op.fail("by hand")

    op = await client.start(fails)
    await lro_clock.advance(2)
    with pytest.raises(lro.OperationFailedError, match="by hand") as caught:
        await op
    assert caught.value.__cause__ is None


@pytest.mark.asyncio
async def test_an_exception_goes_with_the_last_object_of_its_operation(client):
    """Its traceback holds all that the handler had."""

    class Large:
        pass

    seen = []

    @client.handler
    async def fails(op):
        large = Large()
        seen.append(weakref.ref(large))
        raise lro.OperationFailedError("no paper")  # meant for clients, so its traceback is not in the log

    op = await client.start(fails)
    with pytest.raises(lro.OperationFailedError):
        await op.result(timeout=PATIENCE)
    assert seen[0]() is not None
    del op

    def gone():
        gc.collect()
        return seen[0]() is None

    await until(gone)  # the task of the run may end a moment later than the wait for its result
