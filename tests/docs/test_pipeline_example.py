"""``docs/examples/pipeline``: killed again and again, it pays for nothing twice whose result was stored."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

import lro_aio as lro

from .pages import REPOSITORY

EXAMPLE = REPOSITORY / "docs" / "examples" / "pipeline"
PATIENCE = 60.0
SCRIPT = "A harbour at dawn. Gulls over the pier. The first boat leaves. A dog barks. Rain. The end"
RUN = """
import asyncio, functools, uvicorn
import lro_aio

# With the default lease, it would take half a minute to tell that a killed process is dead.
lro_aio.Client = functools.partial(lro_aio.Client, lease=lro_aio.LeasePolicy(duration=1))

async def main():
    server = uvicorn.Server(uvicorn.Config("pipeline:app", host="127.0.0.1", port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving

asyncio.run(main())
"""


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)


class Service:
    """The example as a process, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ledger = directory / "ledger.jsonl"
        self.kills = 0

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": f"{self._directory}:{REPOSITORY}"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN], cwd=self._directory, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill(self) -> None:
        """SIGKILL, and another process in its place."""
        self._process.send_signal(signal.SIGKILL)
        self.kills += 1
        self.__exit__()
        self.__enter__()

    def calls(self) -> list[dict[str, Any]]:
        """What was paid for, in order."""
        return [json.loads(line) for line in self.ledger.read_text().splitlines()] if self.ledger.exists() else []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for path in EXAMPLE.glob("*.py"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def service(directory: Path) -> Iterator[Service]:
    with Service(directory) as started:
        yield started


async def stored(directory: Path, name: str) -> dict[str, float]:
    """When the result of each paid call was stored, by the key with which it was made."""
    async with lro.Client(f"sqlite:///{directory}/videos.db", worker=False) as client:
        op = await client.operation(name)
        steps = [entry for entry in await client.history(name) if entry.kind == "STEP"]
    return {
        op.idempotency_key(step.name, step.key or None) if step.name != "split" else "": step.time for step in steps
    }


@pytest.mark.slow
@pytest.mark.asyncio
async def test_killed_in_the_middle_it_pays_for_nothing_twice(service: Service, directory: Path) -> None:
    video = {"script": SCRIPT, "request_id": "video-7"}
    name = service.http.post("/v1/videos", json=video).json()["name"]
    for paid in (1, 3, 7):
        wait_for(lambda paid=paid: len(service.calls()) >= paid)
        service.kill()
    assert service.http.post("/v1/videos", json=video).json()["name"] == name  # the caller got no answer, and repeats
    wait_for(lambda: len({c["key"] for c in service.calls() if c["call"] == "render"}) == 6)

    approval = {"topic": "approval", "payload": {"ok": True, "by": "ada"}, "messageId": "mail-1"}
    service.http.post(f"/v1/{name}:send", json=approval).raise_for_status()
    service.kill()
    assert service.http.post(f"/v1/{name}:send", json=approval).status_code == 200  # once, all the same
    wait_for(lambda: any(c["call"] == "publish" for c in service.calls()))
    service.kill()

    ended = service.http.post(f"/v1/{name}:wait", json={"timeout": "60s"}).json()
    result = ended["response"]["value"]
    assert result["approved_by"] == "ada"
    assert [clip.rpartition("/")[2] for clip in result["clips"]][:2] == ["a-harbour-at-dawn", "gulls-over-the-pier"]
    assert result["url"].startswith("https://videos.example/6-scenes-")

    kept, calls = await stored(directory, name), service.calls()
    assert len(kept) == 1 + 6 + 1
    assert {call["key"] for call in calls} == set(kept)  # every repeat of a call has the key of the first
    assert [call for call in calls if call["time"] > kept[call["key"]]] == []
    # Each once, those that met a busy model twice, and again what was under way at a kill.
    assert len(calls) <= 8 + 6 + service.kills * 6


@pytest.mark.asyncio
async def test_nobody_approves_for_three_days(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lro_aio.testing import ManualClock

    monkeypatch.chdir(directory)
    monkeypatch.syspath_prepend(directory)
    monkeypatch.setenv("MODEL_SECONDS", "0")
    import pipeline

    clock = ManualClock()
    async with lro.Client("sqlite://", handlers=[pipeline.client.handlers], clock=clock, drain_timeout=0) as client:
        op = await client.start("make-video", pipeline.NewVideo(script=SCRIPT))
        await clock.advance(3 * 86400 + 60)
        with pytest.raises(lro.OperationFailedError, match="approval"):
            await op.result()


def test_the_page_shows_the_whole_example() -> None:
    page = (REPOSITORY / "docs" / "pipeline.md").read_text("utf-8")
    assert f"```python\n{(EXAMPLE / 'pipeline.py').read_text()}```" in page


def test_it_is_small() -> None:
    """At most 90 lines, and 14 things of ours to know."""
    source = (EXAMPLE / "pipeline.py").read_text()
    tree = ast.parse(source)
    ours = {"lro", "op", "client"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours
    }
    used |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lro_aio")
        for alias in node.names
    }
    used -= {"state"}  # of an operation
    assert len(source.splitlines()) <= 90
    assert len(used) <= 14, sorted(used)
