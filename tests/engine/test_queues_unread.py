"""What goes wrong with queues keeps nothing else from going on."""

import asyncio
import math

import pytest

import lro_aio as lro

from ..waiting import PATIENCE, all_blocked, until
from .test_queues import Work

pytestmark = pytest.mark.usefixtures("queues")


@pytest.mark.asyncio
async def test_queues_that_cannot_be_read_make_nobody_spin(open_client, store, lro_clock):
    """Each pass reads what is due, which the store answers, and then the line, which it does not."""
    client = await open_client(store)
    work = Work(client, lro.Queue("q", running=1))
    waits = await client.start("work", "a")
    await until(lambda: work.running == ["a"])
    store.fail("line", times=math.inf, error=lambda: lro.StoreUnavailableError("a fault of the test"))

    async def another_pass():
        asked = store.calls["line"]
        client.engine.sweeper.nudge()
        await until(lambda: store.calls["line"] > asked)

    await another_pass()
    await another_pass()  # it finds that the store answers again
    looks = store.calls["look"]
    await asyncio.sleep(1)  # real time: whoever spins would have asked a hundred times
    assert store.calls["look"] - looks < 20
    store.fail("line", times=0)
    work.end("a")
    assert await waits == "a"


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["line", "change_queue"])
@pytest.mark.parametrize("error", [OverflowError, lambda: lro.StoreUnavailableError("a fault of the test")])
async def test_queues_that_cannot_be_read_keep_nothing_that_is_due_from_going_on(
    open_client, store, lro_clock, caplog, method, error
):
    client = await open_client(store)
    work = Work(client, lro.Queue("q", running=1))

    @client.handler("sleeper", response=str)
    async def sleeper(op):
        await op.wait(sleep=600)
        return "rested"

    waits = await client.start("work", "a")
    await until(lambda: work.running == ["a"])
    second, op = await client.start("work", "b"), await client.start("sleeper")
    await all_blocked()
    await lro_clock.settle()
    store.fail(method, times=math.inf, error=error)
    await lro_clock.advance(600)
    assert await op.result(timeout=PATIENCE) == "rested"
    assert {"queues_unavailable", "queues_failed"} & {getattr(record, "event", "") for record in caplog.records}
    store.fail(method, times=0)
    work.end("a", "b")
    await lro_clock.advance(1)
    assert await asyncio.gather(waits, second) == ["a", "b"]
