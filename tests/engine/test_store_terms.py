"""What a store says of itself, and what the engine does about it: its clock, its cells, its retention, its expiry."""

import asyncio
import logging
import threading

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.record import State
from lro_aio.engine.timing import SystemClock
from lro_aio.testing import FaultyStore

from ..waiting import all_blocked, until
from .far_store import FarStore

# The clock


@pytest.mark.asyncio
@pytest.mark.parametrize(("offset", "words"), [(7.6, "7.6 s behind the store's"), (-90.0, "90 s ahead of the store's")])
async def test_a_client_does_not_open_where_the_clocks_are_too_far_apart(store, offset, words):
    """A quarter of the lease; it says what to do, and leaves nothing open."""
    threads, closed = set(threading.enumerate()), []
    store.inner.clock_offset = offset
    close = store.inner.close
    store.inner.close = lambda: (closed.append(True), close())
    client = lro.Client(store, lease=lro.LeasePolicy(30))
    with pytest.raises(
        lro.ClockSkewError, match=rf"{words}; at most 7\.5 s .* are allowed: synchronise the clock"
    ) as exc:
        await client.__aenter__()
    assert (exc.value.offset, exc.value.limit, exc.value.code) == (offset, 7.5, lro.Code.FAILED_PRECONDITION)
    assert closed
    assert [t for t in set(threading.enumerate()) - threads if t.name.startswith("lro-aio")] == []
    with pytest.raises(RuntimeError, match="is not open"):
        await client.get_operation("operations/a")
    await client.aclose()  # as a finally does: nothing to do
    store.inner.clock_offset = 0.0
    async with client:
        await client.create()


@pytest.mark.asyncio
@pytest.mark.parametrize("offset", [7.5, -7.5])
async def test_a_quarter_of_the_lease_is_allowed(open_client, store, offset):
    store.inner.clock_offset = offset
    client = await open_client(store, lease=lro.LeasePolicy(30))
    await client.create()


@pytest.mark.asyncio
async def test_a_clock_that_goes_astray_later_is_warned_of_once_per_interval(store, caplog):
    """Work goes on: nobody's leases are safer for a process that stops."""
    sweep = lro.SweepPolicy(interval=0.05)
    async with lro.Client(store, lease=lro.LeasePolicy(10), sweep=sweep) as client:
        await until(lambda: store.calls["look"] >= 2)
        assert not caplog.records
        store.inner.clock_offset = 3.0
        purges = store.calls["purge"]
        await until(lambda: store.calls["purge"] > purges)
        before = store.calls["look"]
        for number in range(1, 21):
            client.engine.sweeper.nudge()
            await until(lambda number=number: store.calls["look"] >= before + number)
        purges = store.calls["purge"]
    said = [entry for entry in caplog.records if "3 s behind the store's" in entry.getMessage()]
    assert 0 < len(said) <= purges, "full passes purge, and come once per interval"
    assert {entry.levelno for entry in said} == {logging.WARNING}


def test_the_systems_clock_tells_microseconds():
    """So that a time is the same in every store, and after every one."""
    times = [SystemClock().time() for _ in range(1000)]
    assert times == [round(time, 6) for time in times]


# The row


def test_limits_that_no_row_can_hold_are_refused_when_the_client_is_made(store):
    store.max_row = 1_000_000
    lro.Client(store, limits=lro.Limits(state=500_000, metadata=100_000, response=400_000))
    with pytest.raises(ValueError, match=r"1000001 bytes together, .* holds 1000000; lower one"):
        lro.Client(store, limits=lro.Limits(state=500_000, metadata=100_001, response=400_000))
    with pytest.raises(ValueError, match="a row of the store"):
        lro.Client(store)


# The retention of somebody else


@pytest.fixture
def short(store):
    """A store on a table whose rows somebody else's policy removes after an hour."""
    store.inner.max_wait = 3600.0
    store.inner.max_wait_reason = "table T has a policy; replace it"
    return store


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("wait", "fits"),
    [
        ({"sleep": 3600}, True),
        ({"sleep": 3601}, False),
        ({"until": 3600}, True),
        ({"until": 3601}, False),
        ({"until": -86_400}, True),
        ({"sleep": 3000, "children": ["operations/x"]}, True),
        ({"sleep": 3000, "children": ["operations/x"], "timeout": 600}, True),
        ({"sleep": 3000, "children": ["operations/x"], "timeout": 601}, False),
        ({"until": -86_400, "children": ["operations/x"], "timeout": 3601}, False),
    ],
    ids=str,
)
async def test_a_wait_that_the_row_would_not_live_to_see_is_refused(open_client, short, lro_clock, row, wait, fits):
    client = await open_client(short)
    said = []
    if "until" in wait:
        wait = {**wait, "until": lro_clock.time() + wait["until"]}

    @client.handler("nap", resume_points=("on",))
    async def nap(op):
        if op.resume_point == "":
            try:
                return op.suspend(resume_at="on", **wait)
            except ValueError as exc:
                said.append(str(exc))
        return None

    op = await client.start(nap)
    await lro_clock.settle()
    if fits:
        assert said == []
        assert row(op.name).state in (State.SUSPENDED, State.SUCCEEDED)
    else:
        assert len(said) == 1
        assert said[0].endswith("limit is 3600 s: table T has a policy; replace it")
        assert row(op.name).state is State.SUCCEEDED, "a suspend that was refused was not made"


@pytest.mark.asyncio
async def test_a_retry_that_the_row_would_not_live_to_see_comes_before(open_client, short, lro_clock, caplog):
    client = await open_client(short)
    runs = []

    @client.handler("later")
    async def later(op):
        runs.append(lro_clock.time())
        if len(runs) == 1:
            raise lro.RetryLater(after=86_400)
        return wrappers_pb2.BoolValue(value=True)

    op = await client.start(later)
    await lro_clock.advance(3601)
    assert (await op.result(wrappers_pb2.BoolValue)).value
    assert runs[1] - runs[0] == pytest.approx(3600)
    assert "after 3600 s already: table T has a policy; replace it" in caplog.text


# What an idle client asks


@pytest.mark.asyncio
async def test_a_pass_with_nothing_to_do_is_one_look(open_client, store):
    """And one more call where expired rows are the engine's to remove."""
    client = await open_client(store)
    await until(lambda: store.calls["purge"])  # the first pass of its own
    before = store.calls.copy()
    await client.sweep()
    assert store.calls - before == {"look": 1, "purge": 1}


@pytest.mark.asyncio
async def test_a_store_that_expires_rows_is_never_asked_to(open_client, store, row, lro_clock):
    store.inner.expires_rows = True
    client = await open_client(store, retention=lro.RetentionPolicy(10))
    op = await client.create()
    await op.done()
    await lro_clock.advance(20)
    await client.sweep()
    assert row(op.name) is not None
    assert store.calls["purge"] == 0
    with pytest.raises(lro.OperationNotFoundError):
        await client.get_operation(op.name)


@pytest.mark.asyncio
async def test_an_idle_client_looks_once_per_interval(tmp_path):
    """In real time: never sooner than the interval, and no other call besides."""
    store = FaultyStore(lro.SqliteStore(tmp_path / "ops.db"))
    store.inner.expires_rows = True
    interval = 0.1
    async with lro.Client(store, sweep=lro.SweepPolicy(interval=interval)):
        loop = asyncio.get_running_loop()
        await until(lambda: store.calls["look"])
        before, began = store.calls.copy(), loop.time()
        await until(lambda: store.calls["look"] - before["look"] >= 6)
        assert loop.time() - began >= 4 * interval, "a busy machine may count the first one late"
        assert set(store.calls - before) == {"look"}


@pytest.mark.asyncio
async def test_an_idle_client_is_not_woken_by_the_look_again_of_who_waits(store, monkeypatch):
    """That belt is for readers alone; the sweep has its interval."""
    monkeypatch.setattr("lro_aio.engine.engine.POLL_AGAIN", 0.01)
    async with lro.Client(store) as client:
        op = await client.create(lease=False)
        await until(lambda: store.calls["purge"])  # the end of the first pass
        await client.engine.batcher.settle()
        before = store.calls.copy()
        waiting = asyncio.create_task(op.result())
        await until(lambda: store.calls["read"] - before["read"] >= 5)
        waiting.cancel()
        assert set(store.calls - before) == {"read"}


@pytest.mark.asyncio
async def test_what_is_committed_during_a_look_is_not_late(store):
    """The look has its answer already when a row is suspended, and would wait for an hour."""
    looked, go = threading.Event(), threading.Event()
    look = store.inner.look

    def slow(**arguments):
        found = look(**arguments)
        looked.set()
        go.wait(10)
        return found

    store.inner.look = slow
    async with lro.Client(store, sweep=lro.SweepPolicy(interval=3600)) as client:

        @client.handler("nap", resume_points=("on",))
        async def nap(op):
            return op.suspend(resume_at="on", sleep=0.1) if op.resume_point == "" else None

        await until(looked.is_set)
        op = await client.start(nap)
        await until(lambda: store.inner.read([op.name])[0].state is State.SUSPENDED)
        await all_blocked()
        go.set()
        await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_a_row_that_another_process_claimed_first_is_looked_at_when_its_lease_is_over(
    open_client, tmp_path, lro_clock
):
    """No notice tells of it: the pass that lost it looks once more, and finds the new time."""
    store, path = FarStore(lro.SqliteStore(tmp_path / "ops.db")), tmp_path / "ops.db"
    look, stolen = store.inner.look, []

    def stealing(**arguments):
        found = look(**arguments)
        if found.due and not stolen:
            stolen.extend(found.due)
            lease = {"lease_expire_time": lro_clock.time() + 30, "check_time": lro_clock.time() + 30}
            claimed = stolen[0].evolve(state=State.RUNNING, owner="other", claim=1, attempt=1, revision=2, **lease)
            store.inner.apply([Change(claimed.name, lambda _: claimed)])
        return found

    store.inner.look = stealing
    front = await open_client(lro.SqliteStore(path), worker=False)
    client = lro.Client(store, clock=lro_clock, drain_timeout=0, sweep=lro.SweepPolicy(interval=3600))

    @client.handler("work")
    async def work(op):
        return wrappers_pb2.Int64Value(value=op.claim)

    op = await front.start("work")
    async with client:
        await lro_clock.advance(29)
        assert store.inner.read([op.name])[0].owner == "other"
        await lro_clock.advance(17)
        assert (await asyncio.wait_for(client.get_operation(op.name), 5)).done
    assert stolen


@pytest.mark.asyncio
async def test_new_rows_are_not_looked_for_where_others_wait_for_a_place_already(open_client, store, lro_clock):
    client = await open_client(store, max_running=1)
    gate = asyncio.Event()

    @client.handler("work")
    async def work(op):
        await gate.wait()

    for _ in range(2):
        await client.start("work")
        await lro_clock.settle()
    before = store.calls["look"]
    for _ in range(20):
        await client.start("work")
        await lro_clock.settle()
    assert store.calls["look"] == before
    gate.set()
    await lro_clock.settle()
    assert not [op async for op in client.iter_operations() if not op.done], "the end of a run looks for them"


@pytest.mark.asyncio
async def test_every_route_that_nobody_runs_is_reported_once(open_client, store, lro_clock, caplog):
    """Though the store names one at a time."""
    client = await open_client(store)
    make = client.engine.starter
    for number in range(6):
        await make._create(make._new_record("", {"handler": f"lost-{number % 3}"}, operation_id=f"op-{number}"))
    await lro_clock.advance(60)
    await client.sweep()
    await client.sweep()
    said = sorted(
        entry.getMessage() for entry in caplog.records if "which is not registered here" in entry.getMessage()
    )
    assert said == [f"operations wait for handler 'lost-{i}' at '', which is not registered here" for i in range(3)]
