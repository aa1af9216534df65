"""Runs leave nothing behind that only the collector of cycles could take away: it would cost as much as the runs do."""

from __future__ import annotations

import gc

import pytest

from ..waiting import PATIENCE

MANY = 40


@pytest.fixture
def handlers(client):
    @client.handler
    async def works(op) -> int:
        return 1

    @client.handler
    async def segments(op):
        if not op.resume_point:
            return op.suspend(sleep=0, resume_at="again")
        return None


@pytest.mark.parametrize("handler", ["works", "segments"])
@pytest.mark.asyncio
async def test_a_run_leaves_no_circle(client, handlers, handler):
    async def run():
        op = await client.start(handler)
        await op.result(timeout=PATIENCE)

    async def run_many():
        for _ in range(MANY):
            await run()
        await client.engine.batcher.settle()

    async def garbage() -> int:
        gc.collect(1)
        await run_many()
        return gc.collect(1)  # all that is new: the rest of the session's objects take longer than the runs

    await run_many()
    gc.disable()
    try:
        gc.collect()
        # What an earlier test left behind may become garbage in between: once, while a circle of a run shows each time.
        found = [await garbage() for _ in range(3)]
    finally:
        gc.enable()
    assert min(found) < MANY, found
