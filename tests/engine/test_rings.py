"""What another process commits is told by a ring; the polls are so slow here that none of them could tell."""

import asyncio
import threading

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.engine import lanes
from lro_aio.engine.lanes import Lanes
from lro_aio.stores.sqlite import store as sqlite_store

from ..waiting import PATIENCE, until

SLOW = 3600.0


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_store, "_RUNG_INTERVAL", SLOW)
    return f"sqlite:///{tmp_path / 'ops.db'}"


@pytest.mark.asyncio
async def test_a_waiter_in_another_process_goes_on_when_the_end_is_committed(url):
    async with lro.Client(url) as first, lro.Client(url, worker=False) as second:
        for _ in range(20):
            op = await first.create()
            waiting = asyncio.create_task(second.wait_operation(op.name))
            await until(lambda: second.engine.feed._subscriptions)
            await op.done(wrappers_pb2.StringValue(value="x"))
            assert (await asyncio.wait_for(waiting, PATIENCE)).done


@pytest.mark.asyncio
async def test_what_a_front_end_starts_is_begun_by_a_worker(url):
    handlers = lro.Handlers()

    @handlers.handler("work")
    async def work(op):
        return None

    async with lro.Client(url, handlers=[handlers]), lro.Client(url, worker=False) as front:
        op = await front.start("work")
        await asyncio.wait_for(op.result(), PATIENCE)


@pytest.mark.asyncio
async def test_a_client_that_is_opened_again_is_rung_for_again(url):
    client = lro.Client(url, worker=False)
    async with lro.Client(url) as other:
        for _ in range(2):
            async with client:
                op = await other.create()
                waiting = asyncio.create_task(client.wait_operation(op.name))
                await until(lambda: client.engine.feed._subscriptions)
                await op.done(wrappers_pb2.StringValue(value="x"))
                assert (await asyncio.wait_for(waiting, PATIENCE)).done


class Polled:
    """Lanes whose polls are counted; the first one waits for the gate."""

    def __init__(self):
        self.polls = 0
        self.first, self.gate = threading.Event(), threading.Event()
        self.lanes = Lanes(lambda batch: None, self.poll)
        self.lanes.open(1, SLOW)

    def poll(self):
        self.polls += 1
        self.first.set()
        self.gate.wait(PATIENCE)

    async def close(self):
        self.gate.set()
        await asyncio.to_thread(self.lanes.close())


@pytest.mark.asyncio
async def test_many_rings_during_a_poll_cause_one_more(monkeypatch):
    monkeypatch.setattr(lanes, "SOON", 0.0)
    polled = Polled()
    polled.lanes.poll_soon()
    await until(polled.first.is_set)
    for _ in range(100):
        polled.lanes.poll_soon()
    polled.gate.set()
    await until(lambda: polled.polls == 2)
    await polled.close()
    assert polled.polls == 2


@pytest.mark.asyncio
async def test_rings_do_not_poll_all_the_time(monkeypatch):
    polled = Polled()
    polled.gate.set()
    monkeypatch.setattr(lanes, "SOON", SLOW)
    for _ in range(100):
        polled.lanes.poll_soon()
    await polled.close()
    polled.lanes.poll_soon()  # after the end, it is nobody's
    assert polled.polls == 0
