"""Watching over a real socket: server-sent events, and changes that another process makes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import struct_pb2

import lro_aio as lro
from lro_aio.servers.fastapi import operations_router
from lro_aio.testing import FaultyStore

from ..waiting import all_blocked, until

pytestmark = pytest.mark.asyncio

ServeHttp = Callable[[Any], Any]


def app_of(client: lro.Client, **options: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(operations_router(client, **options))
    return app


def progress(text: str) -> struct_pb2.Struct:
    metadata = struct_pb2.Struct()
    metadata["at"] = text
    return metadata


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """(event name, data) of each event, and ("comment", text) of each comment."""
    name = "message"
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
            name = "message"
        elif line.startswith(":"):
            yield "comment", line.removeprefix(":").strip()


def seen(line: str) -> dict[str, str]:
    """What a browser sends that comes back after an event with this ``id:`` line."""
    return {"Last-Event-ID": line.removeprefix("id: ")}


async def take(stream: AsyncIterator[tuple[str, Any]]) -> tuple[str, Any]:
    return await asyncio.wait_for(anext(stream), 10)


async def nobody_watches(client: lro.Client) -> None:
    await until(lambda: not client.engine.feed._all)


class TestEvents:
    async def test_every_change_and_the_end(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.create(progress("start"))
        async with serve_http(app_of(client)) as http, http.stream("GET", f"/v1/{op.name}:watch") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-cache"
            stream = events(answer)
            kind, first = await take(stream)
            assert (kind, first["metadata"]["value"]["at"], "done" in first) == ("message", "start", False)
            await op.set_metadata(progress("half"))
            assert (await take(stream))[1]["metadata"]["value"]["at"] == "half"
            await op.done(progress("result"))
            last = (await take(stream))[1]
            assert (last["done"], last["response"]["value"]["at"]) == (True, "result")
            assert [event async for event in stream] == []
        await nobody_watches(client)

    async def test_finished_operation_is_one_event(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.create()
        await op.done()
        async with serve_http(app_of(client)) as http:
            answer = await http.get(f"/v1/{op.name}:watch")
        assert [data["done"] for _, data in [event async for event in events(answer)]] == [True]

    async def test_browser_that_has_seen_the_end_is_told_not_to_come_back(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        op = await client.create()
        async with serve_http(app_of(client)) as http:
            async with http.stream("GET", f"/v1/{op.name}:watch") as answer:
                lines = answer.aiter_lines()
                assert await anext(lines) == "retry: 2000"
                first = await anext(line async for line in lines if line.startswith("id: "))
                again = await http.send(
                    http.build_request("GET", f"/v1/{op.name}:watch", headers=seen(first)), stream=True
                )
                assert again.status_code == 200, "the end is yet to come"
                await again.aclose()
                await op.done(progress("result"))
                last = await anext(line async for line in lines if line.startswith("id: "))
            assert first != last
            assert (await http.get(f"/v1/{op.name}:watch", headers=seen(first))).status_code == 200
            stopped = await http.get(f"/v1/{op.name}:watch", headers=seen(last))
            assert (stopped.status_code, stopped.content) == (204, b"")
        await nobody_watches(client)

    async def test_an_event_is_one_line_for_every_reader_of_lines(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        text = "one\u2028two\u2029three\x85four\r\nfive"
        op = await client.create(progress(text))
        await op.done()
        async with serve_http(app_of(client)) as http:
            answer = (await http.get(f"/v1/{op.name}:watch")).text
        (data,) = [line for line in answer.splitlines() if line.startswith("data: ")]
        assert json.loads(data.removeprefix("data: "))["metadata"]["value"]["at"] == text

    async def test_silence_is_filled_with_comments(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.create()
        app = app_of(client, keep_alive=0.02)
        async with serve_http(app) as http, http.stream("GET", f"/v1/{op.name}:watch") as answer:
            stream = events(answer)
            assert (await take(stream))[0] == "message"
            assert await take(stream) == ("comment", "keep-alive")
            assert await take(stream) == ("comment", "keep-alive")

    async def test_client_that_hangs_up_ends_the_watch(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.create()
        async with serve_http(app_of(client)) as http:
            async with http.stream("GET", f"/v1/{op.name}:watch") as answer:
                await take(events(answer))
                assert client.engine.feed._all
            await nobody_watches(client)

    async def test_operation_that_is_deleted_meanwhile_ends_with_an_error_event(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        op = await client.create()
        async with serve_http(app_of(client)) as http, http.stream("GET", f"/v1/{op.name}:watch") as answer:
            stream = events(answer)
            await take(stream)
            await op.delete()
            kind, body = await take(stream)
            assert (kind, body["error"]["status"]) == ("error", "NOT_FOUND")
            assert [event async for event in stream] == []

    async def test_drain_ends_the_stream(self, client: lro.Client, serve_http: ServeHttp) -> None:
        """So that open streams do not keep a server from stopping."""
        op = await client.create(lease=False)
        async with serve_http(app_of(client)) as http, http.stream("GET", f"/v1/{op.name}:watch") as answer:
            stream = events(answer)
            await take(stream)
            await client.drain(0)
            async with asyncio.timeout(4):  # less than the looks that make up for lost notices
                assert all("done" not in data for _, data in [event async for event in stream])

    async def test_unknown_operation_is_an_ordinary_404(self, client: lro.Client, serve_http: ServeHttp) -> None:
        async with serve_http(app_of(client)) as http:
            answer = await http.get("/v1/operations/none:watch")
            assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
        await nobody_watches(client)


class TestWait:
    async def test_caller_that_hangs_up_ends_the_wait(self, client: lro.Client, serve_http: ServeHttp) -> None:
        op = await client.create()
        async with serve_http(app_of(client)) as http:
            waiting = asyncio.create_task(http.post(f"/v1/{op.name}:wait", json={"timeout": "60s"}))
            await until(lambda: client.engine.feed._all)
            waiting.cancel()  # closes the connection
            await nobody_watches(client)

    async def test_caller_that_hangs_up_ends_the_wait_behind_a_middleware_too(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        op = await client.create()
        app = app_of(client)

        @app.middleware("http")
        async def passes(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        async with serve_http(app) as http:
            waiting = asyncio.create_task(http.post(f"/v1/{op.name}:wait", json={"timeout": "60s"}))
            await until(lambda: client.engine.feed._all)
            waiting.cancel()
            await nobody_watches(client)

    async def test_caller_that_waits_on_and_on_during_a_drain_does_not_spin(
        self, client: lro.Client, serve_http: ServeHttp
    ) -> None:
        op = await client.create()
        await client.drain(0)
        async with serve_http(app_of(client)) as http:
            waiting = asyncio.create_task(http.post(f"/v1/{op.name}:wait", json={"timeout": "60s"}))
            await until(lambda: client.engine.feed._all)
            assert not waiting.done()
            await op.done()
            assert (await waiting).json()["done"] is True

    async def test_wait_for_the_client_as_a_service_ends_with_its_drain(self, client: lro.Client) -> None:
        """As ``op.result()``: at once, or after a moment for one that begins later; and it looks a last time."""
        op, other = await client.create(lease=False), await client.create(lease=False)
        waiting = asyncio.create_task(lro.wait_operation(op.name, client, 3600))
        await until(lambda: client.engine.feed._all)
        await client.drain(0)
        with pytest.raises(lro.WorkerUnavailableError):
            await asyncio.wait_for(waiting, 10)
        later = asyncio.create_task(lro.wait_operation(other.name, client, 3600))
        await other.done()
        assert (await asyncio.wait_for(later, 10)).done

    async def test_call_that_the_stopping_server_cuts_is_told_when_to_come_back(self, handlers: lro.Handlers) -> None:
        """A server writes a bare 500 for a call that it cancels, unless the call is answered."""
        store = FaultyStore(lro.SqliteStore("sqlite://"))
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        async with lro.Client(store, handlers=[handlers], drain_timeout=0) as client:
            scope = {"type": "http", "method": "GET", "path": "/v1/operations/a", "headers": [], "query_string": b""}
            release = store.hold("read")
            call = asyncio.create_task(app_of(client)(scope, receive, send))
            await all_blocked()
            await client.drain(0)
            call.cancel()
            await asyncio.wait({call}, timeout=10)
            release()
        assert sent[0]["status"] == 503
        assert b"retry-after" in dict(sent[0]["headers"])
        assert b'"UNAVAILABLE"' in sent[1]["body"]


OTHER_PROCESS = """
import asyncio, sys
import lro_aio as lro
from google.protobuf import struct_pb2

async def main(url, name):
    async with lro.Client(url, worker=False) as client:
        op = await client.operation(name)
        metadata = struct_pb2.Struct()
        metadata["at"] = "elsewhere"
        await op.set_metadata(metadata)
        sys.stdin.readline()
        await op.done(metadata)

asyncio.run(main(*sys.argv[1:]))
"""


class TestAnotherProcess:
    @pytest.mark.slow
    async def test_its_changes_reach_watchers_over_http_and_grpc(
        self, tmp_path: Path, serve_http: ServeHttp, serve_grpc: Callable[..., Any]
    ) -> None:
        url = f"sqlite:///{tmp_path}/operations.db"
        async with (
            lro.Client(url) as client,
            serve_grpc(client) as channel,
            serve_http(app_of(client)) as http,
        ):
            op = await client.create(lease=False)
            request = operations_pb2.WaitOperationRequest(name=op.name)
            waiting = operations_pb2_grpc.OperationsStub(channel).WaitOperation(request)
            async with http.stream("GET", f"/v1/{op.name}:watch") as answer:
                stream = events(answer)
                assert "metadata" not in (await take(stream))[1]
                other = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", OTHER_PROCESS, url, op.name, stdin=asyncio.subprocess.PIPE
                )
                try:
                    changed = (await asyncio.wait_for(anext(stream), 30))[1]
                    assert changed["metadata"]["value"]["at"] == "elsewhere"
                    assert "done" not in changed
                    await other.communicate(b"\n")
                    assert (await take(stream))[1]["done"] is True
                    assert (await asyncio.wait_for(waiting, 10)).done
                finally:
                    if other.returncode is None:
                        other.kill()
                    await other.wait()
