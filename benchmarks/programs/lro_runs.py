"""``lro_aio``: start -> result of a trivial handler, one parent of many children, and both on a full store."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from google.protobuf import wrappers_pb2

import lro_aio as lro
from benchmarks.programs.common import Figures, Meter, callers, main, spread
from benchmarks.programs.lro_common import CountedPostgres, CountedStore, counted, hello
from benchmarks.programs.lro_fill import expire, fill

PAGE = 100
"""Operations of a page of a list."""
SUSPENDING = 0.001
"""Seconds in which one operation goes to sleep at the latest, where many do."""

handlers = lro.Handlers()


@handlers.handler("trivial")
async def trivial(op: lro.Operation[None]) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=op.id)


@handlers.handler("family", state=int, resume_points=("gather",))
async def family(op: lro.Operation[int]) -> wrappers_pb2.Int64Value | lro.Suspended:
    if op.resume_point == "":
        children = await asyncio.gather(*(op.start_child("trivial", key=str(index)) for index in range(op.state)))
        return op.suspend(resume_at="gather", children=[child.name for child in children])
    return wrappers_pb2.Int64Value(value=sum(child.HasField("response") for child in op.children))


@handlers.handler("calls", state=int)
async def calls(op: lro.Operation[int]) -> wrappers_pb2.Int64Value:
    """As ``family``, in straight code."""
    done = await asyncio.gather(*(op.call(trivial, key=str(index)) for index in range(op.state)))
    return wrappers_pb2.Int64Value(value=len(done))


async def same(value: int) -> int:
    return value


@handlers.handler("sequence", state=int)
async def sequence(op: lro.Operation[int]) -> None:
    for index in range(op.state):
        await op.step("same", same, index, key=index)


@handlers.handler("parallel", state=int)
async def parallel(op: lro.Operation[int]) -> None:
    await asyncio.gather(*(op.step("same", same, index, key=index) for index in range(op.state)))


@handlers.handler("sleeper", state=float, resume_points=("woken",))
async def sleeper(op: lro.Operation[float]) -> lro.Suspended | None:
    """Of the rows that fill a store, which sleep for longer than any measurement; and of those that wake in one."""
    return op.suspend(resume_at="woken", until=op.state) if op.resume_point == "" else None


class Program:
    def __init__(self, store: CountedStore | CountedPostgres, client: lro.Client, folder: Path) -> None:
        self._store = store
        self._client = client
        self._folder = folder

    async def once(self) -> None:
        operation = await self._client.start("trivial")
        await operation.result(wrappers_pb2.StringValue)

    async def lifecycle(self, concurrency: int, seconds: float) -> Figures:
        return await callers(self.once, concurrency, seconds, commits=lambda: self._store.commits)

    async def together(self, processes: int, concurrency: int, seconds: float) -> Figures:
        """What so many processes do on one file, this one among them; the rate of all, the delays of this one."""
        order = {"do": "lifecycle", "concurrency": concurrency, "seconds": seconds}
        async with AsyncExitStack() as stack:
            others = [await stack.enter_async_context(another(self._folder)) for _ in range(processes - 1)]
            own, *rest = await asyncio.gather(
                self.lifecycle(concurrency, seconds), *(ask(other, order) for other in others)
            )
        everyone = [own, *rest]
        rate = sum(figures["rate"] or 0.0 for figures in everyone)
        cpu = sum((figures["cpu"] or 0.0) * (figures["rate"] or 0.0) for figures in everyone) / rate
        return {**own, "rate": rate, "cpu": cpu}

    async def sequence(self, steps: int, repeats: int) -> Figures:
        return await self._steps("sequence", 1, steps, repeats)

    async def parallel(self, operations: int, steps: int) -> Figures:
        return await self._steps("parallel", operations, steps, 1)

    async def _steps(self, handler: str, operations: int, steps: int, repeats: int) -> Figures:
        commits, meter = self._store.commits, Meter()
        for _ in range(repeats):
            started = await asyncio.gather(*(self._client.start(handler, steps) for _ in range(operations)))
            await asyncio.gather(*(operation.result() for operation in started))
        count = operations * steps * repeats
        wall, cpu = meter.wall, meter.cpu
        return {"rate": count / wall, "cpu": cpu / count * 1e6, "commits": (self._store.commits - commits) / count}

    async def fan_out(self, children: int, handler: str = "family") -> Figures:
        commits, meter = self._store.commits, Meter()
        operation = await self._client.start(handler, children)
        done = await operation.result(wrappers_pb2.Int64Value)
        wall, cpu = meter.wall, meter.cpu
        assert done.value == children, done
        return {
            "seconds": wall,
            "cpu": cpu / children * 1e6,
            "commits": (self._store.commits - commits) / children,
        }

    async def lists(self, repeats: int) -> Figures:
        """A full page of what lives, found by a filter, newest first."""

        async def listed() -> int:
            page = await self._client.list_operations('done = false AND handler = "sleeper"', page_size=PAGE)
            return len(page.operations)

        for _ in range(PAGE - await listed()):
            await self._client.start("sleeper", time.time() + 86400)
        return await timed(listed, repeats)

    async def wakes(self, count: int) -> Figures:
        """From the moment at which so many are due, until all have ended."""
        due = time.time() + 1 + count * SUSPENDING
        operations = await asyncio.gather(*(self._client.start("sleeper", due) for _ in range(count)))
        await asyncio.sleep(due - time.time())
        meter = Meter()
        await asyncio.gather(*(operation.result() for operation in operations))
        wall, cpu = meter.wall, meter.cpu
        return {"each": wall / count * 1e6, "cpu": cpu / count * 1e6}

    async def timeline(self, steps: int, repeats: int) -> Figures:
        """All that an operation of so many steps has behind it."""
        operation = await self._client.start("sequence", steps)
        await operation.result()
        figures = await timed(lambda: self._client.describe(operation.name), repeats)
        return {**figures, "each": (figures["p50"] or 0.0) * 1e3 / steps}

    async def purge(self, count: int) -> Figures:
        """Removes what has expired, with its journal, as a sweep does: so many rows to a transaction."""
        await asyncio.to_thread(expire, self._folder / "operations.db", count)
        removed, meter, batch = 0, Meter(), lro.SweepPolicy().purge_batch
        while new := await asyncio.to_thread(self._store.purge, now=time.time(), limit=batch):
            removed += new
        return {"each": meter.wall / removed * 1e6 if removed else None}  # the sweep may have been faster

    async def size(self) -> Figures:
        """Bytes of the file for each of its rows, those of the write-ahead log not counted."""
        with self._store.reading() as connection:
            (rows,) = connection.execute("SELECT count(*) FROM operations").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page,) = connection.execute("PRAGMA page_size").fetchone()
        return {"bytes": pages * page / rows}

    async def sweeps(self, repeats: int) -> Figures:
        """The repair pass that finds nothing due."""
        return await timed(self._client.sweep, repeats)


async def timed(once: Callable[[], Awaitable[object]], repeats: int) -> Figures:
    """How long it takes, one after the other."""
    latencies = []
    for _ in range(repeats):
        began = time.perf_counter()
        await once()
        latencies.append(time.perf_counter() - began)
    return spread(latencies)


@asynccontextmanager
async def another(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process of this program, that has opened the store of the folder."""
    command = (sys.executable, "-m", "benchmarks.programs.lro_runs", "--folder", str(folder))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield process
    finally:
        process.stdin.close()  # type: ignore[union-attr]  # at the end of its input, it ends
        await process.wait()


async def ask(process: asyncio.subprocess.Process, order: Mapping[str, Any]) -> Figures:
    """What another process answers to an order.

    Raises:
        RuntimeError: It failed.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order).encode() + b"\n")
    answer = json.loads(await process.stdout.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    figures: Figures = answer["figures"]
    return figures


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    path = arguments.folder / "operations.db"
    counts = [int(count) for count in arguments.fill.split(",") if count]
    if counts and not path.exists():
        fill(path, finished=counts[0], suspended=counts[1])
    with counted(arguments.folder, arguments.pg) as store:
        async with lro.Client(
            store, handlers=[handlers], max_running=256, telemetry=arguments.telemetry != "off"
        ) as client:
            running = Program(store, client, arguments.folder)
            yield (
                hello(store.durability()),
                {
                    "lifecycle": running.lifecycle,
                    "together": running.together,
                    "fan_out": running.fan_out,
                    "sequence": running.sequence,
                    "parallel": running.parallel,
                    "list": running.lists,
                    "sweep": running.sweeps,
                    "wake": running.wakes,
                    "timeline": running.timeline,
                    "purge": running.purge,
                    "size": running.size,
                },
            )


if __name__ == "__main__":
    main(program, "fill", "pg", "telemetry")
