"""Ten processes, of which seven are killed around their writes: each moment is started once, and none is lost."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

import lro_aio as lro
from lro_aio.core.names import request_id
from lro_aio.core.schedules import request_of

from .processes import Workers

LEASE = 1.0
SCHEDULE = {"name": "often", "handler": "left", "every": 1, "overlap": "allow", "catch_up": "all"}
MOMENTS = 8


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_fleet_that_is_killed_starts_each_moment_once(workers: Workers, store_url: str) -> None:
    deaths = zip(range(3, 10), itertools.cycle(("before", "after", "inside")))
    for nth, when in deaths:
        workers.start(store_url, lease=LEASE, schedules=[SCHEDULE], kill={"nth": nth, "when": when})
    # While there is nobody else, all of the work is theirs: who comes too early may do it for them.
    await workers.until(lambda: sum(not workers.alive(pid) for pid in workers.started()) >= 2, what="two are dead")
    for pid in [workers.start(store_url, lease=LEASE, schedules=[SCHEDULE]) for _ in range(3)]:
        await workers.seen("ready", pid=pid)
    async with lro.Client(store_url, worker=False) as client:
        async with asyncio.timeout(60):
            while (told := await client.schedules.get("often")).started < MOMENTS:
                await asyncio.sleep(0.2)  # real time is what a schedule goes by
        assert told.missed == 0
        assert told.last is not None
        made = {op.name async for op in client.iter_operations() if op.name != told.operation}
        moments = [told.last - back for back in range(told.started)]
        expected = {f"operations/{request_id('', 'left', request_of('often', moment))}" for moment in moments}
        assert expected <= made
        later = range(1, int(time.time() - told.last) + 2)  # what was started after the look
        coming = {f"operations/{request_id('', 'left', request_of('often', told.last + one))}" for one in later}
        assert made <= expected | coming
