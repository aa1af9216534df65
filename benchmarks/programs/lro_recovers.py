"""``lro_aio``: handlers that a killed process has left in the middle, and how soon another has finished them."""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import lro_aio as lro
from benchmarks.programs.common import Figures, Meter, crowd_of, main
from benchmarks.programs.lro_common import CountedStore, hello

handlers = lro.Handlers()
GO = asyncio.Event()
"""Once it is set, interrupted work takes no more time."""
RUNNING: set[str] = set()


@handlers.handler("interrupted")
async def interrupted(op: lro.Operation[None]) -> None:
    RUNNING.add(op.id)
    await GO.wait()


class Program:
    def __init__(self, client: lro.Client, path: Path) -> None:
        self._client = client
        self._path = path

    async def leave_running(self, count: int) -> Figures:
        await crowd_of(count, 256, lambda _: self._client.start("interrupted"))
        while len(RUNNING) < count:
            await asyncio.sleep(0.05)
        return {}

    async def recover(self, count: int) -> Figures:
        meter = Meter()
        with closing(sqlite3.connect(self._path)) as connection:
            while connection.execute("SELECT count(*) FROM operations WHERE outcome = 1").fetchone()[0] < count:
                await asyncio.sleep(0.02)
        return {"work": meter.wall}


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    path = arguments.folder / "operations.db"
    store = CountedStore(path)
    if arguments.go:
        GO.set()
    lease = lro.LeasePolicy(duration=float(arguments.lease))
    async with lro.Client(store, handlers=[handlers], max_running=1000, lease=lease, drain_timeout=0) as client:
        running = Program(client, path)
        said = hello(f"{store.durability()}; leases of {lease.duration:g} s")
        yield said, {"leave_running": running.leave_running, "recover": running.recover}


if __name__ == "__main__":
    main(program, "go", "lease")
