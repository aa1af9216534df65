"""SIGTERM under a real server in a process of its own: the application hears it, and the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

import lro_aio as lro
from lro_aio.servers._signals import stop_signals
from lro_aio.servers.resume import Endpoints, allow_unverified

from ..waiting import PATIENCE, reached, until

pytestmark = pytest.mark.asyncio

HERE = Path(__file__).parent
ENDS = PATIENCE
"""Seconds: a drain of one, and a slow machine. Without an end, a server would wait for its connections for ever."""


class Process:
    """A server in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def ends(self) -> str:
        """What it still says, and that it comes to its end."""
        assert self.process.stderr is not None
        said = await asyncio.wait_for(self.process.stderr.read(), ENDS)
        await asyncio.wait_for(self.process.wait(), ENDS)
        return said.decode()


@asynccontextmanager
async def serving(store: str, how: str = "uvicorn") -> AsyncIterator[Process]:
    environment = {**os.environ, "STORE": store, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "stopped.py"),
        how,
        env=environment,
        cwd=HERE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Process(process, await asyncio.wait_for(_url(process), PATIENCE))
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)  # a reloader's server, too
        await process.communicate()


async def _url(process: asyncio.subprocess.Process) -> str:
    """Where it listens, once the application has started."""
    assert process.stderr is not None
    url, started = "", False
    while line := (await process.stderr.readline()).decode():
        url = "".join(re.findall(r"Uvicorn running on (\S+)", line)) or url
        started = started or "startup complete" in line
        if url and started:
            return url
    raise AssertionError("the server ended")


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/operations.db"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["uvicorn", "loop"])
async def test_open_streams_and_waits_do_not_keep_the_process(store: str, how: str) -> None:
    async with serving(store, how) as server, httpx.AsyncClient(base_url=server.url, timeout=ENDS) as http:
        name = (await http.post("/start/month")).json()["name"]
        waiting = asyncio.create_task(http.post(f"/v1/{name}:wait", json={"timeout": "60s"}))
        paths = ("/result/month", "/waited/month", "/handled/month")
        resulting = [asyncio.create_task(http.get(path)) for path in paths]
        async with http.stream("GET", f"/v1/{name}:watch") as stream:
            lines = stream.aiter_lines()
            assert await asyncio.wait_for(anext(lines), ENDS)
            async with asyncio.timeout(ENDS):
                while (await http.get("/waiting")).json() < 2 + len(paths):
                    pass
            server.process.send_signal(signal.SIGTERM)
            said = asyncio.create_task(server.ends())
            assert [line async for line in lines if line.startswith("event: error")] == []
        answer = await waiting
        assert (answer.status_code, "done" in answer.json()) == (200, False)
        for refused in await asyncio.gather(*resulting):
            assert (refused.status_code, refused.json()["error"]["status"]) == (503, "UNAVAILABLE")
            assert int(refused.headers["retry-after"]) > 0
        assert "Finished server process" in await said or how == "loop"


@pytest.mark.slow
async def test_nothing_new_is_claimed_and_what_runs_is_given_back(store: str) -> None:
    async with serving(store) as server, httpx.AsyncClient(base_url=server.url, timeout=ENDS) as http:
        running = (await http.post("/start/job")).json()["name"]
        async with lro.Client(store, worker=False) as front, http.stream("GET", f"/v1/{running}:watch") as stream:
            await reached(front, running, "RUNNING")
            server.process.send_signal(signal.SIGTERM)
            async for _ in stream.aiter_lines():
                pass  # until the drain ends it
            new = (await front.start("job")).name
            await server.ends()
            rows = [await front.server_host.record(name) for name in (running, new)]
            assert [row.state for row in rows] == ["PENDING", "PENDING"]
            assert rows[1].attempt == 0


@pytest.mark.slow
async def test_the_reloader_ends_with_its_server(store: str) -> None:
    # The reloader names the address, and the application tells of its start, a moment before the server listens.
    patient = httpx.AsyncHTTPTransport(retries=5)
    async with (
        serving(store, "reload") as server,
        httpx.AsyncClient(base_url=server.url, timeout=ENDS, transport=patient) as http,
    ):
        name = (await http.post("/start/month")).json()["name"]
        async with http.stream("GET", f"/v1/{name}:watch") as stream:
            lines = stream.aiter_lines()
            assert await asyncio.wait_for(anext(lines), ENDS)
            server.process.send_signal(signal.SIGTERM)
            assert "Stopping reloader process" in await server.ends()


async def test_resume_that_the_stopping_server_cuts_is_told_when_to_come_back(client: lro.Client, gates: Any) -> None:
    op = await client.start("sleeps")
    wait = (await reached(client, op.name, "SUSPENDED")).wait
    assert wait is not None
    body = json.dumps({"operation": op.name, "resumeToken": wait.token}).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    call = asyncio.create_task(Endpoints(client, allow_unverified).answer("resume", {}, receive))
    await gates.started.wait()
    draining = asyncio.create_task(client.drain(60))
    await until(lambda: client.server_host.draining)
    call.cancel()
    assert ((await call).status, "Retry-After" in (await call).headers) == (503, True)
    gates.go.set()
    await draining


class TestSignals:
    async def test_the_handler_that_was_there_is_called_and_comes_back(self) -> None:
        told: list[str] = []

        def server(number: int, frame: FrameType | None) -> None:
            told.append("server")

        before = signal.signal(signal.SIGTERM, server)
        try:
            with stop_signals(lambda: told.append("application")):
                signal.raise_signal(signal.SIGTERM)
                await until(lambda: len(told) == 2)
            assert sorted(told) == ["application", "server"]
            assert signal.getsignal(signal.SIGTERM) is server
        finally:
            signal.signal(signal.SIGTERM, before)

    async def test_a_signal_that_nobody_handles_keeps_its_meaning(self) -> None:
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            with stop_signals(lambda: None):
                assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        finally:
            signal.signal(signal.SIGTERM, before)

    async def test_who_came_later_stays(self) -> None:
        before = signal.signal(signal.SIGTERM, lambda number, frame: None)
        try:
            with stop_signals(lambda: None):
                later = lambda number, frame: None  # noqa: E731
                signal.signal(signal.SIGTERM, later)
            assert signal.getsignal(signal.SIGTERM) is later
        finally:
            signal.signal(signal.SIGTERM, before)

    async def test_other_threads_hear_nothing(self) -> None:
        found: list[object] = []

        async def elsewhere() -> None:
            before = signal.getsignal(signal.SIGTERM)
            with stop_signals(lambda: None):
                found.append(signal.getsignal(signal.SIGTERM) is before)

        thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
        thread.start()
        await until(lambda: not thread.is_alive())
        assert found == [True]
