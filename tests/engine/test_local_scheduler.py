"""The local scheduler keeps the contract of schedulers, and what is its own."""

import asyncio
import math

import pytest

import lro_aio as lro
from lro_aio.testing.scheduler_contract import SchedulerContract

from ..waiting import PATIENCE, until
from .far_store import FarStore


class TestLocalScheduler(SchedulerContract):
    """Over a SQLite file."""

    @pytest.fixture
    def make_scheduler(self):
        return lro.LocalScheduler


@pytest.fixture
def parents(client):
    woken = []

    @client.handler("parent", state=list[str], resume_points=("on",))
    async def parent(op):
        if op.resume_point == "":
            return op.suspend(resume_at="on", children=op.state)
        woken.append(op.name)
        return None

    return woken


@pytest.mark.asyncio
async def test_the_children_of_all_suspended_operations_share_one_look(client, store, lro_clock, parents):
    children = [await client.create() for _ in range(10)]
    before = store.calls["unfinished"]
    ops = await asyncio.gather(*(client.start("parent", [child.name for child in children]) for _ in range(200)))
    await lro_clock.settle()
    assert store.calls["unfinished"] - before <= 20
    before = store.calls["unfinished"]
    await asyncio.gather(*(child.done() for child in children))
    await lro_clock.settle()
    assert sorted(parents) == sorted(op.name for op in ops)
    assert store.calls["unfinished"] - before <= 2, "children of this process are counted down without a look"


@pytest.mark.asyncio
async def test_a_chain_of_waits_unwinds(client, lro_clock, parents):
    last = first = await client.create()
    for _ in range(30):
        last = await client.start("parent", [last.name])
    await lro_clock.settle()
    await first.done()
    await asyncio.wait_for(last.result(), 5)
    assert len(parents) == 30


@pytest.mark.asyncio
async def test_a_look_that_fails_is_repeated(client, store, lro_clock, parents, monkeypatch):
    from lro_aio.schedulers import local

    monkeypatch.setattr(local, "OUTAGE_PAUSE", 0.05)
    child = await client.create()
    store.fail("unfinished", times=math.inf)
    op = await client.start("parent", [child.name])
    await lro_clock.settle()
    await child.done()
    store.fail("unfinished", times=2)
    await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_a_wake_up_that_the_store_did_not_answer_is_repeated(client, store, lro_clock, parents, monkeypatch):
    from lro_aio.schedulers import local

    monkeypatch.setattr(local, "OUTAGE_PAUSE", 0.05)
    child = await client.create()
    op = await client.start("parent", [child.name])
    await lro_clock.settle()
    await child.done()
    store.fail("apply")
    await asyncio.wait_for(op.result(), 5)
    assert parents == [op.name]


@pytest.mark.asyncio
async def test_a_wake_up_that_waited_for_a_place_survives_an_outage_too(open_client, store, lro_clock, monkeypatch):
    from lro_aio.engine import dispatch

    monkeypatch.setattr(dispatch, "OUTAGE_PAUSE", 0.05)
    client = await open_client(store, max_running=1)
    gate = asyncio.Event()

    @client.handler("parent", state=list[str], resume_points=("on",))
    async def parent(op):
        return op.suspend(resume_at="on", children=op.state) if op.resume_point == "" else None

    @client.handler("block")
    async def block(op):
        await gate.wait()
        await op.done()
        store.fail("apply")  # hits the claim of whoever gets the place

    child = await client.create()
    op = await client.start("parent", [child.name])
    await lro_clock.settle()
    await client.start("block")
    await child.done()
    await lro_clock.settle()
    gate.set()
    await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_a_child_that_another_process_ends_is_noticed(open_client, tmp_path, lro_clock):
    url = f"sqlite:///{tmp_path}/ops.db"
    one, other = await open_client(url), await open_client(url, worker=False)

    @one.handler("parent", state=list[str], resume_points=("on",))
    async def parent(op):
        return op.suspend(resume_at="on", children=op.state) if op.resume_point == "" else None

    child = await other.create()
    op = await one.start("parent", [child.name])
    await lro_clock.settle()
    await child.done()
    await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_nothing_is_kept_of_operations_that_no_longer_wait(client, lro_clock, parents):
    child = await client.create()
    ops = [await client.start("parent", [child.name]) for _ in range(5)]
    await lro_clock.settle()
    await asyncio.gather(*(op.cancel() for op in ops[:4]))
    assert list(client.scheduler._watched) == [ops[4].name]
    await child.done()
    await lro_clock.settle()
    assert not client.scheduler._watched
    assert not client.scheduler._parents


class TestWithoutNotices:
    """A store that does not tell of other processes' commits, as one across a network."""

    @pytest.fixture
    def stores(self, tmp_path):
        return lambda: FarStore(lro.SqliteStore(tmp_path / "operations.db"))

    @pytest.mark.asyncio
    async def test_children_that_end_elsewhere_are_looked_for_at_the_poll_interval(self, stores, open_client):
        """Also while there is always something else to do: every new wait asks for a look at its own children."""
        store = stores()
        here, there = await open_client(store), await open_client(stores(), worker=False)

        @here.handler("parent", state=list[str], resume_points=("on",))
        async def parent(op):
            if op.resume_point == "":
                return op.suspend(resume_at="on", children=op.state, poll_interval=0.5)
            return None

        child, other = await there.create(), await there.create()
        op = await here.start("parent", [child.name])
        ended = asyncio.create_task(op.result())
        await until(lambda: store.calls["unfinished"])
        await child.done()
        async with asyncio.timeout(PATIENCE):
            while not ended.done():
                await here.start("parent", [other.name])
                await asyncio.sleep(0.02)  # real time: the poll interval is what passes
        await ended

    @pytest.mark.asyncio
    async def test_nobody_looks_more_often(self, stores, open_client, lro_clock):
        """One look for all of them in each interval, that of the most impatient."""
        store = stores()
        here, there = await open_client(store), await open_client(stores(), worker=False)

        @here.handler("parent", state=float, resume_points=("on",))
        async def parent(op):
            return op.suspend(resume_at="on", children=[child.name], poll_interval=op.state)

        child = await there.create()
        for interval in (0.3, 30.0, 30.0):
            await here.start("parent", interval)
        await lro_clock.settle()
        loop = asyncio.get_running_loop()
        before, began = store.calls["unfinished"], loop.time()
        await until(lambda: store.calls["unfinished"] - before >= 3)
        assert loop.time() - began >= 0.3, "a busy machine may count the first one late"
