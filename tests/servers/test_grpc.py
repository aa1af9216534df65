"""The gRPC service: what google's own client libraries see over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api_core import exceptions as api_exceptions
from google.api_core import operation_async
from google.api_core.operations_v1 import OperationsAsyncClient
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2, struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import lro_aio as lro
from lro_aio.servers.grpc import ErrorInterceptor, operation_from_context

pytestmark = pytest.mark.asyncio

Serve = Callable[..., Any]


def stub(channel: grpc.aio.Channel) -> Any:
    return operations_pb2_grpc.OperationsStub(channel)


async def refused(call: Any) -> tuple[grpc.StatusCode, status_pb2.Status, error_details_pb2.ErrorInfo]:
    """Code, rich status and ErrorInfo of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call, 10)
    rich = rpc_status.from_call(caught.value)
    assert rich is not None, "the error carries no google.rpc.Status"
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in rich.details)
    return caught.value.code(), rich, info


class TestGooglesOwnClients:
    async def test_operations_client_gets_lists_cancels_and_deletes(
        self, client: lro.Client, serve_grpc: Serve, gates: Any
    ) -> None:
        async with serve_grpc(client) as channel:
            api = OperationsAsyncClient(channel)
            done = await client.start("double", state=None)
            await done.result(timeout=10)
            held = await client.start("held")
            await gates.started.wait()

            assert (await api.get_operation(done.name)).done
            assert not (await api.get_operation(held.name)).done
            pager = await api.list_operations("operations", "done = false")
            assert [operation.name async for operation in pager] == [held.name]
            pager = await api.list_operations("operations", "")
            assert {operation.name async for operation in pager} == {done.name, held.name}

            await api.cancel_operation(held.name)
            ended = await client.wait_operation(held.name, timeout=10)
            assert ended.error.code == lro.Code.CANCELLED
            assert gates.cancelled == [lro.CancelReason.CANCEL_REQUESTED]
            await api.cancel_operation(held.name)  # of one that has ended, nothing happens

            await api.delete_operation(done.name)
            with pytest.raises(api_exceptions.NotFound) as caught:
                await api.get_operation(done.name)
            assert caught.value.reason == "OPERATION_NOT_FOUND"
            assert caught.value.metadata == {"name": done.name}

    async def test_operation_future_polls_to_the_result(
        self, client: lro.Client, serve_grpc: Serve, gates: Any
    ) -> None:
        async with serve_grpc(client) as channel:
            metadata = struct_pb2.Struct()
            metadata["progress"] = 0.5
            op = await client.start("held", metadata=metadata)
            future = operation_async.from_gapic(
                op.proto, OperationsAsyncClient(channel), wrappers_pb2.Int64Value, metadata_type=struct_pb2.Struct
            )
            assert not await future.done()
            assert future.metadata["progress"] == 0.5
            gates.go.set()
            await op.result(timeout=10)
            assert await future.result(timeout=10) == wrappers_pb2.Int64Value(value=0)
            assert await future.done()
            assert not await future.cancelled()

    async def test_operation_future_cancels(self, client: lro.Client, serve_grpc: Serve, gates: Any) -> None:
        async with serve_grpc(client) as channel:
            op = await client.start("held")
            await gates.started.wait()
            future = operation_async.from_gapic(op.proto, OperationsAsyncClient(channel), wrappers_pb2.Int64Value)
            assert await future.cancel()
            await client.wait_operation(op.name, timeout=10)
            assert await future.cancelled()

    async def test_operation_future_raises_what_the_handler_failed_with(
        self, client: lro.Client, serve_grpc: Serve
    ) -> None:
        async with serve_grpc(client) as channel:
            op = await client.start("fails")
            await client.wait_operation(op.name, timeout=10)
            future = operation_async.from_gapic(op.proto, OperationsAsyncClient(channel), wrappers_pb2.Int64Value)
            with pytest.raises(api_exceptions.GoogleAPICallError, match="the disk is full"):
                await future.result(timeout=10)


class TestWait:
    async def test_answers_as_soon_as_the_operation_ends(
        self, client: lro.Client, serve_grpc: Serve, gates: Any
    ) -> None:
        async with serve_grpc(client) as channel:
            op = await client.start("held")
            waiting = stub(channel).WaitOperation(operations_pb2.WaitOperationRequest(name=op.name))
            await gates.started.wait()
            gates.go.set()
            assert (await asyncio.wait_for(waiting, 10)).done

    @pytest.mark.parametrize("how", ["request", "deadline", "cap"])
    async def test_answers_the_latest_state_when_the_least_of_three_limits_is_up(
        self, client: lro.Client, serve_grpc: Serve, how: str
    ) -> None:
        async with serve_grpc(client, max_wait=0.05 if how == "cap" else 60) as channel:
            op = await client.start("held")
            request = operations_pb2.WaitOperationRequest(name=op.name)
            if how == "request":
                request.timeout.CopyFrom(duration_pb2.Duration(nanos=50_000_000))
            answer = await stub(channel).WaitOperation(request, timeout=1 if how == "deadline" else 30)
            assert (answer.name, answer.done) == (op.name, False)

    async def test_timeout_of_zero_answers_at_once(self, client: lro.Client, serve_grpc: Serve) -> None:
        async with serve_grpc(client) as channel:
            op = await client.start("held")
            request = operations_pb2.WaitOperationRequest(name=op.name, timeout=duration_pb2.Duration())
            assert not (await asyncio.wait_for(stub(channel).WaitOperation(request), 10)).done

    @pytest.mark.parametrize("timeout", [{"seconds": -1}, {"nanos": -1}, {"nanos": 2_000_000_000}])
    async def test_malformed_timeout_is_invalid_argument(
        self, client: lro.Client, serve_grpc: Serve, timeout: dict[str, int]
    ) -> None:
        async with serve_grpc(client) as channel:
            op = await client.start("held")
            request = operations_pb2.WaitOperationRequest(name=op.name, timeout=duration_pb2.Duration(**timeout))
            code, rich, _ = await refused(stub(channel).WaitOperation(request))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "timeout" in rich.message

    async def test_answers_the_latest_state_at_once_when_the_client_drains(
        self, client: lro.Client, serve_grpc: Serve, gates: Any
    ) -> None:
        async with serve_grpc(client) as channel:
            op = await client.create(lease=False)  # no lease to release: nothing but the drain wakes the caller
            waiting = stub(channel).WaitOperation(operations_pb2.WaitOperationRequest(name=op.name))
            await gates_settle(client)
            await client.drain(0)
            answer = await asyncio.wait_for(waiting, 5)
            assert (answer.name, answer.done) == (op.name, False)

    async def test_nobody_hangs_when_the_client_closes_under_them(
        self, handlers: lro.Handlers, serve_grpc: Serve
    ) -> None:
        """Each of them gets the latest state or UNAVAILABLE, without a deadline of their own."""
        client = lro.Client("sqlite://", handlers=[handlers], drain_timeout=0)
        async with serve_grpc(client) as channel:
            async with client:
                op = await client.create()
                calls = [
                    stub(channel).WaitOperation(operations_pb2.WaitOperationRequest(name=op.name)) for _ in range(10)
                ]
                await gates_settle(client)
            for answer in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10):
                if isinstance(answer, grpc.aio.AioRpcError):
                    assert answer.code() is grpc.StatusCode.UNAVAILABLE
                else:
                    assert isinstance(answer, operations_pb2.Operation)


async def gates_settle(client: lro.Client) -> None:
    """Return when some call waits for a change of an operation."""
    async with asyncio.timeout(10):
        while not client.engine.notices._all:
            await asyncio.sleep(0.005)


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "request_type"),
        [
            ("GetOperation", operations_pb2.GetOperationRequest),
            ("DeleteOperation", operations_pb2.DeleteOperationRequest),
            ("CancelOperation", operations_pb2.CancelOperationRequest),
            ("WaitOperation", operations_pb2.WaitOperationRequest),
        ],
    )
    async def test_unknown_and_malformed_names_on_every_verb(
        self, client: lro.Client, serve_grpc: Serve, method: str, request_type: Any
    ) -> None:
        async with serve_grpc(client) as channel:
            call = getattr(stub(channel), method)
            code, _, info = await refused(call(request_type(name="operations/none")))
            assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")
            for name in (
                "",
                "operations",
                "operations/",
                "x//operations/a",
                "operations/a b",
                "operations/" + "a" * 600,
            ):
                code, _, info = await refused(call(request_type(name=name)))
                assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_OPERATION_NAME")

    @pytest.mark.parametrize(
        ("fields", "code", "word"),
        [
            ({"page_size": -1}, grpc.StatusCode.INVALID_ARGUMENT, "page_size"),
            ({"page_token": "x"}, grpc.StatusCode.INVALID_ARGUMENT, "page_token"),
            ({"filter": "done = ="}, grpc.StatusCode.INVALID_ARGUMENT, "position"),
            ({"name": "//"}, grpc.StatusCode.INVALID_ARGUMENT, "resource name"),
            ({"return_partial_success": True}, grpc.StatusCode.UNIMPLEMENTED, "return_partial_success"),
        ],
    )
    async def test_malformed_list_requests(
        self, client: lro.Client, serve_grpc: Serve, fields: dict[str, Any], code: grpc.StatusCode, word: str
    ) -> None:
        async with serve_grpc(client) as channel:
            request = operations_pb2.ListOperationsRequest(**fields)
            answered, rich, _ = await refused(stub(channel).ListOperations(request))
            assert answered is code
            assert word in rich.message

    async def test_error_with_a_name_of_four_byte_characters_still_gets_through(
        self, client: lro.Client, serve_grpc: Serve
    ) -> None:
        """It travels in headers, which clients cap at 8 KiB."""
        async with serve_grpc(client) as channel:
            request = operations_pb2.GetOperationRequest(name="operations/" + "\N{GRINNING FACE}" * 500)
            code, rich, info = await refused(stub(channel).GetOperation(request))
            assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_OPERATION_NAME")
            assert rich.message.startswith("'operations/\N{GRINNING FACE}")

    async def test_client_that_is_not_open_is_unavailable(self, handlers: lro.Handlers, serve_grpc: Serve) -> None:
        client = lro.Client("sqlite://", handlers=[handlers])
        async with serve_grpc(client) as channel:
            request = operations_pb2.GetOperationRequest(name="operations/a")
            code, _, info = await refused(stub(channel).GetOperation(request))
            assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "CLIENT_CLOSED")
            async with client:
                assert (await refused(stub(channel).GetOperation(request)))[0] is grpc.StatusCode.NOT_FOUND
            assert (await refused(stub(channel).GetOperation(request)))[0] is grpc.StatusCode.UNAVAILABLE


class TestAuthorize:
    async def test_every_verb_is_asked_for_with_what_the_caller_sent(
        self, client: lro.Client, serve_grpc: Serve
    ) -> None:
        asked: list[tuple[str, str]] = []

        async def authorize(context: Any, verb: str, name: str) -> None:
            assert context.peer().startswith("ipv4:127.0.0.1")
            asked.append((verb, name))

        async with serve_grpc(client, authorize=authorize) as channel:
            op = await client.start("held")
            api = stub(channel)
            await api.GetOperation(operations_pb2.GetOperationRequest(name=op.name))
            await api.ListOperations(operations_pb2.ListOperationsRequest(name="operations"))
            request = operations_pb2.WaitOperationRequest(name=op.name, timeout=duration_pb2.Duration())
            await api.WaitOperation(request)
            await api.CancelOperation(operations_pb2.CancelOperationRequest(name=op.name))
            await api.DeleteOperation(operations_pb2.DeleteOperationRequest(name=op.name))
        names = [op.name, "operations", op.name, op.name, op.name]
        assert asked == list(zip(["get", "list", "wait", "cancel", "delete"], names, strict=True))

    @pytest.mark.parametrize("how", ["false", "raises", "async false", "async raises"])
    async def test_refusal_looks_the_same_for_names_that_exist_that_do_not_and_that_cannot(
        self, client: lro.Client, serve_grpc: Serve, how: str
    ) -> None:
        def refuse(context: Any, verb: str, name: str) -> bool:
            if "raises" in how:
                raise PermissionError("a text for the log")
            return False

        async def refuse_async(context: Any, verb: str, name: str) -> bool:
            return refuse(context, verb, name)

        hook = refuse_async if how.startswith("async") else refuse
        async with serve_grpc(client, authorize=hook) as channel:
            op = await client.start("held")
            for name in (op.name, "operations/none", "no name at all"):
                request = operations_pb2.GetOperationRequest(name=name)
                code, rich, info = await refused(stub(channel).GetOperation(request))
                assert (code, info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
                assert rich.message == f"permission denied, or it might not exist: {name!r}"
            code, _, _ = await refused(stub(channel).ListOperations(operations_pb2.ListOperationsRequest(page_size=-1)))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert not (await client.get_operation(op.name)).done

    async def test_hook_that_breaks_lets_nobody_in_and_tells_nobody_why(
        self, client: lro.Client, serve_grpc: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        def authorize(context: Any, verb: str, name: str) -> bool:
            raise KeyError("secret-table")

        async with serve_grpc(client, authorize=authorize) as channel:
            op = await client.start("held")
            request = operations_pb2.GetOperationRequest(name=op.name)
            code, rich, _ = await refused(stub(channel).GetOperation(request))
        assert code is grpc.StatusCode.UNKNOWN
        assert "secret-table" not in str(rich)
        assert "secret-table" in caplog.text

    async def test_hook_that_is_not_callable_is_refused_at_once(self) -> None:
        from lro_aio.servers.grpc import add_operations_servicer

        with pytest.raises(TypeError, match="authorize must be callable, not str"):
            add_operations_servicer(lro.Client("sqlite://"), None, "no")  # type: ignore[arg-type]


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

    async def test_resume_method_is_refused_with_a_sentence(self, client: lro.Client) -> None:
        with pytest.raises(ValueError, match="resume_method is not part of this release"):
            await operation_from_context(client, None, "Resume")  # type: ignore[arg-type]
