"""Operations over HTTP, in the style of Google's APIs, and the resume endpoints, as FastAPI routers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.rpc import error_details_pb2, status_pb2

try:
    from fastapi import APIRouter, FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import Response
    from starlette.exceptions import HTTPException as StarletteHTTPException
except ImportError as exc:
    raise ImportError("lro_aio.servers.fastapi needs FastAPI: pip install 'lro-aio[fastapi]'") from exc

from lro_aio._missing import error as missing
from lro_aio.client import Client
from lro_aio.core.codes import Code
from lro_aio.core.errors import InvalidOperationNameError, LroError
from lro_aio.core.names import parse
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.status import make_status
from lro_aio.engine.gateway import ClosedError
from lro_aio.engine.operation import Operation
from lro_aio.servers.calls import MAX_WAIT, Authorize, Calls
from lro_aio.servers.errors import RequestError, invalid
from lro_aio.servers.events import KEEP_ALIVE, EventStream
from lro_aio.servers.http import (
    Receive,
    Reply,
    Scope,
    Send,
    error_reply,
    http_error,
    list_json,
    operation_json,
    parse_message,
    read_body,
)
from lro_aio.servers.legacy import operation_of_call
from lro_aio.servers.resume import Endpoints, Verifier

__all__ = [
    "install_error_handlers",
    "lifespan",
    "operation_from_request",
    "operation_response",
    "operations_router",
    "resume_router",
]

MAX_BODY = 64 * 1024
"""Bytes of a request's body: a name and a timeout."""

LIST_PARAMETERS: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "schema": {"type": kind}, "description": text}
        for name, kind, text in (
            ("filter", "string", "AIP-160 filter"),
            ("pageSize", "integer", "0 takes the default"),
            ("pageToken", "string", "nextPageToken of the page before"),
        )
    ]
}


def operations_router(
    client: Client,
    style: Literal["google"] = "google",
    authorize: Authorize | None = None,
    *,
    prefix: str = "/v1",
    max_wait: Duration = MAX_WAIT,
    keep_alive: Duration = KEEP_ALIVE,
) -> APIRouter:
    """The operations of a client over HTTP.

    ===========================================================  ================================================
    GET, DELETE ``/v1/{name}``                                   an operation; ``{}``
    GET ``/v1/operations``, ``/v1/{parent}/operations``          a page; ``filter``, ``pageSize``, ``pageToken``
    POST ``/v1/{name}:cancel``                                   ``{}``
    POST ``/v1/{name}:wait``                                     body ``{"timeout": "30s"}``; the latest state
    GET ``/v1/{name}:watch``                                     server-sent events
    POST ``/google.longrunning.Operations/GetOperation``         body ``{"name": ...}``
    ===========================================================  ================================================

    Bodies are proto3 JSON, errors AIP-193. The routes take every GET and DELETE below the prefix: include this router
    after the application's own ones there.

    Args:
        client: Opened and closed elsewhere, by ``lifespan(client)`` for one.
        style: Only "google" exists.
        authorize: ``authorize(request, verb, name)``, sync or async, with ``verb`` "get", "list", "delete", "cancel" or
            "wait" (for ``:wait`` and ``:watch``). False or ``PermissionError`` refuses the request with 403, before the
            name is looked at (AIP-211). An ``HTTPException`` that it raises is answered by FastAPI. None, the default,
            lets every caller do everything.
        prefix: Before the names.
        max_wait: Seconds or a timedelta after which ``:wait`` answers, whatever the caller asked for.
        keep_alive: Seconds or a timedelta of silence after which an event stream sends a comment.

    Raises:
        ValueError: Another style.
    """
    if style != "google":
        raise ValueError(f'style must be "google", the only one that exists, not {style!r}')
    calls = Calls(client, authorize, max_wait)
    router = APIRouter(tags=["operations"])
    _add_reads(router, calls, prefix, seconds(keep_alive, "keep_alive", positive=True))
    _add_writes(router, calls, prefix)
    return router


def resume_router(client: Client, verifier: Verifier, *, prefix: str = "/lro") -> APIRouter:
    """The endpoints of ``lro_aio.servers.resume`` as a router.

    Args:
        client: A worker, opened and closed elsewhere.
        verifier: Required; see ``lro_aio.servers.resume.Verifier``.
        prefix: Before the endpoints' own names.

    Raises:
        TypeError: ``verifier`` is not callable. There is no default that accepts everyone.
    """
    endpoints = Endpoints(client, verifier)
    router = APIRouter(tags=["resume"], include_in_schema=False)

    def endpoint(verb: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def answer(request: Request) -> Response:
            headers = {key: ", ".join(request.headers.getlist(key)) for key in request.headers}
            return _response(await endpoints.answer(verb, headers, request.receive))

        return answer

    for verb in Endpoints.VERBS:
        router.add_api_route(f"{prefix}/{verb}", endpoint(verb), methods=["POST"], response_model=None, name=verb)
    return router


async def operation_from_request(
    client: Client, request: Request, resume_method: str | None = None, *, verifier: Verifier | None = None
) -> Operation[Any]:
    """The operation that an endpoint works on: the one that the header ``x-alis-operation-id`` names, else a new one.

    As ``lro_aio.servers.grpc.operation_from_context``, which says what is raised; ``install_error_handlers``
    answers it.

    Args:
        client: Open.
        request: Of the call.
        resume_method: Name of a registered handler, whose operations the endpoint makes and resumes.
        verifier: Decides who may resume one. None: nobody.
    """
    headers = {key: ", ".join(request.headers.getlist(key)) for key in request.headers}
    return await operation_of_call(client, headers, resume_method, verifier)


def operation_response(operation: Operation[Any] | operations_pb2.Operation, status_code: int = 200) -> Response:
    """An operation as the answer of a service's own endpoint.

    Args:
        operation: As ``client.start`` returned it, or as ``client.get_operation`` did.
        status_code: The HTTP status.
    """
    proto = operation if isinstance(operation, operations_pb2.Operation) else operation.proto
    return _response(Reply(status_code, operation_json(proto)))


def install_error_handlers(app: FastAPI) -> None:
    """Answer errors of this package that leave the application's own endpoints with AIP-193 bodies.

    Also: use of a client that is not open (503), and requests that FastAPI's validation refuses (400, with a field
    violation each). All other exceptions stay FastAPI's.
    """

    async def failed(request: Request, exc: Exception) -> Response:  # noqa: ARG001 (FastAPI's signature)
        return _response(error_reply(exc))

    async def malformed(request: Request, exc: Exception) -> Response:  # noqa: ARG001 (as above)
        assert isinstance(exc, RequestValidationError)
        return _response(http_error(_violations(exc)))

    app.add_exception_handler(LroError, failed)
    app.add_exception_handler(ClosedError, failed)
    app.add_exception_handler(RequestError, failed)
    app.add_exception_handler(RequestValidationError, malformed)


def lifespan(client: Client) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Open and close the client with the application: ``FastAPI(lifespan=lifespan(client))``."""

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 (FastAPI's signature)
        async with client:
            yield

    return opened


Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
Act = Callable[[Request, str], Awaitable[Response]]


def _add_reads(router: APIRouter, calls: Calls, prefix: str, keep_alive: float) -> None:
    async def get(request: Request, name: str) -> Response:  # noqa: ARG001 (of the form of the others)
        return operation_response(await calls.get(name))

    async def page(request: Request, parent: str) -> Response:
        return _response(Reply(200, list_json(await calls.list(_list_request(request, parent)))))

    async def watch(request: Request, name: str) -> Response:  # noqa: ARG001 (as above)
        snapshots = calls.watch(name)
        try:
            first = await anext(snapshots)
        except BaseException:
            await snapshots.aclose()
            raise
        stream = EventStream(snapshots, first, lambda exc: error_reply(exc, calls.client), keep_alive=keep_alive)
        return _StreamResponse(stream)

    list_children = _endpoint(calls, "list", page, _collection)
    get_named_so = _endpoint(calls, "get", get, _collection)

    async def list_of_parent(request: Request) -> Response:
        try:
            parse(await _collection(request))
        except InvalidOperationNameError:
            return await list_children(request)
        return await get_named_so(request)  # an operation whose id is "operations"

    def add(path: str, endpoint: Endpoint, name: str, extra: dict[str, Any] | None = None) -> None:
        router.add_api_route(
            path, endpoint, methods=["GET"], response_model=None, name=name, openapi_extra=extra, summary=name
        )

    add(f"{prefix}/operations", _endpoint(calls, "list", page, _top_level), "ListOperations", LIST_PARAMETERS)
    add(f"{prefix}/{{name:path}}/operations", list_of_parent, "ListOperationsOfParent", LIST_PARAMETERS)
    add(f"{prefix}/{{name:path}}:watch", _endpoint(calls, "wait", watch), "WatchOperation")
    add(f"{prefix}/{{name:path}}", _endpoint(calls, "get", get), "GetOperation")
    router.add_api_route(
        "/google.longrunning.Operations/GetOperation",
        _endpoint(calls, "get", get, _name_in_body),
        methods=["POST"],
        response_model=None,
        name="GetOperationByMessage",
        summary="GetOperation, as gRPC names it",
    )


def _add_writes(router: APIRouter, calls: Calls, prefix: str) -> None:
    async def wait(request: Request, name: str) -> Response:
        asked = parse_message(await _body(request), operations_pb2.WaitOperationRequest())
        asked.name = name
        return operation_response(await calls.wait(asked))

    async def cancel(request: Request, name: str) -> Response:
        parse_message(await _body(request), operations_pb2.CancelOperationRequest())
        await calls.cancel(name)
        return _response(Reply(200, {}))

    async def delete(request: Request, name: str) -> Response:  # noqa: ARG001 (of the form of the others)
        await calls.delete(name)
        return _response(Reply(200, {}))

    for suffix, method, verb, act, title in (
        (":wait", "POST", "wait", wait, "WaitOperation"),
        (":cancel", "POST", "cancel", cancel, "CancelOperation"),
        ("", "DELETE", "delete", delete, "DeleteOperation"),
    ):
        endpoint = _endpoint(calls, verb, act)
        path = f"{prefix}/{{name:path}}{suffix}"
        router.add_api_route(path, endpoint, methods=[method], response_model=None, name=title, summary=title)


def _endpoint(
    calls: Calls, verb: str, act: Act, name_of: Callable[[Request], Awaitable[str]] | None = None
) -> Endpoint:
    """The endpoint of one verb: who may, then the call, then the AIP-193 body of what it raised."""

    async def endpoint(request: Request) -> Response:
        try:
            name = await (name_of or _name)(request)
            await calls.allow(request, verb, name)
            return await act(request, name)
        except StarletteHTTPException:
            raise  # FastAPI's to answer
        except Exception as exc:  # noqa: BLE001 (whatever it is, the caller gets an AIP-193 body)
            return _response(error_reply(exc, calls.client))

    return endpoint


async def _name(request: Request) -> str:
    """The name in the path. An encoded slash separates nothing: the name keeps it, and is then no valid one."""
    name: str = request.path_params["name"]
    raw: bytes = request.scope.get("raw_path") or b""
    return name.replace("/", "%2F") if b"%2f" in raw.partition(b"?")[0].lower() else name


async def _collection(request: Request) -> str:
    return f"{await _name(request)}/operations"


async def _top_level(request: Request) -> str:  # noqa: ARG001 (of the form of the others)
    return "operations"


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
        asked.return_partial_success = {"true": True, "false": False}[partial]
    except (ValueError, KeyError) as exc:
        field = "return_partial_success" if isinstance(exc, KeyError) else "page_size"
        raise invalid(field, "is not of its type") from exc
    return asked


class _StreamResponse(Response):
    """An event stream in the clothes that FastAPI expects of an endpoint's answer."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(status_code=200)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stream(scope, receive, send)


def _response(reply: Reply) -> Response:
    return Response(reply.content(), reply.status, dict(reply.headers), "application/json")


def _violations(exc: RequestValidationError) -> status_pb2.Status:
    """What FastAPI found, without the values that the caller sent."""
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


def __getattr__(name: str) -> Any:
    if name == "accepted":
        raise missing("servers.fastapi.accepted")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
