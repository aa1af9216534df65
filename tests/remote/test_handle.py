"""What a handle tells and does, against a scripted gRPC service on a loopback socket."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, duration_pb2, empty_pb2, struct_pb2, wrappers_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import lro_aio as lro
from lro_aio.remote import GrpcTransport

from ..waiting import PATIENCE, all_blocked, until
from .conftest import FAST, QUICK, Script

pytestmark = pytest.mark.asyncio

NAME = "things/1/operations/a"


def running(metadata: Any = None, name: str = NAME) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(name=name)
    if metadata is not None:
        operation.metadata.Pack(metadata)
    return operation


def ended(response: Any = None, error: status_pb2.Status | None = None) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(name=NAME, done=True)
    if response is not None:
        operation.response.Pack(response)
    if error is not None:
        operation.error.CopyFrom(error)
    return operation


def text(value: str) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=value)


class TestWhatIsKnown:
    async def test_properties_ask_nobody(self, transport: GrpcTransport, script: Script) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running(text("half")))
        assert (handle.name, handle.has_completed, handle.metadata) == (NAME, False, text("half"))
        assert handle.raw_response == running(text("half"))
        assert handle.rehydration_token is not None
        with pytest.raises(lro.OperationNotDoneError) as caught:
            _ = handle.value
        assert caught.value.name == NAME
        await all_blocked()
        assert script.asked == []

    async def test_one_that_is_done_when_it_starts_is_never_asked_for(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        """It need not have a name (AIP-151, validate_only)."""
        done = ended(text("at once"))
        done.name = ""
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, done)
        assert await handle == text("at once")
        assert handle.rehydration_token is None
        assert script.asked == []

    async def test_an_operation_without_a_name_that_still_runs_is_refused(self, transport: GrpcTransport) -> None:
        with pytest.raises(lro.RemoteProtocolError, match="no name by which to ask for it"):
            lro.RemoteOperation(transport, operations_pb2.Operation())

    async def test_what_is_no_operation_is_refused(self, transport: GrpcTransport) -> None:
        with pytest.raises(TypeError, match="expected an Operation, not StringValue"):
            lro.RemoteOperation(transport, text("no"))

    async def test_from_name_asks_nobody(self, transport: GrpcTransport, script: Script) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation.from_name(transport, NAME)
        assert (handle.name, handle.has_completed, handle.metadata, handle.raw_response) == (NAME, False, None, None)
        assert script.asked == []

    @pytest.mark.parametrize("name", ["", " ", "a//b", "/a", "a/", "a/../b", "a b", "a\nb", "x" * 3000, None])
    async def test_from_name_refuses_what_cannot_be_a_name(self, transport: GrpcTransport, name: Any) -> None:
        with pytest.raises(ValueError, match="is not a resource name"):
            lro.RemoteOperation.from_name(transport, name)

    async def test_what_is_no_transport_is_refused(self, channel: grpc.aio.Channel) -> None:
        with pytest.raises(TypeError, match="is not a Transport of"):
            lro.RemoteOperation.from_name(channel, NAME)  # type: ignore[arg-type]  # the point of the test


class TestTypes:
    async def test_the_type_url_tells_where_nothing_is_declared(self, transport: GrpcTransport) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, ended(text("x")))
        assert handle.value == text("x")

    async def test_a_type_that_nobody_here_knows_stays_packed(self, transport: GrpcTransport) -> None:
        packed = any_pb2.Any(type_url="type.googleapis.com/acme.Unknown", value=b"\x08\x01")
        operation = operations_pb2.Operation(name=NAME, done=True, response=packed, metadata=packed)
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, operation)
        assert (handle.value, handle.metadata) == (packed, packed)

    async def test_another_type_than_the_declared_one_is_a_type_error(self, transport: GrpcTransport) -> None:
        operation = ended(text("x"))
        operation.metadata.Pack(text("y"))
        handle = lro.RemoteOperation(
            transport, operation, response_type=struct_pb2.Struct, metadata_type=struct_pb2.Struct
        )
        with pytest.raises(TypeError, match=r"expected google.protobuf.Struct, found 'google.protobuf.StringValue'"):
            _ = handle.value
        with pytest.raises(TypeError, match=r"expected google.protobuf.Struct"):
            _ = handle.metadata

    async def test_bytes_that_are_not_of_their_type_are_a_type_error(self, transport: GrpcTransport) -> None:
        broken = any_pb2.Any(type_url="type.googleapis.com/google.protobuf.StringValue", value=b"\xff")
        operation = operations_pb2.Operation(name=NAME, done=True, response=broken)
        for kind in (None, wrappers_pb2.StringValue):
            handle = lro.RemoteOperation(transport, operation, response_type=kind)
            with pytest.raises(TypeError, match="cannot be read"):
                _ = handle.value

    async def test_a_dataclass_takes_what_a_struct_holds(self, transport: GrpcTransport) -> None:
        @dataclass
        class Store:
            id: str
            files: int

        members = struct_pb2.Struct()
        members.update({"id": "vs_1", "files": 3})
        handle = lro.RemoteOperation(transport, ended(members), response_type=Store)
        assert handle.value == Store("vs_1", 3)
        members.update({"files": "many"})
        with pytest.raises(
            TypeError, match=r"expected Store, found 'google.protobuf.Struct': files: Input should be a valid integer"
        ):
            _ = lro.RemoteOperation(transport, ended(members), response_type=Store).value

    async def test_a_subclass_has_the_type_of_its_argument(self, transport: GrpcTransport) -> None:
        class CopyOperation(lro.RemoteOperation[wrappers_pb2.StringValue]):
            metadata_type = struct_pb2.Struct

        class RenamedOperation(CopyOperation):
            pass

        class OtherOperation(lro.RemoteOperation[Any]):
            response_type = struct_pb2.Struct

        assert (CopyOperation.response_type, RenamedOperation.response_type) == (wrappers_pb2.StringValue,) * 2
        assert OtherOperation.response_type is struct_pb2.Struct
        handle = CopyOperation(transport, ended(empty_pb2.Empty()))
        with pytest.raises(TypeError, match=r"expected google.protobuf.StringValue"):
            _ = handle.value
        assert isinstance(CopyOperation.from_name(transport, NAME), CopyOperation)

    @pytest.mark.parametrize("response", [None, empty_pb2.Empty()])
    async def test_a_subclass_may_promise_nothing(self, transport: GrpcTransport, response: Any) -> None:
        """Such as a deletion, which ends with Empty (AIP-151)."""

        class DeleteOperation(lro.RemoteOperation[None]):
            pass

        assert await DeleteOperation(transport, ended(response)) is None

    @pytest.mark.parametrize("anything", [Any, Message])
    async def test_a_subclass_may_promise_anything(self, transport: GrpcTransport, anything: Any) -> None:
        class SomeOperation(lro.RemoteOperation[anything]):
            pass

        assert await SomeOperation(transport, ended(text("x"))) == text("x")

    async def test_a_result_that_may_be_missing_is_none_then(self, transport: GrpcTransport) -> None:
        class PerhapsOperation(lro.RemoteOperation[dict[str, str] | None]):
            pass

        members = struct_pb2.Struct()
        members["a"] = "b"
        assert await PerhapsOperation(transport, ended(members)) == {"a": "b"}
        assert await PerhapsOperation(transport, ended()) is None

    async def test_an_end_without_a_result_is_none_or_a_broken_promise(self, transport: GrpcTransport) -> None:
        """The proto allows it: "some services might not provide the result"."""
        assert await lro.RemoteOperation[Any](transport, ended()) is None
        with pytest.raises(lro.RemoteProtocolError, match=r"without a response, where google.protobuf.StringValue was"):
            await lro.RemoteOperation(transport, ended(), response_type=wrappers_pb2.StringValue)

    async def test_an_end_without_a_result_is_an_empty(self, transport: GrpcTransport) -> None:
        handle = lro.RemoteOperation(transport, ended(), response_type=empty_pb2.Empty)
        assert await handle == empty_pb2.Empty()


class TestUpdateStatus:
    async def test_it_is_exactly_one_request_and_gives_the_raw_answer(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        assert await handle.update_status() == script.operation
        assert [method for method, _ in script.asked] == ["GetOperation"]
        assert not handle.has_completed
        script.finish()
        raw = await handle.update_status()
        assert raw is handle.raw_response
        assert script.count("GetOperation") == 2
        assert handle.value == text("ok")
        assert len(script.asked) == 2

    async def test_a_failed_request_is_not_repeated_and_changes_nothing(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        async def away(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "a deploy")

        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running(text("half")))
        script.answers["GetOperation"] = away
        with pytest.raises(lro.RemoteCallError, match="failed with UNAVAILABLE: a deploy") as caught:
            await handle.update_status()
        assert (caught.value.transient, caught.value.code, caught.value.name) == (True, lro.Code.UNAVAILABLE, NAME)
        assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
        assert script.count("GetOperation") == 1
        assert handle.metadata == text("half")

    async def test_timeout_and_metadata_are_of_this_call(self, channel: grpc.aio.Channel, script: Script) -> None:
        async def fresh() -> dict[str, str]:
            return {"authorization": f"Bearer {len(script.asked)}"}

        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(GrpcTransport(channel, metadata=fresh), running())
        await handle.update_status(metadata=[("x-trace", "1")])
        await handle.update_status()
        sent = [(seen.get("authorization"), seen.get("x-trace")) for seen in script.metadata]
        assert sent == [("Bearer 0", "1"), ("Bearer 1", None)]

        async def slow(request: Any, context: Any) -> None:
            await asyncio.Event().wait()

        script.answers["GetOperation"] = slow
        with pytest.raises(lro.RemoteCallError) as caught:
            await handle.update_status(timeout=0.05)
        assert (caught.value.code, caught.value.transient) == (lro.Code.DEADLINE_EXCEEDED, True)

    async def test_metadata_may_be_written_as_headers_are(self, channel: grpc.aio.Channel, script: Script) -> None:
        """HTTP/2 has lower case only: grpc refuses other keys, and code that serves both transports has them."""
        handle = lro.RemoteOperation[Any](GrpcTransport(channel, metadata={"Authorization": "Bearer a"}), running())
        await handle.update_status(metadata={"X-Trace": "1"})
        assert (script.metadata[0]["authorization"], script.metadata[0]["x-trace"]) == ("Bearer a", "1")

    async def test_a_stale_answer_does_not_take_the_end_back(self, transport: GrpcTransport, script: Script) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, ended(text("ok")))
        raw = await handle.update_status()
        assert not raw.done
        assert (handle.has_completed, handle.value) == (True, text("ok"))

    async def test_an_operation_that_is_not_there_says_so(self, transport: GrpcTransport, script: Script) -> None:
        async def gone(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

        script.answers["GetOperation"] = gone
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation.from_name(transport, NAME)
        with pytest.raises(lro.OperationNotFoundError) as caught:
            await handle.update_status()
        assert caught.value.name == NAME
        with pytest.raises(lro.OperationNotFoundError):  # nor is a wait worth going on with
            await handle
        assert script.count("GetOperation") == 2


class TestFailures:
    async def test_a_failure_is_raised_by_its_code_with_its_details(self, transport: GrpcTransport) -> None:
        info = error_details_pb2.ErrorInfo(reason="NO_PAPER", domain="printers", metadata={"tray": "2"})
        retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=7))
        unknown = any_pb2.Any(type_url="type.googleapis.com/acme.Unknown", value=b"\x08\x01")
        status = status_pb2.Status(code=8, message="out of paper")
        status.details.add().Pack(info)
        status.details.add().Pack(retry)
        status.details.append(unknown)
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, ended(error=status))
        with pytest.raises(
            lro.failures.ResourceExhaustedError, match="ended with RESOURCE_EXHAUSTED: out of paper"
        ) as e:
            await handle
        assert (e.value.code, e.value.grpc_code) == (8, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert (e.value.message, e.value.details) == ("out of paper", (info, retry, unknown))
        with pytest.raises(lro.OperationFailedError):
            _ = handle.value

    async def test_a_cancelled_one_has_its_own_error(self, transport: GrpcTransport) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, ended(error=status_pb2.Status(code=1)))
        with pytest.raises(lro.OperationCancelledError):
            await handle

    async def test_it_can_be_had_as_google_api_core_has_it(self, transport: GrpcTransport) -> None:
        from google.api_core import exceptions

        info = error_details_pb2.ErrorInfo(reason="NO_PAPER", domain="printers")
        status = status_pb2.Status(code=5, message="no such tray")
        status.details.add().Pack(info)
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, ended(error=status))
        with pytest.raises(lro.failures.NotFoundError) as caught:
            _ = handle.value
        made = lro.remote.to_api_core(caught.value)
        assert isinstance(made, exceptions.NotFound)
        assert (made.message, made.details, made.reason, made.code) == ("no such tray", [info], "NO_PAPER", 404)


class TestWaiting:
    async def test_awaiting_gives_the_value(self, transport: GrpcTransport, script: Script) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        waiter = asyncio.create_task(_value(handle))
        await until(lambda: script.count("GetOperation") >= 2)
        script.finish()
        assert await waiter == text("ok")
        asked = len(script.asked)
        assert await handle == text("ok")  # again, of what is known
        assert len(script.asked) == asked

    async def test_wait_operation_is_tried_once_where_the_service_has_none(
        self, transport: GrpcTransport, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lro_aio.remote.polling.PROBE", PATIENCE)  # else a slow machine is one that does not answer
        handles = [lro.RemoteOperation[Any](transport, running(name=f"operations/{number}")) for number in range(20)]
        waiters = [asyncio.create_task(handle.wait_for_completion()) for handle in handles]
        await until(lambda: script.count("GetOperation") >= 40)
        script.finish()
        await asyncio.gather(*waiters)
        assert script.count("WaitOperation") == 1

    async def test_where_the_service_has_it_one_call_waits(self, transport: GrpcTransport, script: Script) -> None:
        go = asyncio.Event()

        async def wait(request: Any, context: Any) -> operations_pb2.Operation:
            await go.wait()
            return ended(text("waited"))

        script.answers["WaitOperation"] = wait
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        waiter = asyncio.create_task(_value(handle))
        await until(lambda: script.asked)
        await asyncio.sleep(0.1)  # real time: ten times the poll interval
        go.set()
        assert await waiter == text("waited")
        [(method, request)] = script.asked
        assert (method, request.name, request.timeout.seconds) == ("WaitOperation", NAME, 60)

    async def test_a_wait_that_is_answered_early_is_no_busy_loop(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        async def early(request: Any, context: Any) -> operations_pb2.Operation:
            return running()

        script.answers["WaitOperation"] = early
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(
            transport, running(), poll=lro.PollPolicy(interval=0.1, multiplier=1, max_interval=0.1, jitter=0)
        )
        with pytest.raises(lro.WaitDeadlineExceededError):
            await handle.wait_for_completion(timeout=0.55)
        assert 1 <= script.count("WaitOperation") <= 6

    async def test_a_wait_that_outlasts_its_call_is_followed_by_a_look(
        self, channel: grpc.aio.Channel, script: Script
    ) -> None:
        """A service that ignores the timeout, or a proxy that cuts the call."""

        async def cut(request: Any, context: Any) -> None:
            script.finish()
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "cut by a proxy")

        script.answers["WaitOperation"] = cut
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(GrpcTransport(channel), running())
        assert await handle == text("ok")
        assert [method for method, _ in script.asked] == ["WaitOperation", "GetOperation"]

    async def test_a_polling_interval_is_kept_to(self, channel: grpc.aio.Channel, script: Script) -> None:
        """Then the service is polled, whatever else it could do."""
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(GrpcTransport(channel), running())
        with pytest.raises(lro.WaitDeadlineExceededError):
            await handle.wait_for_completion(polling_interval=0.2, timeout=0.7)
        asked = [method for method, _ in script.asked]
        assert set(asked) == {"GetOperation"}
        assert len(asked) <= 3

    async def test_a_change_of_metadata_ends_no_wait(self, transport: GrpcTransport, script: Script) -> None:
        async def changing(request: Any, context: Any) -> operations_pb2.Operation:
            count = script.count("GetOperation")
            return running(text(str(count))) if count < 5 else ended(text("ok"))

        script.answers["GetOperation"] = changing
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        await handle.wait_for_completion(polling_interval=0.01)
        assert handle.has_completed

    async def test_the_timeout_tells_name_last_state_and_token_and_the_work_goes_on(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        script.operation.metadata.Pack(text("half"))
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        with pytest.raises(lro.WaitDeadlineExceededError) as caught:
            await handle.wait_for_completion(timeout=1)
        error = caught.value
        assert (error.pending, error.timeout, error.operation) == ((NAME,), 1.0, script.operation)
        assert error.rehydration_token == handle.rehydration_token
        assert script.count("CancelOperation") == 0
        again = await lro.RemoteOperation[Any].rehydrate(transport, error.rehydration_token or "")
        script.finish()
        assert await again == text("ok")

    async def test_a_timeout_of_zero_looks_at_what_is_known(self, transport: GrpcTransport, script: Script) -> None:
        with pytest.raises(lro.WaitDeadlineExceededError):
            await lro.RemoteOperation[Any](transport, running()).wait_for_completion(timeout=0)
        await lro.RemoteOperation[Any](transport, ended(text("x"))).wait_for_completion(timeout=0)

    async def test_cancelling_the_waiter_stops_the_looking_and_not_the_work(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        async def hold(request: Any, context: Any) -> None:
            await asyncio.Event().wait()

        script.answers["WaitOperation"] = hold
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        waiter = asyncio.create_task(handle.wait_for_completion())
        await until(lambda: script.open == 1)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await until(lambda: script.open == 0)  # the call was hung up
        assert script.count("CancelOperation") == 0
        script.answers.clear()
        script.finish()
        assert await handle.update_status() == script.operation

    async def test_two_who_wait_share_the_looks(self, transport: GrpcTransport, script: Script) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(
            transport, running(), poll=lro.PollPolicy(interval=0.1, multiplier=1, max_interval=0.1, jitter=0)
        )
        waiters = [asyncio.create_task(handle.wait_for_completion()) for _ in range(10)]
        await until(lambda: script.count("GetOperation") == 2)
        waiters[0].cancel()
        script.finish()
        await asyncio.gather(*waiters[1:])
        assert script.count("GetOperation") == 3

    async def test_a_handle_that_nobody_waits_for_asks_nothing(self, channel: grpc.aio.Channel) -> None:
        """No background polling; and nothing keeps a forgotten handle."""
        asked: list[str] = []

        def metadata() -> dict[str, str]:
            asked.append("")  # counted as it is sent: a call that was given up may reach the service much later
            return {}

        transport = GrpcTransport(channel, metadata=metadata, poll=FAST, retry=QUICK)
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        while not asked:  # a busy machine may need longer
            with pytest.raises(lro.WaitDeadlineExceededError):
                await handle.wait_for_completion(timeout=0.05)
        await until(lambda: not transport.poller._calls)
        count = len(asked)
        await asyncio.sleep(0.1)  # real time: ten times the poll interval
        assert len(asked) == count
        poller = transport.poller
        assert (poller._watches, list(poller._ready), poller._held, poller._calls, poller._waits) == ({}, [], [], 0, 0)
        del handle
        gc.collect()


class TestAsyncFor:
    async def test_every_change_that_is_seen_and_an_end(self, transport: GrpcTransport, script: Script) -> None:
        states = [
            running(text("1")),
            running(text("1")),
            running(text("2")),
            running(empty_pb2.Empty()),
            ended(text("x")),
        ]

        async def next_state(request: Any, context: Any) -> operations_pb2.Operation:
            return states.pop(0) if len(states) > 1 else states[0]

        script.answers["GetOperation"] = next_state
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        assert [metadata async for metadata in handle] == [text("1"), text("2"), empty_pb2.Empty()]
        assert handle.value == text("x")

    async def test_the_last_metadata_comes_too(self, transport: GrpcTransport, script: Script) -> None:
        script.finish()
        script.operation.metadata.Pack(text("all"))
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running(text("some")))
        assert [metadata async for metadata in handle] == [text("some"), text("all")]

    async def test_a_failure_ends_it_and_is_the_value_s_to_tell(self, transport: GrpcTransport, script: Script) -> None:
        script.operation.CopyFrom(ended(error=status_pb2.Status(code=13)))
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        assert [metadata async for metadata in handle] == []
        with pytest.raises(lro.failures.InternalError):
            _ = handle.value


class TestCancelAndDelete:
    async def test_one_request_each(self, transport: GrpcTransport, script: Script) -> None:
        handle: lro.RemoteOperation[Any] = lro.RemoteOperation(transport, running())
        await handle.cancel(metadata={"x-why": "test"})
        await handle.delete(timeout=1)
        assert [(method, request.name) for method, request in script.asked] == [
            ("CancelOperation", NAME),
            ("DeleteOperation", NAME),
        ]
        assert script.metadata[0]["x-why"] == "test"

    async def test_a_service_that_cannot_says_so(self, transport: GrpcTransport, script: Script) -> None:
        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "cannot be cancelled")

        script.answers["CancelOperation"] = refuse
        with pytest.raises(lro.RemoteCallError) as caught:
            await lro.RemoteOperation[Any](transport, running()).cancel()
        assert (caught.value.code, caught.value.transient) == (lro.Code.UNIMPLEMENTED, False)


async def test_retry_policy_and_poll_policy_of_a_handle_go_before_the_transport_s(
    channel: grpc.aio.Channel, script: Script
) -> None:
    async def away(request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    script.answers["GetOperation"] = away
    patient = GrpcTransport(channel, wait_operation=False)
    once = lro.RetryPolicy(max_attempts=1)
    handle: lro.RemoteOperation[Any] = lro.RemoteOperation(patient, running(), poll=FAST, retry=once)
    with pytest.raises(lro.RemoteCallError):
        await handle
    assert script.count("GetOperation") == 1
    thrice = lro.RetryPolicy(max_attempts=3, initial_delay=QUICK.initial_delay)
    with pytest.raises(lro.RemoteCallError):
        await lro.RemoteOperation[Any](patient, running(), poll=FAST, retry=thrice)
    assert script.count("GetOperation") == 4


async def _value(handle: lro.RemoteOperation[Any]) -> Any:
    return await handle
