"""Operations of an HTTP service in Azure's style, over a real server that answers as it likes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.protobuf import any_pb2, wrappers_pb2
from google.rpc import error_details_pb2
from pydantic import BaseModel

import lro_aio as lro
from lro_aio.core import failures
from lro_aio.core.errors import RemoteCallError, RemoteProtocolError
from lro_aio.remote import HttpTransport, RemoteOperation
from lro_aio.remote.tokens import encode
from lro_aio.remote.transport import Place

from .http_services import FAST, QUICK, Answer, Asked, Service, counting_client, scripted

pytestmark = pytest.mark.asyncio

MONITOR = "/operations/1?api-version=2024-01-01"
RUNNING = Answer(body={"id": "1", "status": "Running"})
SUCCEEDED = Answer(body={"id": "1", "status": "Succeeded"})
RESULT = Answer(body={"id": "1", "status": "Succeeded", "result": {"size": 3}})


class Report(BaseModel):
    size: int


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    async with scripted() as opened:
        yield opened


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def transport(http: httpx.AsyncClient, service: Service) -> HttpTransport:
    return HttpTransport(http, f"{service.url}/vault", style="azure", poll=FAST, retry=QUICK, timeout=5)


@pytest.fixture
def handle(transport: HttpTransport) -> RemoteOperation[Any]:
    return RemoteOperation.from_name(transport, MONITOR)


async def start(
    transport: HttpTransport, service: Service, answer: Answer, *then: Answer, method: str = "POST", kind: Any = None
) -> RemoteOperation[Any]:
    """Start an operation at ``/vault/things?v=1``; the requests after it are answered in turn."""
    service.answers(answer, *then)
    response = await transport._client.request(method, f"{service.url}/vault/things?v=1")
    service.asked.clear()
    return RemoteOperation(transport, response, response_type=kind)


def accepted(header: str = "Operation-Location", address: str = MONITOR, status: int = 202, **more: Any) -> Answer:
    return Answer(status, more.pop("body", b""), {header: address, **more})


class TestStarted:
    @pytest.mark.parametrize("header", ["Operation-Location", "operation-LOCATION", "Azure-AsyncOperation"])
    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    @pytest.mark.parametrize("address", [MONITOR, "{url}" + MONITOR, "../operations/1?api-version=2024-01-01"])
    async def test_header_names_the_status_monitor(
        self, transport: HttpTransport, service: Service, header: str, status: int, address: str
    ) -> None:
        handle = await start(transport, service, accepted(header, address.format(url=service.url), status), RESULT)
        assert (handle.name, handle.has_completed) == (MONITOR, False)
        assert await handle == {"size": 3}
        assert service.lines() == [f"GET {MONITOR}"]

    @pytest.mark.parametrize(("status", "body", "value"), [(200, {"a": 1}, {"a": 1}), (201, [], []), (204, b"", None)])
    async def test_without_such_a_header_the_answer_is_the_result(
        self, transport: HttpTransport, service: Service, status: int, body: Any, value: Any
    ) -> None:
        resource = {"Location": "https://elsewhere.example.com/things/1"}  # of what was made: no place to ask
        handle = await start(transport, service, Answer(status, body, resource if status == 201 else {}))
        assert handle.has_completed
        assert await handle == value
        assert handle.rehydration_token is None
        assert service.asked == []

    async def test_accepted_without_any_link_makes_no_sense(self, transport: HttpTransport, service: Service) -> None:
        with pytest.raises(RemoteProtocolError, match="202 without"):
            await start(transport, service, Answer(202, {"status": "Running"}))

    async def test_start_that_was_refused_is_its_error(self, transport: HttpTransport, service: Service) -> None:
        body = {"error": {"code": "InvalidRequest", "message": "size is missing"}}
        with pytest.raises(RemoteCallError, match="size is missing") as caught:
            await start(transport, service, Answer(400, body, {"x-ms-error-code": "InvalidRequest"}))
        assert caught.value.code is lro.Code.INVALID_ARGUMENT
        assert caught.value.details == (error_details_pb2.ErrorInfo(reason="InvalidRequest", domain="azure"),)

    @pytest.mark.parametrize("answer", [{"name": "a"}, "https://h/operations/1", None])
    async def test_anything_but_a_response_is_a_type_error(self, transport: HttpTransport, answer: Any) -> None:
        with pytest.raises(TypeError, match="an httpx"):
            RemoteOperation[Any](transport, answer)

    async def test_status_monitor_in_the_answer_is_read_at_once(
        self, transport: HttpTransport, service: Service
    ) -> None:
        monitor = {"id": "1", "status": "Running", "percentComplete": 40}
        handle = await start(transport, service, accepted(body=monitor))
        assert (handle.has_completed, handle.metadata) == (False, {"percentComplete": 40})
        handle = await start(transport, service, accepted(body=RESULT.body))
        assert await handle == {"size": 3}
        assert handle.name == MONITOR
        assert service.asked == []

    @pytest.mark.parametrize("body", [{"id": "/things/1", "status": "Failed"}, {"status": "Failed"}, b"<html>", b"[]"])
    async def test_resource_in_the_answer_is_no_status_monitor(
        self, transport: HttpTransport, service: Service, body: Any
    ) -> None:
        handle = await start(transport, service, accepted(body=body))
        assert (handle.has_completed, handle.metadata) == (False, None)

    async def test_body_of_200_and_201_is_a_resource_whatever_its_members(
        self, transport: HttpTransport, service: Service
    ) -> None:
        for status in (200, 201):
            answer = accepted(status=status, body={"id": "1", "status": "Failed"})
            assert not (await start(transport, service, answer, method="PUT")).has_completed

    async def test_response_that_was_made_by_hand_is_relative_to_the_base_url(self, transport: HttpTransport) -> None:
        answer = httpx.Response(202, headers={"Operation-Location": MONITOR})
        assert RemoteOperation[Any](transport, answer).name == MONITOR


class TestMonitor:
    @pytest.mark.parametrize("word", ["Succeeded", "succeeded", "SUCCEEDED"])
    async def test_success_in_any_case_gives_the_result(
        self, transport: HttpTransport, service: Service, word: str
    ) -> None:
        service.answers(RUNNING, Answer(body={"status": word, "result": {"size": 3}}))
        assert await RemoteOperation.from_name(transport, MONITOR, response_type=Report) == Report(size=3)

    @pytest.mark.parametrize("word", ["canceled", "Canceled", "CANCELLED"])
    async def test_cancel_in_either_spelling(self, handle: RemoteOperation[Any], service: Service, word: str) -> None:
        service.answers(Answer(body={"status": word, "error": {"code": "Stopped", "message": "by hand"}}))
        with pytest.raises(lro.OperationCancelledError, match="by hand"):
            await handle

    @pytest.mark.parametrize("word", ["NotStarted", "running", "Validating", "Pending", "", "Whatever"])
    async def test_every_other_word_is_in_progress(
        self, handle: RemoteOperation[Any], service: Service, word: str
    ) -> None:
        service.answers(Answer(body={"status": word}))
        await handle.update_status()
        assert not handle.has_completed

    @pytest.mark.parametrize("body", [{}, {"status": 5}, {"state": "Running"}, [], b"<html>" + b"x" * 9999])
    async def test_monitor_without_a_status_makes_no_sense(
        self, handle: RemoteOperation[Any], service: Service, body: Any
    ) -> None:
        service.answers(Answer(body=body))
        with pytest.raises(RemoteProtocolError) as caught:
            await handle
        assert len(str(caught.value)) < 300

    async def test_failure_has_code_message_and_the_words_of_the_service(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(Answer(body={"status": "failed", "error": {"code": "ResourceNotFound", "message": "no disk"}}))
        with pytest.raises(failures.NotFoundError) as caught:
            await handle
        assert caught.value.message == "no disk"
        assert caught.value.details == (error_details_pb2.ErrorInfo(reason="ResourceNotFound", domain="azure"),)

    @pytest.mark.parametrize("error", [None, [], "", {}, {"code": 5, "message": None}])
    async def test_failure_without_a_reason_is_unknown(
        self, handle: RemoteOperation[Any], service: Service, error: Any
    ) -> None:
        service.answers(Answer(body={"status": "Failed", "error": error}))
        with pytest.raises(failures.UnknownError, match="did not say why"):
            await handle

    async def test_failure_of_this_packages_servers_comes_back_as_it_was(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "FULL", "domain": "acme"}
        opaque = {"@type": "type.googleapis.com/acme.v1.Unknown", "value": "AAEC"}
        inner = {"code": "RESOURCE_EXHAUSTED", "details": [info, opaque]}
        error = {"code": "ResourceExhausted", "message": "the disk is full", "innererror": inner}
        service.answers(Answer(body={"id": "1", "status": "Failed", "error": error}))
        with pytest.raises(failures.ResourceExhaustedError) as caught:
            await handle
        assert caught.value.details == (
            error_details_pb2.ErrorInfo(reason="FULL", domain="acme"),
            any_pb2.Any(type_url=opaque["@type"], value=b"\0\1\2"),
        )

    async def test_metadata_is_the_member_of_that_name_or_what_else_is_said(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(
            Answer(body={"id": "1", "kind": "copy", "status": "Running"}),
            Answer(body={"id": "1", "status": "Running", "percentComplete": 50, "createdAt": "now"}),
            Answer(body={"id": "1", "status": "Running", "percentComplete": 60, "metadata": {"step": 6}}),
            Answer(body={"id": "1", "status": "Succeeded", "result": 1, "percentComplete": 100}),
        )
        assert [metadata async for metadata in handle] == [
            {"percentComplete": 50, "createdAt": "now"},
            {"step": 6},
            {"percentComplete": 100},
        ]

    async def test_typed_result_and_metadata_of_a_google_service(
        self, transport: HttpTransport, service: Service
    ) -> None:
        value = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "ok"}
        service.answers(Answer(body={"status": "Succeeded", "result": value, "metadata": value}))
        handle = RemoteOperation.from_name(transport, MONITOR)
        assert await handle == handle.metadata == wrappers_pb2.StringValue(value="ok")

    async def test_service_may_move_the_monitor_and_the_name_stays(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        moved = Answer(body=RUNNING.body, headers={"Operation-Location": "/operations/1?page=2"})
        service.answers(moved, RUNNING, RESULT)
        await handle
        await handle.cancel()
        assert service.lines() == [
            f"GET {MONITOR}", "GET /operations/1?page=2", "GET /operations/1?page=2",
            "POST /operations/1:cancel?api-version=2024-01-01",
        ]  # fmt: skip
        assert handle.name == MONITOR

    async def test_404_after_completion_leaves_the_value(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(RESULT, Answer(404, {"error": {"code": "NotFound", "message": "gone"}}))
        await handle
        with pytest.raises(lro.OperationNotFoundError):
            await handle.update_status()
        assert handle.value == {"size": 3}

    async def test_five_503_and_a_broken_answer_do_not_end_the_wait(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(*[Answer(503, b"busy")] * 5, Answer(body=RESULT.body, cut=True), RESULT)
        assert await handle == {"size": 3}
        assert len(service.asked) == 7


class TestRetryAfter:
    async def replied(self, handle: RemoteOperation[Any], service: Service, *said: str) -> float | None:
        headers = {"Retry-After": said[0]} if said else {}
        service.answers(Answer(body=RUNNING.body, headers=headers))
        await handle.update_status()
        assert handle._latest.reply is not None
        return handle._latest.reply.retry_after

    @pytest.mark.parametrize(("said", "expected"), [("0", 0.0), ("17", 17.0), ("soon", None), ("-3", None)])
    async def test_seconds_and_garbage(
        self, handle: RemoteOperation[Any], service: Service, said: str, expected: float | None
    ) -> None:
        assert await self.replied(handle, service, said) == expected

    async def test_absent(self, handle: RemoteOperation[Any], service: Service) -> None:
        assert await self.replied(handle, service) is None

    async def test_date(self, handle: RemoteOperation[Any], service: Service) -> None:
        then = datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=60)
        found = await self.replied(handle, service, format_datetime(then, usegmt=True))
        assert found is not None
        assert 50 < found <= 60

    async def test_of_the_start_counts_for_the_first_poll(self, transport: HttpTransport, service: Service) -> None:
        handle = await start(transport, service, accepted(**{"Retry-After": "3600"}), RESULT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.wait_for_completion(), 0.1)
        assert service.asked == []

    async def test_beyond_the_timeout_there_is_a_last_poll(self, transport: HttpTransport, service: Service) -> None:
        handle = await start(transport, service, accepted(**{"Retry-After": "3600"}), RESULT)
        await handle.wait_for_completion(timeout=2)
        assert handle.value == {"size": 3}
        assert service.lines() == [f"GET {MONITOR}"]

    async def test_of_a_failed_poll_does_not_keep_the_last_one_away_either(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(Answer(503, b"", {"Retry-After": "3600"}), RESULT)
        await handle.wait_for_completion(timeout=2)
        assert handle.value == {"size": 3}

    async def test_of_many_does_not_keep_their_last_polls_away(
        self, transport: HttpTransport, service: Service
    ) -> None:
        service.answers(Answer(body=RUNNING.body, headers={"Retry-After": "3600"}))
        handles = [RemoteOperation[Any].from_name(transport, f"/operations/{number}") for number in range(3)]
        for handle in handles:
            await handle.update_status()
        service.asked.clear()
        service.answers(RESULT)
        assert await lro.remote.gather(*handles, timeout=2) == [{"size": 3}] * 3
        assert len(service.asked) == 3

    async def test_zero_is_no_busy_loop(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(Answer(body=RUNNING.body, headers={"Retry-After": "0"}))
        with pytest.raises(lro.WaitDeadlineExceededError):
            await handle.wait_for_completion(timeout=0.3)
        assert 1 <= len(service.asked) <= 4


class TestFinalGet:
    @pytest.mark.parametrize(
        ("method", "headers", "monitor", "final"),
        [
            ("PUT", {}, {}, "/vault/things?v=1"),
            ("PATCH", {"Location": "/not/this"}, {}, "/vault/things?v=1"),
            ("POST", {"Location": "things/9"}, {}, "/vault/things/9"),
            ("POST", {}, {"resourceLocation": "/vault/things/8"}, "/vault/things/8"),
            ("PUT", {}, {"resourceLocation": "things/8"}, "/operations/things/8"),
        ],
    )
    async def test_result_is_fetched_where_the_monitor_has_none(
        self,
        transport: HttpTransport,
        service: Service,
        method: str,
        headers: dict[str, str],
        monitor: dict[str, str],
        final: str,
    ) -> None:
        succeeded = Answer(body=SUCCEEDED.body | monitor | {"percentComplete": 100})
        steps = RUNNING, succeeded, Answer(202), Answer(body={"size": 3})
        handle = await start(transport, service, accepted(**headers), *steps, method=method, kind=Report)
        assert await handle == Report(size=3)
        assert service.lines() == [f"GET {MONITOR}", f"GET {MONITOR}", f"GET {final}", f"GET {final}"]
        assert handle.name == MONITOR
        assert handle.metadata == {"percentComplete": 100}

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    async def test_without_a_place_for_it_there_is_no_result(
        self, transport: HttpTransport, service: Service, method: str
    ) -> None:
        handle = await start(transport, service, accepted(), SUCCEEDED, method=method)
        assert await handle is None
        assert service.lines() == [f"GET {MONITOR}"]

    async def test_result_in_the_monitor_needs_no_further_request(
        self, transport: HttpTransport, service: Service
    ) -> None:
        handle = await start(transport, service, accepted(), RESULT, method="PUT")
        assert await handle == {"size": 3}
        assert len(service.asked) == 1

    async def test_each_look_is_one_request_and_a_token_leads_to_the_result(
        self, transport: HttpTransport, service: Service
    ) -> None:
        handle = await start(transport, service, accepted(), SUCCEEDED, Answer(body={"size": 3}), method="PUT")
        early = handle.rehydration_token
        await handle.update_status()
        assert (len(service.asked), handle.has_completed) == (1, False)
        late = handle.rehydration_token
        assert early is not None
        assert late is not None
        assert (await RemoteOperation.rehydrate(transport, late)).value == {"size": 3}
        service.answers(SUCCEEDED, Answer(body={"size": 3}))
        again = await RemoteOperation.rehydrate(transport, early)
        assert await again == {"size": 3}
        assert service.lines()[-1] == "GET /vault/things?v=1"

    async def test_missing_result_does_not_look_like_a_missing_operation(
        self, transport: HttpTransport, service: Service
    ) -> None:
        gone = Answer(404, {"error": {"code": "NotFound", "message": "no such thing"}})
        handle = await start(transport, service, accepted(), SUCCEEDED, gone, method="PUT")
        with pytest.raises(RemoteCallError, match="no such thing") as caught:
            await handle
        assert (caught.value.code, caught.value.transient) == (lro.Code.NOT_FOUND, False)


class TestLocation:
    async def test_polling_goes_where_the_service_says_until_it_answers_otherwise(
        self, transport: HttpTransport, service: Service
    ) -> None:
        steps = Answer(202, headers={"Location": "/wait/2"}), Answer(202), Answer(200, {"size": 3})
        handle = await start(transport, service, accepted("Location", "/wait/1"), *steps, kind=Report)
        assert await handle == Report(size=3)
        assert service.lines() == ["GET /wait/1", "GET /wait/2", "GET /wait/2"]
        assert handle.name == "/wait/1"

    @pytest.mark.parametrize("status", [200, 201, 204])
    async def test_end_without_a_body_has_no_response(
        self, transport: HttpTransport, service: Service, status: int
    ) -> None:
        handle = await start(transport, service, accepted("Location", "/wait/1"), Answer(status), method="DELETE")
        assert await handle is None

    async def test_end_with_a_body_that_is_no_json_makes_no_sense(
        self, transport: HttpTransport, service: Service
    ) -> None:
        handle = await start(transport, service, accepted("Location", "/wait/1"), Answer(200, b"<html>"))
        with pytest.raises(RemoteProtocolError, match="html"):
            await handle

    async def test_404_is_the_operation_missing(self, transport: HttpTransport, service: Service) -> None:
        handle = await start(transport, service, accepted("Location", "/wait/1"), Answer(404))
        with pytest.raises(lro.OperationNotFoundError):
            await handle

    async def test_token_goes_on_where_the_service_said(self, transport: HttpTransport, service: Service) -> None:
        steps = Answer(202, headers={"Location": "/wait/2"}), Answer(200, {"size": 3})
        handle = await start(transport, service, accepted("Location", "/wait/1"), *steps)
        await handle.update_status()
        assert handle.rehydration_token is not None
        assert (await RemoteOperation.rehydrate(transport, handle.rehydration_token)).value == {"size": 3}
        assert service.lines() == ["GET /wait/1", "GET /wait/2"]


class TestVerbs:
    async def test_cancel_and_delete_go_to_the_monitor(self, handle: RemoteOperation[Any], service: Service) -> None:
        for status in (200, 202, 204):
            service.answers(Answer(status))
            await handle.cancel()
            await handle.delete()
        cancel, delete = "POST /operations/1:cancel?api-version=2024-01-01", f"DELETE {MONITOR}"
        assert service.lines() == [cancel, delete] * 3
        assert service.asked[0].body == b""

    async def test_service_that_cannot_delete_is_unimplemented(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(Answer(405))
        with pytest.raises(RemoteCallError) as caught:
            await handle.delete()
        assert caught.value.code is lro.Code.UNIMPLEMENTED

    @pytest.mark.parametrize(
        ("name", "target"),
        [
            ("/operations/1?v=1", "/operations/1?v=1"),
            ("{url}/operations/1", "/operations/1"),
            ("operations/1", "/vault/v1/operations/1"),
        ],
    )
    async def test_name_is_an_address_or_below_the_base_url(
        self, transport: HttpTransport, service: Service, name: str, target: str
    ) -> None:
        service.answers(RUNNING)
        handle = RemoteOperation.from_name(transport, name.format(url=service.url))
        await handle.update_status()
        assert service.lines() == [f"GET {target}"]
        assert handle.name == target

    async def test_name_that_is_no_address_is_refused(self, transport: HttpTransport) -> None:
        for name in ("", "/a\x00b", "https://"):
            with pytest.raises(ValueError):
                RemoteOperation.from_name(transport, name)


class TestOrigins:
    """The client's credentials go along with every request."""

    @pytest_asyncio.fixture
    async def other(self) -> AsyncIterator[Service]:
        async with scripted() as opened:
            opened.answers(RESULT)
            yield opened

    @pytest.mark.parametrize("header", ["Operation-Location", "Location"])
    async def test_start_cannot_send_the_client_elsewhere(
        self, transport: HttpTransport, service: Service, other: Service, header: str
    ) -> None:
        with pytest.raises(RemoteProtocolError, match="neither the origin of base_url"):
            await start(transport, service, accepted(header, f"{other.url}/operations/1"))
        assert other.asked == []

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(body={"status": "Running"}, headers={"Operation-Location": "{other}"}),
            Answer(body={"status": "Succeeded", "resourceLocation": "{other}"}),
            Answer(body={"status": "Running"}, headers={"Operation-Location": "https://me:secret@127.0.0.1/"}),
        ],
    )
    async def test_look_cannot_send_the_client_elsewhere(
        self, handle: RemoteOperation[Any], service: Service, other: Service, answer: Answer
    ) -> None:
        headers = {name: value.format(other=other.url) for name, value in answer.headers.items()}
        body = {name: value.format(other=other.url) for name, value in answer.body.items()}
        service.answers(Answer(200, body, headers))
        with pytest.raises(RemoteProtocolError):
            await handle
        assert other.asked == []

    async def test_http_in_place_of_https_is_refused(self, http: httpx.AsyncClient) -> None:
        transport = HttpTransport(http, "https://example.com", style="azure")
        answer = httpx.Response(202, headers={"Operation-Location": "http://example.com/operations/1"})
        with pytest.raises(RemoteProtocolError, match="http://example"):
            RemoteOperation[Any](transport, answer)
        with pytest.raises(ValueError, match="http://example"):
            RemoteOperation.from_name(transport, "http://example.com/operations/1")

    @pytest.mark.parametrize("part", ["name", "link", "result"])
    async def test_token_cannot_send_the_client_elsewhere(
        self, transport: HttpTransport, other: Service, part: str
    ) -> None:
        place = {"name": MONITOR, "step": "result"} | {part: f"{other.url}/operations/1"}
        token = encode(transport, Place(**place))
        assert token is not None
        with pytest.raises(lro.InvalidTokenError, match="neither the origin of base_url"):
            await RemoteOperation.rehydrate(transport, token)
        assert other.asked == []

    async def test_token_with_a_step_that_nobody_knows_is_refused(self, transport: HttpTransport) -> None:
        token = encode(transport, Place(MONITOR, step="format-disk"))
        assert token is not None
        with pytest.raises(lro.InvalidTokenError, match="step"):
            await RemoteOperation.rehydrate(transport, token)

    async def test_origin_that_the_caller_trusts_is_asked(
        self, http: httpx.AsyncClient, service: Service, other: Service
    ) -> None:
        transport = HttpTransport(http, service.url, style="azure", origins=[other.url], poll=FAST)
        handle = await start(transport, service, accepted(address=f"{other.url}/operations/1"))
        assert handle.name == f"{other.url}/operations/1"
        token = handle.rehydration_token
        assert token is not None
        assert (await RemoteOperation.rehydrate(transport, token)).value == {"size": 3}
        assert other.lines() == ["GET /operations/1"]

    async def test_address_that_lets_in_whoever_has_it_is_in_no_token(self, transport: HttpTransport) -> None:
        assert RemoteOperation.from_name(transport, "/operations/1?sig=abc").rehydration_token is None


async def test_credentials_of_the_client_go_with_each_request(service: Service) -> None:
    async with counting_client(auth=("me", "secret")) as (http, sent):
        service.otherwise = lambda asked: RESULT if asked.headers.get("authorization") else Answer(401)
        transport = HttpTransport(http, service.url, style="azure")
        await RemoteOperation.from_name(transport, MONITOR)
    assert sent == [f"GET {MONITOR}"]


async def test_answers_are_asked_for_as_json(handle: RemoteOperation[Any], service: Service) -> None:
    seen: list[Asked] = service.asked
    service.answers(RESULT)
    await handle
    assert seen[0].headers["accept"] == "application/json"
