"""Operations over HTTP: routes, proto3 JSON, AIP-193 errors, access control."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2, json_format, struct_pb2

import lro_aio as lro
from lro_aio.servers.fastapi import (
    install_error_handlers,
    lifespan,
    operation_response,
    operations_router,
    resume_router,
)
from lro_aio.servers.resume import allow_unverified
from lro_aio.testing import FaultyStore

from .conftest import ON_SHARED_LOOP, Shared

pytestmark = pytest.mark.asyncio

HttpTo = Callable[..., httpx.AsyncClient]


def app_of(client: lro.Client, **options: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(operations_router(client, **options))
    return app


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    """HTTP status, canonical name and reason of an AIP-193 body."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "status", "details"}
    assert error["code"] == answer.status_code
    assert error["message"]
    infos = [d for d in error["details"] if d["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"]
    assert len(infos) == 1
    return answer.status_code, error["status"], infos[0]["reason"]


class TestGet:
    async def test_unfinished_operation_has_no_done_member(self, client: lro.Client, http_to: HttpTo) -> None:
        metadata = struct_pb2.Struct()
        metadata["progress"] = 0.25
        op = await client.start("held", metadata=metadata)
        async with http_to(app_of(client)) as http:
            answer = await http.get(f"/v1/{op.name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "name": op.name,
            "metadata": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"progress": 0.25}},
        }

    async def test_response_reads_back_as_the_message_it_was(self, client: lro.Client, http_to: HttpTo) -> None:
        op = await client.start("double")
        await op.result(timeout=10)
        async with http_to(app_of(client)) as http:
            answer = await http.get(f"/v1/{op.name}")
        assert answer.json()["done"] is True
        assert answer.json()["response"] == {"@type": "type.googleapis.com/google.protobuf.Int64Value", "value": "0"}
        assert json_format.Parse(answer.text, operations_pb2.Operation()) == await client.get_operation(op.name)

    async def test_error_carries_the_canonical_code_not_the_http_one(self, client: lro.Client, http_to: HttpTo) -> None:
        op = await client.start("fails")
        await client.wait_operation(op.name, timeout=10)
        async with http_to(app_of(client)) as http:
            error = (await http.get(f"/v1/{op.name}")).json()["error"]
        assert (error["code"], error["message"]) == (int(lro.Code.RESOURCE_EXHAUSTED), "the disk is full")

    async def test_empty_response_is_the_form_that_every_parser_takes(
        self, client: lro.Client, http_to: HttpTo
    ) -> None:
        op = await client.create()
        await op.done(empty_pb2.Empty())
        async with http_to(app_of(client)) as http:
            answer = await http.get(f"/v1/{op.name}")
        assert answer.json()["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}

    async def test_names_with_a_parent(self, client: lro.Client, http_to: HttpTo) -> None:
        op = await client.create(parent="projects/p:x@y/locations/l")
        async with http_to(app_of(client)) as http:
            assert (await http.get(f"/v1/{op.name}")).json()["name"] == op.name
            encoded = op.name.replace("@", "%40").replace(":", "%3A")
            assert (await http.get(f"/v1/{encoded}")).json()["name"] == op.name

    async def test_operation_whose_id_is_operations(self, client: lro.Client, http_to: HttpTo) -> None:
        op = await client.create(operation_id="operations", parent="")
        async with http_to(app_of(client)) as http:
            assert (await http.get("/v1/operations/operations")).json()["name"] == op.name

    async def test_under_the_path_that_grpc_has(self, client: lro.Client, http_to: HttpTo) -> None:
        op = await client.start("held")
        async with http_to(app_of(client)) as http:
            url = "/google.longrunning.Operations/GetOperation"
            assert (await http.post(url, json={"name": op.name})).json()["name"] == op.name
            assert problem(await http.post(url, json={"nom": op.name})) == (400, "INVALID_ARGUMENT", "INVALID_REQUEST")
            assert problem(await http.post(url, content=b"{")) == (400, "INVALID_ARGUMENT", "INVALID_REQUEST")
            assert problem(await http.post(url, json={}))[2] == "INVALID_OPERATION_NAME"

    async def test_another_prefix(self, client: lro.Client, http_to: HttpTo) -> None:
        op = await client.start("held")
        async with http_to(app_of(client, prefix="/api/v2")) as http:
            assert (await http.get(f"/api/v2/{op.name}")).status_code == 200
            assert (await http.get(f"/v1/{op.name}")).status_code == 404

    @pytest.mark.parametrize("style", ["google", "azure"])
    async def test_nothing_is_served_outside_of_a_prefix(self, client: lro.Client, http_to: HttpTo, style: Any) -> None:
        op = await client.start("held")
        app = app_of(client, prefix="/internal/v1", style=style)
        async with http_to(app) as http:
            paths = (await http.get("/openapi.json")).json()["paths"]
            assert [path for path in paths if not path.startswith("/internal/v1/")] == []
            url, body = "/google.longrunning.Operations/GetOperation", {"name": op.name}
            assert (await http.post(url, json=body)).status_code == 404
            if style == "google":
                assert (await http.post(f"/internal/v1{url}", json=body)).json()["name"] == op.name


class TestUnprintable:
    """A stored operation can always be read."""

    @pytest.mark.parametrize(
        "packed",
        [
            any_pb2.Any(type_url="type.googleapis.com/nobody.knows.This", value=b"\x08\x01"),
            any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Struct", value=b"\xff\xff\xff"),
            any_pb2.Any(type_url="not a type url", value=b"x"),
            any_pb2.Any(
                type_url="type.googleapis.com/google.protobuf.Timestamp", value=b"\x08" + b"\xff" * 8 + b"\x7f"
            ),
        ],
        ids=["unknown type", "other bytes", "no type", "out of range"],
    )
    async def test_any_that_json_cannot_hold_comes_as_base64(
        self, client: lro.Client, http_to: HttpTo, packed: any_pb2.Any
    ) -> None:
        op = await client.create(metadata=packed)
        await op.done(packed)
        fallback = {"@type": packed.type_url, "value": base64.b64encode(packed.value).decode()}
        async with http_to(app_of(client)) as http:
            answer = await http.get(f"/v1/{op.name}")
            assert answer.status_code == 200
            assert answer.json() == {"name": op.name, "metadata": fallback, "done": True, "response": fallback}
            listed = await http.get("/v1/operations")
            assert listed.json()["operations"] == [answer.json()]
            watched = await http.get(f"/v1/{op.name}:watch")
            assert json.loads(watched.text.partition("data: ")[2]) == answer.json()

    async def test_not_a_number_in_a_struct(self, client: lro.Client, http_to: HttpTo) -> None:
        metadata = struct_pb2.Struct()
        metadata["progress"] = float("nan")
        op = await client.create(metadata=metadata)
        async with http_to(app_of(client)) as http:
            answer = await http.get(f"/v1/{op.name}")
        read = struct_pb2.Struct.FromString(base64.b64decode(answer.json()["metadata"]["value"]))
        assert read.fields["progress"].number_value != read.fields["progress"].number_value


class TestList:
    async def test_pages_join_to_everything_newest_first(self, client: lro.Client, http_to: HttpTo) -> None:
        names = [(await client.create()).name for _ in range(5)]
        got: list[str] = []
        async with http_to(app_of(client)) as http:
            token, pages = "", 0
            while True:
                spelling = "pageToken" if pages % 2 else "page_token"
                size = "page_size" if pages % 2 else "pageSize"
                page = (await http.get("/v1/operations", params={size: "2", spelling: token})).json()
                got += [operation["name"] for operation in page.get("operations", [])]
                token, pages = page.get("nextPageToken", ""), pages + 1
                if not token:
                    break
        assert got == sorted(got, key=names.index, reverse=True)
        assert sorted(got) == sorted(names)
        assert pages == 3

    async def test_empty_page_is_an_empty_object(self, client: lro.Client, http_to: HttpTo) -> None:
        async with http_to(app_of(client)) as http:
            assert (await http.get("/v1/operations", params={"filter": "done = true"})).json() == {}

    async def test_of_a_parent_and_of_all_parents(self, client: lro.Client, http_to: HttpTo) -> None:
        top = await client.create()
        below = await client.create(parent="projects/p")
        async with http_to(app_of(client)) as http:

            async def names(path: str) -> set[str]:
                return {operation["name"] for operation in (await http.get(path)).json()["operations"]}

            assert await names("/v1/operations") == {top.name}
            assert await names("/v1/projects/p/operations") == {below.name}
            assert await names("/v1/-/operations") == {top.name, below.name}

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"pageSize": "-1"}, (400, "INVALID_ARGUMENT", "INVALID_REQUEST")),
            ({"pageSize": "many"}, (400, "INVALID_ARGUMENT", "INVALID_REQUEST")),
            ({"page_size": "99999999999999"}, (400, "INVALID_ARGUMENT", "INVALID_REQUEST")),
            ({"pageToken": "abc"}, (400, "INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")),
            ({"filter": "colour = red"}, (400, "INVALID_ARGUMENT", "INVALID_FILTER")),
            ({"returnPartialSuccess": "true"}, (501, "UNIMPLEMENTED", "UNSUPPORTED_FIELD")),
            ({"return_partial_success": "perhaps"}, (400, "INVALID_ARGUMENT", "INVALID_REQUEST")),
        ],
    )
    @ON_SHARED_LOOP
    async def test_malformed_queries(
        self, shared: Shared, http_to: HttpTo, query: dict[str, str], expected: tuple[int, str, str]
    ) -> None:
        async with http_to(shared.app) as http:
            assert problem(await http.get("/v1/operations", params=query)) == expected


class TestVerbs:
    async def test_cancel(self, client: lro.Client, http_to: HttpTo, gates: Any) -> None:
        op = await client.start("held")
        await gates.started.wait()
        async with http_to(app_of(client)) as http:
            assert (await http.post(f"/v1/{op.name}:cancel")).json() == {}
            assert (await client.wait_operation(op.name, timeout=10)).error.code == lro.Code.CANCELLED
            assert (await http.post(f"/v1/{op.name}:cancel", json={})).status_code == 200

    async def test_delete(self, client: lro.Client, http_to: HttpTo) -> None:
        op = await client.create()
        async with http_to(app_of(client)) as http:
            assert (await http.delete(f"/v1/{op.name}")).json() == {}
            assert problem(await http.get(f"/v1/{op.name}")) == (404, "NOT_FOUND", "OPERATION_NOT_FOUND")

    @pytest.mark.parametrize("body", [{"timeout": "0.02s"}, {"timeout": "0s"}, {"name": "x", "timeout": "0s"}])
    async def test_wait_answers_the_latest_state_at_the_timeout(
        self, client: lro.Client, http_to: HttpTo, body: dict[str, str]
    ) -> None:
        op = await client.start("held")
        async with http_to(app_of(client)) as http:
            answer = await asyncio.wait_for(http.post(f"/v1/{op.name}:wait", json=body), 10)
        assert answer.json() == {"name": op.name}

    async def test_wait_answers_when_it_ends(self, client: lro.Client, http_to: HttpTo, gates: Any) -> None:
        op = await client.start("held")
        async with http_to(app_of(client)) as http:
            waiting = asyncio.create_task(http.post(f"/v1/{op.name}:wait"))
            await gates.started.wait()
            gates.go.set()
            assert (await asyncio.wait_for(waiting, 10)).json()["done"] is True

    @pytest.mark.parametrize(
        "body", [b"[]", b"{", b'{"timeout": "-1s"}', b'{"timeout": "soon"}', b"\xff", b"[" * 50_000]
    )
    @ON_SHARED_LOOP
    async def test_malformed_bodies(self, shared: Shared, http_to: HttpTo, body: bytes) -> None:
        op = await shared.client.start("waits")
        async with http_to(shared.app) as http:
            answer = await http.post(f"/v1/{op.name}:wait", content=body)
        assert problem(answer) == (400, "INVALID_ARGUMENT", "INVALID_REQUEST")

    async def test_body_over_the_limit(self, client: lro.Client, http_to: HttpTo) -> None:
        op = await client.start("held")
        async with http_to(app_of(client)) as http:
            assert problem(await http.post(f"/v1/{op.name}:wait", content=b" " * 70_000))[0] == 413

            async def chunks() -> Any:
                for _ in range(70):
                    yield b" " * 1000

            assert problem(await http.post(f"/v1/{op.name}:wait", content=chunks()))[0] == 413


class TestWeirdNames:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/",
            "/v1/operations/",
            "/v1//operations/a",
            "/v1/operations//a",
            "/v1/operations/a//",
            "/v1/operations/a/b",
            "/v1/x//operations",
            "/v1/widgets/1",
            "/v1/operations/a%20b",
            "/v1/operations/%00",
            "/v1/operations/%ff",
            "/v1/operations%2Fa",
            "/v1/operations/a%2Fb",
            "/v1/operations/%252e",
            "/v1/operations/..%2f..%2fetc",
            "/v1/operations/" + "a" * 600,
            "/v1/operations/" + "a" * 20_000,
            "/v1/operations/a:watch:watch",
            "/v1/:watch",
            "/v1/operations/none%0a",
            "/v1/operations/none:watch%0a",
            "/v1/operations%0a",
            "/v1/projects/p/operations%0a",
        ],
    )
    @ON_SHARED_LOOP
    async def test_get_is_a_bad_request(self, shared: Shared, http_to: HttpTo, path: str) -> None:
        async with http_to(shared.app) as http:
            assert problem(await http.get(path)) == (400, "INVALID_ARGUMENT", "INVALID_OPERATION_NAME")

    @pytest.mark.parametrize("method", ["DELETE", "POST :cancel", "POST :wait", "GET :watch"])
    @ON_SHARED_LOOP
    async def test_every_verb(self, shared: Shared, http_to: HttpTo, method: str) -> None:
        verb, _, suffix = method.partition(" ")
        async with http_to(shared.app) as http:
            for name, expected in (("operations//a", 400), ("operations%2Fa", 400), ("operations/none", 404)):
                assert problem(await http.request(verb, f"/v1/{name}{suffix}"))[0] == expected


class TestFailures:
    async def test_store_that_does_not_answer_is_503_with_a_time_to_come_back(
        self, handlers: lro.Handlers, http_to: HttpTo, caplog: pytest.LogCaptureFixture
    ) -> None:
        from lro_aio.stores.sqlite import SqliteStore

        store = FaultyStore(SqliteStore("sqlite://"))
        async with lro.Client(store, handlers=[handlers]) as client, http_to(app_of(client)) as http:
            error = lro.StoreUnavailableError("/srv/acme/ops.db is away", retry_after=2.5)
            store.fail("read", error=lambda: error)
            answer = await http.get("/v1/operations/a")
        assert problem(answer) == (503, "UNAVAILABLE", "STORE_UNAVAILABLE")
        assert answer.headers["retry-after"] == "3"
        assert "acme" not in answer.text, "where the store is, is for the log"
        assert "/srv/acme/ops.db is away" in caplog.text

    async def test_client_that_is_not_open_is_503(self, handlers: lro.Handlers, http_to: HttpTo) -> None:
        client = lro.Client("sqlite://", handlers=[handlers])
        async with http_to(app_of(client)) as http:
            answer = await http.get("/v1/operations/a")
            assert problem(answer) == (503, "UNAVAILABLE", "CLIENT_CLOSED")
            assert int(answer.headers["retry-after"]) >= 1
            async with client:
                assert (await http.get("/v1/operations/a")).status_code == 404
            assert (await http.get("/v1/operations/a")).status_code == 503

    async def test_mounted_application_whose_lifespan_never_runs_says_so(
        self, handlers: lro.Handlers, http_to: HttpTo, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = lro.Client("sqlite://", handlers=[handlers])
        mounted = FastAPI(lifespan=lifespan(client))
        install_error_handlers(mounted)
        mounted.include_router(operations_router(client))

        @mounted.post("/start")
        async def start() -> Any:
            return operation_response(await client.start("double"))

        outer = FastAPI()
        outer.mount("/api", mounted)
        async with outer.router.lifespan_context(outer), http_to(outer) as http:
            for answer in (await http.get("/api/v1/operations/a"), await http.post("/api/start")):
                assert problem(answer) == (503, "UNAVAILABLE", "CLIENT_CLOSED")
                assert "never opened" in answer.json()["error"]["message"]
                assert "lifespan" in answer.json()["error"]["message"]
        assert [record.event for record in caplog.records if record.levelname == "ERROR"] == ["client_never_opened"] * 2

    @pytest.mark.parametrize(
        "ids", [{"request_id": "line\nbreak"}, {"request_id": "x" * 129}, {"operation_id": "a b"}, {"operation_id": ""}]
    )
    async def test_malformed_id_of_the_caller_is_a_bad_request(
        self, client: lro.Client, http_to: HttpTo, ids: dict[str, str]
    ) -> None:
        app = FastAPI()
        install_error_handlers(app)

        @app.post("/start")
        async def start(request: dict[str, str]) -> Any:
            return operation_response(await client.start("double", **request))

        async with http_to(app) as http:
            answer = await http.post("/start", json=ids)
        assert problem(answer) == (400, "INVALID_ARGUMENT", "INVALID_REQUEST")
        (field,) = ids
        violations = [detail.get("fieldViolations") for detail in answer.json()["error"]["details"]]
        assert [found[0]["field"] for found in violations if found] == [field]

    async def test_defect_is_logged_and_hidden(
        self, handlers: lro.Handlers, http_to: HttpTo, caplog: pytest.LogCaptureFixture
    ) -> None:
        from lro_aio.stores.sqlite import SqliteStore

        store = FaultyStore(SqliteStore("sqlite://"))
        async with lro.Client(store, handlers=[handlers]) as client, http_to(app_of(client)) as http:
            store.fail("read", error=lambda: KeyError("secret"))
            answer = await http.get("/v1/operations/a")
        assert problem(answer)[0] == 500
        assert "secret" not in answer.text
        assert "secret" in caplog.text


class TestApplication:
    async def test_own_endpoints_start_operations_and_answer_aip_193_errors(
        self, client: lro.Client, http_to: HttpTo
    ) -> None:
        app = FastAPI()
        install_error_handlers(app)

        @app.post("/v1/doubles/{value}")
        async def start(value: int) -> Any:
            return operation_response(await client.start("double", None, request_id="fixed" if value else None), 202)

        @app.get("/v1/doubles/{name}")
        async def fetch(name: str) -> Any:
            return operation_response(await client.get_operation(f"operations/{name}"))

        @app.get("/other")
        async def other() -> None:
            raise HTTPException(418, "teapot")

        app.include_router(operations_router(client))
        async with http_to(app) as http:
            started = await http.post("/v1/doubles/1")
            assert started.status_code == 202
            name = started.json()["name"]
            assert (await http.post(f"/v1/{name}:wait")).json()["done"] is True
            identifier = name.removeprefix("operations/")
            assert (await http.get(f"/v1/doubles/{identifier}")).json()["name"] == name
            assert problem(await http.get("/v1/doubles/none")) == (404, "NOT_FOUND", "OPERATION_NOT_FOUND")
            invalid = await http.post("/v1/doubles/two")
            assert problem(invalid) == (400, "INVALID_ARGUMENT", "INVALID_REQUEST")
            assert "path.value" in invalid.text
            assert (await http.get("/other")).json() == {"detail": "teapot"}

    async def test_closed_client_in_an_own_endpoint_is_503(self, http_to: HttpTo) -> None:
        app = FastAPI()
        install_error_handlers(app)
        closed = lro.Client("sqlite://")

        @app.get("/start")
        async def start() -> Any:
            return operation_response(await closed.create())

        @app.get("/broken")
        async def broken() -> Any:
            raise RuntimeError("another thing")

        async with http_to(app) as http:
            assert problem(await http.get("/start")) == (503, "UNAVAILABLE", "CLIENT_CLOSED")
            assert (await http.get("/broken")).status_code == 500

    async def test_lifespan_opens_and_closes_the_client(self, handlers: lro.Handlers) -> None:
        client = lro.Client("sqlite://", handlers=[handlers])
        app = FastAPI(lifespan=lifespan(client))
        async with app.router.lifespan_context(app):
            assert (await client.create()).name
        with pytest.raises(RuntimeError, match="closed"):
            await client.create()

    async def test_schema_describes_the_routes(self, client: lro.Client, http_to: HttpTo) -> None:
        app = app_of(client)
        app.include_router(resume_router(client, allow_unverified))
        async with http_to(app) as http:
            paths = (await http.get("/openapi.json")).json()["paths"]
        assert set(paths) == {
            "/v1/operations",
            "/v1/{name}/operations",
            "/v1/{name}",
            "/v1/{name}:watch",
            "/v1/{name}:wait",
            "/v1/{name}:cancel",
            "/v1/{name}:send",
            "/v1/{name}:pause",
            "/v1/{name}:unpause",
            "/v1/{name}:rerun",
            "/google.longrunning.Operations/GetOperation",
            "/v1/schedules",
            "/v1/schedules/{name}",
            *(f"/v1/schedules/{{name}}:{verb}" for verb in ("run", "pause", "unpause", "backfill")),
            *(
                f"/v1/{below}operations:{verb}"
                for below in ("", "{name}/")
                for verb in ("cancel", "pause", "unpause", "rerun", "delete")
            ),
        }
        for path, operations in paths.items():
            for operation in operations.values():
                declared = [item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"]
                assert declared == (["name"] if "{name}" in path else [])

    @pytest.mark.parametrize("style", ["Azure", "", None])
    async def test_other_styles_are_refused_with_those_that_exist(self, client: lro.Client, style: Any) -> None:
        with pytest.raises(ValueError, match='style must be "google" or "azure"'):
            operations_router(client, style)
        with pytest.raises(ValueError, match='style must be "google" or "azure"'):
            install_error_handlers(FastAPI(), style)
