"""Services to ask: this package's own over gRPC, and one that the tests script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.servers.grpc import add_operations_servicer

Answer = Callable[[Any, Any], Awaitable[Any]]

FAST = lro.PollPolicy(interval=0.01, multiplier=1.0, max_interval=0.01, jitter=0.0)
QUICK = lro.RetryPolicy(max_attempts=10, initial_delay=0.01, multiplier=1.0, max_delay=0.01, jitter=0.0)


@dataclass
class Script:
    """A service of operations whose every answer the test decides, and that counts what it is asked."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    operation: operations_pb2.Operation = field(
        default_factory=lambda: operations_pb2.Operation(name="things/1/operations/a")
    )
    """What GetOperation answers where nothing else is said."""
    open: int = 0
    """Calls under way."""
    most: int = 0
    """Calls that were under way at a time."""

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.asked)

    def finish(self, response: Any = None) -> None:
        self.operation.done = True
        self.operation.response.Pack(wrappers_pb2.StringValue(value="ok") if response is None else response)

    async def answer(self, method: str, request: Any, context: Any) -> Any:
        self.asked.append((method, request))
        self.metadata.append(dict(context.invocation_metadata()))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if method in self.answers:
                return await self.answers[method](request, context)
            if method == "GetOperation":
                return self.operation
            if method in ("CancelOperation", "DeleteOperation"):
                return empty_pb2.Empty()
            return await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        finally:
            self.open -= 1


class _Servicer(operations_pb2_grpc.OperationsServicer):
    def __init__(self, script: Script) -> None:
        for method in ("GetOperation", "WaitOperation", "CancelOperation", "DeleteOperation", "ListOperations"):

            async def answer(request: Any, context: Any, method: str = method) -> Any:
                return await script.answer(method, request, context)

            setattr(self, method, answer)


@asynccontextmanager
async def _served(add: Callable[[grpc.aio.Server], None]) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest_asyncio.fixture
async def channel(script: Script) -> AsyncIterator[grpc.aio.Channel]:
    """To a server of the scripted service."""

    def add(server: grpc.aio.Server) -> None:
        operations_pb2_grpc.add_OperationsServicer_to_server(_Servicer(script), server)

    async with _served(add) as opened:
        yield opened


@pytest.fixture
def transport(channel: grpc.aio.Channel) -> lro.remote.GrpcTransport:
    """Of the scripted service, impatient."""
    return lro.remote.GrpcTransport(channel, poll=FAST, retry=QUICK, timeout=5)


@pytest.fixture
def serve() -> Callable[[lro.Client], AbstractAsyncContextManager[grpc.aio.Channel]]:
    """``async with serve(client) as channel``: this package's own service."""
    return lambda client: _served(lambda server: add_operations_servicer(client, server))


@pytest_asyncio.fixture
async def client() -> AsyncIterator[lro.Client]:
    """Without handlers: tests drive what they ``create()``."""
    async with lro.Client("sqlite://", drain_timeout=0) as opened:
        yield opened
