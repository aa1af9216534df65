"""Messages to operations over HTTP: ``POST /v1/{name}:send``, on a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from fastapi import Request

import lro_aio as lro
from lro_aio.servers.fastapi import install_error_handlers

from .conftest import ON_SHARED_LOOP, Shared
from .test_fastapi import app_of, problem

pytestmark = pytest.mark.asyncio

ServeHttp = Callable[[Any], AbstractAsyncContextManager[httpx.AsyncClient]]
MALFORMED = (400, "INVALID_ARGUMENT", "INVALID_REQUEST")


@pytest.fixture
def handlers(handlers: lro.Handlers) -> lro.Handlers:
    @handlers.handler("asks")
    async def asks(op: lro.Operation[None]) -> Any:
        return {"got": await op.receive("approval")}

    return handlers


def field_of(answer: httpx.Response) -> str:
    """The field that a refusal names."""
    found = [d for d in answer.json()["error"]["details"] if d["@type"].endswith("BadRequest")]
    return str(found[0]["fieldViolations"][0]["field"])


async def sent_to(client: lro.Client, op: lro.Operation[Any]) -> list[str]:
    """The ids of the messages that an operation has."""
    return [entry.key for entry in await client.history(op.name) if entry.kind == "MESSAGE" and entry.name]


async def test_a_message_over_http_ends_the_wait_for_it(client: lro.Client, serve_http: ServeHttp) -> None:
    op = await client.start("asks")
    async with serve_http(app_of(client)) as http:
        body = {"topic": "approval", "payload": {"ok": True, "note": "jó"}, "messageId": "1"}
        answer = await http.post(f"/v1/{op.name}:send", json=body)
        assert (answer.status_code, answer.json()) == (200, {})
        ended = (await http.post(f"/v1/{op.name}:wait", json={"timeout": "10s"})).json()
    assert ended["response"]["value"] == {"got": {"ok": True, "note": "jó"}}


async def test_a_payload_may_be_any_json_or_missing(client: lro.Client, serve_http: ServeHttp) -> None:
    async with serve_http(app_of(client)) as http:
        for payload in (None, 0, 2**60, 0.5, "", "x", False, [], [1, {"a": None}], {}):
            op = await client.start("asks")
            await http.post(f"/v1/{op.name}:send", json={"topic": "approval", "payload": payload})
            assert len(await sent_to(client, op)) == 1
            if payload != 2**60:  # a result that JSON does not hold exactly is refused, a message is not
                assert await op.result(timeout=10) == {"got": payload}
        op = await client.start("asks")
        await http.post(f"/v1/{op.name}:send", json={"topic": "approval"})
        assert await op.result(timeout=10) == {"got": None}


async def test_the_same_message_id_is_one_message(client: lro.Client, serve_http: ServeHttp) -> None:
    op = await client.start("held")
    async with serve_http(app_of(client)) as http:
        for spelling in ("messageId", "message_id"):
            answer = await http.post(f"/v1/{op.name}:send", json={"topic": "t", "payload": 1, spelling: "a"})
            assert (answer.status_code, answer.json()) == (200, {})
        for absent in ({}, {"messageId": ""}, {"messageId": None}):  # as proto3 JSON has it
            await http.post(f"/v1/{op.name}:send", json={"topic": "t", **absent})
    sent = await sent_to(client, op)
    assert sent.count("a") == 1
    assert len(sent) == 4


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "topic"),
        ({"payload": 1}, "topic"),
        ({"topic": ""}, "topic"),
        ({"topic": None}, "topic"),
        ({"topic": 7}, "topic"),
        ({"topic": "a\nb"}, "topic"),
        ({"topic": "x" * 129}, "topic"),
        ({"topic": "t", "messageId": 7}, "message_id"),
        ({"topic": "t", "messageId": "a\nb"}, "message_id"),
        ({"topic": "t", "messageId": "x" * 257}, "message_id"),
        ({"topic": "t", "messageId": "a", "message_id": "a"}, "message_id"),
        ({"topic": "t", "payload": "\ud800"}, "body"),
        ({"topic": "t", "payload": {"\udfff": 1}}, "body"),
        ({"topic": "t", "payloads": 1}, "payloads"),
        ({"topic": "t", "x" * 1000: 1}, "body"),
        ({"topic": "t", "\ud800": 1}, "body"),
        ({"topic": "t", "": 1}, "body"),
        ({"topic": "\ud800"}, "body"),
    ],
)
@ON_SHARED_LOOP
async def test_a_malformed_field_is_named_and_nothing_is_sent(
    shared: Shared, serve_http: ServeHttp, body: dict[str, Any], field: str
) -> None:
    op = await shared.client.start("waits")
    async with serve_http(shared.app) as http:
        answer = await http.post(
            f"/v1/{op.name}:send", content=json.dumps(body), headers={"content-type": "application/json"}
        )
    assert problem(answer) == MALFORMED
    assert field_of(answer) == field
    assert len(answer.content) < 2000
    assert await sent_to(shared.client, op) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"t"',
        b"\xff\xfe",
        b'{"topic": "t", "payload": NaN}',
        b'{"topic": "t", "payload": -Infinity}',
        b'{"topic": "t", "topic": "u"}',
        b'{"topic": "t", "payload": 1, "payload": 2}',
        b'{"topic": "t", "payload": {"ok": true, "ok": false}}',
        b'{"topic": "t", "payload": 1' + b"0" * 5000 + b"}",
        b'{"topic": "t", "payload": 1e999}',
        b'{"topic": "t", "payload": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"topic": "t", "payload": ' + b"[" * 600 + b"]" * 600 + b"}",
    ],
)
@ON_SHARED_LOOP
async def test_a_body_that_is_not_one_json_object_is_refused(
    shared: Shared, serve_http: ServeHttp, body: bytes
) -> None:
    op = await shared.client.start("waits")
    async with serve_http(shared.app) as http:
        answer = await http.post(f"/v1/{op.name}:send", content=body, headers={"content-type": "application/json"})
    assert problem(answer) == MALFORMED
    assert await sent_to(shared.client, op) == []


async def test_who_has_ended_or_never_was_gets_no_message(client: lro.Client, serve_http: ServeHttp) -> None:
    op = await client.start("double")
    await op.result(timeout=10)
    async with serve_http(app_of(client)) as http:
        ended = await http.post(f"/v1/{op.name}:send", json={"topic": "t"})
        assert problem(ended) == (400, "FAILED_PRECONDITION", "OPERATION_DONE")
        missing = await http.post("/v1/operations/none:send", json={"topic": "t"})
        assert problem(missing) == (404, "NOT_FOUND", "OPERATION_NOT_FOUND")
        nameless = await http.post("/v1/operations//:send", json={"topic": "t"})
        assert problem(nameless) == (400, "INVALID_ARGUMENT", "INVALID_OPERATION_NAME")
        form = await http.post(f"/v1/{op.name}:send", data={"topic": "t"})
        assert form.status_code == 415


async def test_sizes_are_bounded_by_the_clients_limits(handlers: lro.Handlers, serve_http: ServeHttp) -> None:
    limits = lro.Limits(message=100_000, entries=2)
    async with lro.Client("sqlite://", handlers=[handlers], limits=limits, drain_timeout=0) as client:
        op = await client.start("held")
        url = f"/v1/{op.name}:send"
        async with serve_http(app_of(client)) as http:
            # Two bytes each as they are stored, and six as a client sends them that escapes all but ASCII.
            escaped = json.dumps({"topic": "t", "payload": "é" * 49_000})
            kind = {"content-type": "application/json"}
            assert (await http.post(url, content=escaped, headers=kind)).status_code == 200
            over = await http.post(url, json={"topic": "t", "payload": "x" * 100_000})
            assert problem(over) == (400, "INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE")
            huge = await http.post(url, json={"topic": "t", "payload": "x" * 1_000_000})
            assert problem(huge) == (413, "INVALID_ARGUMENT", "BODY_TOO_LARGE")
            assert (await http.post(url, json={"topic": "t"})).status_code == 200
            many = await http.post(url, json={"topic": "t"})
            assert problem(many) == (400, "INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE")


async def test_authorize_is_asked_for_send_before_the_body_is_read(client: lro.Client, serve_http: ServeHttp) -> None:
    asked: list[tuple[str, str]] = []

    def authorize(request: Any, verb: str, name: str) -> bool:
        asked.append((verb, name))
        return False

    op = await client.start("held")
    async with serve_http(app_of(client, authorize=authorize)) as http:
        answer = await http.post(f"/v1/{op.name}:send", content=b"{", headers={"content-type": "application/json"})
    assert problem(answer) == (403, "PERMISSION_DENIED", "PERMISSION_DENIED")
    assert asked == [("send", op.name)]


async def test_a_page_of_another_site_cannot_send(client: lro.Client, serve_http: ServeHttp) -> None:
    op = await client.start("held")
    async with serve_http(app_of(client)) as http:
        headers = {"sec-fetch-site": "cross-site"}
        assert (await http.post(f"/v1/{op.name}:send", content=b"", headers=headers)).status_code == 403


async def test_azures_style_takes_messages_too(client: lro.Client, serve_http: ServeHttp) -> None:
    op = await client.start("asks")
    async with serve_http(app_of(client, style="azure")) as http:
        answer = await http.post(f"/v1/{op.name}:send", json={"topic": "approval", "payload": 1, "messageId": "a"})
        assert (answer.status_code, answer.json()["id"]) == (200, op.id)
        assert await op.result(timeout=10) == {"got": 1}
        ended = await http.post(f"/v1/{op.name}:send", json={"topic": "approval"})
        assert ended.json()["error"]["code"] == "FailedPrecondition"
        header = {"repeatability-request-id": "a"}
        repeated = await http.post(f"/v1/{op.name}:send", json={"topic": "approval"}, headers=header)
        assert repeated.status_code == 501


async def test_an_endpoint_of_ones_own_answers_what_is_malformed(client: lro.Client, serve_http: ServeHttp) -> None:
    app = app_of(client)
    install_error_handlers(app)
    op = await client.start("held")

    @app.post("/approve")
    async def approve(request: Request) -> None:
        await client.send(op.name, **await request.json())

    async with serve_http(app) as http:
        topic = await http.post("/approve", json={"topic": ""})
        assert (problem(topic), field_of(topic)) == (MALFORMED, "topic")
        identity = await http.post("/approve", json={"topic": "t", "message_id": "x" * 257})
        assert (problem(identity), field_of(identity)) == (MALFORMED, "message_id")


async def test_the_openapi_document_describes_the_body(client: lro.Client, serve_http: ServeHttp) -> None:
    async with serve_http(app_of(client)) as http:
        described = (await http.get("/openapi.json")).json()["paths"]["/v1/{name}:send"]["post"]
    body = described["requestBody"]["content"]["application/json"]["schema"]
    assert list(body["properties"]) == ["topic", "payload", "messageId"]
    assert body["required"] == ["topic"]
    assert described["parameters"][0]["name"] == "name"
