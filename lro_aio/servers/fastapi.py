"""FastAPI routers: operations over HTTP, in the style of Google's APIs or of Azure's, and the resume endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, get_args
from urllib.parse import quote

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.rpc import error_details_pb2, status_pb2

try:
    from fastapi import APIRouter, FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import Response
except ImportError as exc:
    raise ImportError("lro_aio.servers.fastapi needs FastAPI: pip install 'lro-aio[fastapi]'") from exc

from lro_aio.client import Client
from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError
from lro_aio.core.names import MalformedIdError
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.proto_json import operation_text
from lro_aio.core.status import make_status
from lro_aio.engine.life import ClosedError
from lro_aio.engine.operation import Operation
from lro_aio.servers import _fastapi_azure, _fastapi_controls, _fastapi_schedules, azure
from lro_aio.servers._openapi import GET_BODY, SENT_BODY, WAIT_BODY, Answers, google_answers
from lro_aio.servers._routes import Routes, query_parameters, read_sent, response
from lro_aio.servers._signals import drained_on_signal
from lro_aio.servers.calls import MAX_WAIT, Authorize, Calls
from lro_aio.servers.errors import RequestError, invalid, unimplemented
from lro_aio.servers.events import KEEP_ALIVE, EventStream, event_id
from lro_aio.servers.hangups import unless_hung_up
from lro_aio.servers.http import (
    Receive,
    Reply,
    Scope,
    Send,
    error_reply,
    http_error,
    list_json,
    parse_message,
    read_body,
)
from lro_aio.servers.legacy import operation_of_call
from lro_aio.servers.resume import Endpoints
from lro_aio.servers.tracing import TraceContext
from lro_aio.servers.verifying import Verifier

__all__ = [
    "Style",
    "accepted",
    "install_error_handlers",
    "lifespan",
    "operation_from_request",
    "operation_id_from_request",
    "operation_response",
    "operations_router",
    "resume_router",
]

Style = Literal["google", "azure"]
"""Whose APIs the answers look like: operations and AIP-193 errors, or status monitors and Azure's errors."""

PREFIX = "/v1"
"""Where Google's APIs have their names."""

MAX_BODY = 64 * 1024
"""Most bytes of a request's body, which holds a name and a timeout."""

LIST_PARAMETERS = query_parameters(
    ("filter", "string", "AIP-160 filter"),
    ("pageSize", "integer", "0 takes the default"),
    ("pageToken", "string", "nextPageToken of the previous page"),
)


def operations_router(
    client: Client,
    style: Style = "google",
    authorize: Authorize | None = None,
    *,
    prefix: str | None = None,
    max_wait: Duration = MAX_WAIT,
    keep_alive: Duration = KEEP_ALIVE,
) -> APIRouter:
    """A router of a client's operations over HTTP.

    In the style of Google, with proto3 JSON and AIP-193 errors:

    ===========================================================  ================================================
    GET, DELETE ``/v1/{name}``                                   an operation; ``{}``
    GET ``/v1/operations``, ``/v1/{parent}/operations``          a page; ``filter``, ``pageSize``, ``pageToken``
    POST ``/v1/{name}:cancel``                                   body ``{"reason": "..."}``; ``{}``
    POST ``/v1/{name}:wait``                                     body ``{"timeout": "30s"}``; the latest state
    POST ``/v1/{name}:send``                                     ``topic``, ``payload``, ``messageId``; ``{}``
    GET ``/v1/{name}:watch``                                     server-sent events
    POST ``/v1/{name}:pause``                                    body ``{"reason": "..."}``; ``{}``
    POST ``/v1/{name}:unpause``                                  as ``:pause``
    POST ``/v1/{name}:rerun``                                    body ``{"requestId": "..."}``; the new operation
    POST ``/google.longrunning.Operations/GetOperation``         body ``{"name": ...}``; below a prefix that is given
    ===========================================================  ================================================

    POST ``/v1/operations:cancel``, ``/v1/{parent}/operations:cancel``, and the same with ``pause``, ``unpause``,
    ``rerun`` and ``delete``, act on what a ``filter`` selects (AIP-165; ``*`` is every operation). The answer to
    ``{"filter": ...}`` is their ``count``, with ``more`` where there are more, and a ``sample`` of their names; to
    ``{"filter": ..., "force": true, "reason": "...", "perSecond": 50}`` the operation that does it.

    Of schedules, GET ``/v1/schedules`` and ``/v1/schedules/{name}`` tell, the latter of as many moments as a query
    ``upcoming`` says. POST ``/v1/schedules/{name}:run``, ``:pause`` and ``:unpause``, and DELETE, act on them; so does
    ``:backfill`` with ``{"start": "2026-03-01T00:00:00Z", "end": "...", "perSecond": 10}``: after 5 seconds, its answer
    has a ``nextStart`` besides the ``operations``, from which the caller goes on, at ``nextTime`` or later.

    In the style of Azure, with status monitors, ``Retry-After`` while an operation is unfinished, and Azure's errors:

    ===========================================================  ================================================
    GET, DELETE ``/v1/{name}``                                   a status monitor; 204
    GET ``/v1/operations``, ``/v1/{parent}/operations``          a page; ``filter``, ``maxpagesize``
    POST ``/v1/{name}:cancel``                                   the status monitor
    POST ``/v1/{name}:send``                                     as above; the status monitor
    ===========================================================  ================================================

    The routes take every GET and DELETE below the prefix: include this router after the application's own routes there.
    A POST is JSON or has no body: forms are refused (415), which another site could send with a browser's cookies.
    The OpenAPI document has the results that handlers declare and that are data, of those handlers that are registered
    when this is called.

    Args:
        client: Opened and closed elsewhere, for example by ``lifespan(client)``.
        style: "google" or "azure".
        authorize: ``authorize(request, verb, name)``, sync or async, with ``verb`` "get", "list", "delete", "cancel",
            "send", "wait" (for ``:wait`` and ``:watch``), "pause", "unpause" or "rerun". ``name`` is as the caller sent
            it; for "list" the collection in one spelling: ``operations``, ``{parent}/operations``, or ``-`` for every
            parent. A verb over many operations asks about the collection twice: may the caller "list" it, and do that?
            For schedules, it is "list_schedules" with "schedules", or "get_schedule", "run_schedule", "pause_schedule",
            "unpause_schedule", "backfill_schedule" or "delete_schedule" with ``schedules/{name}``.
            False or ``PermissionError`` refuses the request with 403, before the name is read (AIP-211).
            FastAPI answers an ``HTTPException`` that it raises. None, the default, lets every caller do everything.
        prefix: Path before everything that the router serves. None: the paths above.
        max_wait: Seconds or a timedelta after which ``:wait`` answers, whatever the caller asked for. Google's style
            only.
        keep_alive: Seconds or a timedelta of silence after which an event stream sends a comment. Google's style only.

    Raises:
        ValueError: ``style`` is neither.
    """
    _check_style(style)
    calls = Calls(client, authorize, max_wait)
    silence = seconds(keep_alive, "keep_alive", positive=True)
    router = APIRouter(tags=["operations"])
    below = PREFIX if prefix is None else prefix
    if style == "azure":
        _fastapi_azure.add_routes(router, calls, below)
    else:
        routes, answers = Routes(router, calls, below, error_reply), google_answers(client)
        _add_reads(routes, answers, silence)
        _add_wait(routes, answers)
        _add_rpc(Routes(router, calls, prefix or "", error_reply), answers)
        _fastapi_controls.add_routes(routes, answers)
        _add_writes(routes, answers)
    return router


def resume_router(client: Client, verifier: Verifier, *, prefix: str = "/lro") -> APIRouter:
    """The endpoints of ``lro_aio.servers.resume`` as a router.

    Args:
        client: A worker, opened and closed elsewhere.
        verifier: Required; see ``lro_aio.servers.resume.Verifier``.
        prefix: Path before the endpoints' own names.

    Raises:
        TypeError: ``verifier`` is not callable. There is no default that accepts everyone.
    """
    endpoints = Endpoints(client, verifier)
    router = APIRouter(tags=["resume"], include_in_schema=False)

    def endpoint(verb: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def answer(request: Request) -> Response:
            return response(await endpoints.answer(verb, _headers(request), request.receive))

        return answer

    for verb in Endpoints.VERBS:
        router.add_api_route(f"{prefix}/{verb}", endpoint(verb), methods=["POST"], response_model=None, name=verb)
    return router


async def operation_from_request(
    client: Client, request: Request, resume_method: str | None = None, *, verifier: Verifier | None = None
) -> Operation[Any]:
    """The operation that an endpoint works on: the one that the header ``x-alis-operation-id`` names, else a new one.

    It behaves as ``lro_aio.servers.grpc.operation_from_context``, whose docstring lists the errors;
    ``install_error_handlers`` answers them.

    Args:
        client: Open.
        request: The request of the call.
        resume_method: Name of a registered handler, whose operations the endpoint creates and resumes.
        verifier: Decides who may resume one. None: no caller may.
    """
    return await operation_of_call(client, _headers(request), resume_method, verifier)


def operation_response(operation: Operation[Any] | operations_pb2.Operation, status_code: int = 200) -> Response:
    """An operation as the answer of a service's own endpoint.

    Args:
        operation: As ``client.start`` or ``client.get_operation`` returned it.
        status_code: The HTTP status.
    """
    proto = operation if isinstance(operation, operations_pb2.Operation) else operation.proto
    return Response(operation_text(proto), status_code, media_type="application/json")


def operation_id_from_request(request: Request) -> str | None:
    """The id in the header ``Operation-Id``, for ``client.start(operation_id=...)``; None without the header.

    It can be a dependency: ``Annotated[str | None, Depends(operation_id_from_request)]``. A repeated request with the
    same id finds the operation that the first one started; another request with that id raises
    ``OperationAlreadyExistsError``. ``install_error_handlers(app, style="azure")`` answers that error, and those that
    this function raises.

    Args:
        request: The request of the call.

    Raises:
        RequestError: The id is malformed (400), or the request has ``Repeatability-Request-ID``, which is not
            supported (501).
    """
    return azure.operation_id(_headers(request))


def accepted(op: Operation[Any], request: Request, base_url: str | None = None, *, prefix: str = "/v1") -> Response:
    """An operation as the answer of a service's own POST or DELETE in Azure's style: 202, even if it has ended.

    The body is the status monitor. ``Operation-Location`` is its absolute URL, with the ``api-version`` that the caller
    sent; ``Operation-Id`` is its id; ``Retry-After`` says when to poll, while the operation is unfinished.

    Args:
        op: As ``client.start`` returned it.
        request: The request of the call.
        base_url: URL at which clients reach the application that serves the status monitors. None takes the request's
            own scheme and host, with the path at which this application is mounted: right, unless a proxy hides them.
        prefix: Prefix of the router that serves the status monitors.

    Raises:
        ValueError: ``base_url`` is not an absolute HTTP URL.
    """
    if base_url is None:
        base_url = f"{request.url.scheme}://{request.url.netloc}{quote(request.scope.get('root_path', ''))}"
    location = azure.operation_location(base_url, prefix, op.name, request.query_params.get("api-version"))
    return response(azure.accepted_reply(op.record, op.client.clock.time(), location))


def install_error_handlers(app: FastAPI, style: Style = "google") -> None:
    """Answer this package's errors, where the application's own endpoints raise them, with the bodies of a style.

    It also answers a malformed ``request_id`` or ``operation_id`` (400), calls on a client that is not open (503), and
    requests that FastAPI's validation refuses (400, with a field violation for each problem). FastAPI answers all other
    exceptions. What an endpoint starts is part of the trace of its caller, who sends ``traceparent``.

    Args:
        app: The application.
        style: "google" (AIP-193) or "azure", where ``OperationAlreadyExistsError`` is 400.

    Raises:
        ValueError: ``style`` is neither.
    """
    _check_style(style)
    reply, form = (azure.error_reply, azure.azure_error) if style == "azure" else (error_reply, http_error)

    async def failed(request: Request, exc: Exception) -> Response:  # noqa: ARG001 (FastAPI's signature)
        return response(reply(exc))

    async def malformed(request: Request, exc: Exception) -> Response:  # noqa: ARG001 (as above)
        assert isinstance(exc, RequestValidationError)
        return response(form(_violations(exc)))

    app.add_middleware(TraceContext)
    app.add_exception_handler(LroError, failed)
    app.add_exception_handler(MalformedIdError, failed)
    app.add_exception_handler(ClosedError, failed)
    app.add_exception_handler(RequestError, failed)
    app.add_exception_handler(RequestValidationError, malformed)


def lifespan(client: Client) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Open and close the client with the application: ``FastAPI(lifespan=lifespan(client))``.

    On SIGTERM and SIGINT the client drains at once, beside what the server does. A server tells the application of its
    end when the last connection has ended; the drain is what ends event streams and answers those that wait.
    """

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 (FastAPI's signature)
        async with client, drained_on_signal(client):
            yield

    return opened


def _check_style(style: str) -> None:
    if style not in get_args(Style):
        raise ValueError(f'style must be "google" or "azure", not {style!r}')


def _headers(request: Request) -> dict[str, str]:
    return {key: ", ".join(request.headers.getlist(key)) for key in request.headers}


def _add_reads(routes: Routes, answers: Answers, keep_alive: float) -> None:
    calls = routes.calls

    async def get(request: Request, name: str) -> Response:  # noqa: ARG001 (all routes have one signature)
        return operation_response(await calls.get(name))

    async def page(request: Request, parent: str) -> Response:
        return response(Reply(200, list_json(await calls.list(_list_request(request, parent)))))

    async def watch(request: Request, name: str) -> Response:
        snapshots = calls.watch(name)
        try:
            first = await anext(snapshots)
        except BaseException:
            await snapshots.aclose()
            raise
        if first.done and request.headers.get("last-event-id") == event_id(first):
            await snapshots.aclose()
            return Response(status_code=204)  # it has seen the end, and connects again until it is told not to
        stream = EventStream(snapshots, first, lambda exc: error_reply(exc, calls.client), keep_alive=keep_alive)
        return _StreamResponse(stream)

    routes.add_get(get, "GetOperation", answers.operation)
    routes.add_lists(page, get, LIST_PARAMETERS, answers.page)
    _fastapi_schedules.add_reads(routes, answers)
    watches = routes.endpoint("wait", watch)
    routes.add("GET", "/{name:path}:watch", watches, "WatchOperation", responses=answers.events)
    routes.add("GET", "/{name:path}", routes.endpoint("get", get), "GetOperation", responses=answers.operation)


def _add_rpc(routes: Routes, answers: Answers) -> None:
    """The one call that other programs make by the path of its RPC; see ``suspend(poll_endpoint=)``."""

    async def get(request: Request, name: str) -> Response:  # noqa: ARG001 (as above)
        return operation_response(await routes.calls.get(name))

    path = "/google.longrunning.Operations/GetOperation"
    gets = routes.endpoint("get", get, _name_in_body)
    routes.add("POST", path, gets, "GetOperationByMessage", GET_BODY, responses=answers.operation)


def _add_wait(routes: Routes, answers: Answers) -> None:
    """What is asked for most of all that is a POST; it stands before the others."""
    calls = routes.calls

    async def wait(request: Request, name: str) -> Response:
        asked = parse_message(await _body(request), operations_pb2.WaitOperationRequest())
        asked.name = name
        return operation_response(await unless_hung_up(request.receive, calls.wait(asked)))

    waits = routes.endpoint("wait", wait)
    routes.add("POST", "/{name:path}:wait", waits, "WaitOperation", WAIT_BODY, responses=answers.operation)


def _add_writes(routes: Routes, answers: Answers) -> None:
    calls = routes.calls

    async def send(request: Request, name: str) -> Response:
        await calls.send(name, await read_sent(request, calls.client))
        return response(Reply(200, {}))

    async def delete(request: Request, name: str) -> Response:  # noqa: ARG001 (all routes have one signature)
        await calls.delete(name)
        return response(Reply(200, {}))

    sends, deletes = routes.endpoint("send", send), routes.endpoint("delete", delete)
    routes.add("POST", "/{name:path}:send", sends, "SendToOperation", SENT_BODY, responses=answers.nothing)
    routes.add("DELETE", "/{name:path}", deletes, "DeleteOperation", responses=answers.nothing)


async def _name_in_body(request: Request) -> str:
    return parse_message(await _body(request), operations_pb2.GetOperationRequest()).name


async def _body(request: Request) -> bytes:
    return await read_body(request.receive, request.headers, MAX_BODY)


def _list_request(request: Request, parent: str) -> operations_pb2.ListOperationsRequest:
    query = request.query_params
    size = query.get("pageSize", query.get("page_size", "0"))
    partial = query.get("returnPartialSuccess", query.get("return_partial_success", "false"))
    asked = operations_pb2.ListOperationsRequest(
        name=parent, filter=query.get("filter", ""), page_token=query.get("pageToken", query.get("page_token", ""))
    )
    try:
        asked.page_size = int(size)
    except ValueError as exc:
        raise invalid("page_size", "has a value of the wrong type") from exc
    if partial not in ("true", "false"):
        raise invalid("return_partial_success", "has a value of the wrong type")
    if partial == "true":  # refused here: older releases of the messages have no such field
        raise unimplemented("return_partial_success")
    return asked


class _StreamResponse(Response):
    """An event stream as the ``Response`` that FastAPI expects from an endpoint."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(status_code=200)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stream(scope, receive, send)


def _violations(exc: RequestValidationError) -> status_pb2.Status:
    """The problems that FastAPI found, without the values that the caller sent."""
    violations = [
        error_details_pb2.BadRequest.FieldViolation(
            field=".".join(str(part) for part in error["loc"]), description=str(error["msg"])
        )
        for error in exc.errors()
    ]
    first = violations[0]
    metadata = {"field": first.field, "problem": first.description}
    status = make_status(
        Code.INVALID_ARGUMENT, f"{first.field}: {first.description}", reason="INVALID_REQUEST", metadata=metadata
    )
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    return status
