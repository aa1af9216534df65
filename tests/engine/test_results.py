"""What a handler returns or raises, and what becomes of its operation."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest
from google.protobuf import empty_pb2, wrappers_pb2
from google.rpc import error_details_pb2, status_pb2

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.record import State


def info(operation):
    """The ErrorInfo of a failed operation."""
    found = error_details_pb2.ErrorInfo()
    for detail in operation.error.details:
        if detail.Unpack(found):
            return found
    return None


async def end_of(client, handler, *args, **kwargs):
    op = await client.start(handler, *args, **kwargs)
    return await asyncio.wait_for(client.wait_operation(op.name), 5)


@pytest.mark.asyncio
async def test_a_message_is_the_response_and_none_is_empty(client):
    @client.handler("message")
    async def message(op):
        return wrappers_pb2.Int64Value(value=1)

    @client.handler("none")
    async def none(op):
        return None

    value = wrappers_pb2.Int64Value()
    assert (await end_of(client, "message")).response.Unpack(value)
    assert value.value == 1
    assert (await end_of(client, "none")).response.Is(empty_pb2.Empty.DESCRIPTOR)


@pytest.mark.parametrize(("wrong", "told"), [(object(), "returned object"), ({"a": ["b", object()]}, "field 'a.1'")])
@pytest.mark.asyncio
async def test_what_cannot_be_serialized_fails_the_operation_naming_its_type(client, wrong, told):
    @client.handler("wrong")
    async def wrong_type(op):
        return wrong

    ended = await end_of(client, "wrong")
    assert ended.error.code == lro.Code.INTERNAL
    assert info(ended).reason == "HANDLER_RETURN_TYPE"
    assert told in ended.error.message


@pytest.mark.parametrize("expose", [False, True])
@pytest.mark.asyncio
async def test_the_text_of_an_unknown_exception_is_logged_and_shown_only_on_request(open_client, store, caplog, expose):
    client = await open_client(store, expose_errors=expose)

    @client.handler("broken")
    async def broken(op):
        raise RuntimeError("password is hunter2")

    ended = await end_of(client, "broken")
    assert ended.error.code == lro.Code.UNKNOWN
    assert info(ended).reason == "HANDLER_ERROR"
    assert ("hunter2" in ended.error.message) is expose
    assert "hunter2" in caplog.text


@pytest.mark.asyncio
async def test_an_exception_that_is_no_exception_subclass_fails_the_operation_too(client):
    class Stop(BaseException):
        """What pytest.fail() raises, say."""

    @client.handler("stop")
    async def stop(op):
        raise Stop

    assert (await end_of(client, "stop")).error.code == lro.Code.UNKNOWN


@pytest.mark.asyncio
async def test_an_operation_failed_error_passes_through_as_it_is(client):
    detail = error_details_pb2.RetryInfo()
    packed = status_pb2.Status()
    packed.details.add().Pack(detail)

    @client.handler("refuse")
    async def refuse(op):
        raise lro.OperationFailedError("out of tea", code=lro.Code.RESOURCE_EXHAUSTED, details=packed.details)

    ended = await end_of(client, "refuse")
    assert (ended.error.code, ended.error.message) == (lro.Code.RESOURCE_EXHAUSTED, "out of tea")
    assert any(found.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for found in ended.error.details)


@pytest.mark.asyncio
async def test_an_error_of_this_package_keeps_its_code_and_sentence(client):
    @client.handler("look")
    async def look(op):
        await op.client.get_operation("operations/nobody")

    ended = await end_of(client, "look")
    assert ended.error.code == lro.Code.NOT_FOUND
    assert "operations/nobody" in ended.error.message


@pytest.mark.asyncio
async def test_a_handler_may_end_its_operation_by_hand(client):
    @client.handler("byhand")
    async def byhand(op):
        await op.done(wrappers_pb2.Int64Value(value=5))

    @client.handler("byfail")
    async def byfail(op):
        await op.fail("no")
        raise RuntimeError("after the end")

    assert (await end_of(client, "byhand")).HasField("response")
    assert (await end_of(client, "byfail")).error.message == "no"


@pytest.mark.asyncio
async def test_ending_twice_is_refused_and_changes_nothing(client):
    op = await client.create()
    first = await op.done(wrappers_pb2.Int64Value(value=5))
    for again in (op.done(), op.fail("late"), op.progress(0.5), op.set_metadata(empty_pb2.Empty())):
        with pytest.raises(lro.OperationDoneError, match="already ended"):
            await again
    assert await client.get_operation(op.name) == first


@pytest.mark.asyncio
async def test_failing_with_a_status_ok_is_a_mistake(client):
    op = await client.create()
    with pytest.raises(ValueError, match="OK"):
        await op.fail(status_pb2.Status())
    assert not (await op.fetch()).done


@pytest.mark.parametrize("retry", [None, lro.RetryPolicy(on=Exception, initial_delay=0, jitter=0)])
@pytest.mark.asyncio
async def test_a_response_over_its_limit_fails_the_operation_and_is_not_retried(open_client, store, row, retry):
    client = await open_client(store, limits=lro.Limits(response=100))
    runs = []

    @client.handler("huge", retry=retry)
    async def huge(op):
        runs.append(op.attempt)
        return wrappers_pb2.BytesValue(value=b"x" * 200)

    ended = await end_of(client, "huge")
    assert info(ended).reason == "RESPONSE_TOO_LARGE"
    assert info(ended).metadata["limit"] == "100"
    assert len(runs) == 1
    assert row(ended.name).state is State.FAILED


@pytest.mark.asyncio
async def test_details_of_an_error_that_do_not_fit_are_left_out(open_client, store, caplog):
    client = await open_client(store, limits=lro.Limits(error=1000))
    large = [error_details_pb2.DebugInfo(detail="x" * 5000), error_details_pb2.LocalizedMessage(message="y" * 5000)]
    kept = [error_details_pb2.Help(), error_details_pb2.ErrorInfo(reason="NO_PAPER", metadata={"tray": "z" * 5000})]

    @client.handler("fails")
    async def fails(op):
        raise lro.OperationFailedError("no paper", code=lro.Code.RESOURCE_EXHAUSTED, details=[*large, *kept])

    op = await client.start("fails")
    with pytest.raises(lro.failures.ResourceExhaustedError, match="no paper") as caught:
        await op.result(timeout=5)
    assert [type(detail).__name__ for detail in caught.value.details] == ["Help", "ErrorInfo"]
    assert caught.value.details[1].reason == "NO_PAPER"
    assert (await client.list_operations()).ByteSize() < 2000
    assert "error_cut" in [getattr(record, "event", "") for record in caplog.records]


@pytest.mark.asyncio
async def test_the_exception_of_a_block_ends_its_operation_however_large_it_is(open_client, store):
    client = await open_client(store, limits=lro.Limits(error=1000))
    detail = error_details_pb2.DebugInfo(detail="x" * 5000)
    op = await client.create()
    with pytest.raises(lro.OperationFailedError, match="no paper"):
        async with op:
            raise lro.OperationFailedError("no paper", details=[detail])
    assert (await op.fetch()).error.message == "no paper"


@pytest.mark.asyncio
async def test_a_message_over_the_limit_is_cut(open_client, store):
    client = await open_client(store, limits=lro.Limits(error=1000))
    for error in (status_pb2.Status(code=15, message="x" * 2000), lro.failures.DataLossError("x" * 2000)):
        op = await client.create()
        await op.fail(error)
        ended = (await op.fetch()).error
        assert (ended.code, ended.message) == (lro.Code.DATA_LOSS, "x" * 497 + "...")


@pytest.mark.asyncio
async def test_done_by_hand_over_the_limit_is_an_error_and_the_operation_goes_on(open_client, store):
    client = await open_client(store, limits=lro.Limits(response=100, metadata=100))
    op = await client.create()
    before = store.inner.read([op.name])
    with pytest.raises(lro.PayloadTooLargeError, match="response"):
        await op.done(wrappers_pb2.BytesValue(value=b"x" * 200))
    with pytest.raises(lro.PayloadTooLargeError, match="metadata"):
        await op.set_metadata(wrappers_pb2.BytesValue(value=b"x" * 200))
    with pytest.raises(lro.PayloadTooLargeError, match="metadata"):
        await op.progress(0.5, "x" * 200)
    assert store.inner.read([op.name]) == before
    await op.done()


@pytest.mark.asyncio
async def test_state_over_its_limit_leaves_no_trace_at_save_and_fails_at_suspend(open_client, store, row):
    client = await open_client(store, limits=lro.Limits(state=100))
    caught = []

    @client.handler("grow", state=list[str], resume_points=("on",))
    async def grow(op):
        op.state = ["x" * 200]
        before = row(op.name)
        try:
            await op.save()
        except lro.PayloadTooLargeError as exc:
            caught.append((exc.field, row(op.name) == before))
        return op.suspend(resume_at="on", sleep=1)

    ended = await end_of(client, "grow")
    assert caught == [("state", True)]
    assert "state" in ended.error.message
    assert row(ended.name).state_data == b""


@dataclass
class Count:
    n: int = 0


@pytest.mark.asyncio
async def test_exceptions_of_the_listed_kinds_run_the_segment_again_durably(client, lro_clock, row):
    runs = []

    @client.handler(
        "flaky", state=Count, retry=lro.RetryPolicy(on=(OSError,), initial_delay=10, multiplier=2, jitter=0)
    )
    async def flaky(op):
        runs.append((lro_clock.time(), op.state.n, op.attempt))
        op.state.n += 1  # not saved: the next run starts with the segment's own state
        if len(runs) < 3:
            raise ConnectionError("reset")
        return wrappers_pb2.Int64Value(value=op.state.n)

    began = lro_clock.time()
    op = await client.start("flaky", Count(5))
    await lro_clock.advance(0)
    assert row(op.name).state is State.SUSPENDED
    await lro_clock.advance(30)
    assert (await op.result(wrappers_pb2.Int64Value)).value == 6
    assert runs == [(began, 5, 1), (began + 10, 5, 1), (began + 30, 5, 1)]


@pytest.mark.asyncio
async def test_other_exceptions_fail_at_once_and_too_many_retries_fail_in_the_end(client, lro_clock):
    runs = []

    @client.handler("flaky", state=bool, retry=lro.RetryPolicy(on=OSError, max_attempts=3, initial_delay=1, jitter=0))
    async def flaky(op):
        runs.append(op.state)
        raise OSError("again") if op.state else KeyError("other")

    once = await client.start("flaky", False)
    await lro_clock.advance(100)
    assert (await once.fetch()).done
    thrice = await client.start("flaky", True)
    await lro_clock.advance(100)
    assert (await thrice.fetch()).done
    assert runs == [False, True, True, True]


@pytest.mark.asyncio
async def test_retry_later_runs_the_segment_after_the_time_it_names(client, lro_clock):
    runs = []

    @client.handler("later", resume_points=("two",))
    async def later(op):
        runs.append((op.resume_point, op.wake_reason, lro_clock.time()))
        if op.resume_point == "":
            return op.suspend(resume_at="two", sleep=10)
        if len(runs) < 4:
            raise lro.RetryLater(after=timedelta(seconds=100))
        return None

    began = lro_clock.time()
    op = await client.start("later")
    await lro_clock.advance(500)
    assert (await op.fetch()).done
    assert runs[1:] == [("two", lro.WakeReason.ELAPSED, began + at) for at in (10, 110, 210)]


@pytest.mark.asyncio
async def test_retry_later_ends_when_the_policys_attempts_run_out(client, lro_clock):
    @client.handler("never", retry=lro.RetryPolicy(max_attempts=2, initial_delay=1, jitter=0))
    async def never(op):
        raise lro.RetryLater("the printer is on fire")

    op = await client.start("never")
    await lro_clock.advance(100)
    ended = await op.fetch()
    assert info(ended).reason == "RETRIES_EXHAUSTED"
    assert ended.error.message == "the printer is on fire"


@pytest.mark.asyncio
async def test_run_timeout_bounds_one_run(client, lro_clock):
    runs = []

    @client.handler(
        "slow", run_timeout=10, retry=lro.RetryPolicy(on=TimeoutError, max_attempts=2, initial_delay=5, jitter=0)
    )
    async def slow(op):
        runs.append(lro_clock.time())
        try:
            await asyncio.Event().wait()
        finally:
            runs.append(op.cancel_reason)

    began = lro_clock.time()
    op = await client.start("slow")
    await lro_clock.advance(9)
    assert runs == [began]
    await lro_clock.advance(100)
    assert info(await op.fetch()).reason == "RUN_TIMEOUT"
    assert (await op.fetch()).error.code == lro.Code.DEADLINE_EXCEEDED
    assert runs == [began, lro.CancelReason.RUN_TIMEOUT, began + 15, lro.CancelReason.RUN_TIMEOUT]


@pytest.mark.asyncio
async def test_a_cancellation_of_the_handlers_own_making_is_no_cancel(client):
    @client.handler("own")
    async def own(op):
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    ended = await end_of(client, "own")
    assert ended.error.code == lro.Code.ABORTED
    assert info(ended).reason == "HANDLER_CANCELLED"


@pytest.mark.asyncio
async def test_a_write_refused_to_a_visitor_in_the_handler_fails_the_operation_at_once(client, row):
    @client.handler("visitor")
    async def visitor(op):
        await (await op.client.operation(op.name)).set_metadata(empty_pb2.Empty())

    ended = await end_of(client, "visitor")
    assert info(ended).reason == "LEASE_LOST"


def rewrite(store, name, **columns):
    """Change a stored row behind everybody's back."""
    from dataclasses import replace

    (outcome,) = store.inner.apply([Change(name, lambda row: replace(row, **columns))])
    assert not isinstance(outcome, Exception)


@pytest.mark.asyncio
async def test_state_that_cannot_be_decoded_fails_the_operation_and_keeps_the_bytes(client, store, lro_clock, row):
    @client.handler("nap", state=Count, resume_points=("awake",))
    async def nap(op):
        return op.suspend(resume_at="awake", sleep=10)

    op = await client.start("nap", Count())
    await lro_clock.advance(1)
    rewrite(store, op.name, state_data=b'{"n": "many"}')
    await lro_clock.advance(10)
    ended = await op.fetch()
    assert info(ended).reason == "STATE_UNREADABLE"
    assert row(op.name).state_data == b'{"n": "many"}'


@pytest.mark.asyncio
async def test_state_of_a_newer_release_is_left_for_one_that_can_read_it(client, store, lro_clock, row):
    runs = []

    @client.handler("nap", state=Count, resume_points=("awake",))
    async def nap(op):
        runs.append(op.resume_point)
        return op.suspend(resume_at="awake", sleep=10) if op.resume_point == "" else None

    op = await client.start("nap", Count())
    await lro_clock.advance(1)
    rewrite(store, op.name, state_codec="json;v=2")
    claims = row(op.name).claim
    await lro_clock.advance(10)
    left = row(op.name)
    assert (left.state, left.attempt, left.owner) == (State.PENDING, 0, "")
    assert left.claim == claims + 1, "it is not claimed again and again"
    await lro_clock.advance(3600)
    assert row(op.name).state is State.PENDING, "it costs no attempts"
    rewrite(store, op.name, state_codec="json;v=1")
    await lro_clock.advance(60)
    assert row(op.name).state is State.SUCCEEDED
    assert runs == ["", "awake"]


@pytest.mark.asyncio
async def test_older_state_is_brought_forward(client, store, lro_clock):
    @client.handler(
        "nap",
        state=Count,
        state_version=2,
        upgrade=lambda old, version: {"n": old["count"] * version},
        resume_points=("awake",),
    )
    async def nap(op):
        if op.resume_point == "":
            return op.suspend(resume_at="awake", sleep=10)
        return wrappers_pb2.Int64Value(value=op.state.n)

    op = await client.start("nap")
    await lro_clock.advance(1)
    rewrite(store, op.name, state_codec="json;v=1", state_data=b'{"count": 8}')
    await lro_clock.advance(10)
    assert (await op.result(wrappers_pb2.Int64Value)).value == 8
