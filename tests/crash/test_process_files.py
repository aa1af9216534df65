"""One file in the hands of several processes."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from google.protobuf import struct_pb2

import lro_aio as lro

from .processes import Workers

SOON = 15.0
"""Seconds: half of the lease and of the sweep interval, so neither of them was waited for."""


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_process_that_closes_the_file_takes_no_commits_of_others_with_it(
    workers: Workers, store_url: str, tmp_path: Path
) -> None:
    """The log is folded up by the last process to close, and only by it: whoever else has the file must hold a lock.

    Closing any descriptor of a file drops all locks that the process has on it, so nothing but SQLite may open it.
    """
    async with lro.Client(store_url, worker=False) as client:
        await client.list_operations()  # opens a second connection
        other = workers.start(store_url, lease=30)
        await workers.seen("up", pid=other)
        workers.terminate(other)
        await workers.seen("down", pid=other)
        operation = await client.create(lease=False)
        with sqlite3.connect(f"file:{tmp_path / 'operations.db'}?mode=ro", uri=True) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM operations")]
        connection.close()
        assert names == [operation.name]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_processes_may_open_the_same_new_file_at_once(workers: Workers, tmp_path: Path) -> None:
    """Whoever is first makes the schema; the others find it, and all of them work."""
    rounds, processes = 6, 4
    for number in range(rounds):
        url = f"sqlite:///{tmp_path / f'new-{number}.db'}"
        moment = time.time() + 0.15
        for place in range(processes):
            start = [("part", {"index": place}, f"{number}-{place}")]
            workers.start(url, lease=30, at=moment, starts=start)
    await workers.seen("ready", count=rounds * processes)
    await workers.seen("end", count=rounds * processes)
    assert workers.entries("failed") == []


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_watcher_sees_what_another_process_changes(workers: Workers, store_url: str, tmp_path: Path) -> None:
    """Each change waits until the one before was seen: the watcher may pass over what is soon followed by another."""
    seen = tmp_path / "seen-"
    workers.start(store_url, lease=30, starts=[("tell", {"seen": str(seen)}, "one")])
    (begun,) = await workers.seen("begin")
    delays: dict[int, float] = {}
    async with lro.Client(store_url, worker=False) as client:
        async for operation in client.watch(begun["name"]):
            metadata, response = struct_pb2.Struct(), struct_pb2.Struct()
            if operation.metadata.Unpack(metadata):
                number = int(metadata["number"])
                delays.setdefault(number, time.time() - metadata["time"])
                Path(f"{seen}{number}").touch()
            if operation.response.Unpack(response):
                delays[-1] = time.time() - response["time"]
    assert sorted(delays) == [-1, 0, 1, 2]
    assert max(delays.values()) < SOON
