"""A line of a queue is opened when everybody stands in it, and is over when the turn of the last one has come."""

from __future__ import annotations

import asyncio

import pytest

import lro_aio as lro
from benchmarks.programs.floor import Program
from benchmarks.programs.lro_common import CountedStore
from benchmarks.programs.lro_queues import handlers_of, queue
from benchmarks.programs.queued import PLACES, Line


@pytest.mark.asyncio
async def test_the_line_is_opened_once_all_places_are_held_and_everybody_waits():
    """Commits before that do not count."""
    line, seen, tasks = Line(), [], []
    gone = commits = 0

    async def held():
        nonlocal gone
        await line.hold()
        gone += 1

    async def hold():
        tasks.extend(asyncio.create_task(held()) for _ in range(PLACES))

    async def one():
        nonlocal commits
        while gone < PLACES:
            await asyncio.sleep(0)
        commits += 3
        line.note()

    async def join(count):
        nonlocal commits
        seen.append((count, gone))
        commits += 100
        tasks.extend(asyncio.create_task(one()) for _ in range(count))

    figures = await line.measure(4, hold=hold, join=join, commits=lambda: commits)
    await asyncio.gather(*tasks)
    assert seen == [(4, 0)]
    assert figures["commits"] == 3.0
    assert figures["rate"] == pytest.approx(4 / figures["longest"])


@pytest.mark.asyncio
async def test_operations_of_a_queue_and_the_floor_do_the_same_work(tmp_path):
    """Twice: a second case finds an empty line."""
    line, store, floor = Line(), CountedStore(tmp_path / "operations.db"), Program(tmp_path)
    try:
        async with lro.Client(store, handlers=[handlers_of(line)]) as client:
            for waiting in (5, 15):
                for figures in (await queue(client, store, line, waiting), await floor.queue(waiting)):
                    assert figures["rate"] > 0
                    assert figures["commits"] > 0
            assert store.finished() == 2 * PLACES + 5 + 15
    finally:
        floor.close()
