"""A server that is killed, and another process that finishes its tasks for the same clients."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from mcp_types import ElicitResult

from lro_aio.mcp import FollowTasks

from ..ports import free_port
from ..waiting import PATIENCE, until
from .conftest import connected

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]

PROGRAM = Path(__file__).with_name("server_process.py")


class Server:
    """One process after the other, on one port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    async def start(self, *options: str) -> asyncio.subprocess.Process:
        arguments = (str(PROGRAM), str(self.folder), str(self.port), *options)
        environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment)
        await until(self._answers)
        return process

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


async def kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def yes(key: str, params: object) -> ElicitResult:
    return ElicitResult(action="accept", content={"ok": True})


@pytest.mark.slow
@pytest.mark.blocks_the_loop("looks whether the port of another process answers")
async def test_another_process_finishes_the_task_of_a_server_that_was_killed(tmp_path: Path) -> None:
    server, ledger = Server(tmp_path), tmp_path / "ledger"
    process = await server.start("HANG")
    try:
        async with connected(server.url) as caller:
            task = await caller.begin("write")
            await until(lambda: ledger.exists() and "draft" in ledger.read_text())
        await kill(process)
        process = await server.start()
        async with connected(server.url) as caller, asyncio.timeout(PATIENCE):
            result = await FollowTasks(yes).follow(caller.client.session, task.task_id)
    finally:
        await kill(process)
    assert [item.text for item in result.content] == ["draft: True"]  # type: ignore[union-attr]
    assert ledger.read_text().split() == ["think", "draft", "draft"]
