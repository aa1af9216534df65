"""The ends of operations in Azure's style, in the forms that services give them and not only the guidelines'."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import BaseModel

import lro_aio as lro
from lro_aio.core import failures
from lro_aio.remote import HttpTransport, RemoteOperation
from lro_aio.remote.azure_monitor import Outcome, failure_of, landed, monitored, result_of

from .http_services import FAST, QUICK, Answer, Service, scripted

MONITOR = "/operations/1"
RUNNING = Answer(body={"id": "1", "status": "InProgress"})
REASON = {"code": "ExecutionFailure", "message": "the reason"}


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    async with scripted() as opened:
        yield opened


@pytest_asyncio.fixture
async def transport(service: Service) -> AsyncIterator[HttpTransport]:
    async with httpx.AsyncClient() as http:
        yield HttpTransport(http, service.url, style="azure", poll=FAST, retry=QUICK, timeout=5)


async def start(
    transport: HttpTransport, service: Service, answer: Answer, *then: Answer, method: str = "POST", kind: Any = None
) -> RemoteOperation[Any]:
    """Start an operation at ``/things/x``; the requests after it are answered in turn."""
    service.answers(answer, *then)
    response = await transport._client.request(method, f"{service.url}/things/x")
    service.asked.clear()
    return RemoteOperation(transport, response, response_type=kind)


def monitored_by(status: int = 202, body: Any = b"") -> Answer:
    return Answer(status, body, {"Operation-Location": MONITOR})


def located(body: Any = b"") -> Answer:
    return Answer(202, body, {"Location": MONITOR})


def failed(status: int) -> Answer:
    return Answer(status, {"id": MONITOR, "name": "1", "status": "Failed", "error": REASON})


@pytest.mark.asyncio
class TestLocation:
    async def test_failure_in_the_body_is_the_operation_s(self, transport: HttpTransport, service: Service) -> None:
        handle = await start(transport, service, located(), failed(200))
        with pytest.raises(lro.OperationFailedError, match="the reason"):
            await handle

    @pytest.mark.parametrize("status", [202, 400, 409, 500])
    async def test_failure_in_the_body_counts_whatever_the_status(
        self, transport: HttpTransport, service: Service, status: int
    ) -> None:
        handle = await start(transport, service, located(), failed(status))
        with pytest.raises(lro.OperationFailedError, match="the reason"):
            await handle
        assert len(service.asked) == 1

    @pytest.mark.parametrize("word", ["Canceled", "cancelled"])
    async def test_cancel_in_the_body(self, transport: HttpTransport, service: Service, word: str) -> None:
        handle = await start(transport, service, located(), Answer(body={"status": word}))
        with pytest.raises(lro.OperationCancelledError):
            await handle

    @pytest.mark.parametrize(
        "body",
        [
            {"status": "InProgress"},
            {"id": MONITOR, "name": "1", "status": "Running", "percentComplete": 40},
            {"id": "/elsewhere/operationStatuses/1", "name": "1", "status": "Creating", "startTime": "2026-01-01"},
            {"id": "another", "status": "Accepted"},
            {"id": "/things/x", "properties": {"provisioningState": "Updating"}},
            {"runtimeStatus": "Running", "input": None, "output": None, "createdTime": "2026-01-01"},
        ],
    )
    async def test_body_under_way_is_not_the_end(
        self, transport: HttpTransport, service: Service, body: dict[str, Any]
    ) -> None:
        handle = await start(transport, service, located(), Answer(body=body), Answer(body={"size": 3}))
        assert await handle == {"size": 3}
        assert len(service.asked) == 2

    @pytest.mark.parametrize(
        "resource",
        [
            {"id": "/things/x", "type": "Things/thing", "status": "Failed"},
            {"id": "/things/x", "name": "x", "status": "Running"},
            {"name": "x", "status": "Active"},
            {"id": "1", "name": "another", "kind": "K", "status": "Active"},
            {"id": "/things/x", "properties": {"provisioningState": "Succeeded"}},
            {"status": "Running", "size": 3},
        ],
    )
    async def test_resource_with_a_status_of_its_own_is_the_result(
        self, transport: HttpTransport, service: Service, resource: dict[str, Any]
    ) -> None:
        handle = await start(transport, service, located(), Answer(body=resource))
        assert await handle == resource

    @pytest.mark.parametrize("status", [200, 202])
    async def test_result_in_a_status_monitor_is_the_result(
        self, transport: HttpTransport, service: Service, status: int
    ) -> None:
        monitor = {"id": MONITOR, "status": "Succeeded", "result": {"size": 3}, "percentComplete": 100}
        handle = await start(transport, service, located(), Answer(status, monitor))
        assert await handle == {"size": 3}
        assert handle.metadata == {"percentComplete": 100}

    async def test_output_of_durable_functions_is_the_result(self, transport: HttpTransport, service: Service) -> None:
        ended = Answer(body={"instanceId": "1", "runtimeStatus": "Completed", "output": [1, 2]})
        assert await (await start(transport, service, located(), ended)) == [1, 2]

    async def test_failed_resource_is_a_failure(self, transport: HttpTransport, service: Service) -> None:
        resource = {"id": "/x", "properties": {"provisioningState": "Failed", "error": REASON}}
        handle = await start(transport, service, located(), Answer(body=resource))
        with pytest.raises(lro.OperationFailedError, match="the reason"):
            await handle

    async def test_failure_in_the_answer_to_the_start_needs_no_poll(
        self, transport: HttpTransport, service: Service
    ) -> None:
        handle = await start(transport, service, located(failed(202).body))
        assert handle.has_completed
        with pytest.raises(lro.OperationFailedError, match="the reason"):
            await handle
        assert service.asked == []


@pytest.mark.asyncio
class TestResource:
    """A PUT or PATCH without a status monitor: ARM's ``provisioningState``."""

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    @pytest.mark.parametrize("status", [200, 201, 202])
    async def test_resource_is_polled_until_its_state_is_final(
        self, transport: HttpTransport, service: Service, method: str, status: int
    ) -> None:
        creating = {"id": "/things/x", "properties": {"provisioningState": "Creating"}}
        ready = {"id": "/things/x", "properties": {"provisioningState": "Succeeded", "size": 3}}
        handle = await start(
            transport, service, Answer(status, creating), Answer(body=creating), Answer(body=ready), method=method
        )
        assert (handle.has_completed, handle.metadata) == (False, {"provisioningState": "Creating"})
        token = handle.rehydration_token
        assert token is not None
        assert await handle == ready
        assert handle.metadata == {"provisioningState": "Succeeded"}
        assert service.lines() == ["GET /things/x"] * 2
        assert (await RemoteOperation.rehydrate(transport, token)).value == ready

    @pytest.mark.parametrize("body", [{"provisioningState": "Failed"}, {"properties": {"provisioningState": "Failed"}}])
    async def test_state_that_is_final_at_once(
        self, transport: HttpTransport, service: Service, body: dict[str, Any]
    ) -> None:
        handle = await start(transport, service, Answer(201, body), method="PUT")
        with pytest.raises(failures.UnknownError, match="did not say why"):
            await handle
        assert service.asked == []

    async def test_accepted_without_any_link_is_polled_at_the_resource(
        self, transport: HttpTransport, service: Service
    ) -> None:
        handle = await start(transport, service, Answer(202), Answer(body={"size": 3}), method="PUT")
        assert await handle == {"size": 3}
        assert service.lines() == ["GET /things/x"]

    async def test_resource_that_a_post_has_made_is_polled_at_its_location(
        self, transport: HttpTransport, service: Service
    ) -> None:
        made = Answer(201, {"properties": {"provisioningState": "Creating"}}, {"Location": "/things/9"})
        ready = {"properties": {"provisioningState": "Succeeded"}}
        handle = await start(transport, service, made, Answer(body=ready))
        assert await handle == ready
        assert service.lines() == ["GET /things/9"]

    async def test_resource_is_neither_deleted_nor_cancelled_in_place_of_its_operation(
        self, transport: HttpTransport, service: Service
    ) -> None:
        creating = Answer(201, {"properties": {"provisioningState": "Creating"}})
        handle = await start(transport, service, creating, method="PUT")
        for call in (handle.cancel, handle.delete):
            with pytest.raises(lro.RemoteCallError, match="has no status monitor") as caught:
                await call()
            assert caught.value.code is lro.Code.UNIMPLEMENTED
        assert service.asked == []

    async def test_resource_that_runs_has_been_made(self, transport: HttpTransport, service: Service) -> None:
        """Its ``status`` is its own: a wait for its end would have none."""
        for status in (200, 201):
            machine = {"id": "/things/x", "name": "x", "status": "Running"}
            assert await (await start(transport, service, Answer(status, machine), method="PUT")) == machine

    async def test_resource_without_a_state_is_the_result(self, transport: HttpTransport, service: Service) -> None:
        handle = await start(transport, service, Answer(201, {"size": 3}), method="PUT")
        assert await handle == {"size": 3}


@pytest.mark.asyncio
class TestMonitor:
    @pytest.mark.parametrize(
        "word", ["partiallySucceeded", "PartiallyCompleted", "Completed", "Done", "SucceededWithIssues"]
    )
    async def test_success_that_is_not_plain_shows_its_word(
        self, transport: HttpTransport, service: Service, word: str
    ) -> None:
        end = Answer(body={"status": word, "result": 1, "error": REASON})
        handle = await start(transport, service, monitored_by(), end)
        assert await handle == 1
        assert handle.metadata == {"status": word, "error": REASON}

    @pytest.mark.parametrize(
        ("word", "error"),
        [
            ("ValidationFailed", failures.InvalidArgumentError),
            ("Rejected", failures.FailedPreconditionError),
            ("TimedOut", failures.DeadlineExceededError),
            ("Error", failures.UnknownError),
            ("Terminated", failures.UnknownError),
        ],
    )
    async def test_failure_has_many_words(
        self, transport: HttpTransport, service: Service, word: str, error: type[Exception]
    ) -> None:
        handle = await start(transport, service, monitored_by(), Answer(body={"status": word}))
        with pytest.raises(error, match=f"did not say why it failed; its status is '{word}'"):
            await handle

    @pytest.mark.parametrize("end", [Answer(204), Answer(200), Answer(200, b"  ")])
    async def test_end_without_a_body(self, transport: HttpTransport, service: Service, end: Answer) -> None:
        handle = await start(transport, service, monitored_by(), RUNNING, end, method="DELETE")
        assert await handle is None

    async def test_end_without_a_body_of_a_put_leads_to_the_resource(
        self, transport: HttpTransport, service: Service
    ) -> None:
        handle = await start(transport, service, monitored_by(), Answer(204), Answer(body={"size": 3}), method="PUT")
        assert await handle == {"size": 3}
        assert service.lines() == [f"GET {MONITOR}", "GET /things/x"]

    @pytest.mark.parametrize("body", [b"", {}, {"id": "1"}])
    async def test_202_goes_on_without_a_word(self, transport: HttpTransport, service: Service, body: Any) -> None:
        handle = await start(transport, service, monitored_by(), Answer(202, body), Answer(204))
        assert await handle is None
        assert len(service.asked) == 2

    @pytest.mark.parametrize(("state", "ended"), [("Succeeded", True), ("Updating", False)])
    async def test_monitor_that_is_the_resource(
        self, transport: HttpTransport, service: Service, state: str, ended: bool
    ) -> None:
        body = {"id": "/things/x", "properties": {"provisioningState": state}}
        handle = await start(transport, service, monitored_by(), Answer(body=body), method="PUT")
        await handle.update_status()
        assert handle.has_completed is ended
        if ended:
            assert handle.value == body

    async def test_durable_functions(self, transport: HttpTransport, service: Service) -> None:
        """202 with a Location, then 200 with ``runtimeStatus``, of a failure too."""
        base = {"name": "Orchestrate", "instanceId": "1", "input": None, "customStatus": None, "createdTime": "..."}
        going = Answer(202, base | {"runtimeStatus": "Running", "output": None}, {"Location": MONITOR})
        ended = Answer(body=base | {"runtimeStatus": "Failed", "output": "Orchestrator function failed: boom"})
        handle = await start(transport, service, located(), going, ended)
        with pytest.raises(lro.OperationFailedError, match="Orchestrator function failed: boom"):
            await handle


@pytest.mark.asyncio
class TestStart:
    @pytest.mark.parametrize("status", [200, 201, 202])
    @pytest.mark.parametrize("identity", [{"id": "1"}, {"id": MONITOR}, {"name": "1"}, {"id": f"https://h{MONITOR}"}])
    async def test_monitor_in_the_answer_needs_no_poll(
        self, transport: HttpTransport, service: Service, status: int, identity: dict[str, str]
    ) -> None:
        body = {**identity, "status": "Succeeded", "result": 1}
        handle = await start(transport, service, monitored_by(status, body))
        assert handle.has_completed
        assert await handle == 1
        assert service.asked == []

    async def test_failure_in_the_answer_keeps_its_reason(self, transport: HttpTransport, service: Service) -> None:
        handle = await start(transport, service, monitored_by(202, {"status": "Failed", "error": REASON}), Answer(404))
        with pytest.raises(lro.OperationFailedError, match="the reason"):
            await handle


class Pages(BaseModel):
    pages: list[int]


@pytest.mark.asyncio
class TestResults:
    @pytest.mark.parametrize("kind", [None, dict, Pages])
    async def test_result_under_another_name(self, transport: HttpTransport, service: Service, kind: Any) -> None:
        end = Answer(body={"status": "succeeded", "createdDateTime": "now", "analyzeResult": {"pages": [1]}})
        handle = await start(transport, service, monitored_by(), end, kind=kind)
        assert await handle == (Pages(pages=[1]) if kind is Pages else {"pages": [1]})
        assert handle.metadata == {"createdDateTime": "now"}

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"result": 1, "analyzeResult": 2}, ("result", 1)),
            ({"result": None, "copyResult": {}}, ("copyResult", {})),
            ({"results": [1]}, ("results", [1])),
            ({"output": {"a": 1}, "properties": {"b": 2}}, ("output", {"a": 1})),
            ({"properties": {"b": 2}}, ("properties", {"b": 2})),
            ({"properties": {}}, None),
            ({"tasks": {"items": []}, "jobId": "1", "lastUpdateDateTime": "x"}, ("", {"tasks": {"items": []}})),
            ({"aResult": 1, "bResult": [2]}, ("", {"aResult": 1, "bResult": [2]})),
            ({"percentComplete": 100, "createdDateTime": "x", "note": "all well"}, None),
        ],
    )
    async def test_which_member_is_the_result(self, body: dict[str, Any], expected: Any) -> None:
        assert result_of({"id": "1", "status": "Succeeded", **body}) == expected


NESTED = json.dumps({"error": {"code": "Conflict", "message": "the reason"}})


class TestReasons:
    @pytest.mark.parametrize(
        "body",
        [
            {"error": REASON},
            {"error": "the reason"},
            {"error": {"code": "X", "details": [{"code": "Y", "message": "the reason"}]}},
            {"error": {"code": "X", "innererror": {"message": "the reason"}}},
            {"errors": [REASON, {"code": "Other", "message": "another"}]},
            {"errors": ["the reason"]},
            {"analyzeResult": {"errors": [{"code": "3018", "message": "the reason"}]}},
            {"properties": {"error": REASON}},
            {"properties": {"statusMessage": "the reason"}},
            {"properties": {"statusMessage": NESTED}},
            {"result": {"error": REASON}},
            {"statusMessage": NESTED},
            {"message": "the reason"},
            {"failureReason": "the reason"},
            {"error": {"code": "X", "message": None}, "message": "the reason"},
        ],
    )
    def test_it_is_found_wherever_the_service_says_it(self, body: dict[str, Any]) -> None:
        state = monitored({"status": "Failed", **body})
        assert state is not None
        assert failure_of({"status": "Failed", **body}, state).message == "the reason"

    @pytest.mark.parametrize("error", [None, 5, [], [None], {}, "", " ", [[]], {"code": 5, "message": 7}])
    def test_nonsense_is_no_reason(self, error: Any) -> None:
        body = {"status": "Failed", "error": error, "errors": error, "properties": error, "message": error}
        state = monitored(body)
        assert state is not None
        assert "did not say why" in failure_of(body, state).message

    def test_an_error_in_an_error_without_end_has_an_end(self) -> None:
        body: dict[str, Any] = {}
        for _ in range(5000):
            body = {"properties": body}
        state = monitored({"status": "Failed", **body})
        assert state is not None
        assert failure_of({"status": "Failed", **body}, state).message


class TestLanded:
    @pytest.mark.parametrize("body", [None, [], "text", {}, {"status": 5}, {"properties": []}])
    def test_what_tells_of_no_state_is_the_result(self, body: Any) -> None:
        assert landed(body, MONITOR) is None

    def test_every_state_of_provisioning_but_the_final_ones_goes_on(self) -> None:
        """The rule of ARM's RPC contract."""
        for text, outcome in (
            ("Succeeded", Outcome.SUCCEEDED),
            ("Canceled", Outcome.CANCELLED),
            ("X", Outcome.RUNNING),
        ):
            state = landed({"type": "T", "properties": {"provisioningState": text}}, MONITOR)
            assert state is not None
            assert state.outcome is outcome
