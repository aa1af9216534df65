"""gRPC services that behave badly: none of it ends a wait, hangs it, or passes for a result."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2, struct_pb2, wrappers_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

import lro_aio as lro
from lro_aio.remote import GrpcTransport

from ..waiting import until
from .conftest import FAST, QUICK, Script
from .raw_http2 import begun, raw_server, reset, whole

pytestmark = pytest.mark.asyncio

NAME = "operations/a"
TRANSIENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "CANCELLED")
LASTING = (
    "INVALID_ARGUMENT",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "DATA_LOSS",
)


def handle_of(transport: GrpcTransport, **options: Any) -> lro.RemoteOperation[Any]:
    return lro.RemoteOperation(transport, operations_pb2.Operation(name=NAME), **options)


def failing(script: Script, code: str, times: int, trailers: tuple[Any, ...] = ()) -> None:
    """GetOperation fails so many times, and then says that the operation has ended."""

    async def answer(request: Any, context: Any) -> operations_pb2.Operation:
        if script.count("GetOperation") <= times:
            await context.abort(grpc.StatusCode[code], "not now", trailers)
        script.finish() if not script.operation.done else None
        return script.operation

    script.answers["GetOperation"] = answer


@pytest.mark.parametrize("code", TRANSIENT)
async def test_five_failures_in_a_row_end_no_wait(transport: GrpcTransport, script: Script, code: str) -> None:
    failing(script, code, 5)
    assert await handle_of(transport) == wrappers_pb2.StringValue(value="ok")
    assert script.count("GetOperation") == 6


@pytest.mark.parametrize("code", LASTING)
async def test_what_will_not_get_better_ends_the_wait_at_once(
    transport: GrpcTransport, script: Script, code: str
) -> None:
    failing(script, code, 5)
    with pytest.raises(lro.RemoteCallError, match=f"failed with {code}: not now") as caught:
        await handle_of(transport)
    assert (caught.value.transient, caught.value.code.name) == (False, code)
    assert script.count("GetOperation") == 1


async def test_failures_without_end_end_the_wait_and_say_why(transport: GrpcTransport, script: Script) -> None:
    failing(script, "UNAVAILABLE", 1_000)
    with pytest.raises(lro.RemoteCallError, match="failed with UNAVAILABLE: not now"):
        await handle_of(transport)
    assert script.count("GetOperation") == QUICK.max_attempts


async def test_a_success_between_failures_begins_the_count_again(transport: GrpcTransport, script: Script) -> None:
    async def every_third(request: Any, context: Any) -> operations_pb2.Operation:
        count = script.count("GetOperation")
        if count % 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if count >= 30:
            script.finish() if not script.operation.done else None
        return script.operation

    script.answers["GetOperation"] = every_third
    thrice = lro.RetryPolicy(max_attempts=3, initial_delay=0.01, max_delay=0.01)
    assert await handle_of(transport, retry=thrice) == wrappers_pb2.StringValue(value="ok")


async def test_further_exceptions_can_be_made_worth_a_repeat(transport: GrpcTransport, script: Script) -> None:
    failing(script, "PERMISSION_DENIED", 2)  # a new grant takes its time
    retry = lro.RetryPolicy(on=(lro.RemoteCallError,), initial_delay=0.01)
    assert await handle_of(transport, retry=retry) == wrappers_pb2.StringValue(value="ok")


async def test_the_service_says_when_to_come_back(transport: GrpcTransport, script: Script) -> None:
    """RetryInfo in the status of a failed look (AIP-193), and its other details."""
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="a deploy")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=300_000_000)))
    trailers = tuple(rpc_status.to_status(status).trailing_metadata)

    async def answer(request: Any, context: Any) -> operations_pb2.Operation:
        if script.count("GetOperation") == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "a deploy", trailers)
        script.finish()
        return script.operation

    script.answers["GetOperation"] = answer
    handle = handle_of(transport)
    started = asyncio.get_running_loop().time()
    await handle
    assert asyncio.get_running_loop().time() - started >= 0.3
    script.asked.clear()
    with pytest.raises(lro.RemoteCallError) as caught:
        await handle_of(transport).update_status()
    assert caught.value.retry_after == pytest.approx(0.3)
    assert caught.value.details == (error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=300_000_000)),)


@pytest.mark.parametrize("trailer", [b"\xff\xff", b"", status_pb2.Status(code=3).SerializeToString()])
async def test_garbage_beside_an_error_changes_nothing(
    transport: GrpcTransport, script: Script, trailer: bytes
) -> None:
    failing(script, "UNAVAILABLE", 2, (("grpc-status-details-bin", trailer),))
    assert await handle_of(transport) == wrappers_pb2.StringValue(value="ok")


async def test_a_name_that_comes_back_in_another_case_is_asked_for_as_before(
    transport: GrpcTransport, script: Script
) -> None:
    async def shouting(request: Any, context: Any) -> operations_pb2.Operation:
        done = script.count("GetOperation") == 3
        return operations_pb2.Operation(name=request.name.upper(), done=done)

    script.answers["GetOperation"] = shouting
    handle = handle_of(transport)
    await handle
    assert {request.name for _, request in script.asked} == {NAME}
    assert handle.name == NAME


async def test_a_result_before_the_end_is_none(transport: GrpcTransport, script: Script) -> None:
    """Not done means neither error nor response, whatever the message carries besides."""
    early = operations_pb2.Operation(name=NAME, error=status_pb2.Status(code=5))
    script.operation = early
    handle = handle_of(transport)
    await handle.update_status()
    with pytest.raises(lro.OperationNotDoneError):
        _ = handle.value


async def test_metadata_may_change_its_type_unless_one_is_declared(transport: GrpcTransport, script: Script) -> None:
    kinds = [wrappers_pb2.StringValue(value="1"), wrappers_pb2.BoolValue(value=True), struct_pb2.Struct()]

    async def changing(request: Any, context: Any) -> operations_pb2.Operation:
        count = script.count("GetOperation")
        operation = operations_pb2.Operation(name=NAME, done=count > len(kinds))
        operation.metadata.Pack(kinds[min(count, len(kinds)) - 1])
        return operation

    script.answers["GetOperation"] = changing
    assert [metadata async for metadata in handle_of(transport)] == kinds
    script.asked.clear()
    declared = handle_of(transport, metadata_type=wrappers_pb2.StringValue)
    seen = []
    with pytest.raises(TypeError, match=r"expected google.protobuf.StringValue, found 'google.protobuf.BoolValue'"):
        async for metadata in declared:
            seen.append(metadata)  # noqa: PERF401 (the loop raises)
    assert seen == kinds[:1]
    script.asked.clear()
    assert await declared is None  # a wait does not care


@pytest.mark.parametrize("code", [1, 2, 7, 8, 11], ids=["PROTOCOL", "INTERNAL", "REFUSED_STREAM", "CANCEL", "CALM"])
@pytest.mark.parametrize("where", ["before", "in the headers' wake", "in the message"])
async def test_a_reset_in_the_middle_of_an_answer_is_asked_again(code: int, where: str) -> None:
    message = operations_pb2.Operation(name=NAME, done=True)
    message.response.Pack(wrappers_pb2.StringValue(value="ok"))
    data = message.SerializeToString()

    def answer(number: int, stream: int) -> bytes:
        if number > 3:
            return whole(stream, data)
        part = {"before": b"", "in the headers' wake": begun(stream, data, 0), "in the message": begun(stream, data, 9)}
        return part[where] + reset(stream, code)

    async with raw_server(answer) as address, grpc.aio.insecure_channel(address) as channel:
        transport = GrpcTransport(channel, wait_operation=False, poll=FAST, retry=QUICK)
        assert await handle_of(transport) == wrappers_pb2.StringValue(value="ok")


async def test_a_connection_that_breaks_is_made_again() -> None:
    message = operations_pb2.Operation(name=NAME, done=True)
    message.response.Pack(wrappers_pb2.StringValue(value="ok"))

    def answer(number: int, stream: int) -> bytes | None:
        return whole(stream, message.SerializeToString()) if number > 1 else None

    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
    async with raw_server(answer) as address, grpc.aio.insecure_channel(address, options=options) as channel:
        retry = lro.RetryPolicy(max_attempts=50, initial_delay=0.05, max_delay=0.05)
        transport = GrpcTransport(channel, poll=FAST, retry=retry)
        assert await handle_of(transport) == wrappers_pb2.StringValue(value="ok")


async def test_what_is_no_operation_makes_no_sense_and_says_so() -> None:
    async with (
        raw_server(lambda _, stream: whole(stream, b"\xff\xff\xff")) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        handle = handle_of(GrpcTransport(channel, wait_operation=False, retry=QUICK, poll=FAST))
        with pytest.raises(lro.RemoteProtocolError, match="it is not a message of the expected type"):
            await handle


async def test_a_channel_that_its_owner_closed_is_an_error_of_the_wait(
    channel: grpc.aio.Channel, script: Script
) -> None:
    handle = handle_of(GrpcTransport(channel, poll=FAST, retry=QUICK))
    waiter = asyncio.create_task(handle.wait_for_completion())
    await until(lambda: script.count("GetOperation") > 1)
    await channel.close()
    with pytest.raises((lro.RemoteCallError, grpc.aio.UsageError)):
        await asyncio.wait_for(waiter, 10)
