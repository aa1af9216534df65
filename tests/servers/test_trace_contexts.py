"""What a server's own methods start is part of the trace of their caller, and a remote handle says which that is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from google.longrunning import operations_pb2
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import lro_aio as lro
from lro_aio.core.tracing import CALLER, well_formed
from lro_aio.remote import GrpcTransport, HttpTransport
from lro_aio.servers.fastapi import install_error_handlers, operation_from_request, operations_router
from lro_aio.servers.grpc import ErrorInterceptor, operation_from_context
from lro_aio.servers.tracing import TraceContext
from lro_aio.testing import TelemetryRecorder

from .test_grpc_methods import Serve, service, streaming, unary

pytestmark = pytest.mark.asyncio

SENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASK = operations_pb2.GetOperationRequest(name="operations/a")


@pytest.fixture(params=[False, True], ids=["off", "on"])
def telemetry(request: Any) -> Iterator[Any]:
    recorder = TelemetryRecorder()
    yield recorder.telemetry if request.param else False
    recorder.close()


@pytest_asyncio.fixture
async def traced(handlers: lro.Handlers, telemetry: Any) -> AsyncIterator[lro.Client]:
    async with lro.Client("sqlite://", handlers=[handlers], telemetry=telemetry, drain_timeout=0) as client:
        yield client


def of_the_caller(traceparent: str) -> bool:
    return traceparent.split("-")[1:2] == SENT.split("-")[1:2]


@pytest.fixture
def app(traced: lro.Client) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/started")
    async def started() -> str:
        return (await traced.start("double")).traceparent

    async def mine(request: Request) -> str:
        return (await operation_from_request(traced, request)).traceparent

    app.post("/mine")(mine)
    return app


@pytest.mark.parametrize("path", ["/started", "/mine"])
async def test_over_http_the_header_is_the_parent_and_a_malformed_one_is_none(
    app: FastAPI, telemetry: Any, path: str
) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        told = (await http.post(path, headers={"traceparent": SENT})).json()
        assert CALLER.get() == ""
        garbage = (await http.post(path, headers={"traceparent": "x" * 300})).json()
        none = (await http.post(path)).json()
    assert of_the_caller(told)
    assert (told == SENT) is not bool(telemetry)  # with telemetry, it is a span below the caller's
    assert not of_the_caller(garbage)
    assert not of_the_caller(none)


async def test_what_is_no_request_goes_by() -> None:
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    await TraceContext(inner)({"type": "lifespan"}, None, None)
    assert seen == [{"type": "lifespan"}]


async def test_a_message_over_http_is_sent_in_the_trace_of_its_caller(handlers: lro.Handlers) -> None:
    recorder, app = TelemetryRecorder(), FastAPI()
    install_error_handlers(app)
    async with (
        lro.Client("sqlite://", handlers=[handlers], telemetry=recorder.telemetry) as client,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
    ):
        app.include_router(operations_router(client))
        name = (await client.create(lease=False)).name
        answer = await http.post(f"/v1/{name}:send", json={"topic": "a"}, headers={"traceparent": SENT})
        assert answer.status_code == 200, answer.text
    parent = recorder.span("send").parent
    assert parent is not None
    assert f"{parent.span_id:016x}" == SENT.split("-")[2]


async def test_over_grpc_the_metadata_is_the_parent(traced: lro.Client, serve_grpc: Serve) -> None:
    async def started(request: Any, context: Any) -> Any:
        return operations_pb2.Operation(name=(await traced.start("double")).traceparent)

    async def mine(request: Any, context: Any) -> Any:
        return operations_pb2.Operation(name=(await operation_from_context(traced, context)).traceparent)

    async def stream(request: Any, context: Any) -> Any:
        yield operations_pb2.Operation(name=(await traced.start("double")).traceparent)

    methods = service(started=started, mine=mine, stream=stream)
    async with serve_grpc(add=methods, interceptors=(ErrorInterceptor(),)) as channel:
        for metadata, expected in (((("traceparent", SENT),), True), ((("traceparent", "no"),), False), ((), False)):
            for name in ("started", "mine"):
                answer = await unary(channel, name)(ASK, metadata=metadata)
                assert of_the_caller(answer.name) is expected
            async for item in streaming(channel)(ASK, metadata=metadata):
                assert of_the_caller(item.name) is expected


async def test_a_span_that_is_current_is_a_nearer_parent_than_the_header(traced: lro.Client, telemetry: Any) -> None:
    nearer = SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1))
    token = CALLER.set(SENT)
    with trace.use_span(NonRecordingSpan(nearer)):
        op = await traced.start("double")
    CALLER.reset(token)
    assert of_the_caller(op.traceparent) is not bool(telemetry)
    assert (f"{0xA:032x}" in op.traceparent) is bool(telemetry)


@pytest.mark.parametrize(
    "sent",
    [
        "", SENT[:-1], SENT + "-", SENT.upper(), f"ff{SENT[2:]}", SENT.replace("4", "g"), f"{SENT}\n",
        f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    ],
)  # fmt: skip
async def test_what_is_no_trace_context_counts_as_none(sent: str) -> None:
    assert well_formed(sent) == ""
    assert well_formed(SENT) == SENT


async def test_a_remote_handle_sends_the_span_that_is_current(traced: lro.Client, serve_grpc: Serve) -> None:
    seen: list[str] = []

    def by_http(request: Request, verb: str, name: str) -> bool:
        seen.append(request.headers.get("traceparent", ""))
        return True

    def by_grpc(context: Any, verb: str, name: str) -> bool:
        seen.append(dict(context.invocation_metadata()).get("traceparent", ""))
        return True

    app = FastAPI()
    app.include_router(operations_router(traced, authorize=by_http))
    name = (await traced.create(lease=False)).name
    current = NonRecordingSpan(SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1)))
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http,
        serve_grpc(traced, authorize=by_grpc) as channel,
    ):
        for transport in (HttpTransport(http, "http://test"), GrpcTransport(channel)):
            handle = lro.RemoteOperation.from_name(transport, name)
            await handle.update_status()
            with trace.use_span(current):
                await handle.update_status()
                await handle.update_status(metadata={"traceparent": SENT})
    assert seen == ["", f"00-{0xA:032x}-{0xB:016x}-01", SENT] * 2
