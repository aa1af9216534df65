"""What the handles of ``bench_remote`` share: the service in another process, and a crowd that waits for its operations.

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

from benchmarks.programs.common import Command, Figures, Meter, helper, spread

Wait = Callable[[str], Awaitable[float]]
"""Waits for the operation of a name, and gives the moment at which it ended."""
Handle = Callable[[str], AbstractAsyncContextManager[Wait]]
"""Opens what asks the service at an address."""

STARTS = 8
"""Requests that start an operation over HTTP, at a time. Those of gRPC are made up: they start by their names."""


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


async def waits(asked: Service, address: str, handle: Handle, count: int, seconds: float) -> Figures:
    """So many operations that end ``seconds`` from now, awaited all at once."""
    await asked.asked()
    delays: list[float] = []
    gc.collect()
    async with handle(address) as wait:
        end = time.time() + seconds

        async def one(number: int) -> None:
            ended = await wait(f"operations/{number}-{end:.6f}")
            delays.append(time.time() - ended)

        meter = Meter()
        await asyncio.gather(*map(one, range(count)))
        cpu = meter.cpu
    return {"cpu": cpu / count * 1000, "requests": await asked.asked() / count, **spread(delays)}


def commands(asked: Service, handles: Mapping[str, tuple[str, Handle]]) -> dict[str, Command]:
    """For ``common.main``: by name, the kind of service that a handle asks, and the handle."""
    return {name: partial(waits, asked, asked.addresses[kind], handle) for name, (kind, handle) in handles.items()}
