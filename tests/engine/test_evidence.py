"""Who may take a lease that is over: only a process that has watched it himself, whatever the clocks of others say."""

import asyncio
import gc
import math
import sqlite3

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.core.record import Record, State
from lro_aio.engine.evidence import Evidence
from lro_aio.engine.timing import SystemClock
from lro_aio.testing import FaultyStore, ManualClock

from ..waiting import PATIENCE, until

HOUR = 3600


class HostClock:
    """The clock of one host: time passes everywhere alike, and each host has a time of day of its own."""

    def __init__(self, base, off=0.0):
        self.base = base
        self.off = off
        self.stood = 0.0
        """Seconds that have passed here, and that the base knows nothing of."""

    def time(self):
        return self.base.time() + self.off

    def monotonic(self):
        return self.base.time() + self.stood

    def call_at(self, when, callback):
        return self.base.call_at(when - self.off, callback)

    def call_later(self, delay, callback):
        return self.base.call_later(delay, callback)

    def every(self, interval, tick):
        return self.base.every(interval, tick)

    def attach(self, settle):
        return self.base.attach(settle)


@pytest.fixture
def base():
    return ManualClock()


@pytest.fixture
def work():
    """A registry with one handler that never ends, and who ran it."""
    handlers = lro.Handlers()
    handlers.runs = []

    @handlers.handler("work")
    async def run(op):
        handlers.runs.append((op.client, op.claim))
        await asyncio.Event().wait()

    return handlers


@pytest_asyncio.fixture
async def host(base, work, tmp_path, open_client):
    """``await host(off)``: a process on a host whose clock is off by so much; they all share one file."""

    async def start(off=0.0, **options):
        store = FaultyStore(lro.SqliteStore(tmp_path / "ops.db"))
        return await open_client(store, handlers=[work], clock=HostClock(base, off), **options)

    return start


@pytest.mark.slow
@pytest.mark.parametrize("steps", [(HOUR, 2 * HOUR), (60, 90), (HOUR, -HOUR, 2 * HOUR), (-HOUR, HOUR)])
@pytest.mark.asyncio
async def test_a_process_that_begins_takes_no_run_from_the_living_because_others_with_other_clocks_saw_it_over(
    host, base, work, steps
):
    owner = await host()
    op = await owner.start("work")
    created = await owner.create()
    await base.advance(9)
    for off in steps:
        other = await host(off)
        await other.sweep()
    await base.settle()
    await base.advance(100)
    assert work.runs == [(owner, 1)]
    assert not (await owner.get_operation(created.name)).done
    assert (await owner.operation(op.name)).record.lease_expire_time > base.time()


@pytest.mark.parametrize("noted", [1, 16, HOUR])
@pytest.mark.asyncio
async def test_a_note_of_an_older_release_is_no_reason_to_take_a_lease(host, base, work, noted):
    """It moved ``check_time`` behind the end of the lease, to the moment of its own clock at which to take it."""
    owner = await host()
    op = await owner.start("work")
    await base.advance(9)
    row = owner.store.inner.read([op.name])[0]

    def note(record):
        return record.evolve(check_time=row.lease_expire_time + noted)

    owner.store.inner.apply([lro.core.change.Change(op.name, note)])
    newer = await host(2 * HOUR)
    await newer.sweep()
    await base.settle()
    assert work.runs == [(owner, 1)]


@pytest.mark.parametrize("off", [HOUR, 40, -HOUR])
@pytest.mark.asyncio
async def test_whoever_saw_a_lease_over_by_another_clock_does_not_hide_the_row_of_a_dead_process(
    host, base, work, abandon, off
):
    owner = await host()
    await owner.start("work")
    await base.settle()
    abandon(owner)
    strange = await host(off)
    await strange.sweep()
    await strange.aclose()
    await base.advance(31)
    follower = await host()
    await follower.sweep()
    await base.advance(14)
    assert work.runs == [(owner, 1)]
    await base.advance(2)
    assert work.runs == [(owner, 1), (follower, 2)]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_process_that_is_full_goes_on_watching_and_ends_what_a_creator_left(host, base, work, abandon):
    owner = await host()
    created = await owner.create()
    await base.settle()
    full = await host(max_running=1)
    for _ in range(3):
        await full.start("work")
    await base.settle()
    abandon(owner)
    for _ in range(60):
        await base.advance(1)
    assert (await full.get_operation(created.name)).done


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_claim_that_the_store_takes_late_takes_nothing(host, base, work, abandon):
    """It waited for a lock, as the holder did who could not renew."""
    owner = await host()
    op = await owner.start("work")
    await base.settle()
    owner.store.fail("apply", times=math.inf)  # it lives, and somebody has the write lock
    other = await host()
    await base.advance(44.5)
    held = other.store.hold("apply")
    task = asyncio.create_task(base.advance(5))
    await held.reached()
    other.engine.clock.stood += 5
    owner.store.fail("apply", times=0)
    held()
    await task
    await base.advance(100)
    assert work.runs == [(owner, 1)]
    assert (await owner.operation(op.name)).record.owner == owner.engine.settings.owner


class AheadClock(SystemClock):
    """The machine's clocks, with a time of day that is an hour ahead."""

    def time(self):
        return super().time() + HOUR


@pytest.mark.asyncio
async def test_who_waits_for_the_write_lock_takes_no_lease_from_a_holder_who_waits_for_it_too(work, tmp_path):
    """In real time: SQLite gives the lock to either, whoever asks at the right moment."""
    path = tmp_path / "ops.db"
    options = {"handlers": [work], "lease": lro.LeasePolicy(duration=3), "drain_timeout": 0}
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    async with lro.Client(f"sqlite:///{path}", **options) as owner:
        op = await owner.start("work")
        async with lro.Client(f"sqlite:///{path}", clock=AheadClock(), **options) as other:
            await until(lambda: other.engine.evidence.watched > 0)  # it has seen the lease over, and written
            await asyncio.to_thread(lock.execute, "BEGIN IMMEDIATE")
            await asyncio.sleep(2 * other.engine.evidence.interval)  # real time is what is tested
            await asyncio.to_thread(lock.execute, "COMMIT")
            renewed = (await owner.operation(op.name)).record.lease_expire_time
            async with asyncio.timeout(PATIENCE):
                while (await owner.operation(op.name)).record.lease_expire_time <= renewed:
                    await asyncio.sleep(0)
    assert work.runs == [(owner, 1)]
    await asyncio.to_thread(lock.close)


@pytest.mark.asyncio
async def test_a_start_that_finds_what_a_lost_answer_left_renews_its_lease_before_it_runs(host, base, work):
    """Nobody has renewed it since: others have watched it for almost long enough."""
    owner, other = await host(), await host()
    owner.store.fail("apply", when="after")
    with pytest.raises(lro.StoreUnavailableError):
        await owner.start("work", request_id="r")
    await base.advance(44)
    assert other.engine.evidence.watched == 1
    await owner.start("work", request_id="r")
    await until(lambda: work.runs)
    for _ in range(10):  # no renewal by itself comes between
        other.engine.clock.stood += 0.5
        await other.sweep()
    await base.settle()
    assert work.runs == [(owner, 1)]


@pytest.mark.asyncio
async def test_a_start_that_finds_what_another_process_has_taken_meanwhile_runs_nothing(host, base, work, caplog):
    owner, other = await host(), await host()
    owner.store.fail("apply", when="after")
    with pytest.raises(lro.StoreUnavailableError):
        await owner.start("work", request_id="r")
    await base.advance(44)
    held = owner.store.hold("apply", when="after")
    starting = asyncio.create_task(owner.start("work", request_id="r"))
    await held.reached()
    async with asyncio.timeout(PATIENCE):
        while not work.runs:  # it soon has watched for long enough
            other.engine.clock.stood += 0.5
            await other.sweep()
    held()
    await starting
    await base.settle()
    assert work.runs == [(other, 2)]
    gc.collect()
    assert "never retrieved" not in caplog.text  # nobody waits for the renewal that is refused


@pytest.mark.asyncio
async def test_what_a_process_leaves_whose_clock_was_an_hour_ahead_is_taken_an_hour_later(host, base, work, abandon):
    """Its lease ends by its own clock. Nobody else can tell it from one that is renewed."""
    ahead, follower = await host(HOUR), await host()
    await ahead.start("work")
    await base.settle()
    abandon(ahead)
    await base.advance(HOUR + 44)
    assert work.runs == [(ahead, 1)]
    for _ in range(10):  # a machine that is busy tries the store a little later
        await base.advance(2)
    assert work.runs == [(ahead, 1), (follower, 2)]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_thousand_leases_of_one_dead_process_are_watched_with_few_reads(host, base, abandon):
    owner, other = await host(), await host()
    ops = await asyncio.gather(*(owner.create() for _ in range(1500)))
    await base.settle()
    abandon(owner)
    other.engine.clock.off += 31
    before = other.store.calls["look"]
    await other.sweep()
    assert other.engine.evidence.watched == 1500
    assert other.store.calls["look"] - before <= 6, "each reads twice as many rows as the one before"
    await base.advance(16)
    assert (await other.get_operation(ops[-1].name)).done


@pytest.mark.asyncio
async def test_what_sleeps_wakes_on_time_while_a_lease_is_watched(host, base, work, abandon):
    @work.handler("nap", resume_points=("up",))
    async def nap(op):
        return op.suspend(resume_at="up", sleep=35.25) if op.resume_point == "" else None

    owner, other = await host(), await host()
    created = await owner.create()
    await base.settle()
    op = await other.start("nap")
    abandon(owner)
    await base.advance(35.25)
    assert other.engine.evidence.watched == 1
    assert (await other.get_operation(op.name)).done
    assert not (await other.get_operation(created.name)).done


@pytest.mark.parametrize(("waited", "left"), [(0.0, 5), (0.75, 5.75), (1.5, None)])
def test_time_in_which_a_write_waited_does_not_count_and_a_long_wait_begins_anew(base, waited, left):
    clock = HostClock(base)
    evidence = Evidence(clock, lro.LeasePolicy(duration=30))
    row = Record(
        name="operations/a", uid="u", state=State.RUNNING, create_time=0, update_time=0, owner="o", lease_expire_time=1
    )
    assert not evidence.proves_dead(row)
    clock.stood += 10 - waited
    asked = clock.monotonic()
    clock.stood += waited
    evidence.answered(asked)
    if left is None:
        assert evidence.watched == 0
        return
    clock.stood += left - 0.01
    assert not evidence.proves_dead(row)
    clock.stood += 0.01
    assert evidence.proves_dead(row)


@pytest.mark.asyncio
async def test_a_call_that_fails_now_and_then_does_not_keep_a_process_from_taking_over(host, base, work, abandon):
    owner, other = await host(), await host()
    op = await owner.start("work")
    await base.settle()
    abandon(owner)
    await base.advance(31)
    for _ in range(14):
        other.store.fail("read")
        with pytest.raises(lro.StoreUnavailableError):
            await other.get_operation(op.name)
        await other.get_operation(op.name)
        await base.advance(1)
    await base.advance(1)
    assert work.runs == [(owner, 1), (other, 2)]


class HandTicked(HostClock):
    """A host whose tickers the test calls."""

    def __init__(self, base):
        super().__init__(base)
        self.ticks = {}

    def every(self, interval, tick):
        self.ticks[interval] = tick
        return lambda: None


@pytest.mark.asyncio
async def test_a_renewal_that_the_store_did_not_answer_is_repeated_soon(base, work, open_client):
    store, clock = FaultyStore(lro.SqliteStore("sqlite://")), HandTicked(base)
    client = await open_client(store, handlers=[work], clock=clock)
    op = await client.start("work")
    await base.advance(10)
    assert sorted(clock.ticks) == [2.5, 10]
    store.fail("apply")
    await asyncio.to_thread(clock.ticks[10])
    lease = (await client.operation(op.name)).record.lease_expire_time
    await asyncio.to_thread(clock.ticks[2.5])
    assert (await client.operation(op.name)).record.lease_expire_time == lease + 10
    calls = store.calls["apply"]
    await asyncio.to_thread(clock.ticks[2.5])
    assert store.calls["apply"] == calls, "it was answered"
