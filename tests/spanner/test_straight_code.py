"""Steps, durable waits, calls and messages on Spanner."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lro_aio as lro
from tests.crash.processes import Workers
from tests.crash.test_straight_campaign import campaign


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Processes that share one database; none outlives the test."""
    workers = Workers(tmp_path, ["lro_aio.stores.spanner"])
    try:
        yield workers
    finally:
        workers.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("variant", ["proto", "bytes"])
async def test_a_pipeline(spanner_database: Any, variant: str) -> None:
    """Two processes, as far as the rows can tell: one runs it, the other sends the message."""
    url = spanner_database(variant)
    handlers = lro.Handlers()
    runs: list[int] = []

    @handlers.handler("child", state=int)
    async def child(op: lro.Operation[int]) -> int:
        return await op.step("double", lambda: op.state * 2)

    @handlers.handler("job")
    async def job(op: lro.Operation[None]) -> list[Any]:
        runs.append(op.claim)
        parts = await asyncio.gather(*(op.step("part", lambda n=n: n, key=n) for n in range(5)))
        children = await asyncio.gather(*(op.call(child, n, key=str(n)) for n in range(3)))
        decision = await op.receive("go", dict)
        await op.sleep("nap", 0.1)
        return [*parts, *children, decision]

    often = lro.SweepPolicy(interval=0.2)  # no notice tells this store's clients of each other
    async with (
        lro.Client(url, handlers=handlers, linger=0.05, sweep=often) as client,
        lro.Client(url, worker=False) as front,
    ):
        op = await front.start("job")
        async with asyncio.timeout(30):
            while not runs or client.engine.worker.running:
                await asyncio.sleep(0.01)
        await front.send(op.name, "go", {"ok": True}, message_id="once")
        await front.send(op.name, "go", {"ok": True}, message_id="once")
        found = await asyncio.wait_for(front.wait_operation(op.name), 30)
        history = await front.history(op.name)
    assert lro.unmarshal_operation(found, list[Any])[0] == [0, 1, 2, 3, 4, 0, 2, 4, {"ok": True}]
    assert len(runs) > 1
    assert [entry.kind for entry in history].count("STEP") == 5
    assert [entry.kind for entry in history].count("MESSAGE") == 1


@pytest.mark.not_on_emulator("one read-write transaction at a time is too few")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_a_campaign(spanner_database: Any, workers: Workers) -> None:
    """SIGKILL every 300 ms: nothing that was stored is done again."""
    await campaign(workers, spanner_database(), seed=3, operations=20, kills=30)
