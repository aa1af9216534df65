"""What is told of polls that fail: in the log, at the end of a wait, and at once where no repeat helps."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.remote import GrpcTransport, HttpTransport, RemoteOperation

from ..tcp_server import tcp_server
from .conftest import FAST, QUICK, Script
from .http_services import Answer, Service, scripted
from .raw_http2 import raw_server, refused, whole

pytestmark = pytest.mark.asyncio

NAME = "operations/1"
BUSY = Answer(429, {"error": {"code": 429, "message": "quota exceeded for project p", "status": "RESOURCE_EXHAUSTED"}})
RUNNING = Answer(body={"name": NAME})
DONE = Answer(body={"name": NAME, "done": True})
TOLD = "HTTP 429: quota exceeded for project p"
PATIENT = lro.RetryPolicy(max_attempts=1000, initial_delay=0.01, max_delay=0.01)


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    async with scripted() as opened:
        yield opened


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def handle(http: httpx.AsyncClient, service: Service) -> RemoteOperation[Any]:
    return RemoteOperation.from_name(HttpTransport(http, service.url, poll=FAST, retry=PATIENT), NAME)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, str]]:
    return [
        (record.levelno, record.operation, record.getMessage())  # type: ignore[attr-defined]  # by `extra`
        for record in caplog.records
        if getattr(record, "event", "") == "poll_failed"
    ]


class TestDeadline:
    async def test_it_tells_the_last_failure_in_its_text_and_as_its_cause(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(BUSY)
        with pytest.raises(lro.WaitDeadlineExceededError, match=f"the last poll failed: {TOLD}") as caught:
            await handle.wait_for_completion(timeout=0.2)
        assert caught.value.problem == TOLD
        assert isinstance(caught.value.__cause__, lro.RemoteCallError)
        assert caught.value.__cause__.http_status == 429
        assert handle.raw_response.status_code == 429

    @pytest.mark.slow
    async def test_a_failure_that_has_passed_is_not_told(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(BUSY, RUNNING)
        with pytest.raises(lro.WaitDeadlineExceededError) as caught:
            await handle.wait_for_completion(timeout=2)  # enough for the second poll on a machine that is busy
        assert (caught.value.problem, caught.value.__cause__) == ("", None)

    async def test_a_service_that_does_not_answer_is_told(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(Answer(silent=True))
        with pytest.raises(lro.WaitDeadlineExceededError, match="no answer before the time was up"):
            await handle.wait_for_completion(timeout=0.2)

    async def test_of_many_it_tells_the_failure_of_one(self, http: httpx.AsyncClient, service: Service) -> None:
        transport = HttpTransport(http, service.url, poll=FAST, retry=PATIENT)
        for answer, told in ((BUSY, TOLD), (Answer(silent=True), "no answer before the time was up")):
            service.answers(answer)
            handles = [RemoteOperation[Any].from_name(transport, f"operations/{number}") for number in range(3)]
            with pytest.raises(lro.WaitDeadlineExceededError, match=told) as caught:
                await lro.remote.gather(*handles, timeout=0.2)
            assert isinstance(caught.value.__cause__, lro.RemoteCallError)
            assert len(caught.value.pending) == 3

    async def test_a_failed_poll_by_hand_counts(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(BUSY)
        with pytest.raises(lro.RemoteCallError):
            await handle.update_status()
        with pytest.raises(lro.WaitDeadlineExceededError, match=TOLD):
            await handle.wait_for_completion(polling_interval=60, timeout=0.001)

    @pytest.mark.parametrize(("answer", "told"), [(RUNNING, ""), (BUSY, TOLD)])
    async def test_a_timeout_of_0_polls_once(
        self, handle: RemoteOperation[Any], service: Service, answer: Answer, told: str
    ) -> None:
        service.answers(answer, DONE)
        with pytest.raises(lro.WaitDeadlineExceededError) as caught:
            await handle.wait_for_completion(timeout=0)
        assert caught.value.problem == told
        await handle.wait_for_completion(timeout=0)
        assert len(service.asked) == 2

    async def test_a_timeout_of_0_keeps_to_what_will_not_pass(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(Answer(403))
        with pytest.raises(lro.RemoteCallError, match="HTTP 403"):
            await handle.wait_for_completion(timeout=0)

    async def test_the_last_poll_comes_shortly_before_the_end(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(RUNNING)
        with pytest.raises(lro.WaitDeadlineExceededError):
            await handle.wait_for_completion(polling_interval=3600, timeout=2)
        assert len(service.asked) == 2

    async def test_each_waiter_gets_its_own_last_poll(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(RUNNING)
        waits = [handle.wait_for_completion(polling_interval=3600, timeout=timeout) for timeout in (1.5, 2.5, 3.5)]
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [lro.WaitDeadlineExceededError] * 3
        assert len(service.asked) == 4


class TestLog:
    async def test_each_failed_poll_is_a_line_that_names_the_operation(
        self, handle: RemoteOperation[Any], service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        service.answers(RUNNING, BUSY, BUSY, RUNNING, BUSY, DONE)
        await handle
        numbers = [1, 2, 1]  # a success between them begins the count anew
        assert logged(caplog) == [
            (logging.WARNING, NAME, f"poll {number} of operation {NAME} failed: {TOLD}") for number in numbers
        ]

    async def test_the_last_one_is_logged_too(
        self, http: httpx.AsyncClient, service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        service.answers(BUSY)
        transport = HttpTransport(http, service.url, retry=lro.RetryPolicy(max_attempts=3, initial_delay=0.01))
        with pytest.raises(lro.RemoteCallError):
            await RemoteOperation.from_name(transport, NAME)
        assert len(logged(caplog)) == len(service.asked) == 3

    async def test_a_service_without_long_polls_is_no_failed_poll(
        self, channel: grpc.aio.Channel, script: Script, caplog: pytest.LogCaptureFixture
    ) -> None:
        script.finish()
        await RemoteOperation[Any].from_name(GrpcTransport(channel), NAME)
        assert script.count("WaitOperation") == 1
        assert logged(caplog) == []


@pytest.fixture
def unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest_asyncio.fixture
async def plain() -> AsyncIterator[str]:
    """``HOST:PORT`` of a server without TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with tcp_server(answer) as port:
        yield f"127.0.0.1:{port}"


class TestAddresses:
    """A name that does not resolve, a certificate that is bad: told in the first seconds, also of a patient wait."""

    async def failed(self, transport: lro.remote.Transport, *, started: bool = False) -> lro.RemoteCallError:
        operation = operations_pb2.Operation(name=NAME)
        handle = RemoteOperation[Any](transport, operation) if started else RemoteOperation.from_name(transport, NAME)
        began = time.monotonic()
        with pytest.raises(lro.RemoteCallError) as caught:
            await handle.wait_for_completion(timeout=60)
        assert time.monotonic() - began < 20  # 1.5 s of pauses
        assert caught.value.code is lro.Code.UNAVAILABLE
        return caught.value

    @pytest.mark.parametrize("started", [True, False])
    async def test_tls_to_a_server_without_it(self, http: httpx.AsyncClient, plain: str, started: bool) -> None:
        transport = HttpTransport(http, f"https://{plain}")
        assert "SSL" in (await self.failed(transport, started=started)).problem

    async def test_tls_over_grpc(self, plain: str) -> None:
        async with grpc.aio.secure_channel(plain, grpc.ssl_channel_credentials()) as channel:
            assert "handshake failed" in (await self.failed(GrpcTransport(channel))).problem

    @pytest.mark.usefixtures("unresolved")
    async def test_a_name_that_does_not_resolve(self, http: httpx.AsyncClient) -> None:
        assert "Name or service" in (await self.failed(HttpTransport(http, "http://nowhere.invalid"))).problem

    async def test_a_service_that_has_answered_before_may_be_away_for_longer(
        self, http: httpx.AsyncClient, service: Service, request: pytest.FixtureRequest
    ) -> None:
        """A resolver that fails for a while is an outage like any other."""
        service.answers(RUNNING)
        url = service.url.replace("127.0.0.1", "localhost")
        handle = RemoteOperation.from_name(HttpTransport(http, url, poll=FAST, retry=PATIENT), NAME)
        await handle.update_status()
        request.getfixturevalue("unresolved")
        with pytest.raises(lro.WaitDeadlineExceededError, match="Name or service not known"):
            await handle.wait_for_completion(timeout=1)

    async def test_what_the_caller_wants_repeated_is_repeated(self, http: httpx.AsyncClient, service: Service) -> None:
        stubborn = lro.RetryPolicy(on=(lro.RemoteCallError,), max_attempts=7, initial_delay=0.01, max_delay=0.01)
        transport = HttpTransport(http, service.url, retry=stubborn)
        service.answers(Answer(404, b"<html>"))
        with pytest.raises(lro.RemoteCallError):
            await RemoteOperation.from_name(transport, NAME)
        assert len(service.asked) == 7


class TestGrpc:
    async def test_a_message_over_the_size_limit_is_told_at_once(
        self, channel: grpc.aio.Channel, script: Script
    ) -> None:
        script.finish(wrappers_pb2.BytesValue(value=bytes(5 << 20)))
        handle = RemoteOperation[Any].from_name(GrpcTransport(channel, poll=FAST, retry=QUICK), NAME)
        with pytest.raises(lro.RemoteCallError, match=r"larger than max .*grpc.max_receive_message_length") as caught:
            await handle
        assert (caught.value.code, caught.value.transient) == (lro.Code.RESOURCE_EXHAUSTED, False)
        assert script.count("GetOperation") == 1

    async def test_also_of_a_long_poll(self, channel: grpc.aio.Channel, script: Script) -> None:
        async def large(request: Any, context: Any) -> operations_pb2.Operation:
            script.finish(wrappers_pb2.BytesValue(value=bytes(5 << 20)))
            return script.operation

        script.answers["WaitOperation"] = large
        with pytest.raises(lro.RemoteCallError, match="larger than max"):
            await RemoteOperation[Any].from_name(GrpcTransport(channel), NAME)
        assert [method for method, _ in script.asked] == ["WaitOperation"]

    async def test_another_exhausted_resource_is_waited_for(self, channel: grpc.aio.Channel, script: Script) -> None:
        async def busy(request: Any, context: Any) -> operations_pb2.Operation:
            if script.count("GetOperation") < 3:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota exceeded")
            script.finish()
            return script.operation

        script.answers["GetOperation"] = busy
        assert await RemoteOperation[Any].from_name(GrpcTransport(channel, poll=FAST, retry=QUICK), NAME)

    async def test_a_proxy_without_a_route_does_not_end_the_wait(self) -> None:
        """During a deploy. To grpc, its HTTP 404 is UNIMPLEMENTED, but no service is asked here that lacks a method."""
        message = operations_pb2.Operation(name=NAME, done=True)
        message.response.Pack(wrappers_pb2.StringValue(value="ok"))

        def answer(number: int, stream: int) -> bytes:
            return refused(stream, 404) if number < 4 else whole(stream, message.SerializeToString())

        async with raw_server(answer) as address, grpc.aio.insecure_channel(address) as channel:
            transport = GrpcTransport(channel, poll=FAST, retry=QUICK)
            handle = RemoteOperation[Any](transport, operations_pb2.Operation(name=NAME))
            assert (await handle).value == "ok"
        assert transport.long_polls is not False

    async def test_what_the_service_says_of_a_missing_operation_is_told(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        async def gone(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "it has expired")

        script.answers["GetOperation"] = gone
        with pytest.raises(lro.OperationNotFoundError, match="'operations/1' does not exist: it has expired"):
            await RemoteOperation[Any].from_name(transport, NAME)

    async def test_a_closed_channel_is_an_error_of_this_package(self, channel: grpc.aio.Channel) -> None:
        handle = RemoteOperation[Any].from_name(GrpcTransport(channel), NAME)
        await channel.close()
        with pytest.raises(lro.RemoteCallError, match="closed"):
            await handle.update_status()

    async def test_a_call_that_its_channel_cancels_is_an_error_and_no_cancel_of_the_task(
        self, channel: grpc.aio.Channel, script: Script
    ) -> None:
        asked = asyncio.Event()

        async def hold(request: Any, context: Any) -> None:
            asked.set()
            await asyncio.Event().wait()

        script.answers["GetOperation"] = hold
        looking = asyncio.create_task(RemoteOperation[Any].from_name(GrpcTransport(channel), NAME).update_status())
        await asyncio.wait_for(asked.wait(), 10)
        await channel.close()
        with pytest.raises(lro.RemoteCallError, match="cancelled in this process"):
            await asyncio.wait_for(looking, 10)
