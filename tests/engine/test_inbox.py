"""Each message of a topic is received once, whoever stops waiting for it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.engine.inbox import Inbox
from lro_aio.testing import ManualClock

pytestmark = pytest.mark.asyncio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def client(clock: ManualClock) -> AsyncIterator[lro.Client]:
    async with lro.Client("sqlite://", clock=clock, drain_timeout=0) as opened:
        yield opened


async def test_who_gave_up_has_not_taken_the_message(client: lro.Client, clock: ManualClock) -> None:
    @client.handler("gives-up")
    async def gives_up(op: lro.Operation[None]) -> list[Any]:
        first = asyncio.create_task(op.receive("t"))
        await op.receive("go")
        first.cancel()
        await asyncio.wait((first,))
        return [await op.receive("t"), await op.receive("t")]

    op = await client.start(gives_up)
    await clock.settle()
    await client.send(op.name, "go")
    await clock.settle()
    for number in (1, 2):
        await client.send(op.name, "t", number)
    assert await op.result() == [1, 2]


async def test_of_several_topics_the_ones_that_lose_take_nothing(client: lro.Client, clock: ManualClock) -> None:
    @client.handler("races")
    async def races(op: lro.Operation[None]) -> list[Any]:
        racing = [asyncio.create_task(op.receive(topic)) for topic in ("x", "y")]
        done, late = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        return [*(task.result() for task in done), await op.receive("x")]

    op = await client.start(races)
    await clock.settle()
    await client.send(op.name, "y", "first")
    await clock.settle()
    await client.send(op.name, "x", "second")
    assert await op.result() == ["first", "second"]


async def test_a_later_one_moves_up_when_an_earlier_one_gives_up(client: lro.Client, clock: ManualClock) -> None:
    @client.handler("queue")
    async def queue(op: lro.Operation[None]) -> int:
        first, second = (asyncio.create_task(op.receive("t")) for _ in range(2))
        await op.receive("go")
        first.cancel()
        return int(await second)

    op = await client.start(queue)
    await clock.settle()
    await client.send(op.name, "go")
    await clock.settle()
    await client.send(op.name, "t", 1)
    assert await op.result() == 1


async def test_the_next_segment_gets_what_nobody_took(client: lro.Client, clock: ManualClock) -> None:
    @client.handler("two")
    async def two(op: lro.Operation[None]) -> Any:
        gives_up = asyncio.create_task(op.receive("t"))
        await op.receive("go")
        gives_up.cancel()
        return op.suspend(resume_at=later, sleep=0)

    @two.segment
    async def later(op: lro.Operation[None]) -> Any:
        return await op.receive("t")

    op = await client.start(two)
    await clock.settle()
    await client.send(op.name, "go")
    await client.send(op.name, "t", 1)
    await clock.advance(60)
    assert await op.result(int) == 1


class TestInbox:
    async def test_those_that_wait_get_the_oldest_first(self) -> None:
        inbox = Inbox(0, 0)
        first, second = inbox.begin(), inbox.begin()
        assert [inbox.place(first), inbox.place(second)] == [0, 1]

    async def test_nothing_is_lost_or_got_twice_in_any_order(self) -> None:
        inbox = Inbox(3, 5)
        first, second = inbox.begin(), inbox.begin()
        assert (first, second) == (3, 4)
        assert inbox.place(second) == 6
        inbox.take(second)
        inbox.end(second)
        inbox.end(first)  # without its message
        assert inbox.taken == 5
        third, fourth = inbox.begin(), inbox.begin()
        assert [inbox.place(third), inbox.place(fourth)] == [5, 7]
        inbox.take(third)
        inbox.end(third)
        assert inbox.taken == 7
        assert inbox.place(fourth) == 7
