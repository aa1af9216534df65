"""Worker processes in the hands of a test, and what they left in the ledger."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lro_aio as lro

Entry = dict[str, Any]
PROGRAM = Path(__file__).with_name("worker_process.py")
PATIENCE = 45.0
"""Seconds for anything that should happen soon: only a broken program takes as long."""


@dataclass
class Span:
    """A time in which something stood still."""

    begin: float
    end: float = math.inf

    def within(self, begin: float, end: float) -> float:
        """Seconds of it that fall between two moments."""
        return max(0.0, min(self.end, end) - max(self.begin, begin))


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
        self.killed: dict[int, Span] = {}
        """Of each process that died, by its id: from when on it may have been dead, and when it certainly was."""
        self._defaults: dict[str, Any] = {"ledger": str(self.ledger), "log": str(self.log)}
        self.stopped: dict[int, list[Span]] = defaultdict(list)
        """From when to when each process stood still, by its id."""
        self._started: list[int] = []
        self._clocks: dict[int, Path] = {}
        self._count = 0
        with (folder / "server.log").open("w") as errors:
            self._server = subprocess.Popen(
                [sys.executable, str(PROGRAM), *modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(Path(lro.__file__).parents[1])},  # the package that is tested
            )
        self._answer()

    def start(self, store: str, *, lease: float, **config: Any) -> int:
        """Fork a worker; returns its process id at once."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({**self._defaults, "store": store, "lease": lease, **config}) + "\n")
        self._server.stdin.flush()
        pid = int(self._answer()["pid"])
        self._started.append(pid)
        if "clock" in config:
            self._clocks[pid] = Path(config["clock"])
        return pid

    def started(self) -> tuple[int, ...]:
        """The process ids of all workers so far."""
        return tuple(self._started)

    def kill(self, pid: int) -> float:
        """SIGKILL; returns when."""
        began = self._signal(pid, signal.SIGKILL)
        self.killed[pid] = Span(began, time.time())  # a busy machine may pass on to the process in between
        return began

    def terminate(self, pid: int) -> float:
        """SIGTERM; returns when."""
        return self._signal(pid, signal.SIGTERM)

    def stop(self, pid: int) -> None:
        """SIGSTOP."""
        self.stopped[pid].append(Span(self._signal(pid, signal.SIGSTOP)))

    def go_on(self, pid: int) -> None:
        """SIGCONT, of a process that stands still."""
        self._signal(pid, signal.SIGCONT)
        self.stopped[pid][-1].end = time.time()

    def stands(self, pid: int) -> bool:
        """Whether the process stands still."""
        return bool(self.stopped[pid]) and self.stopped[pid][-1].end == math.inf

    def clock(self, off: float) -> str:
        """A new clock for a process (``clock=`` of its start), off by so many seconds."""
        self._count += 1
        path = self.folder / f"clock-{self._count}"
        path.write_bytes(struct.pack("d", off))
        return str(path)

    def step(self, pid: int, off: float) -> None:
        """Set the clock of a process; it is off by so many seconds from now on."""
        with self._clocks[pid].open("r+b") as file:  # in place: the process has the file mapped
            file.write(struct.pack("d", off))

    def has_died(self, pid: int) -> bool:
        """Note that a process has ended by itself, if it has."""
        if pid not in self.killed and not self.alive(pid):
            now = time.time()
            said = [entry["time"] for entry in self.entries("dies", pid=pid)]
            self.killed[pid] = Span(min(said, default=now), now)
            return True
        return False

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
