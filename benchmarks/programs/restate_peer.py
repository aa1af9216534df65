"""Restate: its server, a service of its Python SDK, and calls to the server's ingress. In an environment of its own.

Three processes, as it is run: the server (one node, its defaults: a log and a store on RocksDB, with fsync), the
service behind Hypercorn, and this one, which calls. It does so with the least of an HTTP client: the SDK's own, on
httpx, is what one would measure otherwise. The CPU figures are of all three.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from benchmarks.programs.common import Figures, Meter, callers, crowd_of, helper, main, sleepers, spread
from benchmarks.programs.http_calls import HttpCalls

TIMEOUT = 300.0
SETTLE = 60.0
"""Seconds until server and service must answer."""


class Program:
    def __init__(self, calls: HttpCalls, folder: Path, pids: tuple[int, ...]) -> None:
        self._calls = calls
        self._folder = folder
        self._pids = pids

    async def call(self, handler: str, argument: Any, *, send: bool = False) -> Any:
        path = f"/work/{handler}/send" if send else f"/work/{handler}"
        answer = await self._calls.post(path, json.dumps(argument).encode())
        return json.loads(answer) if answer else None

    async def lifecycle(self, concurrency: int, seconds: float) -> Figures:
        """One call a time, which the server answers with the result: a send and an attach would be two."""

        async def once() -> None:
            await self.call("trivial", 1)

        return await callers(once, concurrency, seconds, others=self._pids)

    async def fan_out(self, children: int) -> Figures:
        meter = Meter(self._pids)
        assert await self.call("family", children) == children
        wall, cpu = meter.wall, meter.cpu
        return {"seconds": wall, "cpu": cpu / children * 1e6}

    async def sequence(self, steps: int, repeats: int) -> Figures:
        return await self._steps("in_sequence", 1, steps, repeats)

    async def parallel(self, operations: int, steps: int) -> Figures:
        return await self._steps("in_parallel", operations, steps, 1)

    async def _steps(self, handler: str, operations: int, steps: int, repeats: int) -> Figures:
        meter = Meter(self._pids)
        for _ in range(repeats):
            await asyncio.gather(*(self.call(handler, steps) for _ in range(operations)))
        count = operations * steps * repeats
        wall, cpu = meter.wall, meter.cpu
        return {"rate": count / wall, "cpu": cpu / count * 1e6}

    async def sleepers(self, count: int, idle: float) -> Figures:
        async def begin(number: int, due: float) -> None:
            await crowd_of(number, 64, lambda _: self._sent("sleeper", due))

        noted: dict[str, list[float]] = {"asleep": [], "woken": []}

        def taken(kind: str) -> list[float]:
            for what, _, value in self.ledger():
                noted[what].append(value)
            new, noted[kind] = noted[kind], []
            return new

        return await sleepers(
            count,
            idle,
            begin=begin,
            asleep=lambda: len(taken("asleep")),
            woken=lambda: taken("woken"),
            others=self._pids,
        )

    async def _sent(self, handler: str, argument: Any) -> None:
        await self.call(handler, argument, send=True)

    async def other_process(self, count: int) -> Figures:
        """The caller of the ingress is always another process than the handler's."""
        seen = []
        for index in range(count):
            await self.call("ends", index)
            seen.append(time.monotonic())
        ended = {number: value for what, number, value in self.ledger() if what == "ended"}
        return spread([moment - ended[index] for index, moment in enumerate(seen)])

    async def leave_running(self, count: int) -> Figures:
        self.ledger()
        await crowd_of(count, 64, lambda index: self.call("interrupted", index, send=True))
        running: set[int] = set()
        while len(running) < count:
            await asyncio.sleep(0.1)
            running |= {number for what, number, _ in self.ledger() if what == "running"}
        return {}

    async def recover(self, count: int) -> Figures:
        meter = Meter()
        finished: set[int] = set()
        while len(finished) < count:
            await asyncio.sleep(0.05)
            finished |= {number for what, number, _ in self.ledger() if what == "finished"}
        return {"work": meter.wall}

    def ledger(self) -> list[tuple[str, int, float]]:
        """What the service has noted since the last call."""
        with (self._folder / "ledger").open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rpartition("\n")[0]
        self._read += len(whole) + 1 if whole else 0
        lines = (line.split() for line in whole.splitlines())
        return [(what, int(number), float(value)) for what, number, value in lines]

    _read = 0


def server_binary(root: Path) -> Path:
    """Of the npm package, which ships one per platform."""
    (found,) = (root / "node_modules" / "@restatedev").glob("restate-server-*/bin/restate-server")
    return found


def environment(folder: Path, ingress: int, admin: int, fabric: int) -> dict[str, str]:
    return {
        **os.environ,
        "DO_NOT_TRACK": "1",
        "RESTATE_BASE_DIR": str(folder / "restate"),
        "RESTATE_NODE_NAME": "benchmark",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_BIND_PORT": str(fabric),
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{fabric}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_LOG_DISABLE_ANSI_CODES": "true",
    }


def ports(folder: Path, number: int) -> list[int]:
    """Free ports; a second program on the same folder gets the same ones, under which the server knows the service."""
    kept = folder / "ports.json"
    if not kept.exists():
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
        kept.write_text(json.dumps([listener.getsockname()[1] for listener in listeners]))
        for listener in listeners:
            listener.close()
    return list(json.loads(kept.read_text()))


async def answers(http: httpx.AsyncClient, url: str, body: Any = None) -> None:
    """Ask until there is an answer."""
    end = time.monotonic() + SETTLE
    while True:
        try:
            response = await (http.get(url) if body is None else http.post(url, json=body))
            if response.is_success:
                return
            problem = response.text
        except httpx.TransportError as exc:
            problem = repr(exc)
        if time.monotonic() > end:
            raise RuntimeError(f"{url} does not answer: {problem}")
        await asyncio.sleep(0.1)


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    folder: Path = arguments.folder
    ingress, admin, fabric, port = ports(folder, 4)
    (folder / "ledger").touch()
    if arguments.go:
        (folder / "go").touch()
    command = (sys.executable, "-m", "benchmarks.programs.restate_service", str(port), str(folder / "ledger"))
    binary = str(server_binary(Path(arguments.server)))
    log = (folder / "server.log").open("ab")
    server = await asyncio.create_subprocess_exec(
        binary, "--no-logo", cwd=folder, env=environment(folder, ingress, admin, fabric), stdout=log, stderr=log
    )
    try:
        async with (
            helper(*command, cwd=folder) as (service, _),
            httpx.AsyncClient(timeout=TIMEOUT) as http,
            HttpCalls(ingress) as calls,
        ):
            await answers(http, f"http://127.0.0.1:{admin}/health")
            await answers(http, f"http://127.0.0.1:{ingress}/restate/health")
            await answers(http, f"http://127.0.0.1:{admin}/deployments", {"uri": f"http://127.0.0.1:{port}"})
            running = Program(calls, folder, (server.pid, service.pid))
            if not arguments.go:
                await running.call("trivial", 0)
            names = (
                "lifecycle", "fan_out", "sequence", "parallel", "sleepers", "other_process", "leave_running", "recover"
            )  # fmt: skip
            commands: dict[str, Callable[..., Any]] = {name: getattr(running, name) for name in names}
            said = (await asyncio.to_thread(subprocess.check_output, [binary, "--version"], text=True)).split()[1]
            yield (
                {
                    "versions": {
                        "restate-server": said,
                        "restate-sdk": version("restate-sdk"),
                        "python": platform.python_version(),
                    },
                    "durability": "one node, its own log and store on RocksDB, write-ahead log with fsync",
                    "pids": [server.pid, service.pid],
                },
                commands,
            )
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()
        log.close()


if __name__ == "__main__":
    main(program, "server", "go")
