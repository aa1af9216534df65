"""A process dies just before, or just after, a write around a moment: the moment is started once, and none is lost."""

from __future__ import annotations

import pytest

import lro_aio as lro
from lro_aio.testing import FaultyStore, ManualClock

DAY = 86400.0
MOMENT = 2.5 * 3600
NIGHTLY = lro.Schedule("nightly", "report", cron="30 2 * * *", overlap="queue", catch_up="all")
MOST_WRITES = 8
"""More than there are around one moment."""


class DyingStore(FaultyStore):
    """The store of a process that dies with one of its writes."""

    def __init__(self, inner):
        super().__init__(inner)
        self.left = None
        self.when = "before"
        self.dead = False

    def die(self, nth, when):
        self.left, self.when = nth, when

    def apply(self, changes):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.dead = True
                if self.when == "after":
                    self.inner.apply(changes)
        if self.dead:
            raise lro.StoreUnavailableError("a process that died writes nothing", retry_after=0.0)
        return super().apply(changes)


@pytest.fixture
def lro_clock():
    return ManualClock(1_767_225_600.0)  # 2026-01-01


@pytest.fixture
def handlers():
    registry = lro.Handlers()

    @registry.handler
    async def report(op: lro.Operation[None]) -> None: ...

    return registry


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.asyncio
async def test_each_moment_is_started_once_wherever_the_process_dies(tmp_path, handlers, lro_clock, when):
    deaths = 0
    for nth in range(1, MOST_WRITES + 1):
        url = f"sqlite:///{tmp_path}/{nth}.db"
        store = DyingStore(lro.SqliteStore(url))
        options = {"handlers": handlers, "schedules": [NIGHTLY], "clock": lro_clock, "drain_timeout": 0}
        begin = lro_clock.time()
        async with lro.Client(store, **options):
            await lro_clock.advance(begin + MOMENT - 1 - lro_clock.time())
            store.die(nth, when)
            await lro_clock.advance(3)
            deaths += store.dead
            store.dead = True  # it releases nothing
        async with lro.Client(url, **options) as second:
            await lro_clock.advance(600)
            await lro_clock.advance(DAY)
            told = await second.schedules.get("nightly")
            made = [op async for op in second.iter_operations()]
            assert (told.started, told.missed, told.queued) == (2, 0, 0)
            assert len(made) == 2
            assert all(op.done and not op.HasField("error") for op in made)
        await lro_clock.advance(begin + 3 * DAY - lro_clock.time())
    assert 3 <= deaths < MOST_WRITES
