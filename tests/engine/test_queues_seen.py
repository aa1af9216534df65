"""What ``client.stats`` and ``client.describe`` tell of queues."""

import asyncio

import pytest

import lro_aio as lro
from lro_aio.core.stats import Count
from lro_aio.ports import Store
from lro_aio.testing import FaultyStore

from ..waiting import PATIENCE, until

pytestmark = pytest.mark.usefixtures("queues")


@pytest.fixture
def gate():
    return asyncio.Event()


@pytest.fixture
def work(client, gate):
    """A handler of which one runs at a time, until the gate is open. Its state is its key."""

    @client.handler("work", queue=lro.Queue("q", running=1), queue_key=lambda key: key)
    async def work(op: lro.Operation[str]) -> None:
        await gate.wait()

    return work


async def started(client, work, *keys):
    """Operations of these keys, of which the first runs."""
    ops = [await client.start(work, key) for key in keys]
    async with asyncio.timeout(PATIENCE):
        while not ops[0].attempt:
            await ops[0].refresh()
    return ops


async def told(client, op):
    """In which queues an operation stands: queue, key, and how many before it, or that it has a place."""
    return [(at.queue, at.key, "runs" if at.held else str(at.ahead)) for at in (await client.describe(op.name)).queues]


@pytest.mark.asyncio
async def test_an_operation_tells_in_which_line_it_stands_and_how_many_are_before_it(client, work, gate):
    ops = await started(client, work, "ada", "ada", "ada", "bob")
    first = await client.start(work, "eve", priority=-1)
    assert await told(client, ops[0]) == [("q", "ada", "runs")]
    assert await told(client, first) == [("q", "eve", "0")]
    assert await told(client, ops[3]) == [("q", "bob", "1")]  # keys take turns
    assert await told(client, ops[2]) == [("q", "ada", "3")]
    gate.set()
    await asyncio.gather(*ops, first)
    assert await told(client, ops[2]) == []


@pytest.mark.asyncio
async def test_a_key_that_rests_says_until_when(client, lro_clock):
    @client.handler("limited", queue=lro.Queue("q", running=5))
    async def limited(op: lro.Operation[None]) -> None:
        if lro_clock.time() < until_then:
            raise lro.RateLimited(until=until_then)

    until_then = lro_clock.time() + 3600
    op = await client.start(limited, queue_key="ada")

    async def rests():
        return [at.rests_until for at in (await client.describe(op.name)).queues] == [until_then]

    async with asyncio.timeout(PATIENCE):
        while not await rests():
            await lro_clock.settle()
    await lro_clock.advance(3600)
    await op.result()


@pytest.mark.asyncio
async def test_a_step_that_waits_is_told_of_too(client, gate):
    running = []

    async def ask(prompt):
        running.append(prompt)
        await gate.wait()

    @client.handler("asks")
    async def asks(op: lro.Operation[str]) -> None:
        await op.step("ask", ask, op.state, key=op.state, queue=lro.Queue("llm", running=1), queue_key="model")

    first, second = [await client.start(asks, prompt) for prompt in ("a", "b")]
    await until(lambda: len(running) == 1)

    async def both():
        return [
            (at.queue, at.key, at.step, at.step_key, at.held)
            for op in (first, second)
            for at in (await client.describe(op.name)).queues
        ]

    async with asyncio.timeout(PATIENCE):
        while len(await both()) < 2:
            await asyncio.sleep(0)
    assert sorted(await both(), key=lambda at: at[3]) == [
        ("llm", "model", "ask", "a", running == ["a"]),
        ("llm", "model", "ask", "b", running == ["b"]),
    ]
    gate.set()
    await asyncio.gather(first, second)


@pytest.mark.asyncio
async def test_stats_count_who_waits_in_each_queue(client, work, gate):
    assert (await client.stats()).queues == ()
    ops = await started(client, work, "ada", "ada", "bob")
    [queue] = (await client.stats()).queues
    assert (queue.queue, queue.waiting, queue.running) == ("q", Count(2), Count(1))
    gate.set()
    await asyncio.gather(*ops)
    assert (await client.stats()).queues == ()


class _Silent(FaultyStore):
    in_line = Store.in_line


@pytest.mark.asyncio
async def test_over_a_store_that_cannot_tell_nothing_is_told(open_client, store, gate):
    client = await open_client(_Silent(store.inner))

    @client.handler("work", queue=lro.Queue("q", running=1))
    async def work(op: lro.Operation[None]) -> None:
        await gate.wait()

    ops = [await client.start(work) for _ in range(2)]
    description = await client.describe(ops[1].name)
    assert (description.queues, description.waits_for) == ((), "for a place in the queue q")
    gate.set()
    await asyncio.gather(*ops)


@pytest.mark.asyncio
async def test_what_has_no_queue_is_described_without_asking_for_one(client, store):
    @client.handler("plain")
    async def plain(op: lro.Operation[None]) -> None:
        return None

    op = await client.start(plain)
    await op.result()
    await client.describe(op.name)
    assert store.calls["in_line"] == 0
