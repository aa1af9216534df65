"""How many requests of one HttpTransport are under way at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError
from lro_aio.remote import HttpTransport, RemoteOperation, turns
from lro_aio.remote.turns import FEW, Turns

from ..tcp_server import tcp_server
from ..waiting import accepted, until
from .http_services import FAST, QUICK

pytestmark = pytest.mark.asyncio

RUNNING = b'{"name": "operations/a"}'
HOUR = 3600.0


class Held:
    """A service that answers when it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.open: dict[str, asyncio.Event] = {}
        """Requests without an answer, the oldest first."""
        self.seen: list[str] = []
        self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.lower().splitlines() if line.startswith(b"content-length:")), b":0")
            await reader.readexactly(int(length.partition(b":")[2]))
            line = head.decode().split(" HTTP/")[0]
            self.seen.append(line)
            self.open[line] = answer = asyncio.Event()
            self.most = max(self.most, len(self.open))
            await answer.wait()
            del self.open[line]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(RUNNING), RUNNING))
            await writer.drain()

    def answer(self) -> None:
        """Answer the oldest."""
        next(answer for answer in self.open.values() if not answer.is_set()).set()

    async def answer_all(self, *tasks: asyncio.Task[Any]) -> None:
        while not all(task.done() for task in tasks):
            for answer in list(self.open.values()):
                answer.set()
            await asyncio.sleep(0)


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Held]:
    held = Held()
    async with tcp_server(held.serve) as port:
        held.url = f"http://127.0.0.1:{port}"
        yield held


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer within the hour is soon."""
    monkeypatch.setattr(turns, "PATIENCE", HOUR)


@pytest.fixture
def transport(http: httpx.AsyncClient, service: Held) -> HttpTransport:
    return HttpTransport(http, service.url, poll=FAST, retry=QUICK, timeout=30, max_calls=4)


def refreshes(transport: HttpTransport, count: int) -> list[asyncio.Task[Any]]:
    handles = [RemoteOperation[Any].from_name(transport, f"operations/{number}") for number in range(count)]
    return [asyncio.create_task(handle.update_status()) for handle in handles]


@pytest.mark.usefixtures("patient")
class TestWhereAnswersComeSoon:
    async def test_few_requests_are_under_way_first_come_first_served(
        self, transport: HttpTransport, service: Held
    ) -> None:
        tasks = refreshes(transport, 50)
        await service.answer_all(*tasks)
        assert service.most == FEW
        assert service.seen[FEW:] == [f"GET /v1/operations/{number}" for number in range(FEW, 50)]

    async def test_so_are_few_polls(self, transport: HttpTransport, service: Held) -> None:
        handles = [RemoteOperation[Any].from_name(transport, f"operations/{number}") for number in range(20)]
        waiters = [asyncio.create_task(handle.wait_for_completion()) for handle in handles]
        while len(service.seen) < 100:
            for answer in list(service.open.values()):
                answer.set()
            await asyncio.sleep(0)
        assert service.most == FEW
        assert len(set(service.seen)) == 20, "nobody starves"
        for waiter in waiters:
            waiter.cancel()

    async def test_the_time_of_a_request_runs_while_it_waits_for_its_turn(
        self, transport: HttpTransport, service: Held
    ) -> None:
        tasks = refreshes(transport, FEW)
        await until(lambda: len(service.open) == FEW)
        late = RemoteOperation[Any].from_name(transport, "operations/late")
        with pytest.raises(RemoteCallError) as caught:
            await late.update_status(timeout=0.01)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        await service.answer_all(*tasks)
        assert "GET /v1/operations/late" not in service.seen

    async def test_who_leaves_gives_its_turn_to_the_next(self, transport: HttpTransport, service: Held) -> None:
        tasks = refreshes(transport, 10)
        await until(lambda: len(service.open) == FEW)
        for task in (*tasks[: FEW - 1], *tasks[FEW:9]):  # of those under way, and of those that wait
            task.cancel()
        await until(lambda: "GET /v1/operations/9" in service.seen)
        await service.answer_all(*tasks)
        assert len(service.seen) == FEW + 1

    async def test_a_long_poll_neither_waits_for_a_turn_nor_takes_one(
        self, http: httpx.AsyncClient, service: Held
    ) -> None:
        transport = HttpTransport(http, service.url, long_polls=True)
        transport.long_polls = True  # as it is once one was answered
        polls = refreshes(transport, FEW)
        await until(lambda: len(service.open) == FEW)
        handles = [RemoteOperation[Any].from_name(transport, f"operations/long{number}") for number in range(FEW)]
        waiters = [asyncio.create_task(handle.wait_for_completion()) for handle in handles]
        await until(lambda: len(service.open) == 2 * FEW)
        for answer in list(service.open.values())[:FEW]:
            answer.set()
        more = refreshes(transport, FEW)
        await until(lambda: len(service.seen) == 3 * FEW)
        for waiter in waiters:
            waiter.cancel()
        await service.answer_all(*polls, *more)


async def test_where_answers_take_long_there_are_as_many_as_may_be(transport: HttpTransport, service: Held) -> None:
    """Half of them are left for the polls: whoever hangs, the others are asked."""
    tasks = refreshes(transport, 50)
    await until(lambda: len(service.open) == 2 * transport.max_calls)
    await service.answer_all(*tasks)
    assert service.most == 2 * transport.max_calls
    assert len(service.seen) == 50


async def take(given: Turns, end: asyncio.Event) -> None:
    turn = await given.begin()
    await end.wait()
    given.end(turn)


@pytest.mark.usefixtures("patient")
async def test_a_turn_that_is_given_to_one_that_is_cancelled_in_that_moment_goes_to_the_next() -> None:
    given, end = Turns(10, asyncio.get_running_loop()), asyncio.Event()
    first = await given.begin()
    *_, leaving, staying = tasks = [asyncio.create_task(take(given, end)) for _ in range(FEW + 1)]
    await accepted()
    given.end(first)
    leaving.cancel()  # it has the turn, and does not know yet
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert given._under_way == FEW, "the last one has it"
    end.set()
    await asyncio.gather(*tasks[:-2], staying)
    assert (given._under_way, given._young) == (0, {})


async def test_a_process_that_is_slow_itself_begins_no_more_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timers are late: it may not have seen the answers yet."""
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    given = Turns(10, loop)
    monkeypatch.setattr(turns, "PATIENCE", HOUR)
    tasks = [asyncio.create_task(take(given, end)) for _ in range(FEW + 1)]
    await accepted()
    monkeypatch.setattr(turns, "PATIENCE", 0.0)  # none is young any more
    for _ in range(turns.LATE_TIMES - 1):
        given._look(loop.time() - HOUR)
        assert given._under_way == FEW
    given._look(loop.time())
    assert given._under_way == FEW + 1
    end.set()
    await asyncio.gather(*tasks)
