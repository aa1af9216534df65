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

    await run_many()
    gc.collect()
    gc.disable()
    try:
        await run_many()
        found = gc.collect()
    finally:
        gc.enable()
    assert found < MANY
