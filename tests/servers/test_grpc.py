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

from ..waiting import until

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

    @pytest.mark.parametrize("how", ["request", "cap"])
    async def test_answers_the_latest_state_when_the_lesser_of_two_limits_is_up(
        self, client: lro.Client, serve_grpc: Serve, how: str
    ) -> None:
        async with serve_grpc(client, max_wait=0.05 if how == "cap" else 60) as channel:
            op = await client.start("held")
            request = operations_pb2.WaitOperationRequest(name=op.name)
            if how == "request":
                request.timeout.CopyFrom(duration_pb2.Duration(nanos=50_000_000))
            answer = await stub(channel).WaitOperation(request, timeout=30)
            assert (answer.name, answer.done) == (op.name, False)

    async def test_answers_the_latest_state_before_the_deadline_of_the_call(
        self, client: lro.Client, serve_grpc: Serve
    ) -> None:
        async with serve_grpc(client, max_wait=60) as channel:
            op = await client.start("held")
            request = operations_pb2.WaitOperationRequest(name=op.name)
            answers = []
            # A fifth of the time is left for the answer, or a second: a busy machine needs more than that of the first.
            for deadline in (1, 5, 25):
                try:
                    answers.append(await stub(channel).WaitOperation(request, timeout=deadline))
                    break
                except grpc.aio.AioRpcError as exc:
                    if exc.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise
            assert [(answer.name, answer.done) for answer in answers] == [(op.name, False)]

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
    await until(lambda: client.engine.feed._all)


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
            pytest.param(
                {"return_partial_success": True},
                grpc.StatusCode.UNIMPLEMENTED,
                "return_partial_success",
                marks=pytest.mark.skipif(
                    "return_partial_success" not in operations_pb2.ListOperationsRequest.DESCRIPTOR.fields_by_name,
                    reason="this release of the messages has no such field",
                ),
            ),
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

    @pytest.mark.parametrize(
        ("sent", "spelling"),
        [
            ("-", "-"),
            ("-/operations", "-"),
            ("", "operations"),
            ("operations", "operations"),
            ("tenants/a", "tenants/a/operations"),
            ("tenants/a/operations", "tenants/a/operations"),
            ("no//parent", "no//parent"),
        ],
    )
    async def test_a_list_is_asked_for_in_one_spelling(
        self, client: lro.Client, serve_grpc: Serve, sent: str, spelling: str
    ) -> None:
        asked: list[str] = []

        def authorize(context: Any, verb: str, name: str) -> bool:
            asked.append(name)
            return False

        async with serve_grpc(client, authorize=authorize) as channel:
            call = stub(channel).ListOperations(operations_pb2.ListOperationsRequest(name=sent))
            assert (await refused(call))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert asked == [spelling]

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
