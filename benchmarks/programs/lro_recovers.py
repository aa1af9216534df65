"""``lro_aio``: handlers that a killed process has left in the middle, and how soon another has finished them."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import lro_aio as lro
from benchmarks.programs.common import Figures, Meter, crowd_of, main
from benchmarks.programs.lro_common import CountedPostgres, CountedStore, counted, hello

handlers = lro.Handlers()
GO = asyncio.Event()
"""Once it is set, interrupted work takes no more time."""
RUNNING: set[str] = set()


@handlers.handler("interrupted")
async def interrupted(op: lro.Operation[None]) -> None:
    RUNNING.add(op.id)
    await GO.wait()


class Program:
    def __init__(self, client: lro.Client, store: CountedStore | CountedPostgres) -> None:
        self._client = client
        self._store = store

    async def leave_running(self, count: int) -> Figures:
        await crowd_of(count, 256, lambda _: self._client.start("interrupted"))
        while len(RUNNING) < count:
            await asyncio.sleep(0.05)
        return {}

    async def recover(self, count: int) -> Figures:
        meter = Meter()
        while self._store.finished() < count:
            await asyncio.sleep(0.02)
        return {"work": meter.wall}


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    if arguments.go:
        GO.set()
    lease = lro.LeasePolicy(duration=float(arguments.lease))
    with counted(arguments.folder, arguments.pg) as store:
        async with lro.Client(store, handlers=[handlers], max_running=1000, lease=lease, drain_timeout=0) as client:
            running = Program(client, store)
            said = hello(f"{store.durability()}; leases of {lease.duration:g} s")
            yield said, {"leave_running": running.leave_running, "recover": running.recover}


if __name__ == "__main__":
    main(program, "go", "lease", "pg")
