"""The numbers behind the costs on ``docs/deploy.md``: steps from the workflow itself, calls as they are counted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import Record
from lro_aio.servers.resume import ResumeApp, allow_unverified
from lro_aio.testing import FakeSpanner, ManualClock

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
HOUR = 3600.0
DAY = 86400.0
CHILDREN = 10


class Count(NamedTuple):
    """One line of the page."""

    steps: int
    tasks: int
    requests: int
    reads: int
    commits: int
    rows: int
    months: int


def counts() -> dict[str, Count]:
    lines = re.findall(r'^    "(.+?)": \(([\d, ]+)\),$', PAGE, re.MULTILINE)
    return {name: Count(*map(int, numbers.split(","))) for name, numbers in lines}


# Steps


def billed(body: dict[str, Any]) -> int:
    """Each variable that is assigned is one; whatever else a step does, too."""
    if "assign" in body:
        return len(body["assign"])
    if "try" in body:
        return billed(body["try"])
    if "steps" in body:
        return sum(billed(inner) for step in body["steps"] for inner in step.values())
    return 1


def steps(*names: str) -> int:
    definition = yaml.safe_load((REPOSITORY / "lro_aio" / "schedulers" / "workflow.yaml").read_text(encoding="utf-8"))
    main = {name: body for step in definition["main"]["steps"] for name, body in step.items()}
    return sum(billed(main[name]) for name in names)


BEGIN, END = ("read_argument", "prepare", "sleep", "awake"), ("resume", "finish")
SLEEP = steps(*BEGIN, "elapsed", *END)
ROUND = steps("poll", "decide", "pause")


def polls(seconds: float) -> int:
    """Until a time has passed: at once, after 3 s, and then x1.25 up to 300."""
    made, now, interval = 1, 0.0, 3.0
    while now < seconds:
        made, now, interval = made + 1, now + interval, min(interval * 1.25, 300)
    return made


def test_the_steps_are_those_of_the_workflow() -> None:
    shown = counts()
    assert shown["one run"].steps == SLEEP
    assert shown["30 days"].steps == 2 * SLEEP
    waiting = steps(*BEGIN, "children_done", *END) + polls(HOUR) * ROUND - steps("pause")
    pushed = SLEEP  # at the end of the last child
    assert shown["10 children"].steps == (1 + CHILDREN) * SLEEP + waiting + pushed
    assert f"A wait is {SLEEP} steps, and each poll of children {ROUND} more" in PAGE
    assert f"An hour has {polls(HOUR)} of them" in PAGE


def test_a_year_of_hourly_looks_keeps_the_limit_of_an_execution_as_steps_are_billed_too() -> None:
    """What counts for the limit of 100,000 is not documented; so neither way of counting may come near it."""
    looks = 0
    now, interval = 0.0, 3.0
    while now < 365 * DAY:
        looks, now, interval = looks + 1, now + interval, min(interval * 1.25, HOUR)
    assert SLEEP + looks * ROUND < 50_000
    assert SLEEP < 10


def test_the_tasks_are_two_calls_each() -> None:
    """One that makes it and one that brings it; and a look at it every six hours."""
    shown = counts()
    looks = int(30 * DAY / lro.CloudTasksScheduler.horizon)
    assert shown["one run"].tasks == 2
    assert shown["30 days"].tasks == 2 * 3 + looks  # the first run, 29 days, the last day
    assert shown["10 children"].tasks == 2 * (1 + CHILDREN + polls(HOUR) + 1 + 1)  # the last look, and the push


# Requests, reads and commits


class Remote:
    """A scheduler that takes every wait, and keeps it for the test."""

    local = False
    horizon = 6 * HOUR

    def __init__(self) -> None:
        self.waits: list[Record] = []

    async def open(self, host: Any) -> None: ...

    async def close(self) -> None: ...

    async def schedule(self, record: Record) -> str:
        self.waits.append(record)
        return "taken"

    async def cancel(self, record: Record) -> None: ...


handlers = lro.Handlers()


@handlers.handler("one run")
async def one_run(op: lro.Operation[None]) -> Any:
    return wrappers_pb2.StringValue(value="done")


@handlers.handler("30 days", resume_points=("end",))
async def thirty_days(op: lro.Operation[None]) -> Any:
    return op.suspend(resume_at="end", sleep=30 * DAY) if op.resume_point == "" else None


@handlers.handler("10 children", resume_points=("end",))
async def ten_children(op: lro.Operation[None]) -> Any:
    if op.resume_point:
        return None
    names = [(await op.start_child("one run", key=str(number))).name for number in range(CHILDREN)]
    return op.suspend(resume_at="end", children=names, timeout=DAY)


class Bench:
    """A worker on FakeSpanner whose waits the test brings back through the endpoints, one at a time."""

    def __init__(self, client: lro.Client, clock: ManualClock, http: httpx.AsyncClient, remote: Remote) -> None:
        self.client, self.clock, self.http, self.remote = client, clock, http, remote
        self.requests = 0

    async def start(self, handler: str) -> str:
        self.requests += 1  # the one that asks for it
        op = await self.client.start(handler)
        await self.clock.settle()
        return op.name

    async def post(self, verb: str, wait: Record, **more: Any) -> dict[str, Any]:
        assert wait.wait is not None
        self.requests += 1
        body = {"operation": wait.name, "resumeToken": wait.wait.token, **more}
        answer = await self.http.post(f"/lro/{verb}", json=body)
        await self.clock.settle()
        return answer.raise_for_status().json()  # type: ignore[no-any-return]

    async def resume(self, name: str = "", reason: str = "ELAPSED") -> Record:
        """Bring back a wait: the operation's, or the oldest."""
        wait = next(wait for wait in self.remote.waits if name in ("", wait.name))
        self.remote.waits.remove(wait)
        assert await self.post("resume", wait, reason=reason) == {"resumed": True}
        return wait


@pytest.fixture
def fake() -> Iterator[FakeSpanner]:
    with FakeSpanner() as running:
        yield running


@asynccontextmanager
async def bench(fake: FakeSpanner) -> AsyncIterator[Bench]:
    clock, remote = ManualClock(), Remote()
    unswept = lro.SweepPolicy(interval=1e9)  # the page counts the sweep by itself
    async with lro.Client(fake.url, handlers=[handlers], scheduler=remote, clock=clock, sweep=unswept) as client:
        transport = httpx.ASGITransport(app=ResumeApp(client, allow_unverified))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            await clock.settle()
            fake.rpcs.clear()
            yield Bench(client, clock, http, remote)


def check(fake: FakeSpanner, running: Bench, kind: str, *, shared: int = 0) -> None:
    """As the page says; ``shared`` reads may be one with another that is asked for in the same turn of the loop."""
    shown = counts()[kind]
    assert fake.rpcs["Commit"] == shown.commits
    assert fake.rpcs["Read"] in range(shown.reads - shared, shown.reads + 1)
    assert running.requests == shown.requests


@pytest.mark.asyncio
async def test_one_run(fake: FakeSpanner) -> None:
    async with bench(fake) as running:
        await running.start("one run")
        await running.resume()
        check(fake, running, "one run")


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_sleep_of_thirty_days(fake: FakeSpanner) -> None:
    """With a look every six hours: a query that all sleepers share, and a read and a write of the row."""
    async with bench(fake) as running:
        await running.start("30 days")
        await running.resume()
        waiting = running.remote.waits.pop()
        for _ in range(int(30 * DAY / Remote.horizon)):
            await running.clock.advance(Remote.horizon)
            await running.client.sweep()
            await running.clock.settle()
        assert {wait.name for wait in running.remote.waits} == {waiting.name}
        await running.resume()
        check(fake, running, "30 days")


@pytest.mark.asyncio
async def test_ten_children(fake: FakeSpanner) -> None:
    async with bench(fake) as running:
        name = await running.start("10 children")
        await running.resume()
        waiting = next(wait for wait in running.remote.waits if wait.name == name)
        for _ in range(polls(HOUR) - 1):
            assert len((await running.post("poll", waiting))["pending"]) == CHILDREN
        for _ in range(CHILDREN):
            await running.resume(next(wait.name for wait in running.remote.waits if wait.name != name))
        assert await running.post("poll", waiting) == {"pending": []}
        await running.resume(name)  # the one that the last child has pushed
        # The execution that polls finds out last, and has nothing to do any more.
        assert await running.post("resume", waiting, reason="CHILDREN_DONE") == {"resumed": False}
        # The look at the parent after its last child, and that of the child's own request whether it has ended.
        check(fake, running, "10 children", shared=1)
