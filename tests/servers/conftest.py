"""A client with a few handlers, and servers over it on loopback sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from google.protobuf import struct_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.servers.fastapi import operations_router
from lro_aio.servers.grpc import ErrorInterceptor, add_operations_servicer

from ..loop_guard import loop_guard  # noqa: F401 (for every test here)
from ..serving import served
from .resuming import Make, plain_app, routed_app


@dataclass
class Number:
    value: int = 0


@dataclass
class Gates:
    """What holds the handlers of a test."""

    started: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: list[lro.CancelReason | None] = field(default_factory=list)


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def handlers(gates: Gates) -> lro.Handlers:
    registry = lro.Handlers()

    @registry.handler("double", state=Number)
    async def double(op: lro.Operation[Number]) -> wrappers_pb2.Int64Value:
        return wrappers_pb2.Int64Value(value=2 * op.state.value)

    @registry.handler("held", state=Number)
    async def held(op: lro.Operation[Number]) -> wrappers_pb2.Int64Value:
        gates.started.set()
        try:
            await gates.go.wait()
        except asyncio.CancelledError:
            gates.cancelled.append(op.cancel_reason)
            raise
        return wrappers_pb2.Int64Value(value=op.state.value)

    @registry.handler("fails")
    async def fails(op: lro.Operation[Any]) -> None:
        raise lro.OperationFailedError("the disk is full", code=lro.Code.RESOURCE_EXHAUSTED)

    @registry.handler("sleeps", state=Number, resume_points=("awake",))
    async def sleeps(op: lro.Operation[Number]) -> lro.Suspended | struct_pb2.Struct:
        if op.resume_point == "":
            return op.suspend(resume_at="awake", sleep=3600)
        gates.started.set()
        await gates.go.wait()
        woken = struct_pb2.Struct()
        woken["reason"] = str(op.wake_reason)
        woken["error"] = op.wake_error
        return woken

    return registry


@pytest_asyncio.fixture
async def client(handlers: lro.Handlers) -> AsyncIterator[lro.Client]:
    async with lro.Client("sqlite://", handlers=[handlers], drain_timeout=0) as opened:
        yield opened


# Before 1.0, pytest-asyncio loses the loop of a module once a test with a loop of its own has run: nothing is shared.
SCOPE: Any = "module" if pytest_asyncio.__version__ >= "1" else "function"
ON_SHARED_LOOP = pytest.mark.asyncio(loop_scope=SCOPE)


@dataclass
class Shared:
    """One service for all tests of a module, and the client behind it."""

    client: lro.Client
    app: FastAPI


@pytest_asyncio.fixture(scope=SCOPE, loop_scope=SCOPE)
async def shared() -> AsyncIterator[Shared]:
    """For many requests that are refused: FastAPI takes longer to build its routes than to answer them all.

    Its tests run on the event loop of their module.
    """
    registry, app = lro.Handlers(), FastAPI()

    @registry.handler("waits")
    async def waits(op: lro.Operation[Any]) -> None:
        await asyncio.Event().wait()

    nightly = lro.Schedule("nightly", "waits", cron="30 2 * * *", timezone="Europe/Berlin")
    async with lro.Client("sqlite://", handlers=[registry], schedules=[nightly], drain_timeout=0) as client:
        app.include_router(operations_router(client))
        yield Shared(client, app)


@asynccontextmanager
async def _grpc_channel(
    add: Callable[[grpc.aio.Server], None], interceptors: tuple[Any, ...]
) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=interceptors)
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


@pytest.fixture
def serve_grpc() -> Callable[..., AbstractAsyncContextManager[grpc.aio.Channel]]:
    """``async with serve_grpc(client, authorize=...) as channel``, or with an ``add`` of the test's own."""

    def serve(
        client: lro.Client | None = None,
        *,
        add: Callable[[grpc.aio.Server], None] | None = None,
        interceptors: tuple[Any, ...] = (),
        **options: Any,
    ) -> AbstractAsyncContextManager[grpc.aio.Channel]:
        if add is None:
            assert client is not None
            opened = client

            def add(server: grpc.aio.Server) -> None:
                add_operations_servicer(opened, server, **options)

        return _grpc_channel(add, interceptors)

    return serve


@asynccontextmanager
async def _http(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=10) as http:
        yield http


@pytest.fixture
def serve_http() -> Callable[[Any], AbstractAsyncContextManager[httpx.AsyncClient]]:
    """``async with serve_http(app) as http``: a real server on a loopback socket, and a client of it."""
    return _http


@pytest.fixture
def http_to() -> Callable[..., httpx.AsyncClient]:
    """A client that calls an ASGI application without a socket."""

    def connect(app: Any, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test", **options)

    return connect


@pytest.fixture
def error_interceptor() -> ErrorInterceptor:
    return ErrorInterceptor()


@pytest.fixture(params=[plain_app, routed_app], ids=["asgi", "fastapi"])
def make_app(request: pytest.FixtureRequest) -> Make:
    make: Make = request.param
    return make
