"""The Azure-style face over real sockets: start replies, status monitors, errors, access control."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import lro_aio as lro
from lro_aio.servers.fastapi import accepted, install_error_handlers, operation_id_from_request, operations_router
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing import FaultyStore, ManualClock

from .test_errors_agree import SAMPLES

pytestmark = pytest.mark.asyncio

ServeHttp = Callable[[Any], Any]


def app_of(client: lro.Client, *, base_url: str | None = None, parent: str = "", **options: Any) -> FastAPI:
    """``POST /jobs/{handler}`` starts what it names; the status monitors are below ``/v1``."""
    app = FastAPI()
    install_error_handlers(app, style="azure")

    @app.post("/jobs/{handler}")
    async def start(
        handler: str,
        request: Request,
        operation_id: Annotated[str | None, Depends(operation_id_from_request)],
        value: Annotated[int, Body(embed=True)] = 0,
    ) -> Any:
        kind = client.handlers.get(handler).codec.kind
        state = None if kind is None else kind(value)
        op = await client.start(handler, state, operation_id=operation_id, parent=parent)
        return accepted(op, request, base_url)

    app.include_router(operations_router(client, style="azure", **options))
    return app


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    """HTTP status, code and canonical name of an Azure error body, whose form is checked."""
    body = answer.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"code", "message", "innererror"}
    assert set(error["innererror"]) == {"code", "details"}
    assert error["message"]
    assert answer.headers["x-ms-error-code"] == error["code"]
    assert answer.headers["content-type"] == "application/json"
    assert error["code"].lower() == error["innererror"]["code"].replace("_", "").lower()
    infos = [d for d in error["innererror"]["details"] if d["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"]
    assert len(infos) == 1
    return answer.status_code, error["code"], infos[0]["reason"]


async def ended(http: httpx.AsyncClient, client: lro.Client, name: str) -> dict[str, Any]:
    """The status monitor once the operation has ended."""
    await client.wait_operation(name, timeout=10)
    answer = await http.get(f"/v1/{name}")
    assert answer.status_code == 200
    assert "retry-after" not in answer.headers
    monitor: dict[str, Any] = answer.json()
    return monitor


class TestStart:
    async def test_answer_is_202_with_the_monitor_and_where_and_when_to_ask(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        async with serve_http(app_of(client)) as http:
            answer = await http.post("/jobs/held", json={"value": 3})
            assert answer.status_code == 202
            identifier = answer.json()["id"]
            monitor = {"id": identifier, "name": f"operations/{identifier}", "kind": "held", "status": "Running"}
            assert answer.json() == monitor
            assert answer.headers["operation-location"] == f"{http.base_url}/v1/operations/{identifier}"
            assert (answer.headers["operation-id"], answer.headers["retry-after"]) == (identifier, "1")

            polled = await http.get(answer.headers["operation-location"])
            assert (polled.status_code, polled.json()) == (200, monitor)
            assert polled.headers["retry-after"] == "1"

    async def test_answer_is_202_where_the_operation_has_ended_already(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        async with serve_http(app_of(client)) as http:
            first = await http.post("/jobs/double", json={"value": 3}, headers={"Operation-Id": "mine"})
            await ended(http, client, first.json()["name"])
            again = await http.post("/jobs/double", json={"value": 3}, headers={"Operation-Id": "mine"})
        assert again.status_code == 202
        assert (again.json()["status"], again.json()["result"]) == ("Succeeded", "6")
        assert again.headers["operation-location"] == first.headers["operation-location"]
        assert "retry-after" not in again.headers

    async def test_request_is_validated_before_anything_is_accepted(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        async with serve_http(app_of(client)) as http:
            answer = await http.post("/jobs/double", json={"value": "three"}, headers={"Operation-Id": "mine"})
            assert problem(answer) == (400, "InvalidArgument", "INVALID_REQUEST")
            assert problem(await http.post("/jobs/nobody")) == (501, "Unimplemented", "UNKNOWN_HANDLER")
            assert (await http.get("/v1/operations")).json() == {"value": []}

    async def test_client_that_is_not_open_is_503_with_a_time_to_come_back(
        self, handlers: lro.Handlers, serve_http: ServeHttp
    ) -> None:
        client = lro.Client("sqlite://", handlers=[handlers])
        async with serve_http(app_of(client)) as http:
            for answer in (await http.post("/jobs/double"), await http.get("/v1/operations/a")):
                assert problem(answer) == (503, "Unavailable", "CLIENT_CLOSED")
                assert int(answer.headers["retry-after"]) >= 1
            async with client:
                op = await client.start("sleeps")
                await client.drain(0)
                assert (await http.get(f"/v1/{op.name}")).json()["status"] == "Running"
            assert problem(await http.get(f"/v1/{op.name}")) == (503, "Unavailable", "CLIENT_CLOSED")


class TestOperationId:
    @pytest.mark.parametrize("sent", ["mine", "3f6c0e1a-9a55-4a4e-8d5e-3c1f2c7b6a10", "a" * 128])
    async def test_id_of_the_client_is_the_one_of_the_monitor(
        self, client: lro.Client, serve_http: ServeHttp, sent: str
    ) -> None:
        async with serve_http(app_of(client)) as http:
            answer = await http.post("/jobs/held", headers={"Operation-Id": sent})
        assert (answer.json()["id"], answer.headers["operation-id"]) == (sent, sent)
        assert answer.headers["operation-location"].endswith(f"/v1/operations/{sent}")

    async def test_one_is_made_where_the_client_sends_none(self, client: lro.Client, serve_http: ServeHttp) -> None:
        async with serve_http(app_of(client)) as http:
            ids = [(await http.post("/jobs/held")).headers["operation-id"] for _ in range(2)]
        assert ids[0] != ids[1]
        assert all(str(uuid.UUID(identifier)) == identifier for identifier in ids)

    async def test_same_request_again_starts_nothing(self, client: lro.Client, serve_http: ServeHttp) -> None:
        async with serve_http(app_of(client)) as http:
            answers = await asyncio.gather(
                *(http.post("/jobs/held", json={"value": 3}, headers={"Operation-Id": "mine"}) for _ in range(5))
            )
            listed = (await http.get("/v1/operations")).json()["value"]
        assert {answer.status_code for answer in answers} == {202}
        assert [monitor["id"] for monitor in listed] == ["mine"]

    @pytest.mark.parametrize(("path", "value"), [("/jobs/held", 4), ("/jobs/double", 3)])
    async def test_another_request_under_the_same_id_is_400_and_does_no_harm(
        self, client: lro.Client, serve_http: ServeHttp, path: str, value: int
    ) -> None:
        async with serve_http(app_of(client)) as http:
            await http.post("/jobs/held", json={"value": 3}, headers={"Operation-Id": "mine"})
            answer = await http.post(path, json={"value": value}, headers={"Operation-Id": "mine"})
            assert problem(answer) == (400, "AlreadyExists", "OPERATION_ALREADY_EXISTS")
            assert (await http.get("/v1/operations/mine")).json()["kind"] == "held"

    @pytest.mark.parametrize("sent", ["", "a b", "a/b", "-a", "ä".encode(), "a" * 129, "a, b"])
    async def test_malformed_one_is_400(self, client: lro.Client, serve_http: ServeHttp, sent: Any) -> None:
        async with serve_http(app_of(client)) as http:
            answer = await http.post("/jobs/held", headers={"Operation-Id": sent})
            assert problem(answer) == (400, "InvalidArgument", "INVALID_REQUEST")
            assert (await http.get("/v1/operations")).json() == {"value": []}

    async def test_two_of_them_are_400(self, client: lro.Client, serve_http: ServeHttp) -> None:
        async with serve_http(app_of(client)) as http:
            answer = await http.post("/jobs/held", headers=[("Operation-Id", "a"), ("Operation-Id", "b")])
        assert problem(answer)[0] == 400

    @pytest.mark.parametrize("header", ["Repeatability-Request-ID", "repeatability-first-sent"])
    async def test_repeatability_headers_are_501_and_nothing_is_done(
        self, client: lro.Client, serve_http: ServeHttp, header: str
    ) -> None:
        op = await client.start("held", operation_id="running")
        async with serve_http(app_of(client)) as http:
            for path in ("/jobs/held", f"/v1/{op.name}:cancel"):
                answer = await http.post(path, headers={header: "x"})
                assert problem(answer) == (501, "Unimplemented", "UNSUPPORTED_FIELD")
            listed = (await http.get("/v1/operations")).json()["value"]
        assert [(monitor["id"], monitor["status"]) for monitor in listed] == [("running", "Running")]


class TestLocation:
    async def test_mounted_application_names_the_path_at_which_it_is(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        outer = FastAPI()
        outer.mount("/a team/jobs", app_of(client), name="jobs")
        async with serve_http(outer) as http:
            answer = await http.post("/a team/jobs/jobs/held", headers={"Operation-Id": "mine"})
            location = answer.headers["operation-location"]
            assert location == f"{http.base_url}/a%20team/jobs/v1/operations/mine"
            assert (await http.get(location)).json()["id"] == "mine"

    async def test_root_path_of_a_proxy_that_strips_it(self, client: lro.Client, serve_http: ServeHttp) -> None:
        app = app_of(client)
        app.root_path = "/edge"
        async with serve_http(app) as http:
            answer = await http.post("/jobs/held", headers={"Operation-Id": "mine", "Host": "api.example.com"})
        assert answer.headers["operation-location"] == "http://api.example.com/edge/v1/operations/mine"

    @pytest.mark.parametrize("base_url", ["https://api.example.com/jobs", "https://api.example.com/jobs/"])
    async def test_base_url_stands_for_what_a_proxy_hides(
        self, client: lro.Client, serve_http: ServeHttp, base_url: str
    ) -> None:
        async with serve_http(app_of(client, base_url=base_url)) as http:
            answer = await http.post("/jobs/held", headers={"Operation-Id": "mine"})
        assert answer.headers["operation-location"] == "https://api.example.com/jobs/v1/operations/mine"

    @pytest.mark.parametrize("base_url", ["", "/jobs", "api.example.com", "ftp://a", "https://a?b=c", "https://a#b"])
    async def test_base_url_that_is_none_is_refused(self, client: lro.Client, base_url: str) -> None:
        op = await client.create()
        request = Request({"type": "http", "headers": [], "query_string": b"", "path": "/", "scheme": "http"})
        with pytest.raises(ValueError, match="base_url must be like"):
            accepted(op, request, base_url)

    async def test_prefix_of_the_router(self, client: lro.Client, serve_http: ServeHttp) -> None:
        app = FastAPI()

        @app.post("/start")
        async def start(request: Request) -> Any:
            return accepted(await client.create(lease=False), request, prefix="/api/monitors")

        app.include_router(operations_router(client, style="azure", prefix="/monitors"), prefix="/api")
        async with serve_http(app) as http:
            answer = await http.post("/start")
            assert (await http.get(answer.headers["operation-location"])).json() == answer.json()

    async def test_api_version_goes_on_and_any_is_taken(self, client: lro.Client, serve_http: ServeHttp) -> None:
        async with serve_http(app_of(client)) as http:
            answer = await http.post("/jobs/held?api-version=2026-01-01 preview&other=1")
            location = answer.headers["operation-location"]
            assert location.endswith("?api-version=2026-01-01+preview")
            assert (await http.get(location)).status_code == 200
            assert (await http.get(f"{location.partition('?')[0]}?api-version=1999")).status_code == 200

    async def test_names_with_a_parent(self, client: lro.Client, serve_http: ServeHttp) -> None:
        async with serve_http(app_of(client, parent="tenants/acme:x@y")) as http:
            answer = await http.post("/jobs/held", headers={"Operation-Id": "mine"})
            assert (answer.json()["id"], answer.json()["name"]) == ("mine", "tenants/acme:x@y/operations/mine")
            location = answer.headers["operation-location"]
            assert location.endswith("/v1/tenants/acme:x@y/operations/mine")
            assert (await http.get(location)).json() == answer.json()
            assert problem(await http.get("/v1/operations/mine"))[0] == 404


class TestMonitor:
    async def test_not_started_until_a_worker_has_it(self, handlers: lro.Handlers, serve_http: ServeHttp) -> None:
        front = lro.Client("sqlite://", handlers=[handlers], worker=False)
        async with front, serve_http(app_of(front)) as http:
            answer = await http.post("/jobs/held")
            assert answer.json()["status"] == "NotStarted"
            polled = await http.get(answer.headers["operation-location"])
            assert (polled.json()["status"], polled.headers["retry-after"]) == ("NotStarted", "1")

    async def test_running_while_it_runs_while_it_sleeps_and_when_it_was_handed_back(
        self, handlers: lro.Handlers, serve_http: ServeHttp, gates: Any, tmp_path: Any
    ) -> None:
        url = f"sqlite:///{tmp_path}/operations.db"
        async with lro.Client(url, handlers=[handlers], drain_timeout=0) as client, serve_http(app_of(client)) as http:
            held, asleep = await client.start("held"), await client.start("sleeps")
            await gates.started.wait()
            for op in (held, asleep):
                assert (await http.get(f"/v1/{op.name}")).json()["status"] == "Running"
        async with lro.Client(url, worker=False) as front, serve_http(app_of(front)) as http:
            assert (await front.operation(held.name)).record.state == "PENDING"
            assert (await http.get(f"/v1/{held.name}")).json()["status"] == "Running"

    async def test_succeeded_has_the_result(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.start("double")
        async with serve_http(app_of(client)) as http:
            monitor = await ended(http, client, op.name)
        assert monitor == {"id": op.id, "name": op.name, "kind": "double", "status": "Succeeded", "result": "0"}

    async def test_succeeded_without_a_response_has_none(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.create()
        await op.done()
        async with serve_http(app_of(client)) as http:
            assert await ended(http, client, op.name) == {"id": op.id, "name": op.name, "status": "Succeeded"}

    async def test_failed_has_the_error_with_every_detail(self, client: lro.Client, serve_http: ServeHttp) -> None:
        quota = error_details_pb2.QuotaFailure(violations=[{"subject": "disk", "description": "full"}])
        status = status_pb2.Status(code=lro.Code.RESOURCE_EXHAUSTED, message="the disk is full")
        status.details.add().Pack(quota)
        status.details.append(any_pb2.Any(type_url="type.example.com/unknown.Type", value=b"\x08\x01"))
        op = await client.create()
        await op.fail(status)
        async with serve_http(app_of(client)) as http:
            monitor = await ended(http, client, op.name)
        assert monitor == {
            "id": op.id,
            "name": op.name,
            "status": "Failed",
            "error": {
                "code": "ResourceExhausted",
                "message": "the disk is full",
                "innererror": {
                    "code": "RESOURCE_EXHAUSTED",
                    "details": [
                        {
                            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                            "violations": [{"subject": "disk", "description": "full"}],
                        },
                        {"@type": "type.example.com/unknown.Type", "value": "CAE="},
                    ],
                },
            },
        }

    async def test_defects_of_a_handler_are_hidden_unless_exposed(self, serve_http: ServeHttp) -> None:
        for expose in (False, True):
            async with lro.Client("sqlite://", expose_errors=expose) as client, serve_http(app_of(client)) as http:

                @client.handler("broken")
                async def broken(op: lro.Operation[Any]) -> None:
                    raise KeyError("secret")

                monitor = await ended(http, client, (await client.start("broken")).name)
            assert monitor["status"] == "Failed"
            assert ("secret" in monitor["error"]["message"]) is expose

    async def test_progress_is_percent_complete(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.create()
        await op.progress(0.29, "copying")
        async with serve_http(app_of(client)) as http:
            monitor = (await http.get(f"/v1/{op.name}")).json()
        assert (monitor["percentComplete"], monitor["metadata"]) == (29, {"progress": 0.29, "message": "copying"})

    async def test_retry_after_is_a_tenth_of_the_age_from_1_to_30_seconds(
        self, handlers: lro.Handlers, serve_http: ServeHttp
    ) -> None:
        clock = ManualClock()
        async with lro.Client("sqlite://", handlers=[handlers], clock=clock) as client:
            op = await client.start("sleeps")
            async with serve_http(app_of(client)) as http:
                for step, expected in ((0, "1"), (19, "1"), (11, "3"), (270, "30"), (3000, "30")):
                    await clock.advance(step)
                    assert (await http.get(f"/v1/{op.name}")).headers["retry-after"] == expected

    async def test_it_stays_for_a_day_and_more_after_the_end(
        self, handlers: lro.Handlers, serve_http: ServeHttp
    ) -> None:
        clock = ManualClock()
        async with lro.Client("sqlite://", handlers=[handlers], clock=clock) as client:
            op = await client.create()
            await op.done()
            async with serve_http(app_of(client)) as http:
                await clock.advance(29 * 86400)
                assert (await http.get(f"/v1/{op.name}")).json()["status"] == "Succeeded"
                await clock.advance(86400)
                assert problem(await http.get(f"/v1/{op.name}")) == (404, "NotFound", "OPERATION_NOT_FOUND")

    async def test_a_look_is_one_read(self, handlers: lro.Handlers, serve_http: ServeHttp) -> None:
        store = FaultyStore(SqliteStore("sqlite://"))
        async with lro.Client(store, handlers=[handlers], worker=False) as client, serve_http(app_of(client)) as http:
            op = await client.start("held")
            before = store.calls.copy()
            await http.get(f"/v1/{op.name}")
            assert store.calls - before == {"read": 1}


class TestCancel:
    async def test_running_one_answers_200_with_the_monitor_and_ends_canceled_without_an_error(
        self, client: lro.Client, serve_http: ServeHttp, gates: Any
    ) -> None:
        op = await client.start("held")
        await gates.started.wait()
        async with serve_http(app_of(client)) as http:
            answer = await http.post(f"/v1/{op.name}:cancel")
            assert (answer.status_code, answer.json()["id"]) == (200, op.id)
            assert ("retry-after" in answer.headers) is (answer.json()["status"] == "Running")
            monitor = await ended(http, client, op.name)
            assert monitor == {"id": op.id, "name": op.name, "kind": "held", "status": "Canceled"}
            assert (await http.post(f"/v1/{op.name}:cancel", json={})).json() == monitor
        assert gates.cancelled == [lro.CancelReason.CANCEL_REQUESTED]

    async def test_finished_one_stays_as_it_is(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.start("double")
        async with serve_http(app_of(client)) as http:
            monitor = await ended(http, client, op.name)
            answer = await http.post(f"/v1/{op.name}:cancel")
        assert (answer.status_code, answer.json()) == (200, monitor)

    async def test_unknown_one_is_404(self, client: lro.Client, serve_http: ServeHttp) -> None:
        async with serve_http(app_of(client)) as http:
            answer = await http.post("/v1/operations/none:cancel")
        assert problem(answer) == (404, "NotFound", "OPERATION_NOT_FOUND")


class TestDelete:
    async def test_monitor_is_gone_and_a_repeat_is_204_too(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.start("double")
        async with serve_http(app_of(client)) as http:
            await ended(http, client, op.name)
            for _ in range(2):
                answer = await http.delete(f"/v1/{op.name}")
                assert (answer.status_code, answer.content) == (204, b"")
            assert problem(await http.get(f"/v1/{op.name}")) == (404, "NotFound", "OPERATION_NOT_FOUND")
            assert problem(await http.delete("/v1/operations//a"))[0] == 400


class TestList:
    async def test_pages_are_followed_by_their_absolute_links(self, client: lro.Client, serve_http: ServeHttp) -> None:
        started = [await client.start("sleeps") for _ in range(5)]
        async with serve_http(app_of(client)) as http:
            url, found, pages = "/v1/operations?maxpagesize=2&api-version=1&filter=done%3Dfalse", [], 0
            while url:
                answer = await http.get(url)
                assert answer.status_code == 200
                found += answer.json()["value"]
                url = answer.json().get("nextLink", "")
                assert not url or (url.startswith(f"{http.base_url}/v1/operations?") and "api-version=1" in url)
                pages += 1
        assert pages == 3
        assert [monitor["name"] for monitor in found] == [op.name for op in reversed(started)]
        assert {(monitor["kind"], monitor["status"]) for monitor in found} == {("sleeps", "Running")}

    @pytest.mark.parametrize(
        ("path", "root"), [("/v1/operations", "/behind"), ("/behind/v1/operations", "/behind"), ("/v1/operations", "")]
    )
    async def test_links_keep_the_path_that_a_proxy_takes_away(self, client: lro.Client, path: str, root: str) -> None:
        for _ in range(2):
            await client.start("sleeps")
        transport = httpx.ASGITransport(app=app_of(client), root_path=root)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            link = (await http.get(f"{path}?maxpagesize=1")).json()["nextLink"]
            assert link.startswith(f"http://test{root}/v1/operations?maxpagesize=1&pageToken=")
            rest = await http.get(link)
            assert len(rest.json()["value"]) == 1

    async def test_parents(self, client: lro.Client, serve_http: ServeHttp) -> None:
        top, below = await client.create(), await client.create(parent="projects/p", operation_id="operations")
        async with serve_http(app_of(client)) as http:

            async def names(path: str) -> set[str]:
                return {monitor["name"] for monitor in (await http.get(path)).json()["value"]}

            assert await names("/v1/operations") == {top.name}
            assert await names("/v1/projects/p/operations") == {below.name}
            assert await names("/v1/-/operations") == {top.name, below.name}
            assert (await http.get("/v1/projects/p/operations/operations")).json()["id"] == "operations"

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"maxpagesize": "many"}, (400, "InvalidArgument", "INVALID_REQUEST")),
            ({"maxpagesize": "-1"}, (400, "InvalidArgument", "INVALID_REQUEST")),
            ({"maxpagesize": "99999999999999"}, (400, "InvalidArgument", "INVALID_REQUEST")),
            ({"pageToken": "abc"}, (400, "InvalidArgument", "INVALID_PAGE_TOKEN")),
            ({"filter": "colour = red"}, (400, "InvalidArgument", "INVALID_FILTER")),
            ({"top": "3"}, (400, "InvalidArgument", "INVALID_REQUEST")),
            ({"orderby": "name"}, (400, "InvalidArgument", "INVALID_REQUEST")),
        ],
    )
    async def test_malformed_queries(
        self, client: lro.Client, serve_http: ServeHttp, query: dict[str, str], expected: tuple[int, str, str]
    ) -> None:
        async with serve_http(app_of(client)) as http:
            assert problem(await http.get("/v1/operations", params=query)) == expected


class TestAuthorize:
    async def test_every_verb_is_asked_for(self, client: lro.Client, serve_http: ServeHttp) -> None:
        asked: list[tuple[str, str]] = []

        async def authorize(request: Any, verb: str, name: str) -> bool:
            assert request.headers["x-user"] == "ada"
            asked.append((verb, name))
            return True

        op = await client.start("held")
        async with serve_http(app_of(client, authorize=authorize)) as http:
            http.headers["x-user"] = "ada"
            for path in (op.name, "operations", "projects/p/operations"):
                assert (await http.get(f"/v1/{path}")).status_code == 200
            await http.post(f"/v1/{op.name}:cancel")
            await http.delete(f"/v1/{op.name}")
        assert asked == [
            ("get", op.name),
            ("list", "operations"),
            ("list", "projects/p/operations"),
            ("cancel", op.name),
            ("delete", op.name),
        ]

    @pytest.mark.parametrize("raises", [False, True])
    async def test_refusal_comes_before_validation_and_existence(
        self, client: lro.Client, serve_http: ServeHttp, raises: bool
    ) -> None:
        def authorize(request: Any, verb: str, name: str) -> bool:
            if raises:
                raise PermissionError
            return False

        op = await client.start("held")
        async with serve_http(app_of(client, authorize=authorize)) as http:
            answers = [
                await http.get(f"/v1/{op.name}"),
                await http.get("/v1/operations/none"),
                await http.get("/v1/operations//"),
                await http.get("/v1/operations?maxpagesize=x"),
                await http.post(f"/v1/{op.name}:cancel", headers={"Repeatability-Request-ID": "x"}),
                await http.post(f"/v1/{op.name}:cancel"),
                await http.delete(f"/v1/{op.name}"),
                await http.delete("/v1/operations/none"),
            ]
        for answer in answers:
            assert problem(answer) == (403, "PermissionDenied", "PERMISSION_DENIED")
            assert "permission denied, or it might not exist" in answer.json()["error"]["message"]
        assert not (await client.operation(op.name)).cancel_requested

    async def test_http_exception_of_the_hook_is_fastapis(self, client: lro.Client, serve_http: ServeHttp) -> None:
        def authorize(request: Any, verb: str, name: str) -> bool:
            raise HTTPException(401, "who are you?")

        async with serve_http(app_of(client, authorize=authorize)) as http:
            answer = await http.get("/v1/operations/a")
        assert (answer.status_code, answer.json()) == (401, {"detail": "who are you?"})


class TestErrors:
    @pytest.mark.parametrize("exc", SAMPLES, ids=lambda exc: type(exc).__name__)
    async def test_every_error_says_in_this_style_what_it_says_in_googles(
        self, exc: lro.LroError, http_to: Callable[..., httpx.AsyncClient]
    ) -> None:
        answers = []
        for style in ("azure", "google"):
            app = FastAPI()
            install_error_handlers(app, style=style)

            @app.get("/fail")
            async def fail() -> None:
                raise exc

            async with http_to(app) as http:
                answers.append(await http.get("/fail"))
        azure, google = answers
        expected = 400 if isinstance(exc, lro.OperationAlreadyExistsError) else exc.code.http
        assert problem(azure) == (expected, exc.code.name.title().replace("_", ""), exc.reason)
        error, other = azure.json()["error"], google.json()["error"]
        assert (error["message"], error["innererror"]["code"]) == (exc.message, other["status"])
        assert error["innererror"]["details"] == other["details"]
        assert azure.headers.get("retry-after") == google.headers.get("retry-after")

    async def test_store_that_does_not_answer_is_503_with_a_time_to_come_back(
        self, handlers: lro.Handlers, serve_http: ServeHttp
    ) -> None:
        store = FaultyStore(SqliteStore("sqlite://"))
        async with lro.Client(store, handlers=[handlers]) as client, serve_http(app_of(client)) as http:
            store.fail("read", error=lambda: lro.StoreUnavailableError("away", retry_after=2.5))
            answer = await http.get("/v1/operations/a")
        assert problem(answer) == (503, "Unavailable", "STORE_UNAVAILABLE")
        assert answer.headers["retry-after"] == "3"

    async def test_defect_is_logged_and_hidden(
        self, handlers: lro.Handlers, serve_http: ServeHttp, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = FaultyStore(SqliteStore("sqlite://"))
        async with lro.Client(store, handlers=[handlers]) as client, serve_http(app_of(client)) as http:
            store.fail("read", error=lambda: KeyError("secret"))
            answer = await http.get("/v1/operations/a")
        assert problem(answer) == (500, "Unknown", "HANDLER_ERROR")
        assert "secret" not in answer.text
        assert "secret" in caplog.text

    @pytest.mark.parametrize(
        "path", ["operations/", "operations//a", "operations/a/b", "widgets/1", "operations/a%20b", "operations%2Fa"]
    )
    async def test_malformed_names_are_400(self, client: lro.Client, serve_http: ServeHttp, path: str) -> None:
        async with serve_http(app_of(client)) as http:
            for answer in (await http.get(f"/v1/{path}"), await http.post(f"/v1/{path}:cancel")):
                assert problem(answer) == (400, "InvalidArgument", "INVALID_OPERATION_NAME")


async def test_schema_describes_the_routes(client: lro.Client, serve_http: ServeHttp) -> None:
    async with serve_http(app_of(client)) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    assert set(paths) == {
        "/jobs/{handler}",
        "/v1/operations",
        "/v1/{name}/operations",
        "/v1/{name}",
        "/v1/{name}:cancel",
        "/v1/{name}:send",
    }
