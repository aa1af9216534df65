"""Handles of this package's own operations: over gRPC, and in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc.aio
import pytest
from google.protobuf import any_pb2, struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2

import lro_aio as lro
from lro_aio.remote import GrpcTransport, LocalTransport, Transport
from lro_aio.testing import FaultyStore

from ..waiting import until
from .conftest import FAST, QUICK

pytestmark = pytest.mark.asyncio

Serve = Callable[[lro.Client], AbstractAsyncContextManager[grpc.aio.Channel]]


def text(value: str) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=value)


async def test_a_wait_is_one_request_and_ends_with_the_operation(client: lro.Client, serve: Serve) -> None:
    async with serve(client) as channel:
        op = await client.create()
        handle = lro.RemoteOperation(GrpcTransport(channel), op.proto, response_type=wrappers_pb2.StringValue)
        waiter = asyncio.ensure_future(handle.wait_for_completion())
        await until(lambda: client.engine.feed._all)  # the server waits
        before = asyncio.get_running_loop().time()
        await op.done(text("ok"))
        await waiter
        assert asyncio.get_running_loop().time() - before < 5, "told, not polled"
        assert handle.value.value == "ok"


async def test_data_comes_as_it_was_returned(client: lro.Client, serve: Serve) -> None:
    async with serve(client) as channel:
        for data, kind in (({"of": [7]}, dict), ([7], list[int]), (7, int), ("x", str), (None, int | None)):
            op = await client.create()
            await op.done(data)
            handle = lro.RemoteOperation[Any].from_name(GrpcTransport(channel), op.name, response_type=kind)
            assert repr(await handle) == repr(data)


async def test_a_failure_comes_through_whole(client: lro.Client, serve: Serve) -> None:
    """Code, message, and details of known and unknown types."""
    info = error_details_pb2.ErrorInfo(reason="NO_PAPER", domain="printers", metadata={"tray": "2"})
    help_ = error_details_pb2.Help(links=[error_details_pb2.Help.Link(description="how to refill", url="https://x/")])
    unknown = any_pb2.Any(type_url="type.googleapis.com/acme.Unknown", value=b"\x08\x01")
    async with serve(client) as channel:
        op = await client.create()
        await op.fail(lro.failures.FailedPreconditionError("out of paper", details=[info, help_, unknown]))
        for transport in (GrpcTransport(channel), LocalTransport(client)):
            with pytest.raises(lro.failures.FailedPreconditionError) as caught:
                await lro.RemoteOperation[Any].from_name(transport, op.name)
            assert (caught.value.message, caught.value.name) == ("out of paper", op.name)
            assert caught.value.details == (info, help_, unknown)


async def test_cancel_delete_and_progress(client: lro.Client, serve: Serve) -> None:
    async with serve(client) as channel:
        transports: list[Transport] = [GrpcTransport(channel, poll=FAST), LocalTransport(client, poll=FAST)]
        for transport in transports:
            op = await client.create(text("1"))
            handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, op.proto)
            seen = []
            async for metadata in handle:
                seen.append(metadata.value)
                if len(seen) == 1:
                    await op.set_metadata(text("2"))
                else:
                    await handle.cancel()  # asks
                    await op.cancel()  # whoever drives it obeys
            assert seen == ["1", "2"]
            with pytest.raises(lro.OperationCancelledError):
                await handle
            await handle.delete()
            with pytest.raises(lro.OperationNotFoundError):
                await handle.update_status()


class TestLocalTransport:
    async def test_it_takes_what_start_gave(self, client: lro.Client) -> None:
        op = await client.create()
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(LocalTransport(client), op)
        assert (handle.name, handle.raw_response, handle.has_completed) == (op.name, op.proto, False)
        await op.done(text("ok"))
        assert await handle == text("ok")
        assert handle.rehydration_token is not None
        again = await lro.RemoteOperation[Any].rehydrate(LocalTransport(client), handle.rehydration_token)
        assert again.value == text("ok")

    async def test_engine_time_may_be_a_manual_clock_s(self, lro_clock: Any) -> None:
        handlers = lro.Handlers()

        @handlers.handler("sleeps", resume_points=("awake",))
        async def sleeps(op: lro.Operation[Any]) -> Any:
            return op.suspend(resume_at="awake", sleep=30 * 86400) if not op.resume_point else text("slept")

        async with lro.Client("sqlite://", handlers=[handlers], clock=lro_clock) as client:
            handle: lro.RemoteOperation[Any] = lro.RemoteOperation(LocalTransport(client), await client.start("sleeps"))
            waiter = asyncio.create_task(handle.wait_for_completion())
            await lro_clock.advance(31 * 86400)
            await asyncio.wait_for(waiter, 10)
            assert handle.value == text("slept")

    async def test_a_store_that_is_away_ends_no_wait(self, tmp_path: Any) -> None:
        store = FaultyStore(lro.SqliteStore(tmp_path / "operations.db"))
        async with lro.Client(store) as client:
            op = await client.create()
            handle: lro.RemoteOperation[Any] = lro.RemoteOperation(
                LocalTransport(client, poll=FAST, retry=QUICK), op, response_type=struct_pb2.Struct
            )
            store.fail("read", times=1)
            with pytest.raises(lro.RemoteCallError) as caught:
                await handle.update_status()
            assert (caught.value.code, caught.value.transient) == (lro.Code.UNAVAILABLE, True)
            store.fail("read", times=3)
            await op.done(struct_pb2.Struct())
            assert await handle == struct_pb2.Struct()

    @pytest.mark.parametrize("name", ["things/1", "", "operations/", "operations/a/b"])
    async def test_only_names_of_this_package_are_taken(self, client: lro.Client, name: str) -> None:
        with pytest.raises(ValueError, match="is not the resource name of an operation"):
            lro.RemoteOperation[Any].from_name(LocalTransport(client), name)

    async def test_a_look_has_its_time(self) -> None:
        class Slow:
            async def get_operation(self, name: str) -> Any:
                await asyncio.Event().wait()

            wait_operation = cancel_operation = delete_operation = get_operation

        transport = LocalTransport(Slow(), timeout=0.01)
        with pytest.raises(lro.RemoteCallError, match=r"no answer within 0\.01 s") as caught:
            await lro.RemoteOperation[Any].from_name(transport, "operations/a").update_status()
        assert (caught.value.code, caught.value.transient) == (lro.Code.DEADLINE_EXCEEDED, True)
