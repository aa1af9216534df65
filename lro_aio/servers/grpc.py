"""``google.longrunning.Operations`` on a ``grpc.aio`` server, and rich errors for the server's own methods."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from lro_aio.client import Client
from lro_aio.core.codes import Code
from lro_aio.core.packed import detail_of
from lro_aio.core.policies import Duration
from lro_aio.core.status import clipped, make_status
from lro_aio.core.tracing import CALLER, HEADER, well_formed
from lro_aio.engine.operation import Operation
from lro_aio.servers.calls import MAX_WAIT, Authorize, Calls
from lro_aio.servers.errors import status_of
from lro_aio.servers.legacy import operation_of_call
from lro_aio.servers.verifying import Verifier

__all__ = ["ErrorInterceptor", "add_operations_servicer", "operation_from_context"]

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]

MAX_TRAILERS = 6000
"""Bytes of an error as trailing metadata. Clients refuse more than 8 KiB of it, and then the whole error is lost."""


def add_operations_servicer(
    client: Client, server: grpc.aio.Server, authorize: Authorize | None = None, *, max_wait: Duration = MAX_WAIT
) -> None:
    """Serve the whole ``google.longrunning.Operations`` service from a client.

    Errors are ``google.rpc.Status`` with ``ErrorInfo``, with or without ``ErrorInterceptor``.

    Args:
        client: Opened and closed by the caller: ``async with client:`` around the server's life.
        server: Not started yet.
        authorize: ``authorize(context, verb, name)``, sync or async, with ``verb`` "get", "list", "delete", "cancel" or
            "wait", and ``name`` as the caller sent it; for "list" the collection in one spelling: ``operations``,
            ``{parent}/operations``, or ``-`` for every parent. False or ``PermissionError`` refuses the call with
            PERMISSION_DENIED, before the name is read (AIP-211). None, the default, lets every caller do everything.
        max_wait: Seconds or a timedelta after which WaitOperation answers, whatever the caller asked for.
    """
    servicer = _Operations(Calls(client, authorize, max_wait))
    operations_pb2_grpc.add_OperationsServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated


async def operation_from_context(
    client: Client, context: Context, resume_method: str | None = None, *, verifier: Verifier | None = None
) -> Operation[Any]:
    """The operation that a service method works on: the one that the caller names, else a new one.

    The caller names one in the metadata ``x-alis-operation-id`` (``lro_aio.OPERATION_ID_HEADER``): an id, or a whole
    name. Any caller can send it, so it gives no claim: the result is what ``client.operation(name)`` returns, which
    cannot drive an operation that has a handler. Without it, ``client.create()`` makes an operation that the method
    drives by hand.

    With a verifier, a caller that it accepts resumes the operation: the operation must be SUSPENDED, and the result is
    a ``MethodOperation`` that holds a claim under a lease. The method goes on by hand, from ``op.resume_point`` and
    ``op.state``; ``lro_aio.servers.legacy`` says why this is the weaker way to resume. The lease is renewed while the
    process lives, whether or not the method has answered.

    Args:
        client: Open.
        context: The context of the call.
        resume_method: Name of a registered handler. Only its rows are resumed. A call without the metadata creates such
            a row, which the method drives by hand; where the method does not finish it, the handler goes on.
        verifier: Such as ``lro_aio.servers.resume.OidcVerifier``. None: no call resumes anything.

    Raises:
        RequestError: UNAUTHENTICATED or PERMISSION_DENIED, before the operation is read: the verifier refuses the
            caller.
        InvalidOperationNameError: The caller sent neither an id nor a name.
        OperationNotFoundError: No such operation.
        OperationDoneError: It has ended (this error and the next two occur only with a verifier).
        OperationBusyError: It runs, or is about to: UNAVAILABLE, with the seconds after which to try again.
        InvalidTransitionError: It belongs to another handler, or to none.
        UnknownHandlerError: ``resume_method`` is not registered, and the call creates an operation.
        WorkerUnavailableError: The process is shutting down.
        StoreUnavailableError: The store did not answer.
        ValueError: ``resume_method`` without a verifier.
    """
    headers: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return await operation_of_call(client, headers, resume_method, verifier)


class _Operations(operations_pb2_grpc.OperationsServicer):
    """The servicer: each method makes its call, and answers its errors."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def GetOperation(  # noqa: N802 (the name in the generated base)
        self, request: operations_pb2.GetOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        return await self._answer(context, "get", request.name, lambda: self._calls.get(request.name))

    async def ListOperations(  # noqa: N802 (as above)
        self, request: operations_pb2.ListOperationsRequest, context: Context
    ) -> operations_pb2.ListOperationsResponse:
        return await self._answer(context, "list", request.name, lambda: self._calls.list(request))

    async def DeleteOperation(  # noqa: N802 (as above)
        self, request: operations_pb2.DeleteOperationRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._answer(context, "delete", request.name, lambda: self._calls.delete(request.name))
        return empty_pb2.Empty()

    async def CancelOperation(  # noqa: N802 (as above)
        self, request: operations_pb2.CancelOperationRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._answer(context, "cancel", request.name, lambda: self._calls.cancel(request.name))
        return empty_pb2.Empty()

    async def WaitOperation(  # noqa: N802 (as above)
        self, request: operations_pb2.WaitOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        left = context.time_remaining()
        return await self._answer(context, "wait", request.name, lambda: self._calls.wait(request, time_left=left))

    def _answer(self, context: Context, verb: str, name: str, call: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        client = self._calls.client
        return _guarded(context, self._allowed(context, verb, name, call), client=client, expose=client.expose_errors)

    async def _allowed(self, context: Context, verb: str, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._calls.allow(context, verb, name)
        return await call()


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Answers errors of the server's own methods as ``google.rpc.Status`` with ``ErrorInfo``.

    Errors of this package keep code, sentence and variables. The text of any other error is logged and hidden; its code
    is kept where it has a canonical one. An abort by the method itself stays as it is. For unary and streaming methods,
    async or not. What an async method starts is part of the trace of its caller, who sends ``traceparent``::

        server = grpc.aio.server(interceptors=[ErrorInterceptor()])

    Args:
        expose_errors: Whether callers see the text of exceptions that are not this package's.
    """

    def __init__(self, *, expose_errors: bool = False) -> None:
        self._expose = expose_errors

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Called by grpc for every call."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None  # no such method: grpc says so
        kind = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            _wrapped(getattr(handler, kind), streams=handler.response_streaming, expose=self._expose),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def _wrapped(method: Callable[..., Any], *, streams: bool, expose: bool) -> Callable[..., Any]:
    """The method with its errors answered, and still of the kind by which grpc tells methods apart."""
    if inspect.isasyncgenfunction(method):

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            _note_caller(context)
            try:
                async with contextlib.aclosing(method(request, context)) as responses:
                    async for response in responses:
                        yield response
            except asyncio.CancelledError:
                await _answer_cancelled(context)
                raise
            except grpc.aio.BaseError:
                raise
            except Exception as exc:  # noqa: BLE001 (whatever the method raised is answered)
                await _abort(context, status_of(exc, expose=expose))

        return stream
    if inspect.iscoroutinefunction(method):

        async def call(request: Any, context: Any) -> Any:
            _note_caller(context)
            return await _guarded(context, method(request, context), expose=expose)

        return call
    return _wrapped_blocking(method, streams=streams, expose=expose)


def _note_caller(context: Context) -> None:
    """What the method starts is part of its caller's trace. Each call has a task of its own."""
    sent = (value for key, value in context.invocation_metadata() or () if key == HEADER)
    first = next(sent, "")
    CALLER.set(well_formed(first if isinstance(first, str) else first.decode("latin-1")))


def _wrapped_blocking(method: Callable[..., Any], *, streams: bool, expose: bool) -> Callable[..., Any]:
    """As ``_wrapped``, for methods that grpc runs in threads."""

    def stream(request: Any, context: Any) -> Iterator[Any]:
        try:
            yield from method(request, context)
        except grpc.aio.BaseError:
            raise
        except Exception as exc:  # noqa: BLE001 (whatever the method raised is answered)
            # The generator's thread runs ahead of the loop that sends: an abort from here would collide with a message
            # under way. This status is sent after the last message.
            code, message, trailers = _arguments(status_of(exc, expose=expose))
            context.set_code(code)
            context.set_details(message)
            context.set_trailing_metadata(trailers)

    def call(request: Any, context: Any) -> Any:
        try:
            return method(request, context)
        except grpc.aio.BaseError:
            raise
        except Exception as exc:  # noqa: BLE001 (whatever the method raised is answered)
            return context.abort(*_arguments(status_of(exc, expose=expose)))

    return stream if streams else call


async def _guarded(context: Context, call: Awaitable[T], *, client: Client | None = None, expose: bool = False) -> T:
    """The result of a call, or its error as the RPC's. grpc's own errors, such as an abort, pass through."""
    try:
        return await call
    except asyncio.CancelledError:
        await _answer_cancelled(context)
        raise
    except grpc.aio.BaseError:
        raise
    except Exception as exc:
        await _abort(context, status_of(exc, client=client, expose=expose))
        raise  # not reached: abort() has raised; for the type checker


async def _abort(context: Context, status: status_pb2.Status) -> None:
    code, message, trailers = _arguments(status)
    await context.abort(code, message, (*context.trailing_metadata(), *trailers))


async def _answer_cancelled(context: Context) -> None:
    """End the RPC of a cancelled method: a caller without a deadline would wait for ever.

    Does nothing where the caller has hung up.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        status = make_status(Code.UNAVAILABLE, "the server ended the call", reason="CALL_CANCELLED")
    else:  # something that the method awaited was cancelled, not the method
        status = make_status(Code.ABORTED, "the call was cancelled by the server's own code", reason="CALL_CANCELLED")
    if context.done():
        return
    with contextlib.suppress(grpc.aio.BaseError):  # the abort raises one, and so does a caller that is gone
        await _abort(context, status)


def _arguments(status: status_pb2.Status) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    rich: Any = rpc_status.to_status(_fitted(status))
    return rich.code, rich.details, rich.trailing_metadata


def _fitted(status: status_pb2.Status) -> status_pb2.Status:
    """The status, with long texts clipped and other services' details dropped where it would be too large to send."""
    # The message travels percent-encoded, and again in the details, which travel as base64.
    if 3 * len(status.message.encode()) + 4 * status.ByteSize() // 3 <= MAX_TRAILERS:
        return status
    fitted = status_pb2.Status(code=status.code, message=clipped(status.message, 600))
    info = detail_of(status.details, error_details_pb2.ErrorInfo)
    if info is not None:
        variables = {key[:64]: clipped(value, 200) for key, value in list(info.metadata.items())[:8]}
        info = error_details_pb2.ErrorInfo(reason=info.reason[:63], domain=info.domain[:255], metadata=variables)
        fitted.details.add().Pack(info)
    retry = detail_of(status.details, error_details_pb2.RetryInfo)
    if retry is not None:
        fitted.details.add().Pack(retry)
    return fitted
