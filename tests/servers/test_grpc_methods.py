"""Errors of a server's own gRPC methods, and the operations that they work on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2, wrappers_pb2
from grpc_status import rpc_status

import lro_aio as lro
from lro_aio.servers.grpc import ErrorInterceptor, operation_from_context

from .test_grpc import refused

pytestmark = pytest.mark.asyncio

Serve = Callable[..., Any]


# A service of the test's own


def service(**methods: Any) -> Callable[[grpc.aio.Server], None]:
    """A service whose messages are the Operations service's; ``unary`` and ``stream`` name the methods' kinds."""
    rpcs = {
        name: (grpc.unary_stream_rpc_method_handler if "stream" in name else grpc.unary_unary_rpc_method_handler)(
            method,
            request_deserializer=operations_pb2.GetOperationRequest.FromString,
            response_serializer=operations_pb2.Operation.SerializeToString,
        )
        for name, method in methods.items()
    }

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", rpcs),))

    return add


def unary(channel: grpc.aio.Channel, name: str = "unary") -> Any:
    return channel.unary_unary(
        f"/test.Service/{name}",
        request_serializer=operations_pb2.GetOperationRequest.SerializeToString,
        response_deserializer=operations_pb2.Operation.FromString,
    )


def streaming(channel: grpc.aio.Channel, name: str = "stream") -> Any:
    return channel.unary_stream(
        f"/test.Service/{name}",
        request_serializer=operations_pb2.GetOperationRequest.SerializeToString,
        response_deserializer=operations_pb2.Operation.FromString,
    )


async def drained(call: Any) -> list[str]:
    return [item.name async for item in call]


ASK = operations_pb2.GetOperationRequest(name="operations/a")


async def unary_async(request: Any, context: Any) -> Any:
    raise lro.OperationNotFoundError(request.name)


def unary_sync(request: Any, context: Any) -> Any:
    raise lro.OperationNotFoundError(request.name)


async def stream_generator(request: Any, context: Any) -> Any:
    yield operations_pb2.Operation(name="first")
    raise lro.OperationNotFoundError(request.name)


async def stream_writes(request: Any, context: Any) -> None:
    await context.write(operations_pb2.Operation(name="first"))
    raise lro.OperationNotFoundError(request.name)


def stream_sync(request: Any, context: Any) -> Any:
    yield operations_pb2.Operation(name="first")
    raise lro.OperationNotFoundError(request.name)


class TestErrorInterceptor:
    @pytest.mark.parametrize("method", [unary_async, unary_sync])
    async def test_unary_methods_answer_rich_errors(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor, method: Any
    ) -> None:
        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            code, _, info = await refused(unary(channel)(ASK))
            assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")

    @pytest.mark.parametrize("method", [stream_generator, stream_writes, stream_sync])
    async def test_streaming_methods_answer_rich_errors_after_what_they_sent(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor, method: Any
    ) -> None:
        async with serve_grpc(add=service(stream=method), interceptors=(error_interceptor,)) as channel:
            received: list[str] = []

            async def read() -> None:
                async for item in streaming(channel)(ASK):
                    received.append(item.name)  # noqa: PERF401 (what came before the error counts)

            code, _, info = await refused(read())
            assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")
            assert received == ["first"]

    async def test_methods_that_succeed_are_left_alone(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        async def good(request: Any, context: Any) -> Any:
            return operations_pb2.Operation(name=request.name)

        async def many(request: Any, context: Any) -> Any:
            for number in range(3):
                yield operations_pb2.Operation(name=str(number))

        def sync(request: Any, context: Any) -> Any:
            return operations_pb2.Operation(name=request.name)

        def sync_stream(request: Any, context: Any) -> Any:
            return iter([operations_pb2.Operation(name="only")])

        methods = {"unary": good, "stream": many, "unary_sync": sync, "stream_sync": sync_stream}
        async with serve_grpc(add=service(**methods), interceptors=(error_interceptor,)) as channel:
            assert (await unary(channel)(ASK)).name == "operations/a"
            assert (await unary(channel, "unary_sync")(ASK)).name == "operations/a"
            assert await drained(streaming(channel)(ASK)) == ["0", "1", "2"]
            assert await drained(streaming(channel, "stream_sync")(ASK)) == ["only"]
            with pytest.raises(grpc.aio.AioRpcError, match="Method not found"):
                await unary(channel, "none")(ASK)

    @pytest.mark.parametrize("kind", ["unary", "stream"])
    async def test_text_of_unknown_exceptions_is_logged_and_hidden(
        self, serve_grpc: Serve, caplog: pytest.LogCaptureFixture, kind: str
    ) -> None:
        async def broken(request: Any, context: Any) -> Any:
            raise KeyError("secret")

        async def broken_stream(request: Any, context: Any) -> Any:
            raise KeyError("secret")
            yield

        add = service(unary=broken, stream=broken_stream)
        async with serve_grpc(add=add, interceptors=(ErrorInterceptor(),)) as channel:
            call = unary(channel)(ASK) if kind == "unary" else drained(streaming(channel)(ASK))
            code, rich, _ = await refused(call)
        assert code is grpc.StatusCode.UNKNOWN
        assert "secret" not in str(rich)
        assert "secret" in caplog.text

    async def test_malformed_id_of_the_caller_is_an_invalid_argument(
        self, client: lro.Client, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        async def start(request: Any, context: Any) -> Any:
            return (await client.start("double", request_id="line\nbreak")).proto

        async with serve_grpc(add=service(unary=start), interceptors=(error_interceptor,)) as channel:
            code, rich, info = await refused(unary(channel)(ASK))
        assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert "request_id must be 1 to 128 printable ASCII characters" in rich.message

    async def test_text_is_shown_where_that_was_asked_for(self, serve_grpc: Serve) -> None:
        async def broken(request: Any, context: Any) -> Any:
            raise KeyError("plain")

        interceptors = (ErrorInterceptor(expose_errors=True),)
        async with serve_grpc(add=service(unary=broken), interceptors=interceptors) as channel:
            assert "plain" in (await refused(unary(channel)(ASK)))[1].message

    async def test_what_a_method_aborts_by_itself_stays(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        async def own(request: Any, context: Any) -> Any:
            await context.abort(grpc.StatusCode.DATA_LOSS, "my own words", (("x-mine", "1"),))

        async with serve_grpc(add=service(unary=own), interceptors=(error_interceptor,)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unary(channel)(ASK)
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS
        assert caught.value.details() == "my own words"
        assert ("x-mine", "1") in tuple(caught.value.trailing_metadata())

    async def test_trailing_metadata_that_the_method_set_survives_its_error(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        async def method(request: Any, context: Any) -> Any:
            context.set_trailing_metadata((("x-mine", "1"),))
            raise lro.OperationNotFoundError(request.name)

        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unary(channel)(ASK)
        assert ("x-mine", "1") in tuple(caught.value.trailing_metadata())
        assert rpc_status.from_call(caught.value) is not None

    async def test_huge_details_of_a_failed_operation_do_not_cost_the_error(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        async def method(request: Any, context: Any) -> Any:
            detail = struct_pb2.Struct()
            detail["dump"] = "x" * 50_000
            from google.protobuf import any_pb2

            packed = any_pb2.Any()
            packed.Pack(detail)
            raise lro.OperationFailedError("y" * 50_000, code=lro.Code.DATA_LOSS, details=[packed])

        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            code, rich, info = await refused(unary(channel)(ASK))
        assert (code, info.reason) == (grpc.StatusCode.DATA_LOSS, "OPERATION_FAILED")
        assert rich.message.endswith("...")

    @pytest.mark.parametrize("kind", ["unary", "stream"])
    async def test_cancelled_error_inside_a_method_never_leaves_the_caller_hanging(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor, kind: str
    ) -> None:
        async def stray(request: Any, context: Any) -> Any:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        async def stray_stream(request: Any, context: Any) -> Any:
            yield operations_pb2.Operation(name="first")
            raise asyncio.CancelledError

        add = service(unary=stray, stream=stray_stream)
        async with serve_grpc(add=add, interceptors=(error_interceptor,)) as channel:
            call = unary(channel)(ASK) if kind == "unary" else drained(streaming(channel)(ASK))
            code, _, info = await refused(call)
        assert (code, info.reason) == (grpc.StatusCode.ABORTED, "CALL_CANCELLED")

    async def test_method_whose_task_is_cancelled_answers_unavailable(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def method(request: Any, context: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.Event().wait()

        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            code, _, info = await refused(unary(channel)(ASK))
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "CALL_CANCELLED")

    async def test_caller_that_hangs_up_cancels_the_method(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        started, stopped = asyncio.Event(), asyncio.Event()

        async def method(request: Any, context: Any) -> Any:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            call = unary(channel)(ASK)
            await started.wait()
            call.cancel()
            await asyncio.wait_for(stopped.wait(), 10)

    async def test_closed_client_in_a_method_is_unavailable(
        self, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        closed = lro.Client("sqlite://")

        async def method(request: Any, context: Any) -> Any:
            return (await closed.create()).proto

        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            code, _, info = await refused(unary(channel)(ASK))
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "CLIENT_CLOSED")


class TestOperationFromContext:
    async def test_makes_an_operation_that_the_method_drives(
        self, client: lro.Client, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        async def method(request: Any, context: Any) -> Any:
            op = await operation_from_context(client, context)
            return await op.done(wrappers_pb2.Int64Value(value=7))

        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            answer = await unary(channel)(ASK)
        stored = await client.get_operation(answer.name)
        assert (await client.unmarshal_operation(stored.name, wrappers_pb2.Int64Value))[0].value == 7  # type: ignore[union-attr]

    @pytest.mark.parametrize("form", ["id", "name"])
    async def test_header_names_an_existing_operation(
        self, client: lro.Client, serve_grpc: Serve, error_interceptor: ErrorInterceptor, form: str
    ) -> None:
        async def method(request: Any, context: Any) -> Any:
            return (await operation_from_context(client, context)).proto

        op = await client.start("held")
        sent = op.id if form == "id" else op.name
        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            answer = await unary(channel)(ASK, metadata=((lro.OPERATION_ID_HEADER, sent),))
        assert answer.name == op.name

    async def test_header_does_not_let_anybody_drive_an_operation_that_has_a_handler(
        self, client: lro.Client, serve_grpc: Serve, error_interceptor: ErrorInterceptor
    ) -> None:
        async def method(request: Any, context: Any) -> Any:
            op = await operation_from_context(client, context)
            return await op.done()

        op = await client.start("held")
        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            call = unary(channel)(ASK, metadata=((lro.OPERATION_ID_HEADER, op.id),))
            code, _, info = await refused(call)
        assert (code, info.reason) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
        assert not (await client.get_operation(op.name)).done

    @pytest.mark.parametrize(
        ("sent", "code"),
        [("none-such", grpc.StatusCode.NOT_FOUND), ("no/such/name", grpc.StatusCode.INVALID_ARGUMENT)],
    )
    async def test_bad_header_is_an_error_and_makes_nothing(
        self,
        client: lro.Client,
        serve_grpc: Serve,
        error_interceptor: ErrorInterceptor,
        sent: str,
        code: grpc.StatusCode,
    ) -> None:
        async def method(request: Any, context: Any) -> Any:
            return (await operation_from_context(client, context)).proto

        async with serve_grpc(add=service(unary=method), interceptors=(error_interceptor,)) as channel:
            answered, _, _ = await refused(unary(channel)(ASK, metadata=((lro.OPERATION_ID_HEADER, sent),)))
        assert answered is code
        assert [operation.name async for operation in client.iter_operations()] == []
