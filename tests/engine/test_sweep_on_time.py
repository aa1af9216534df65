"""A sweep that found no free place for a row must not be late for the next one, nor look all the time."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf import empty_pb2

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore

from ..waiting import until


@pytest.mark.asyncio
async def test_a_row_that_waited_for_a_place_delays_no_other(lro_clock) -> None:
    """Rows that stay due for want of a place are looked at again when there is one; that costs others nothing."""
    began: dict[str, float] = {}
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("awake",))
    async def nap(op):
        if op.resume_point == "":
            return op.suspend(resume_at="awake", sleep=10.2)
        began["nap"] = op.client.clock.time()
        return empty_pb2.Empty()

    @handlers.handler("busy")
    async def busy(op):
        began[op.id] = op.client.clock.time()
        await op.wait(sleep=10)
        return empty_pb2.Empty()

    async with lro.Client("sqlite://", handlers=[handlers], clock=lro_clock, max_running=1, drain_timeout=0) as client:
        start = lro_clock.time()
        await client.start("nap")
        await lro_clock.advance(0)
        await client.start("busy", operation_id="first")
        await client.start("busy", operation_id="second")
        await lro_clock.advance(10)  # the first ends, and the second has the place
        assert began["second"] - start == pytest.approx(10)
        client.engine.slots.most = 2  # as if a run that is not in our way had ended
        await lro_clock.advance(1)
        assert began["nap"] - start == pytest.approx(10.2)


@pytest.mark.asyncio
async def test_a_backlog_is_looked_at_when_what_is_at_hand_runs_out_and_not_for_each_free_place() -> None:
    """A look reads a whole batch of rows: one for each run that ends would read the backlog over and over."""
    done: list[str] = []
    handlers = lro.Handlers()

    @handlers.handler("quick")
    async def quick(op):
        done.append(op.id)
        return empty_pb2.Empty()

    store = FaultyStore(lro.SqliteStore("sqlite://"))
    async with lro.Client(store, handlers=[handlers], max_running=1) as client:
        operations = await asyncio.gather(*(client.start("quick") for _ in range(100)))
        await asyncio.gather(*(operation.result(timeout=30) for operation in operations))
        assert len(set(done)) == len(done) == 100
        assert store.calls["look"] < 20


@pytest.mark.asyncio
async def test_a_row_that_began_while_the_sweep_looked_does_not_stand_among_those_that_wait() -> None:
    """It would make the others wait: while rows wait for a place, no timer is set for what is due next."""
    began: list[str] = []
    places = {name: asyncio.Event() for name in ("first", "second")}
    handlers = lro.Handlers()

    @handlers.handler("busy")
    async def busy(op):
        began.append(op.id)
        await places[op.id].wait()
        return empty_pb2.Empty()

    @handlers.handler("nap", resume_points=("awake",))
    async def nap(op):
        return op.suspend(resume_at="awake", sleep=0.3) if op.resume_point == "" else None

    store = FaultyStore(lro.SqliteStore("sqlite://"))
    async with lro.Client(store, handlers=[handlers], max_running=2, drain_timeout=0) as client:
        engine = client.engine
        nap = await client.start("nap")
        await until(lambda: engine.slots.room == 2)
        engine.slots.most = 1
        await client.start("busy", operation_id="first")
        await client.start("busy", operation_id="second")
        await client.sweep()  # finds that it waits for a place; else nothing looks for it before there is one
        assert engine.slots.waiting
        looks = store.calls["look"]
        answer = store.hold("look", when="after")
        engine.sweeper.nudge()
        await until(lambda: store.calls["look"] > looks)
        places["first"].set()  # the second is claimed, while the look still says that it is due
        await until(lambda: began == ["first", "second"])
        answer()
        engine.slots.most = 2
        await nap.result(timeout=10)
        places["second"].set()


@pytest.mark.asyncio
async def test_the_sweep_of_a_front_end_keeps_no_row_for_a_place_that_never_comes(tmp_path) -> None:
    handlers = lro.Handlers()

    @handlers.handler("quick")
    async def quick(op):
        return None

    url = f"sqlite:///{tmp_path}/operations.db"
    async with lro.Client(url, handlers=[handlers], worker=False) as front:
        await front.start("quick")
        await front.sweep()
        assert front.engine.slots.coming == 0


@pytest.mark.asyncio
async def test_a_row_whose_claim_was_under_way_is_looked_at_again_soon(lro_clock) -> None:
    """The claim may be refused, and nobody else would say so before the next interval."""
    ran: list[str] = []
    handlers = lro.Handlers()

    @handlers.handler("quick")
    async def quick(op):
        ran.append(op.id)

    @handlers.handler("nap", resume_points=("awake",))
    async def nap(op):
        return op.suspend(resume_at="awake", sleep=50) if op.resume_point == "" else None

    store = lro.SqliteStore("sqlite://")
    async with lro.Client(store, handlers=[handlers], clock=lro_clock, max_running=1) as client:
        engine = client.engine
        slept = lro_clock.time()
        await client.start("nap")
        await lro_clock.settle()
        engine.slots.most = 0
        op = await client.start("quick")
        await lro_clock.settle()
        engine.slots.most = 1
        [(record, _)] = engine.slots.take_waiting()  # it has a place, and is about to be claimed
        assert record.name == op.name
        assert await engine.sweeper.run_pass() == lro_clock.time() + 1
        await lro_clock.advance(49.5)
        assert await engine.sweeper.run_pass() == slept + 50
        assert engine.slots.free == 0
        assert not ran
        engine.slots.give_up(record.name)  # it never was
        await engine.sweeper.run_pass()
        await lro_clock.settle()
        assert ran == [op.id]


@pytest.mark.asyncio
async def test_rows_that_need_no_place_take_none_from_those_that_do(lro_clock, tmp_path) -> None:
    """Waits for children are handed over whether or not there is a place; so many rows more may run."""
    release = asyncio.Event()
    ran: list[str] = []
    handlers = lro.Handlers()

    @handlers.handler("parent", resume_points=("done",))
    async def parent(op):
        if op.resume_point == "":
            child = await op.start_child("child", key="only")
            return op.suspend(resume_at="done", children=[child])
        return None

    @handlers.handler("child")
    async def child(op):
        await release.wait()

    @handlers.handler("quick")
    async def quick(op):
        ran.append(op.id)
        await release.wait()

    url = f"sqlite:///{tmp_path}/operations.db"
    async with lro.Client(url, handlers=[handlers], clock=lro_clock, max_running=9, drain_timeout=0) as before:
        await asyncio.gather(*(before.start("parent") for _ in range(3)))
        await lro_clock.settle()
        before.engine.slots.most = 0
        await asyncio.gather(*(before.start("quick") for _ in range(4)))
        await lro_clock.settle()
    async with lro.Client(url, handlers=[handlers], clock=lro_clock, max_running=7, drain_timeout=0) as after:
        await lro_clock.settle()
        assert len(after.engine.worker.running) == 7
        assert len(ran) == 4
        assert after.engine.slots.waiting == 0
        release.set()


@pytest.mark.asyncio
async def test_the_repairs_of_the_sweep_follow_the_test_clock(client, store, lro_clock, row):
    """A wake-up whose claim was committed, and whose answer was lost, while nothing else is ever written."""
    runs = []

    @client.handler("nap", resume_points=("on",))
    async def nap(op):
        runs.append(op.resume_point)
        return op.suspend(resume_at="on", sleep=1000) if op.resume_point == "" else None

    op = await client.start("nap")
    await lro_clock.settle()
    store.fail("apply", when="after")
    await lro_clock.advance(1000)
    assert row(op.name).state is State.RUNNING
    await lro_clock.advance(120)
    assert row(op.name).state is State.SUCCEEDED
    assert runs == ["", "on"]
