"""Many operations at once: gather, as_completed, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2
from google.rpc import status_pb2

import lro_aio as lro
from lro_aio.remote import GrpcTransport, as_completed, gather

from ..waiting import until
from .conftest import FAST, QUICK, Script

pytestmark = pytest.mark.asyncio


class Service:
    """Operations that the test ends one by one."""

    def __init__(self, script: Script, *, waits: bool = False) -> None:
        self.ended: dict[str, operations_pb2.Operation] = {}
        self.changed = asyncio.Event()
        script.answers["GetOperation"] = self.get
        if waits:
            script.answers["WaitOperation"] = self.wait

    async def get(self, request: Any, context: Any) -> operations_pb2.Operation:
        return self.ended.get(request.name) or operations_pb2.Operation(name=request.name)

    async def wait(self, request: Any, context: Any) -> operations_pb2.Operation:
        while request.name not in self.ended:
            await self.changed.wait()
        return self.ended[request.name]

    def end(self, name: str, *, code: int = 0) -> None:
        operation = operations_pb2.Operation(name=name, done=True)
        if code:
            operation.error.code = code
        else:
            operation.response.Pack(wrappers_pb2.StringValue(value=name))
        self.ended[name] = operation
        self.changed.set()
        self.changed = asyncio.Event()


@pytest.fixture
def service(script: Script) -> Service:
    return Service(script)


def handles_of(transport: GrpcTransport, count: int) -> list[lro.RemoteOperation[Any]]:
    return [
        lro.RemoteOperation(transport, operations_pb2.Operation(name=f"operations/{number}")) for number in range(count)
    ]


def value(name: str) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=name)


class TestGather:
    async def test_values_come_in_the_order_asked_for(self, transport: GrpcTransport, service: Service) -> None:
        handles = handles_of(transport, 5)
        waiter = asyncio.create_task(_gather(*handles, handles[0]))
        for handle in reversed(handles):
            service.end(handle.name)
            await until(lambda handle=handle: handle.has_completed)
        assert await waiter == [value(handle.name) for handle in [*handles, handles[0]]]

    async def test_of_nothing_is_nothing(self) -> None:
        assert await gather() == []

    async def test_the_first_failure_is_raised_at_once_and_the_others_go_on(
        self, transport: GrpcTransport, script: Script, service: Service
    ) -> None:
        handles = handles_of(transport, 5)
        service.end(handles[3].name, code=5)
        with pytest.raises(lro.failures.NotFoundError) as caught:
            await gather(*handles)
        assert caught.value.name == handles[3].name
        await until(lambda: not transport.poller._watches)  # nobody looks any more
        assert script.count("CancelOperation") == 0

    async def test_exceptions_can_be_had_in_their_places(
        self, transport: GrpcTransport, script: Script, service: Service
    ) -> None:
        handles = handles_of(transport, 4)

        async def get(request: Any, context: Any) -> operations_pb2.Operation:
            if request.name == handles[2].name:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")
            return await service.get(request, context)

        script.answers["GetOperation"] = get
        service.end(handles[0].name)
        service.end(handles[1].name, code=1)
        service.end(handles[3].name)
        first, second, third, fourth = await gather(*handles, return_exceptions=True)
        assert (first, fourth) == (value(handles[0].name), value(handles[3].name))
        assert isinstance(second, lro.OperationCancelledError)
        assert isinstance(third, lro.RemoteCallError)

    async def test_the_timeout_is_for_all_and_tells_who_has_ended(
        self, transport: GrpcTransport, service: Service
    ) -> None:
        handles = handles_of(transport, 3)
        service.end(handles[1].name)
        with pytest.raises(lro.WaitDeadlineExceededError) as caught:
            await gather(*handles, timeout=1, return_exceptions=True)
        assert caught.value.pending == (handles[0].name, handles[2].name)
        assert caught.value.finished == (service.ended[handles[1].name],)
        await until(lambda: not transport.poller._watches)

    async def test_cancelling_it_stops_the_looking(self, transport: GrpcTransport, service: Service) -> None:
        waiter = asyncio.create_task(_gather(*handles_of(transport, 3)))
        await until(lambda: transport.poller is not None and transport.poller._watches)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await until(lambda: not transport.poller._watches)

    async def test_services_may_be_mixed(self, transport: GrpcTransport, service: Service, client: lro.Client) -> None:
        op = await client.create()
        local: lro.RemoteOperation[Any] = lro.RemoteOperation(lro.remote.LocalTransport(client), op)
        [remote] = handles_of(transport, 1)
        waiter = asyncio.create_task(_gather(local, remote))
        service.end(remote.name)
        await op.done(value("local"))
        assert await waiter == [value("local"), value(remote.name)]


class TestAsCompleted:
    async def test_handles_come_as_they_end(self, transport: GrpcTransport, service: Service) -> None:
        handles = handles_of(transport, 4)
        order = [2, 0, 3, 1]
        service.end(handles[order[0]].name)
        seen = []
        async for handle in as_completed(handles):
            assert handle.has_completed
            seen.append(handles.index(handle))
            if len(seen) < len(order):
                service.end(handles[order[len(seen)]].name, code=13 if len(seen) == 1 else 0)
        assert seen == order
        with pytest.raises(lro.failures.InternalError):
            _ = handles[0].value

    async def test_its_timeout(self, transport: GrpcTransport, service: Service) -> None:
        handles = handles_of(transport, 2)
        service.end(handles[1].name)
        seen = []
        with pytest.raises(lro.WaitDeadlineExceededError) as caught:
            async for handle in as_completed(handles, timeout=1):
                seen.append(handle)  # noqa: PERF401 (the loop raises)
        assert (seen, caught.value.pending) == ([handles[1]], (handles[0].name,))

    async def test_closing_it_stops_the_looking(self, transport: GrpcTransport, service: Service) -> None:
        handles = handles_of(transport, 3)
        service.end(handles[1].name)
        async with contextlib.aclosing(as_completed(handles)) as ends:
            async for handle in ends:
                assert handle is handles[1]
                break
            assert transport.poller._watches
        await until(lambda: not transport.poller._watches)

    async def test_one_that_cannot_be_looked_at_is_raised(self, transport: GrpcTransport, script: Script) -> None:
        async def gone(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")

        script.answers["GetOperation"] = gone
        with pytest.raises(lro.OperationNotFoundError):
            async for _ in as_completed(handles_of(transport, 2)):
                pass


class TestCosts:
    async def test_no_more_looks_at_a_time_than_allowed(self, channel: grpc.aio.Channel, script: Script) -> None:
        service = Service(script)
        transport = GrpcTransport(channel, poll=FAST, retry=QUICK, max_calls=5, wait_operation=False)
        handles = handles_of(transport, 100)
        waiter = asyncio.create_task(_gather(*handles))
        await until(lambda: script.count("GetOperation") > 300)
        assert script.most <= 5
        assert {request.name for _, request in script.asked} == {handle.name for handle in handles}, "nobody starves"
        for handle in handles:
            service.end(handle.name)
        await waiter

    async def test_what_exceeds_the_long_polls_is_polled(self, channel: grpc.aio.Channel, script: Script) -> None:
        service = Service(script, waits=True)
        transport = GrpcTransport(channel, poll=FAST, retry=QUICK, max_calls=5, max_waits=10)
        handles = handles_of(transport, 30)
        waiter = asyncio.create_task(_gather(*handles))
        await until(lambda: script.count("GetOperation") > 100)
        assert script.count("WaitOperation") == 10
        assert script.most <= 15
        for handle in handles:
            service.end(handle.name)
        await waiter

    async def test_a_long_poll_each_where_the_service_has_them(self, channel: grpc.aio.Channel, script: Script) -> None:
        """One request per operation, from the start of the wait to its end."""
        service = Service(script, waits=True)
        handles = handles_of(GrpcTransport(channel), 200)
        waiter = asyncio.create_task(_gather(*handles))
        await until(lambda: script.open == len(handles))
        for handle in handles:
            service.end(handle.name)
        assert len(await waiter) == 200
        assert [script.count("WaitOperation"), script.count("GetOperation")] == [200, 0]

    @pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
    async def test_thousands_of_handles_are_few_calls_and_few_tasks(
        self, channel: grpc.aio.Channel, script: Script, count: int
    ) -> None:
        service = Service(script)
        slow = lro.PollPolicy(interval=0.5, multiplier=1, max_interval=0.5, jitter=0.5)
        transport = GrpcTransport(channel, poll=slow, max_calls=32, wait_operation=False)
        handles = handles_of(transport, count)
        for handle in handles:
            service.end(handle.name)
        waiter = asyncio.create_task(_gather(*handles))
        most = 0
        while not waiter.done():
            most = max(most, sum(task.get_name() == "lro-aio-remote-poll" for task in asyncio.all_tasks()))
            await asyncio.sleep(0.01)
        assert len(await waiter) == count
        assert len(script.asked) == count
        assert 0 < most <= 32


async def test_a_failed_operation_is_no_error_of_the_poller(transport: GrpcTransport, script: Script) -> None:
    script.operation.done = True
    script.operation.error.CopyFrom(status_pb2.Status(code=13, message="no"))
    [handle] = handles_of(transport, 1)
    await handle.wait_for_completion()
    with pytest.raises(lro.failures.InternalError):
        await gather(handle)


async def _gather(*handles: lro.RemoteOperation[Any]) -> list[Any]:
    return await gather(*handles)
