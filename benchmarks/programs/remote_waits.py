"""What the handles of ``bench_remote`` share: the service in another process, and the crowd that waits for it.

The standard library alone: the peers run in environments of their own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.programs.common import Command, Figures, Meter, crowd_of, helper, spread

Wait = Callable[[], Awaitable[float]]
"""Waits for an operation with a handle, and gives the moment at which it ended."""
Start = Callable[[str], Awaitable[Wait]]
"""Starts the operation of a name."""
Handle = Callable[[str], AbstractAsyncContextManager[Start]]
"""Opens what asks the service at an address."""

STARTS = 8
"""Operations that are started at a time."""
STARTING = {"azure": 0.012}
"""Seconds for each, where it takes a request. Over gRPC they are made up: the service knows them by their names."""


class Service:
    """The process that is asked."""

    def __init__(self, process: asyncio.subprocess.Process, addresses: Mapping[str, str]) -> None:
        self._process = process
        self.addresses = addresses
        """By kind: "waiting", "polled" and "azure"."""

    async def asked(self) -> int:
        """Requests since the last time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"count\n")
        return sum(json.loads(await self._process.stdout.readline()).values())


@asynccontextmanager
async def service(python: str, folder: Path) -> AsyncIterator[Service]:
    """Run it with an interpreter that has what it needs."""
    async with helper(python, "-m", "benchmarks.programs.remote_service", cwd=folder) as (process, line):
        yield Service(process, json.loads(line))


def by_name(wait: Callable[[str], Awaitable[float]]) -> Start:
    """Where the service needs no request to know an operation."""

    async def start(name: str) -> Wait:
        return partial(wait, name)

    return start


async def waits(asked: Service, kind: str, handle: Handle, count: int, seconds: float) -> Figures:
    """So many operations that all end at one moment, awaited all at once from ``seconds`` before that on."""
    delays: list[float] = []
    async with handle(asked.addresses[kind]) as start:
        end = time.time() + seconds + count * STARTING.get(kind, 0.0)
        started = await crowd_of(count, STARTS, lambda number: start(f"operations/{number}-{end:.6f}"))
        if time.time() > end - seconds * 0.9:
            raise RuntimeError(f"to start {count} operations took too long")
        gc.collect()
        await asyncio.sleep(end - seconds - time.time())

        async def one(wait: Wait) -> None:
            ended = await wait()
            delays.append(time.time() - ended)

        await asked.asked()
        meter = Meter()
        await asyncio.gather(*map(one, started))
        cpu = meter.cpu
    return {"cpu": cpu / count * 1000, "requests": await asked.asked() / count, **spread(delays)}


def commands(asked: Service, handles: Mapping[str, tuple[str, Handle]]) -> dict[str, Command]:
    """For ``common.main``: by name, the kind of service that a handle asks, and the handle."""
    return {name: partial(waits, asked, kind, handle) for name, (kind, handle) in handles.items()}
