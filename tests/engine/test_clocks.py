"""Clocks that are set, and processes that stand still: nobody loses what he holds, and nothing is held up."""

import asyncio

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore, ManualClock

from ..waiting import reached


class SetClock(ManualClock):
    """A manual clock whose time of day can be set apart from its monotonic time, as an administrator sets it."""

    def __init__(self):
        super().__init__()
        self.set_by = 0.0

    def time(self):
        return super().time() + self.set_by

    def call_at(self, when, callback):
        """Sooner where the clock was set forward, never later than it would have come (``Clock.call_at``)."""
        return super().call_at(when - self.set_by, callback)

    def call_later(self, delay, callback):
        return super().call_at(super().time() + delay, callback)

    def monotonic(self):
        return super().time()


@pytest.fixture
def clock():
    return SetClock()


@pytest_asyncio.fixture
async def two(clock, tmp_path):
    """Two live processes on one file, and the log of who ran what."""
    runs = []
    handlers = lro.Handlers()

    @handlers.handler("work")
    async def work(op):
        runs.append((op.client, op.claim))
        await asyncio.Event().wait()

    url = f"sqlite:///{tmp_path}/ops.db"
    options = {"handlers": [handlers], "clock": clock, "drain_timeout": 0}
    async with lro.Client(url, **options) as first, lro.Client(url, **options) as second:
        yield first, second, runs


@pytest.mark.slow
@pytest.mark.parametrize("step", [25, 60, 86400, -3600])
@pytest.mark.asyncio
async def test_a_clock_that_is_set_takes_no_run_from_the_living(two, clock, step):
    first, second, runs = two
    await first.start("work")
    created = await first.create()
    await clock.advance(9)
    clock.set_by += step
    await second.sweep()
    await clock.advance(100)
    await second.sweep()
    assert runs == [(first, 1)]
    assert not (await second.get_operation(created.name)).done
    await created.done()


@pytest.mark.parametrize("step", [40, 3600])
@pytest.mark.asyncio
async def test_a_clock_that_is_set_twice_takes_no_run_from_the_living(two, clock, step):
    """Nor does a machine that is suspended twice: between the two, somebody has seen that the lease is over."""
    first, second, runs = two
    await first.start("work")
    created = await first.create()
    await clock.advance(9)
    for _ in range(2):
        clock.set_by += step
        await second.sweep()
    await clock.advance(100)
    assert runs == [(first, 1)]
    assert not (await second.get_operation(created.name)).done


@pytest.mark.asyncio
async def test_a_claim_that_comes_late_takes_no_run_from_a_process_whose_clock_is_behind(tmp_path):
    """The other one was first, and its lease is over by the clock of whoever comes late."""
    runs = []
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("up",))
    async def nap(op):
        runs.append((op.client, op.claim))
        if op.resume_point == "":
            return op.suspend(resume_at="up", sleep=10)
        await asyncio.Event().wait()
        return None
        return await asyncio.Event().wait()

    url, behind = f"sqlite:///{tmp_path}/o.db", SetClock()
    behind.set_by = -3600
    options = {"handlers": [handlers], "drain_timeout": 0}
    late = FaultyStore(lro.SqliteStore.from_url(url))
    held = late.hold("apply")
    async with lro.Client(url, clock=behind, **options) as first:
        op = await first.start("nap")
        await reached(first, op.name, State.SUSPENDED)
        async with lro.Client(late, clock=SetClock(), **options) as second:
            await held.reached()  # by its clock, the sleep is over
            await behind.advance(10)
            held()
            await second.sweep()
            assert runs == [(first, 1), (first, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("ran", [5, 2 * 3600])
@pytest.mark.asyncio
async def test_a_process_that_dies_after_a_step_back_is_replaced_within_two_leases(two, clock, abandon, ran):
    first, second, runs = two
    op = await first.start("work")
    await clock.advance(ran)
    clock.set_by -= 3600
    await clock.advance(5)
    abandon(first)
    await second.sweep()  # in real time, each of its intervals brings one
    await clock.advance(60)
    assert runs == [(first, 1), (second, 2)]
    assert (await second.operation(op.name)).record.state is State.RUNNING


@pytest.mark.parametrize("lease", [0.6, 1.0, 30.0])
@pytest.mark.asyncio
async def test_a_process_that_dies_is_replaced_within_two_leases_however_short_they_are(
    clock, tmp_path, abandon, lease
):
    runs = []
    handlers = lro.Handlers()

    @handlers.handler("work")
    async def work(op):
        runs.append(op.client)
        await asyncio.Event().wait()

    url = f"sqlite:///{tmp_path}/o.db"
    options = {"handlers": [handlers], "clock": clock, "drain_timeout": 0, "lease": lro.LeasePolicy(duration=lease)}
    async with lro.Client(url, **options) as first, lro.Client(url, **options) as second:
        await first.start("work")
        abandon(first)
        await clock.advance(1.01 * lease)
        clock.set_by += lease / 2  # the note of the lease's end is due a little before the evidence is complete
        for _ in range(2):  # what others commit brings passes meanwhile
            second.engine.sweeper.nudge()
            await clock.settle()
        await clock.advance(0.99 * lease)
        assert runs == [first, second]


@pytest.mark.asyncio
async def test_a_clock_that_is_set_back_holds_nothing_up(clock, tmp_path):
    """Waits, timeouts, retries and sleeps that are under way end when they would have ended."""
    handlers = lro.Handlers()
    forever = asyncio.Event()

    @handlers.handler("stuck", run_timeout=10)
    async def stuck(op):
        await forever.wait()

    @handlers.handler("nap", resume_points=("up",))
    async def nap(op):
        return op.suspend(resume_at="up", sleep=10) if op.resume_point == "" else None

    @handlers.handler("inner")
    async def inner(op):
        await op.wait(sleep=10)

    @handlers.handler("flaky", retry=lro.RetryPolicy(on=(ConnectionError,), initial_delay=10, jitter=0))
    async def flaky(op):
        if op.retries < 1:
            raise ConnectionError

    @handlers.handler("long")
    async def long(op):
        await op.progress(0.1)
        await op.progress(0.2)
        await forever.wait()

    async with lro.Client(f"sqlite:///{tmp_path}/o.db", handlers=[handlers], clock=clock, drain_timeout=0) as client:
        ops = [await client.start(name) for name in ("stuck", "nap", "inner", "flaky")]
        progressing = await client.start("long")
        waiting = asyncio.create_task(client.wait_operation(progressing.name, 10))
        await clock.settle()
        clock.set_by -= 3600
        await clock.advance(12)
        assert [(await client.get_operation(op.name)).done for op in ops] == [True] * 4
        assert waiting.done()
        assert (await progressing.fetch()).metadata.value.count(b"progress") == 1
        assert b"\x9a\x99\x99\x99\x99\x99\xc9?" in progressing.proto.metadata.value, "0.2, the last one"
        later = asyncio.create_task(client.wait_operation(progressing.name, 10))
        await clock.advance(11)
        assert later.done(), "begun after the step"


@pytest.mark.asyncio
async def test_a_sleep_that_began_after_the_clock_was_set_back_lasts_as_long_as_it_says(clock, tmp_path):
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("up",))
    async def nap(op):
        return op.suspend(resume_at="up", sleep=100) if op.resume_point == "" else None

    async with lro.Client(f"sqlite:///{tmp_path}/o.db", handlers=[handlers], clock=clock) as client:
        clock.set_by -= 3600
        op = await client.start("nap")
        await clock.advance(99)
        assert not (await client.get_operation(op.name)).done
        await clock.advance(2)
        assert (await client.get_operation(op.name)).done


@pytest.mark.asyncio
async def test_a_machine_that_was_suspended_wakes_its_sleepers_at_once(clock, tmp_path):
    """Its monotonic clock stood still; the time of day went on. What is stored goes by the time of day."""
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("up",))
    async def nap(op):
        return op.suspend(resume_at="up", sleep=8 * 3600) if op.resume_point == "" else None

    async with lro.Client(f"sqlite:///{tmp_path}/o.db", handlers=[handlers], clock=clock) as client:
        op = await client.start("nap")
        await clock.settle()
        clock.set_by += 9 * 3600
        await client.sweep()
        await clock.settle()
        assert (await client.get_operation(op.name)).done


@pytest.mark.asyncio
async def test_a_clock_that_is_set_forward_wakes_what_is_stored_and_shortens_nothing_that_is_counted(clock, tmp_path):
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("up",))
    async def nap(op):
        return op.suspend(resume_at="up", sleep=1800) if op.resume_point == "" else None

    @handlers.handler("inner", run_timeout=200)
    async def inner(op):
        await op.wait(sleep=100)

    async with lro.Client(f"sqlite:///{tmp_path}/o.db", handlers=[handlers], clock=clock) as client:
        stored, counted = [await client.start(name) for name in ("nap", "inner")]
        waiting = asyncio.create_task(client.wait_operation(counted.name, 50))
        await clock.settle()
        clock.set_by += 3600
        await client.sweep()
        await clock.advance(6)
        assert (await client.get_operation(stored.name)).done
        assert not (await client.get_operation(counted.name)).done
        assert not waiting.done()
        await clock.advance(100)
        assert (await client.get_operation(counted.name)).HasField("response")
        assert waiting.done()
