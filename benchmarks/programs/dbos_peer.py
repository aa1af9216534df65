"""DBOS Transact for Python: the same work in its own words. Runs in an environment of its own (``make bench-peers``).

Its settings are its defaults, but for the log level and the place of the database. A workflow is started with
``start_workflow_async`` and awaited by its handle, so that start and result are two calls, as on every side.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks.programs.common import IN_PLACE, Figures, Meter, callers, crowd_of, helper, main, sleepers, spread
from benchmarks.programs.queued import PLACES, Line

ENDED: dict[int, float] = {}
ASLEEP: list[float] = []
WOKEN: list[float] = []
RUNNING = 0
GO = asyncio.Event()
LINE = Line()
QUEUE = "line"


@DBOS.workflow()
async def trivial(index: int) -> str:
    return str(index)


@DBOS.workflow()
async def family(children: int) -> int:
    handles = [await DBOS.start_workflow_async(trivial, index) for index in range(children)]
    return len(await asyncio.gather(*(handle.get_result() for handle in handles)))


@DBOS.step()
async def same(value: int) -> int:
    return value


@DBOS.workflow()
async def in_sequence(steps: int) -> int:
    return sum([await same(index) for index in range(steps)])


@DBOS.workflow()
async def in_parallel(steps: int) -> int:
    return sum(await asyncio.gather(*(same(index) for index in range(steps))))


@DBOS.workflow()
async def sleeper(due: float) -> None:
    ASLEEP.append(due)
    await DBOS.sleep_async(due - time.time())
    WOKEN.append(time.time() - due)


@DBOS.workflow()
async def ends(index: int, life: float) -> int:
    await asyncio.sleep(life)
    ENDED[index] = time.monotonic()
    return index


@DBOS.workflow()
async def interrupted(index: int) -> int:
    """Work that outlives the first process, and takes no time in the second."""
    global RUNNING  # noqa: PLW0603 (a count of this program)
    RUNNING += 1
    await GO.wait()
    return index


@DBOS.workflow()
async def held() -> None:
    await LINE.hold()


@DBOS.workflow()
async def queued() -> None:
    LINE.note()


async def start_one(function: Any, *arguments: Any) -> None:
    """Start it and keep nothing of it."""
    await DBOS.start_workflow_async(function, *arguments)


def taken(values: list[float]) -> list[float]:
    """What has come since the last call."""
    new = values[:]
    values.clear()
    return new


class Commits:
    """Transactions of the system database that wrote something."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._counted = 0
        if engine.dialect.name == "sqlite":
            sqlalchemy.event.listen(engine, "begin", self._begun)
            sqlalchemy.event.listen(engine, "before_cursor_execute", self._executed)
            sqlalchemy.event.listen(engine, "commit", self._committed)

    @property
    def count(self) -> int:
        """So far. PostgreSQL gives a number to each transaction that writes; some commit by themselves there."""
        if self._engine.dialect.name == "sqlite":
            return self._counted
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").scalar()
        return int(found or 0)

    def _begun(self, connection: sqlalchemy.Connection) -> None:
        connection.info["wrote"] = False

    def _executed(self, connection: sqlalchemy.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
            connection.info["wrote"] = True

    def _committed(self, connection: sqlalchemy.Connection) -> None:
        self._counted += bool(connection.info.pop("wrote", False))


class Program:
    def __init__(self, commits: Commits, url: str, folder: Path, look: str) -> None:
        self._commits = commits
        self._url = url
        self._folder = folder
        self._look = {"polling_interval_sec": float(look)} if look else {}

    async def lifecycle(self, concurrency: int, seconds: float) -> Figures:
        async def once() -> None:
            handle = await DBOS.start_workflow_async(trivial, 1)
            await handle.get_result()

        return await callers(once, concurrency, seconds, commits=lambda: self._commits.count)

    async def fan_out(self, children: int) -> Figures:
        meter, commits = Meter(), self._commits.count
        handle = await DBOS.start_workflow_async(family, children)
        assert await handle.get_result() == children
        wall, cpu = meter.wall, meter.cpu
        return {"seconds": wall, "cpu": cpu / children * 1e6, "commits": (self._commits.count - commits) / children}

    async def sequence(self, steps: int, repeats: int) -> Figures:
        return await self._steps(in_sequence, 1, steps, repeats)

    async def parallel(self, operations: int, steps: int) -> Figures:
        return await self._steps(in_parallel, operations, steps, 1)

    async def _steps(self, workflow: Any, operations: int, steps: int, repeats: int) -> Figures:
        meter, commits = Meter(), self._commits.count
        for _ in range(repeats):
            handles = await asyncio.gather(*(DBOS.start_workflow_async(workflow, steps) for _ in range(operations)))
            await asyncio.gather(*(handle.get_result() for handle in handles))
        count = operations * steps * repeats
        wall, cpu = meter.wall, meter.cpu
        return {"rate": count / wall, "cpu": cpu / count * 1e6, "commits": (self._commits.count - commits) / count}

    async def sleepers(self, count: int, idle: float) -> Figures:
        async def begin(number: int, due: float) -> None:
            await crowd_of(number, 256, lambda _: start_one(sleeper, due))

        return await sleepers(count, idle, begin=begin, asleep=lambda: len(taken(ASLEEP)), woken=lambda: taken(WOKEN))

    async def queue(self, waiting: int) -> Figures:
        async def enter(workflow: Any, count: int) -> None:
            await crowd_of(count, 64, lambda _: DBOS.enqueue_workflow_async(QUEUE, workflow))

        await DBOS.register_queue_async(QUEUE, global_concurrency=PLACES, **self._look)
        figures = await LINE.measure(
            waiting,
            hold=lambda: enter(held, PLACES),
            join=lambda count: enter(queued, count),
            commits=lambda: self._commits.count,
        )
        await self._succeeded("queued", waiting)
        return figures

    async def same_process(self, count: int) -> Figures:
        late = []
        for index in range(count):
            handle = await DBOS.start_workflow_async(ends, index, IN_PLACE)
            await handle.get_result()
            late.append(time.monotonic() - ENDED[index])
        return spread(late)

    async def other_process(self, count: int) -> Figures:
        """Its client waits in another process, by polling the database."""
        command = (sys.executable, "-m", "benchmarks.programs.dbos_peer", "--folder", str(self._folder))
        handles = await crowd_of(count, 32, lambda index: DBOS.start_workflow_async(ends, index, 3 + index % 37 / 37))
        ids = ",".join(handle.get_workflow_id() for handle in handles)
        async with helper(*command, "--watch", ids, "--url", self._url, cwd=self._folder) as (process, _):
            assert process.stdout is not None
            seen = {}
            for _ in range(count):
                index, moment = (await process.stdout.readline()).split()
                seen[int(index)] = float(moment)
        return spread([seen[index] - ENDED[index] for index in range(count)])

    async def leave_running(self, count: int) -> Figures:
        await crowd_of(count, 64, lambda index: DBOS.start_workflow_async(interrupted, index))
        while count > RUNNING:
            await asyncio.sleep(0.05)
        return {}

    async def recover(self, count: int) -> Figures:
        """Until none is left: those of earlier rounds, of which a server knows too, have ended."""
        meter = Meter()
        while await DBOS.list_workflows_async(status=["PENDING", "ENQUEUED"], name="interrupted", limit=1):
            await asyncio.sleep(0.05)
        ended = await DBOS.list_workflows_async(status="SUCCESS", name="interrupted", limit=count)
        assert len(ended) == count, f"{len(ended)} of {count} have succeeded"
        return {"work": meter.wall}

    async def _succeeded(self, workflow: str, count: int) -> None:
        while len(await DBOS.list_workflows_async(status="SUCCESS", name=workflow, limit=count)) < count:
            await asyncio.sleep(0.05)


async def watch(url: str, ids: str) -> None:
    """The other process: waits for workflows that it did not start."""
    client = DBOSClient(system_database_url=url)
    print("ready", flush=True)

    async def one(index: int, workflow: str) -> None:
        handle = await client.retrieve_workflow_async(workflow)
        await handle.get_result()
        print(index, time.monotonic(), flush=True)

    await asyncio.gather(*(one(index, workflow) for index, workflow in enumerate(ids.split(","))))


def settings(engine: sqlalchemy.Engine) -> str:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            level = connection.exec_driver_sql("PRAGMA synchronous").scalar()
            name = ("OFF", "NORMAL", "FULL", "EXTRA")[int(level or 0)]
            return f"SQLite, journal_mode={str(mode).upper()}, synchronous={name}"
        found = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("fsync", "synchronous_commit")}
        server = connection.exec_driver_sql("SHOW server_version").scalar()
        return f"PostgreSQL {server}, " + ", ".join(f"{name}={value}" for name, value in found.items())


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    url = arguments.pg or f"sqlite:///{arguments.folder}/dbos.sqlite"
    if arguments.wal:  # a property of the file, which its later connections find
        with closing(sqlite3.connect(arguments.folder / "dbos.sqlite")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    if arguments.go:
        GO.set()
    config: DBOSConfig = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    dbos = DBOS(config=config)
    await asyncio.to_thread(DBOS.launch)
    engine = dbos._sys_db.engine
    running = Program(Commits(engine), url, arguments.folder, arguments.look)
    names = (
        "lifecycle", "fan_out", "sequence", "parallel", "sleepers", "queue", "same_process", "other_process",
        "leave_running", "recover",
    )  # fmt: skip
    commands: dict[str, Callable[..., Any]] = {name: getattr(running, name) for name in names}
    try:
        yield (
            {
                "versions": {"dbos": version("dbos"), "python": platform.python_version()},
                "durability": settings(engine),
            },
            commands,
        )
    finally:
        await asyncio.to_thread(DBOS.destroy)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    if "--watch" in sys.argv:
        parser = argparse.ArgumentParser()
        for option in ("folder", "watch", "url"):
            parser.add_argument(f"--{option}")
        parsed = parser.parse_args()
        asyncio.run(watch(parsed.url, parsed.watch))
    else:
        main(program, "pg", "wal", "go", "look")
