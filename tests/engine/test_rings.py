"""What another process commits is told by a ring; the polls are so slow here that none of them could tell."""

import asyncio

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.engine import engine as engine_module
from lro_aio.engine.paced import Paced
from lro_aio.stores.sqlite import store as sqlite_store

from ..waiting import PATIENCE, until

SLOW = 3600.0


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_store, "_RUNG_INTERVAL", SLOW)
    monkeypatch.setattr(engine_module, "POLL_AGAIN", SLOW)
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


@pytest.mark.asyncio
async def test_a_call_is_made_at_once_and_then_once_for_all_who_ask_within_the_gap():
    calls = []
    gaps = [SLOW]
    paced = Paced(lambda: calls.append(1), lambda: gaps[-1])
    for _ in range(100):
        paced()
    assert len(calls) == 1
    paced.cancel()
    gaps.append(0.0)
    paced()
    assert len(calls) == 2
    gaps.append(0.001)
    for _ in range(100):
        paced()
    await until(lambda: len(calls) == 3)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_more_wait_the_less_often_they_look(url):
    """Each of them reads again: a thousand who are told of each commit would do nothing else."""
    async with lro.Client(url) as first, lro.Client(url, worker=False) as second:
        op = await first.create()
        few = second.engine._rung._gap()
        waiting = [asyncio.create_task(second.wait_operation(op.name)) for _ in range(10_000)]
        await until(lambda: second.engine.feed.waiting == len(waiting))
        assert few < 0.005 < second.engine._rung._gap() <= 0.05
        await op.done(wrappers_pb2.StringValue(value="x"))
        await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
