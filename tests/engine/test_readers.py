"""The threads that read the store."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import pytest_asyncio

from lro_aio.engine.life import ClosedError
from lro_aio.engine.readers import Readers, Work

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def readers():
    made = Readers()
    yield made
    await asyncio.to_thread(made.close())


async def test_whoever_asks_gets_what_is_read_or_what_was_raised(readers):
    assert await readers.run(lambda: 7, Work.READ) == 7
    with pytest.raises(ZeroDivisionError):
        await readers.run(lambda: 1 // 0, Work.READ)
    assert await readers.run(lambda: 8, Work.READ) == 8


async def test_as_many_reads_at_a_time_as_there_are_threads(readers):
    together = threading.Barrier(4)
    found = await asyncio.gather(*(readers.run(lambda: together.wait(5), Work.READ) for _ in range(4)))
    assert sorted(found) == [0, 1, 2, 3]


async def test_one_after_the_other_needs_one_thread(readers):
    names = {await readers.run(lambda: threading.current_thread().name, Work.READ) for _ in range(5)}
    assert names == {"lro-aio-reader-0"}


async def test_what_is_cancelled_before_it_begins_is_not_read(readers):
    go, read = threading.Event(), []
    first = readers.run(lambda: go.wait(5), Work.SWEEP)  # has one thread
    second = readers.run(lambda: read.append(1), Work.SWEEP)
    second.cancel()
    go.set()
    assert await first
    await readers.run(lambda: None, Work.SWEEP)
    assert read == []


async def test_whoever_is_told_learns_of_the_answer_before_whoever_waits(readers):
    learned = []
    read = readers.run(lambda: 7, Work.READ, lambda answered: learned.append(("told", answered.result())))
    read.add_done_callback(lambda answered: learned.append(("waited", answered.result())))
    await read
    broken = readers.run(lambda: 1 // 0, Work.READ, lambda answered: learned.append(type(answered.exception())))
    with pytest.raises(ZeroDivisionError):
        await broken
    assert learned == [("told", 7), ("waited", 7), ZeroDivisionError]


async def test_nobody_is_told_of_what_was_cancelled(readers):
    go, told = threading.Event(), []
    under_way = readers.run(lambda: go.wait(5), Work.SWEEP, told.append)  # has one thread
    queued = readers.run(lambda: None, Work.SWEEP, told.append)
    under_way.cancel()
    queued.cancel()
    go.set()
    await readers.run(lambda: None, Work.SWEEP)
    assert told == []


async def test_a_close_waits_for_what_is_under_way():
    readers, began, ended = Readers(), threading.Event(), []

    def slow() -> None:
        began.set()
        time.sleep(0.05)  # a real read takes real time
        ended.append(1)

    read = readers.run(slow, Work.LIST)
    await asyncio.to_thread(began.wait, 5)
    await asyncio.to_thread(readers.close())
    assert ended == [1]
    await read


async def test_what_is_asked_for_while_it_closes_is_refused_and_does_not_wait_for_ever():
    readers, go = Readers(), threading.Event()
    under_way = readers.run(lambda: go.wait(5), Work.LIST)
    join = readers.close()
    with pytest.raises(ClosedError):
        readers.run(lambda: None, Work.LIST)
    go.set()
    await asyncio.to_thread(join)
    assert await under_way


async def test_what_no_future_takes_is_an_error_all_the_same(readers):
    """A store's ``next()`` on nothing: whoever asked would wait for ever."""
    told = []
    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        await asyncio.wait_for(readers.run(lambda: next(iter(())), Work.SWEEP, told.append), 5)
    assert isinstance(raised.value.__cause__, StopIteration)
    assert len(told) == 1
