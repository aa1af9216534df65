"""Operations of an HTTP service in Google's style that answers as it likes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2, struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2
from pydantic import BaseModel

import lro_aio as lro
from lro_aio.core import failures
from lro_aio.core.errors import RemoteCallError, RemoteProtocolError
from lro_aio.remote import HttpTransport, RemoteOperation
from lro_aio.remote.tokens import encode
from lro_aio.remote.transport import CallOptions, Place

from .http_services import FAST, QUICK, Answer, Asked, Service, scripted

pytestmark = pytest.mark.asyncio

NAME = "things/1/operations/a"
RUNNING = Answer(body={"name": NAME})
STRING = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "ok"}
DONE = Answer(body={"name": NAME, "done": True, "response": STRING})
EMPTY_OF_GO = {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}
UNKNOWN = {"@type": "type.googleapis.com/acme.v1.Unknown", "size": 3, "inner": {"a": [1]}}


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
    return HttpTransport(http, service.url, poll=FAST, retry=QUICK, timeout=5)


@pytest.fixture
def handle(transport: HttpTransport) -> RemoteOperation[Any]:
    return RemoteOperation.from_name(transport, NAME)


class TestRequests:
    async def test_each_verb_is_one_request(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(RUNNING)
        raw = await handle.update_status()
        await handle.cancel()
        await handle.delete()
        assert service.lines() == [f"GET /v1/{NAME}", f"POST /v1/{NAME}:cancel", f"DELETE /v1/{NAME}"]
        assert json.loads(service.asked[1].body) == {}
        assert isinstance(raw, httpx.Response)
        assert raw is handle.raw_response

    @pytest.mark.parametrize("status", [204, 404, 501])
    async def test_cancel_tells_what_the_service_said(
        self, handle: RemoteOperation[Any], service: Service, status: int
    ) -> None:
        service.answers(Answer(status))
        if status == 204:
            await handle.cancel()
            return
        expected = lro.OperationNotFoundError if status == 404 else RemoteCallError
        with pytest.raises(expected) as caught:
            await handle.cancel()
        assert caught.value.code is (lro.Code.NOT_FOUND if status == 404 else lro.Code.UNIMPLEMENTED)

    async def test_names_are_percent_encoded_by_segment(self, transport: HttpTransport, service: Service) -> None:
        service.answers(RUNNING)
        await RemoteOperation.from_name(transport, "a?b/c#d/e%2Ff:cancel/ü").update_status()
        assert service.lines() == ["GET /v1/a%3Fb/c%23d/e%252Ff%3Acancel/%C3%BC"]

    @pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a/../b", "a b", "a\n", "x" * 3000, "\ud800"])
    async def test_what_is_no_resource_name_is_refused(self, transport: HttpTransport, name: str) -> None:
        with pytest.raises(ValueError, match="resource name"):
            RemoteOperation.from_name(transport, name)

    async def test_base_url_and_prefix_stand_before_the_name(self, http: httpx.AsyncClient, service: Service) -> None:
        service.answers(RUNNING)
        for base, prefix in (("/jobs%2F1/", ""), ("", "/v2beta/")):
            asked = HttpTransport(http, service.url + base, prefix=prefix)
            await RemoteOperation.from_name(asked, NAME).update_status()
        assert service.lines() == [f"GET /jobs%2F1/{NAME}", f"GET /v2beta/{NAME}"]

    async def test_headers_come_fresh_for_each_request_and_those_of_the_call_win(
        self, http: httpx.AsyncClient, service: Service
    ) -> None:
        service.answers(RUNNING)
        made = iter("ab")

        async def fresh() -> dict[str, str]:
            return {"Authorization": f"Bearer {next(made)}", "X-Team": "blue"}

        asked = RemoteOperation.from_name(HttpTransport(http, service.url, headers=fresh), NAME)
        await asked.update_status()
        await asked.update_status(metadata={"x-team": "red"})
        seen = [(request.headers["authorization"], request.headers["x-team"]) for request in service.asked]
        assert seen == [("Bearer a", "blue"), ("Bearer b", "red")]
        assert service.asked[0].headers["accept"] == "application/json"

    @pytest.mark.parametrize("headers", [{"X-Team": "blue"}, [("X-Team", "blue")], lambda: {"X-Team": "blue"}])
    async def test_headers_are_a_mapping_pairs_or_a_function(
        self, http: httpx.AsyncClient, service: Service, headers: Any
    ) -> None:
        service.answers(RUNNING)
        await RemoteOperation.from_name(HttpTransport(http, service.url, headers=headers), NAME).update_status()
        assert service.asked[0].headers["x-team"] == "blue"

    async def test_client_of_the_caller_stays_open(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(DONE)
        await handle
        assert not handle._transport._client.is_closed

    @pytest.mark.parametrize("follow", [True, False])
    async def test_redirects_are_followed_where_the_client_follows_them(self, service: Service, follow: bool) -> None:
        service.answers(Answer(307, headers={"Location": "/elsewhere"}), DONE)
        async with httpx.AsyncClient(follow_redirects=follow) as http:
            asked = RemoteOperation.from_name(HttpTransport(http, service.url), NAME)
            if follow:
                await asked.update_status()
                assert asked.value.value == "ok"
            else:
                with pytest.raises(RemoteCallError, match="HTTP 307") as caught:
                    await asked.update_status()
                assert not caught.value.transient


class TestConstructor:
    @pytest.mark.parametrize(
        "url",
        ["https://me:secret@example.com", "ftp://example.com", "example.com", "/jobs", "https://", "https://h/?a=1",
         "https://h/#a", "http://h:x"],
    )  # fmt: skip
    async def test_base_url_is_absolute_and_has_no_credentials(self, http: httpx.AsyncClient, url: str) -> None:
        with pytest.raises(ValueError, match="base_url") as caught:
            HttpTransport(http, url)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "options",
        [{"style": "aws"}, {"style": "azure", "long_polls": True}, {"prefix": "v1"}, {"origins": ["//h"]},
         {"max_calls": 0}, {"timeout": 0}],
    )  # fmt: skip
    async def test_malformed_options_are_refused(self, http: httpx.AsyncClient, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            HttpTransport(http, "https://example.com", **options)

    async def test_one_origin_in_place_of_several_is_refused(self, http: httpx.AsyncClient) -> None:
        with pytest.raises(TypeError, match="origins"):
            HttpTransport(http, "https://example.com", origins="https://other.example.com")

    async def test_address_is_normalised(self, http: httpx.AsyncClient) -> None:
        assert HttpTransport(http, "HTTPS://Example.com:443/Jobs/").address == "https://example.com/Jobs"

    async def test_token_has_no_more_parts_than_such_a_service_needs(self, transport: HttpTransport) -> None:
        token = encode(transport, Place(NAME, link="/elsewhere"))
        assert token is not None
        with pytest.raises(lro.InvalidTokenError, match="parts that such a service does not use"):
            await RemoteOperation.rehydrate(transport, token)

    async def test_token_is_for_one_service_and_style(self, http: httpx.AsyncClient, service: Service) -> None:
        service.answers(DONE)
        here = HttpTransport(http, service.url)
        token = RemoteOperation.from_name(here, NAME).rehydration_token
        assert token is not None
        assert (await RemoteOperation.rehydrate(here, token)).value.value == "ok"
        assert service.lines() == [f"GET /v1/{NAME}"]
        for other in (HttpTransport(http, service.url, style="azure"), HttpTransport(http, "https://example.com")):
            with pytest.raises(lro.InvalidTokenError):
                await RemoteOperation.rehydrate(other, token)


class TestStarted:
    @pytest.mark.parametrize("form", ["response", "json", "message"])
    async def test_start_is_an_http_response_its_json_or_a_message(
        self, transport: HttpTransport, http: httpx.AsyncClient, service: Service, form: str
    ) -> None:
        service.answers(Answer(202, {"name": NAME, "metadata": STRING}))
        response = await http.post(f"{service.url}/things")
        message = operations_pb2.Operation(name=NAME)
        message.metadata.Pack(wrappers_pb2.StringValue(value="ok"))
        started = {"response": response, "json": response.json(), "message": message}[form]
        handle = RemoteOperation[Any](transport, started)
        assert (handle.name, handle.has_completed, handle.metadata.value) == (NAME, False, "ok")
        assert handle.raw_response is started

    async def test_operation_that_is_done_at_once_needs_no_name(self, transport: HttpTransport) -> None:
        handle = RemoteOperation[Any](transport, {"done": True, "response": STRING})
        assert (await handle).value == "ok"
        assert handle.rehydration_token is None

    @pytest.mark.parametrize(
        "started",
        [{"name": NAME, "done": "yes"}, {"name": 5}, {"message": "hello"}, {}, {"name": "a b"}, {"done": False}],
    )
    async def test_json_that_is_no_operation_is_refused(self, transport: HttpTransport, started: Any) -> None:
        with pytest.raises(RemoteProtocolError):
            RemoteOperation[Any](transport, started)

    async def test_anything_else_is_a_type_error(self, transport: HttpTransport) -> None:
        with pytest.raises(TypeError, match="an httpx"):
            RemoteOperation[Any](transport, "operations/a")

    @pytest.mark.parametrize("status", [404, 503])
    async def test_start_that_failed_is_its_error_and_no_missing_operation(
        self, transport: HttpTransport, status: int
    ) -> None:
        body = {"error": {"code": status, "message": "no such thing", "status": "NOT_FOUND"}}
        with pytest.raises(RemoteCallError, match="no such thing") as caught:
            RemoteOperation[Any](transport, httpx.Response(status, json=body))
        assert (caught.value.http_status, caught.value.code) == (status, lro.Code.NOT_FOUND)


class TestAnswers:
    async def test_done_is_false_where_it_is_not_said(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(RUNNING, Answer(body={"name": NAME, "done": None}), Answer(body={"name": NAME, "done": False}))
        for _ in range(3):
            await handle.update_status()
            assert not handle.has_completed

    async def test_name_stays_the_one_that_was_asked_for(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(Answer(body={"name": NAME.upper()}), DONE)
        await handle
        assert (handle.name, set(service.lines())) == (NAME, {f"GET /v1/{NAME}"})

    async def test_response_of_an_unknown_type_stays_json(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(Answer(body={"name": NAME, "done": True, "metadata": UNKNOWN, "response": UNKNOWN}))
        assert await handle == UNKNOWN
        assert handle.metadata == UNKNOWN
        assert handle.proto is not None
        packed = struct_pb2.Struct()
        assert handle.proto.response.Unpack(packed)
        assert packed["size"] == 3

    @pytest.mark.parametrize(
        ("code", "expected"),
        [(5, 5), (5.0, 5), ("5", 5), (5.5, 2), (True, 2), ("NotFound", 2), (None, 2), ([], 2), (-5, 2), (10**30, 2),
         (float("inf"), 2), (0, 2)],
    )  # fmt: skip
    async def test_code_of_a_failure_is_any_form_that_proto3_json_has(
        self, handle: RemoteOperation[Any], service: Service, code: Any, expected: int
    ) -> None:
        service.answers(Answer(body={"name": NAME, "done": True, "error": {"code": code}}))
        with pytest.raises(lro.OperationFailedError) as caught:
            await handle
        assert caught.value.code == expected

    async def test_numbers_that_no_double_can_hold_are_kept_as_text(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        huge = {"@type": "type.googleapis.com/google.protobuf.DoubleValue", "value": 10**400}
        error = {"code": 9, "message": "no", "details": [UNKNOWN | {"size": 10**400}, huge]}
        service.answers(Answer(body={"name": NAME, "done": True, "error": error, "metadata": {"size": 10**400}}))
        with pytest.raises(failures.FailedPreconditionError) as caught:
            await handle
        assert ["1" + "0" * 400 in detail.string_value for detail in caught.value.details] == [True, True]
        assert handle.metadata == {"size": 10**400}
        assert handle.proto is not None

    async def test_response_is_read_as_a_type_of_pydantic(self, transport: HttpTransport, service: Service) -> None:
        service.answers(Answer(body={"name": NAME, "done": True, "response": UNKNOWN}))
        assert await RemoteOperation.from_name(transport, NAME, response_type=Report) == Report(size=3)

    async def test_response_of_another_type_than_declared_is_a_type_error(
        self, transport: HttpTransport, service: Service
    ) -> None:
        service.answers(DONE)
        handle = RemoteOperation.from_name(transport, NAME, response_type=wrappers_pb2.Int64Value)
        with pytest.raises(TypeError, match="Int64Value"):
            await handle

    async def test_empty_in_the_form_of_go_is_read(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(Answer(body={"name": NAME, "done": True, "response": EMPTY_OF_GO}))
        assert await handle == empty_pb2.Empty()

    async def test_done_without_a_result_is_none(self, transport: HttpTransport, service: Service) -> None:
        service.answers(Answer(body={"name": NAME, "done": True, "response": None}))
        assert await RemoteOperation.from_name(transport, NAME) is None
        with pytest.raises(RemoteProtocolError, match="without a response, where Report was expected"):
            await RemoteOperation.from_name(transport, NAME, response_type=Report)

    async def test_result_of_an_operation_that_is_not_done_is_not_looked_at(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(Answer(body={"name": NAME, "response": STRING, "error": "later"}))
        await handle.update_status()
        with pytest.raises(lro.OperationNotDoneError):
            _ = handle.value

    async def test_failure_keeps_details_that_nobody_knows(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "FULL", "domain": "acme"}
        opaque = {"@type": "type.googleapis.com/acme.v1.Opaque", "value": "AAEC"}
        error = {"code": 8, "message": "half \ud83d of a pair", "details": [info, UNKNOWN, opaque, {}, "text"]}
        service.answers(Answer(body={"name": NAME, "done": True, "error": error, "response": STRING}))
        with pytest.raises(failures.ResourceExhaustedError, match=r"half \\ud83d of a pair") as caught:
            await handle
        first, second, third = caught.value.details
        assert first == error_details_pb2.ErrorInfo(reason="FULL", domain="acme")
        assert isinstance(second, struct_pb2.Struct)
        assert second["@type"] == UNKNOWN["@type"]
        assert third == any_pb2.Any(type_url=opaque["@type"], value=b"\0\1\2")

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"<html><body>" + b"Please log in. " * 1000, "html"),
            (b"", "an empty body"),
            (b"[1]", "not a google.longrunning.Operation"),
            (b"{}", "not a google.longrunning.Operation"),
            (b'{"name": "a", "done": 1}', "not a boolean"),
            (b'{"done": true, "error": "full"}', "not a google.rpc.Status"),
            (b"[" * 100_000, "not JSON"),
            (b"\xff\xfe\x00", "not JSON"),
        ],
    )
    async def test_answer_that_makes_no_sense_is_told_in_a_few_words(
        self, handle: RemoteOperation[Any], service: Service, body: bytes, said: str
    ) -> None:
        service.answers(Answer(body=body))
        with pytest.raises(RemoteProtocolError, match=said) as caught:
            await handle
        assert len(str(caught.value)) < 300
        assert len(service.asked) == 1


class TestFailedLooks:
    async def test_five_503_in_a_row_do_not_end_the_wait(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(*[Answer(503, b"<html>busy</html>")] * 5, DONE)
        assert (await handle).value == "ok"
        assert len(service.asked) == 6

    @pytest.mark.parametrize("broken", [Answer(body={"name": NAME, "done": True}, cut=True), Answer(silent=True)])
    async def test_connection_that_breaks_or_says_nothing_does_not_end_the_wait(
        self, http: httpx.AsyncClient, service: Service, broken: Answer
    ) -> None:
        service.answers(broken, DONE)
        transport = HttpTransport(http, service.url, poll=FAST, retry=QUICK, timeout=0.2)
        assert (await RemoteOperation.from_name(transport, NAME)).value == "ok"
        assert len(service.asked) >= 2

    async def test_one_look_is_not_repeated(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(Answer(429, {"error": {"code": 429, "message": "slow down"}}, {"Retry-After": "7"}), DONE)
        with pytest.raises(RemoteCallError, match="slow down") as caught:
            await handle.update_status()
        problem = caught.value
        assert (problem.code, problem.http_status) == (lro.Code.RESOURCE_EXHAUSTED, 429)
        assert (problem.transient, problem.retry_after) == (True, 7.0)
        assert len(service.asked) == 1

    async def test_service_that_trickles_is_given_up_after_the_timeout(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        """Each read is quick; the request as a whole is not."""
        service.answers(Answer(headers={"Content-Length": "100000"}, trickle=True))
        with pytest.raises(RemoteCallError, match=r"no answer within 0.2 s") as caught:
            await handle.update_status(timeout=0.2)
        assert (caught.value.code, caught.value.transient) == (lro.Code.DEADLINE_EXCEEDED, True)

    async def test_nobody_listening_is_unavailable(self, http: httpx.AsyncClient) -> None:
        async with scripted() as gone:
            url = gone.url
        with pytest.raises(RemoteCallError, match="ConnectError") as caught:
            await RemoteOperation.from_name(HttpTransport(http, url), NAME).update_status()
        assert (caught.value.code, caught.value.transient) == (lro.Code.UNAVAILABLE, True)
        assert isinstance(caught.value.__cause__, httpx.ConnectError)

    async def test_header_that_http_cannot_carry_is_told_at_once(
        self, http: httpx.AsyncClient, service: Service
    ) -> None:
        transport = HttpTransport(http, service.url, headers={"Authorization": "Bearer a\n"}, retry=QUICK)
        with pytest.raises(RemoteCallError, match="LocalProtocolError") as caught:
            await RemoteOperation.from_name(transport, NAME)
        assert not caught.value.transient

    async def test_404_is_the_operation_missing(self, handle: RemoteOperation[Any], service: Service) -> None:
        missing = {"error": {"code": 404, "message": "it has expired", "status": "NOT_FOUND"}}
        service.answers(RUNNING, Answer(404, missing))
        with pytest.raises(lro.OperationNotFoundError, match="does not exist: it has expired") as caught:
            await handle
        assert caught.value.problem == "it has expired"
        assert handle.raw_response.status_code == 404
        assert len(service.asked) == 2

    @pytest.mark.parametrize(
        "page",
        [
            Answer(404, b"default backend - 404", {"Content-Type": "text/plain"}),
            Answer(404, b"<html><title>404</title></html>", {"Content-Type": "text/html"}),
            Answer(410, b"<html>"),
            Answer(404, {"message": "no Route matched with those values"}),
        ],
    )
    async def test_404_of_an_ingress_does_not_end_the_wait(
        self, handle: RemoteOperation[Any], service: Service, page: Answer
    ) -> None:
        service.answers(RUNNING, page, page, page, page, DONE)
        assert (await handle).value == "ok"

    async def test_404_of_a_web_site_is_told_within_the_first_seconds(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(Answer(404, b"<html>no such page</html>", {"Content-Type": "text/html"}))
        with pytest.raises(RemoteCallError, match=r"HTTP 404: .*text/html: '<html>no such page") as caught:
            await handle
        assert (caught.value.http_status, caught.value.code) == (404, lro.Code.UNAVAILABLE)
        assert len(service.asked) == 3

    async def test_completed_handle_keeps_its_value_when_the_operation_is_forgotten(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(DONE, Answer(404))
        await handle
        with pytest.raises(lro.OperationNotFoundError):
            await handle.update_status()
        assert handle.value.value == "ok"


class TestLongPolls:
    @pytest.fixture
    def transport(self, http: httpx.AsyncClient, service: Service) -> HttpTransport:
        return HttpTransport(http, service.url, poll=FAST, retry=QUICK, timeout=5, long_polls=True)

    async def test_end_is_told_by_wait(self, handle: RemoteOperation[Any], service: Service) -> None:
        service.answers(DONE)
        assert (await handle).value == "ok"
        assert service.lines() == [f"POST /v1/{NAME}:wait"]
        assert json.loads(service.asked[0].body) == {"timeout": "60.000s"}

    @pytest.mark.parametrize("status", [404, 405, 501])
    async def test_service_without_wait_is_polled_from_then_on(
        self, handle: RemoteOperation[Any], transport: HttpTransport, service: Service, status: int
    ) -> None:
        service.queue.append(Answer(status, b"Not Found"))
        service.otherwise = lambda asked: RUNNING if len(service.asked) < 4 else DONE
        assert (await handle).value == "ok"
        assert service.lines() == [f"POST /v1/{NAME}:wait", *[f"GET /v1/{NAME}"] * 3]
        assert transport.long_polls is False

    async def test_operation_that_is_missing_is_told_by_the_look_that_follows(
        self, handle: RemoteOperation[Any], service: Service
    ) -> None:
        service.answers(Answer(404, {"error": {"code": 404, "message": "no such operation", "status": "NOT_FOUND"}}))
        with pytest.raises(lro.OperationNotFoundError):
            await handle
        assert service.lines() == [f"POST /v1/{NAME}:wait", f"GET /v1/{NAME}"]

    async def test_where_wait_was_answered_once_404_is_the_operation_missing(
        self, transport: HttpTransport, service: Service
    ) -> None:
        def answer(asked: Asked) -> Answer:
            return DONE if NAME in asked.target else Answer(404)

        service.otherwise = answer
        await RemoteOperation.from_name(transport, NAME)
        with pytest.raises(lro.OperationNotFoundError):
            await RemoteOperation.from_name(transport, "operations/gone")
        assert transport.long_polls is True
        assert service.lines() == [f"POST /v1/{NAME}:wait", "POST /v1/operations/gone:wait"]

    async def test_time_of_a_long_poll_is_beyond_that_of_a_look(
        self, http: httpx.AsyncClient, service: Service
    ) -> None:
        service.answers(Answer(silent=True))
        transport = HttpTransport(http, service.url, timeout=0.05, long_polls=True)
        waiting = asyncio.ensure_future(transport.wait(transport.place(NAME), 30, CallOptions()))
        _, still = await asyncio.wait({waiting}, timeout=0.3)
        assert waiting in still
        waiting.cancel()
        await asyncio.wait({waiting})
