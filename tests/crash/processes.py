"""Worker processes in the hands of a test, and what they left in the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
PROGRAM = Path(__file__).with_name("worker_process.py")
PATIENCE = 20.0
"""Seconds for anything that should happen soon: only a broken program takes as long."""


class Workers:
    """Starts and kills worker processes over one store, through a server that forks them (``worker_process.py``).

    Args:
        folder: For ledger and logs.
        modules: Imported before the first fork, so that no worker has to.
    """

    def __init__(self, folder: Path, modules: Sequence[str] = ()) -> None:
        self.folder = folder
        self.ledger = folder / "ledger.jsonl"
        self.log = folder / "workers.log"
        self.killed: dict[int, float] = {}
        """When each process was killed, by its id."""
        self._defaults: dict[str, Any] = {"ledger": str(self.ledger), "log": str(self.log)}
        self._started: list[int] = []
        with (folder / "server.log").open("w") as errors:
            self._server = subprocess.Popen(
                [sys.executable, str(PROGRAM), *modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
            )
        self._answer()

    def start(self, store: str, *, lease: float, **config: Any) -> int:
        """Fork a worker; returns its process id at once."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({**self._defaults, "store": store, "lease": lease, **config}) + "\n")
        self._server.stdin.flush()
        pid = int(self._answer()["pid"])
        self._started.append(pid)
        return pid

    def started(self) -> tuple[int, ...]:
        """The process ids of all workers so far."""
        return tuple(self._started)

    def kill(self, pid: int) -> float:
        """SIGKILL; returns when."""
        self.killed[pid] = time.time()
        return self._signal(pid, signal.SIGKILL)

    def terminate(self, pid: int) -> float:
        """SIGTERM; returns when."""
        return self._signal(pid, signal.SIGTERM)

    def alive(self, pid: int) -> bool:
        """Whether the process exists."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        """Kill what runs, and end the server."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE)
        self._server.stdout.close()

    def entries(self, event: str | None = None, **members: Any) -> list[Entry]:
        """What the ledger holds, in order; of one event, and with these members, where given."""
        if not self.ledger.exists():
            return []
        lines = self.ledger.read_bytes().split(b"\n")[:-1]
        entries: list[Entry] = [json.loads(line) for line in lines]
        wanted = members if event is None else {"event": event, **members}
        return [entry for entry in entries if all(entry.get(key) == value for key, value in wanted.items())]

    async def seen(self, event: str, *, count: int = 1, timeout: float = PATIENCE, **members: Any) -> list[Entry]:
        """Wait until the ledger holds so many of such entries."""
        await self.until(lambda: len(self.entries(event, **members)) >= count, timeout, f"{count} {event} {members}")
        return self.entries(event, **members)

    async def until(self, condition: Callable[[], bool], timeout: float = PATIENCE, what: str = "") -> None:
        """Wait for something in the other processes, which only looking can tell."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not seen within {timeout:g} s: {what}\n{self.report()}")
            await asyncio.sleep(0.01)

    def report(self, entries: int = 40) -> str:
        """The end of ledger and log, for a failed test."""
        ledger = "\n".join(map(str, self.entries()[-entries:]))
        log = self.log.read_text().splitlines()[-entries:] if self.log.exists() else []
        return f"ledger:\n{ledger}\nlog:\n" + "\n".join(log)

    def _signal(self, pid: int, number: int) -> float:
        now = time.time()
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            raise AssertionError(f"worker {pid} had ended by itself\n{self.report()}") from None
        return now

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise AssertionError("the server of workers is gone:\n" + (self.folder / "server.log").read_text())
        answer: dict[str, Any] = json.loads(line)
        return answer
