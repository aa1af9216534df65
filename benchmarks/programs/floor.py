"""The floor: bare ``sqlite3`` with the same durability, and no more of a framework than the work needs.

``two_commits`` is one thread that does nothing but commit each start and each end by itself. ``lifecycle`` is the
least that coalesces: a writer thread with a queue, whatever is queued goes into one transaction, and a future for
each caller. It has no leases, names, states, errors or indexes; what is above it is the price of those.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.programs.common import IN_PLACE, Figures, Meter, callers, crowd_of, main, sleepers, spread
from benchmarks.programs.queued import PLACES, Line

INSERT = "INSERT INTO operations VALUES (?, 'RUNNING', NULL, NULL)"
WAIT = "INSERT INTO operations VALUES (?, 'PENDING', NULL, NULL)"
RUN = "UPDATE operations SET state = 'RUNNING' WHERE name = ?"
FINISH = "UPDATE operations SET state = 'SUCCEEDED', response = ? WHERE name = ?"
SUSPEND = "UPDATE operations SET state = 'SUSPENDED', due = ? WHERE name = ?"
RESPONSE = b"x" * 64


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS operations (name TEXT PRIMARY KEY, state TEXT, response BLOB, due REAL)"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS operations_due ON operations (due) WHERE due IS NOT NULL")
    return connection


class Writer:
    """A thread that commits whatever is queued in one transaction."""

    def __init__(self, path: Path) -> None:
        self.connection = connect(path)
        self.commits = 0
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def submit(self, statement: str, values: tuple[Any, ...]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((statement, values, future))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self.connection.close()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            batch = [item]
            while len(batch) < 1000 and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    self._queue.put(None)  # the end comes after this batch
                    break
                batch.append(item)
            self.connection.execute("BEGIN IMMEDIATE")
            for statement, values, _ in batch:
                self.connection.execute(statement, values)
            self.connection.execute("COMMIT")
            self.commits += 1
            self._loop.call_soon_threadsafe(self._deliver, batch)

    def _deliver(self, batch: list[Any]) -> None:
        for _, _, future in batch:
            if not future.done():
                future.set_result(None)


class Program:
    def __init__(self, folder: Path) -> None:
        self._writer = Writer(folder / "floor.db")
        self._twice = connect(folder / "twice.db")

    async def two_commits(self, seconds: float, **_concurrency: int) -> Figures:
        """One thread, whatever the concurrency: nothing waits for another."""

        async def once() -> None:
            name = str(uuid.uuid4())
            self._twice.execute(INSERT, (name,))
            self._twice.execute(FINISH, (RESPONSE, name))

        figures = await callers(once, 1, seconds)
        return {**figures, "commits": 2.0}

    async def lifecycle(self, concurrency: int, seconds: float) -> Figures:
        return await callers(self._once, concurrency, seconds, commits=lambda: self._writer.commits)

    async def fan_out(self, children: int) -> Figures:
        meter, commits = Meter(), self._writer.commits
        await asyncio.gather(*(self._once() for _ in range(children)))
        wall, cpu = meter.wall, meter.cpu
        return {
            "seconds": wall,
            "cpu": cpu / children * 1e6,
            "commits": (self._writer.commits - commits) / children,
        }

    async def sleepers(self, count: int, idle: float) -> Figures:
        """Rows that say when they are due; a timer; and one look that finishes them, a thousand to a transaction."""
        late: list[float] = []
        timers: list[asyncio.Task[None]] = []
        begun: list[int] = []

        async def begin(number: int, due: float) -> None:
            await crowd_of(number, 256, lambda _: self._suspended(str(uuid.uuid4()), due))
            timers.append(asyncio.create_task(self._wake(due, late)))
            begun.append(number)

        def woken() -> list[float]:
            new = late[:]
            late.clear()
            return new

        return await sleepers(count, idle, begin=begin, asleep=begun.pop, woken=woken)

    async def _wake(self, due: float, late: list[float]) -> None:
        await asyncio.sleep(max(0.0, due - time.time()))
        while names := await asyncio.to_thread(self._due, due):
            moment = time.time()
            await asyncio.gather(*(self._writer.submit(FINISH, (RESPONSE, name)) for name in names))
            late += [moment - due] * len(names)

    async def queue(self, waiting: int) -> Figures:
        """Callers that take one row after the other; they have the places until all rows are there."""
        line, rows, callers = Line(), iter(range(waiting)), []

        async def caller() -> None:
            await line.hold()
            for row in rows:
                await self._writer.submit(RUN, (str(row),))
                line.note()
                await self._writer.submit(FINISH, (RESPONSE, str(row)))

        async def hold() -> None:
            callers.extend(asyncio.create_task(caller()) for _ in range(PLACES))

        async def join(count: int) -> None:
            await crowd_of(count, 256, lambda row: self._writer.submit(WAIT, (str(row),)))

        figures = await line.measure(waiting, hold=hold, join=join, commits=lambda: self._writer.commits)
        await asyncio.gather(*callers)
        await self._writer.submit("DELETE FROM operations", ())
        return figures

    async def recover(self, count: int) -> Figures:
        """Finish what a killed process has left RUNNING."""
        meter = Meter()
        left = [name for (name,) in self._twice.execute("SELECT name FROM operations WHERE state = 'RUNNING'")]
        assert len(left) == count, len(left)
        self._twice.execute("BEGIN IMMEDIATE")
        self._twice.executemany(FINISH, [(RESPONSE, name) for name in left])
        self._twice.execute("COMMIT")
        return {"work": meter.wall}

    async def leave_running(self, count: int) -> Figures:
        self._twice.execute("BEGIN IMMEDIATE")
        self._twice.executemany(INSERT, [(str(index),) for index in range(count)])
        self._twice.execute("COMMIT")
        return {}

    async def same_process(self, count: int) -> Figures:
        """From the call that ends an operation to its waiter: a commit, and a future across two threads."""
        late: list[float] = []
        for _ in range(count):
            name = str(uuid.uuid4())
            await self._writer.submit(INSERT, (name,))
            waiter = asyncio.create_task(_noted(future := asyncio.get_running_loop().create_future()))
            await asyncio.sleep(IN_PLACE)
            began = time.monotonic()
            await self._writer.submit(FINISH, (RESPONSE, name))
            future.set_result(None)
            late.append(await waiter - began)
        return spread(late)

    async def _once(self) -> None:
        name = str(uuid.uuid4())
        await self._writer.submit(INSERT, (name,))
        await self._writer.submit(FINISH, (RESPONSE, name))

    async def _suspended(self, name: str, due: float) -> None:
        await self._writer.submit(INSERT, (name,))
        await self._writer.submit(SUSPEND, (due, name))

    def _due(self, now: float) -> list[str]:
        statement = "SELECT name FROM operations WHERE due <= ? AND state = 'SUSPENDED' LIMIT 1000"
        return [name for (name,) in self._writer.connection.execute(statement, (now,))]

    def close(self) -> None:
        self._writer.close()
        self._twice.close()


async def _noted(future: asyncio.Future[None]) -> float:
    await future
    return time.monotonic()


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    running = Program(arguments.folder)
    names = ("two_commits", "lifecycle", "fan_out", "sleepers", "queue", "recover", "leave_running", "same_process")
    commands: dict[str, Callable[..., Any]] = {name: getattr(running, name) for name in names}
    try:
        versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        yield {"versions": versions, "durability": "SQLite, journal_mode=WAL, synchronous=FULL"}, commands
    finally:
        running.close()


if __name__ == "__main__":
    main(program)
