"""Many at a time: coalesced reads and writes, ``max_running``, and what an idle client costs."""

import asyncio
import math
import sqlite3
import threading

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore

from ..waiting import PATIENCE, all_blocked, until


@pytest.mark.asyncio
async def test_a_thousand_gets_at_a_time_are_a_few_reads(client, store):
    ops = [await client.create() for _ in range(20)]
    before = store.calls["read"]
    got = await asyncio.gather(*(client.get_operation(ops[n % 20].name) for n in range(1000)))
    assert [op.name for op in got] == [ops[n % 20].name for n in range(1000)]
    assert store.calls["read"] - before <= 5


@pytest.mark.asyncio
async def test_a_crowd_of_starts_and_results_is_a_few_commits(client, store):
    gate = asyncio.Event()

    @client.handler("quick")
    async def quick(op):
        await gate.wait()
        return wrappers_pb2.Int64Value(value=1)

    await client.create(lease=False)
    before = store.calls["apply"]
    let_go = store.hold("apply")  # a commit that takes its time
    starting = [asyncio.create_task(client.start("quick")) for _ in range(256)]
    await until(lambda: store.calls["apply"] > before)
    await all_blocked()
    let_go()
    ops = await asyncio.wait_for(asyncio.gather(*starting), 10)
    assert store.calls["apply"] - before <= 4
    let_go = store.hold("apply")
    finished = store.calls["apply"]
    gate.set()
    await until(lambda: store.calls["apply"] > finished)
    await all_blocked()
    let_go()
    await asyncio.wait_for(asyncio.gather(*(op.result() for op in ops)), 10)
    assert store.calls["apply"] - finished <= 4
    assert store.changes >= 512


@pytest.mark.asyncio
async def test_waiting_for_five_hundred_children_reads_each_once(client, store, lro_clock):
    children = [await client.create() for _ in range(500)]
    parent = await client.create()
    waiting = asyncio.create_task(parent.wait(children=[child.name for child in children]))
    await lro_clock.settle()
    before = store.calls.copy()
    await asyncio.gather(*(child.done() for child in children))
    assert len(await asyncio.wait_for(waiting, 5)) == 500
    assert store.calls["read"] + store.calls["unfinished"] - before["read"] - before["unfinished"] <= 2


@pytest.mark.asyncio
async def test_no_more_than_max_running_handlers_run_and_nobody_starves(open_client, store, lro_clock):
    client = await open_client(store, max_running=3)
    now = peak = 0

    @client.handler("work", resume_points=("on",))
    async def work(op):
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        for _ in range(3):
            await asyncio.sleep(0)
        now -= 1
        return op.suspend(resume_at="on", sleep=10) if op.resume_point == "" else None

    ops = await asyncio.gather(*(client.start("work") for _ in range(40)))
    await until(lambda: not client.engine.worker.running and store.calls["look"] > 1)
    for _ in range(100):
        await lro_clock.advance(1)
        done = [(await client.get_operation(op.name)).done for op in ops]
        if all(done):
            break
    assert all(done)
    assert peak == 3


@pytest.mark.asyncio
async def test_wake_ups_wait_for_a_place_too(open_client, store, lro_clock):
    client = await open_client(store, max_running=2)
    now = peak = 0

    @client.handler("parent", state=str, resume_points=("on",))
    async def parent(op):
        nonlocal now, peak
        if op.resume_point == "":
            return op.suspend(resume_at="on", children=[op.state])
        now += 1
        peak = max(peak, now)
        places.release()
        await gate.wait()
        now -= 1
        return None

    gate, places = asyncio.Event(), asyncio.Semaphore(0)
    child = await client.create()
    ops = [await client.start("parent", child.name) for _ in range(20)]
    await until(lambda: all(store.inner.read([op.name])[0].state is State.SUSPENDED for op in ops))
    await child.done()
    for _ in range(2):
        await asyncio.wait_for(places.acquire(), 10)
    await lro_clock.settle()
    assert now == 2
    gate.set()
    await asyncio.wait_for(asyncio.gather(*(op.result() for op in ops)), 10)
    assert peak == 2


@pytest.mark.asyncio
async def test_a_full_worker_does_not_ask_the_store_over_and_over(open_client, store, lro_clock):
    client = await open_client(store, max_running=1)
    gate = asyncio.Event()

    @client.handler("work")
    async def work(op):
        await gate.wait()

    ops = [await client.start("work") for _ in range(10)]
    await lro_clock.settle()
    before = store.calls.total()
    await asyncio.sleep(0.3)  # real time: whoever polls would have asked often
    assert store.calls.total() - before <= 4
    gate.set()
    await asyncio.wait_for(asyncio.gather(*(op.result() for op in ops)), 10)


@pytest.mark.asyncio
async def test_a_store_that_reads_but_does_not_write_makes_nobody_spin(open_client, store, lro_clock):
    client = await open_client(store)

    @client.handler("nap", state=float, resume_points=("on",))
    async def nap(op):
        return op.suspend(resume_at="on", sleep=op.state) if op.resume_point == "" else None

    child = await client.create()

    @client.handler("parent", resume_points=("on",))
    async def parent(op):
        return op.suspend(resume_at="on", children=[child.name]) if op.resume_point == "" else None

    ops = [await client.start("nap", 10.0), await client.start("parent")]
    await lro_clock.settle()
    await child.done()
    store.fail("apply", times=math.inf)
    failed = store.calls["apply"]
    advancing = asyncio.create_task(lro_clock.advance(11))
    await until(lambda: store.calls["apply"] > failed)
    loop, before = asyncio.get_running_loop(), store.calls.total()
    began = loop.time()
    await asyncio.sleep(0.5)  # real time: whoever spins would have asked a hundred times
    assert store.calls.total() - before <= 20 * (loop.time() - began) / 0.5
    store.fail("apply", times=0)
    await asyncio.wait_for(advancing, PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while not all([(await client.get_operation(op.name)).done for op in ops]):
            await lro_clock.advance(1)


@pytest.mark.asyncio
async def test_an_idle_client_asks_its_store_nothing(tmp_path):
    """In real time: with a sleeping and a waiting operation on a file."""
    store = FaultyStore(lro.SqliteStore(tmp_path / "ops.db"))
    async with lro.Client(store) as client:

        @client.handler("nap", resume_points=("on",))
        async def nap(op):
            return op.suspend(resume_at="on", sleep=3600)

        @client.handler("parent", state=str, resume_points=("on",))
        async def parent(op):
            return op.suspend(resume_at="on", children=[op.state])

        child = await client.start("nap")
        op = await client.start("parent", child.name)
        await until(lambda: store.inner.read([op.name])[0].state is State.SUSPENDED)
        await client.engine.batcher.settle()
        async with asyncio.timeout(PATIENCE):
            before = -1
            while before != store.calls.total():  # the last pass, which finds the new times, may yet come
                before = store.calls.total()
                await asyncio.sleep(1)  # real time is what it costs nothing in


@pytest.mark.parametrize("method", ["apply", "read", "list", "unfinished"])
@pytest.mark.asyncio
async def test_a_slow_store_never_blocks_the_event_loop(client, store, method):
    """The loop itself lets the store go: one that waited for it would wait for ever, and the guard says where."""
    op = await client.create()
    other = await client.create()
    await client.engine.batcher.settle()
    before = store.calls[method]
    let_go = store.hold(method)
    calls = [
        asyncio.create_task(client.create()),
        asyncio.create_task(op.set_metadata(wrappers_pb2.Int64Value(value=1))),
        asyncio.create_task(client.get_operation(op.name)),
        asyncio.create_task(client.list_operations("done=false")),
        asyncio.create_task(op.wait(children=[other.name])),
    ]
    await until(lambda: store.calls[method] > before)
    await all_blocked()
    assert any(not call.done() for call in calls)
    let_go()
    await other.done()
    await asyncio.wait_for(asyncio.gather(*calls), 5)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_thousand_at_a_time_do_not_block_the_event_loop_for_long(client, loop_guard):
    """The guard of every test measures each turn; that a crowd is divided into many is what is tested."""

    @client.handler("quick")
    async def quick(op):
        return None

    ops = await asyncio.gather(*(client.start("quick") for _ in range(1000)))
    await asyncio.gather(*(op.result() for op in ops))
    assert loop_guard.callbacks > 1000


class Poisoned(FaultyStore):
    """Refuses, for good, every batch that has a change of ``poison``."""

    poison = ""

    def apply(self, changes):
        if self.poison and any(change.name == self.poison for change in changes):
            self.calls["refused"] += 1
            raise sqlite3.IntegrityError("a value that the database does not take")
        return super().apply(changes)


@pytest.mark.asyncio
async def test_of_a_batch_that_is_refused_for_good_only_the_offender_fails(open_client):
    store = Poisoned(lro.SqliteStore("sqlite://"))
    client = await open_client(store)
    ops = [await client.create() for _ in range(64)]
    store.poison = ops[37].name
    let_go = store.hold("apply")
    before = store.calls["apply"]
    busy = asyncio.create_task(client.create())
    await until(lambda: store.calls["apply"] > before)
    ends = asyncio.gather(*(op.done() for op in ops), return_exceptions=True)
    await all_blocked()
    let_go()
    results = await asyncio.wait_for(ends, 5)
    await busy
    assert [n for n, result in enumerate(results) if isinstance(result, Exception)] == [37]
    assert isinstance(results[37], lro.StoreRefusedError)
    assert isinstance(results[37].__cause__, sqlite3.IntegrityError)
    assert store.calls["refused"] <= 8, "found by halving"
    store.poison = ""
    await ops[37].done()


@pytest.mark.asyncio
async def test_a_defect_of_the_store_ends_no_writer_thread(tmp_path):
    class Odd(FaultyStore):
        def changed_elsewhere(self):
            self.calls["changed_elsewhere"] += 1
            raise ValueError("a defect")

    store = Odd(lro.SqliteStore(tmp_path / "ops.db"))
    async with lro.Client(store) as client:
        await until(lambda: store.calls["changed_elsewhere"] >= 2)
        assert [t for t in threading.enumerate() if t.name.startswith("lro-aio-writer")]
        await asyncio.wait_for(client.create(), 5)


async def _full(open_client, store, count):
    """So many operations, of which one has the only slot; and the event that lets handlers return."""
    go = asyncio.Event()
    client = await open_client(store, clock=None, max_running=1)

    @client.handler("work")
    async def work(op):
        await go.wait()

    ops = [await client.start("work") for _ in range(count)]
    return ops, go


@pytest.mark.asyncio
async def test_what_has_returned_keeps_its_slot_while_the_store_takes_nothing(open_client, store):
    ops, go = await _full(open_client, store, 6)
    before = store.calls["apply"]
    store.fail("apply", times=math.inf)
    go.set()
    await asyncio.sleep(0.7)
    assert store.calls["apply"] - before <= 20
    store.fail("apply", times=0)
    await asyncio.wait_for(asyncio.gather(*(op.result() for op in ops)), PATIENCE)


class TakesNoClaims(FaultyStore):
    """Is away for every batch that has a claim, and for no other."""

    away = False

    def apply(self, changes):
        if self.away and any(change.claims for change in changes):
            self.calls["claims"] += 1
            raise lro.StoreUnavailableError("a fault of the test", retry_after=0.0)
        return super().apply(changes)


@pytest.mark.asyncio
async def test_what_waits_for_a_slot_that_is_free_while_the_store_takes_no_claim_does_not_spin(open_client):
    store = TakesNoClaims(lro.SqliteStore("sqlite://"))
    ops, go = await _full(open_client, store, 6)
    store.away = True
    go.set()
    await until(lambda: store.calls["claims"])
    await asyncio.sleep(1.5)
    assert store.calls["claims"] <= 20
    store.away = False
    await asyncio.wait_for(asyncio.gather(*(op.result() for op in ops)), PATIENCE)


@pytest.mark.asyncio
async def test_a_run_whose_end_is_repeated_in_vain_takes_no_slot_from_the_next_run_of_its_operation(open_client, store):
    """Its answer was lost, and the row was claimed here again meanwhile: nobody would stop the new run at a close."""
    client = await open_client(store, clock=None, max_running=2)
    go, began = asyncio.Event(), []

    @client.handler("work", resume_points=("on",))
    async def work(op):
        began.append(op.resume_point)
        if op.resume_point == "":
            store.fail("apply", when="after")
            return op.suspend(resume_at="on", sleep=0)
        await go.wait()
        return None

    op = await client.start("work")
    worker, slots = client.engine.worker, client.engine.slots
    (first,) = worker.running.values()
    await until(lambda: first.holding.suspended is not None and store.calls["apply"] >= 2)
    client.engine.sweeper.nudge()
    await until(lambda: began == ["", "on"])
    await until(lambda: first.over)
    (second,) = worker.running.values()
    assert second is not first
    assert slots.free == 1
    go.set()
    await asyncio.wait_for(op.result(), PATIENCE)
    await until(lambda: slots.free == 2)
    assert not worker.running
