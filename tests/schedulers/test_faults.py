"""Whatever fails between a suspended operation and its wake-up, it wakes once; and nobody else can wake it.

Each fault alone; then all of them mixed at random (``mixed_faults``).
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, get_args
from urllib.parse import urlsplit

import grpc
import pytest
import pytest_asyncio
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import Record, State
from lro_aio.testing import FakeWorkflows, LocalIssuer, ManualClock
from lro_aio.testing.cloud_tasks import FakeCloudTasks
from lro_aio.testing.oidc import Flaw

from ..waiting import until
from .mixed_faults import Odds, run_all

HOUR, DAY = 3600.0, 86400.0
AUDIENCE = "https://reports.example"
REFUSED = (401, 403)


@dataclass
class World:
    """A service with one handler, which suspends with its state as the arguments and ends when it is woken."""

    clock: ManualClock
    workflows: FakeWorkflows
    service: Any
    tasks: FakeCloudTasks | None = None
    runs: list[tuple[str, lro.WakeReason | None, str]] = field(default_factory=list)
    """(resume point, wake reason, wake error) of each run, in order."""
    client: lro.Client = field(init=False)

    async def suspended(self, **wait: Any) -> lro.Operation[Any]:
        """An operation that waits; no time goes by."""
        op = await self.client.start("waiter", wait)
        await self.reached(op, State.SUSPENDED)
        return op

    async def reached(self, op: lro.Operation[Any], state: State) -> Record:
        """The row, once it is in a state and nothing is left to do without time moving."""
        async with asyncio.timeout(10):
            while (record := await self.row(op)).state is not state:
                await self.clock.settle()
                await asyncio.sleep(0.005)
        await self.clock.settle()
        return record

    async def row(self, op: lro.Operation[Any]) -> Record:
        return await self.client.server_host.record(op.name)

    @property
    def wakes(self) -> list[lro.WakeReason | None]:
        """Why runs after the first came."""
        return [reason for point, reason, _ in self.runs if point]

    def last_resume(self) -> dict[str, Any]:
        """The body of the last call of the resume endpoint."""
        return [dict(request.body) for request in self.workflows.requests if request.url.endswith("/resume")][-1]

    async def post(self, path: str, body: dict[str, Any], token: str | None) -> tuple[int, dict[str, Any]]:
        """A request of a stranger."""

        def send() -> tuple[int, dict[str, Any]]:
            parts = urlsplit(self.service.url)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
            headers = {"Content-Type": "application/json"}
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            content = json.loads(response.read())
            connection.close()
            return response.status, content

        return await asyncio.to_thread(send)


@pytest_asyncio.fixture
async def world(workflows: FakeWorkflows, service: Any, lro_clock: ManualClock) -> AsyncIterator[World]:
    """On Cloud Workflows."""
    world = World(lro_clock, workflows, service)
    scheduler = lro.WorkflowsScheduler(
        project="acme", location="l", resume_host=service.url, audience=AUDIENCE, transport=workflows.transport()
    )
    async with client_of(world, scheduler):
        yield world


@pytest_asyncio.fixture
async def queue(workflows: FakeWorkflows, service: Any, lro_clock: ManualClock) -> AsyncIterator[World]:
    """On Cloud Tasks."""
    issuer = workflows.issuer
    async with FakeCloudTasks(clock=lro_clock, token=lambda audience, _email: issuer.token(audience)) as fake:
        world = World(lro_clock, workflows, service, fake)
        scheduler = lro.CloudTasksScheduler(
            project="acme", location="l", queue="lro", resume_host=service.url, audience=AUDIENCE,
            service_account=issuer.email, transport=fake.transport(),
        )  # fmt: skip
        async with client_of(world, scheduler):
            yield world


def client_of(world: World, scheduler: Any) -> lro.Client:
    world.client = lro.Client(
        "sqlite://", scheduler=scheduler, clock=world.clock, drain_timeout=0, sweep=lro.SweepPolicy(interval=3600)
    )

    @world.client.handler("waiter", state=dict[str, Any], resume_points=("woken",))
    async def waiter(op: lro.Operation[dict[str, Any]]) -> Any:
        world.runs.append((op.resume_point, op.wake_reason, op.wake_error))
        if op.resume_point == "":
            return op.suspend(resume_at="woken", **op.state)
        return wrappers_pb2.StringValue(value="woken")

    world.service.clients.append(world.client)
    return world.client


# Polls


@pytest.mark.parametrize("fault", [503, 408, 425, 429, 500, "refused", "dropped", "timeout"])
@pytest.mark.asyncio
async def test_polls_that_fail_are_repeated(world: World, fault: Any) -> None:
    """Ten in a row: the children are found done all the same, and no failure is told to the handler."""
    child = await world.client.create(lease=False)
    op = await world.suspended(children=[child.name])
    world.workflows.fail_http(fault, times=10, path="/lro/poll")
    await child.done()
    await world.clock.advance(HOUR)
    assert world.runs == [("", None, ""), ("woken", lro.WakeReason.CHILDREN_DONE, "")]
    assert world.workflows.faults_injected == 10
    assert (await op.fetch()).done


@pytest.mark.parametrize("fault", [503, "dropped", "timeout"])
@pytest.mark.asyncio
async def test_polls_that_keep_failing_wake_the_operation_with_that_reason(world: World, fault: Any) -> None:
    """It is for the handler to say what then; the children are never taken for done."""
    child = await world.client.create(lease=False)
    await world.suspended(children=[child.name])
    world.workflows.fail_http(fault, times=100, path="/lro/poll")
    await child.done()
    await world.clock.advance(HOUR)
    ((_, reason, error),) = world.runs[1:]
    assert reason is lro.WakeReason.POLL_FAILED
    assert ("503" if fault == 503 else "status 0") in error


@pytest.mark.parametrize("fault", [503, "dropped"])
@pytest.mark.asyncio
async def test_a_poll_whose_answer_is_lost_is_repeated(world: World, fault: Any) -> None:
    child = await world.client.create(lease=False)
    await world.suspended(children=[child.name])
    world.workflows.fail_http(fault, times=3, path="/lro/poll", when="after")
    await child.done()
    await world.clock.advance(HOUR)
    assert world.wakes == [lro.WakeReason.CHILDREN_DONE]


# The call back


@pytest.mark.parametrize("fault", [503, 425, 429, 500, "refused", "dropped", "timeout"])
@pytest.mark.asyncio
async def test_a_resume_that_fails_nineteen_times_is_repeated(world: World, fault: Any) -> None:
    began = world.clock.time()
    op = await world.suspended(sleep=DAY)
    world.workflows.fail_http(fault, times=19, path="/lro/resume")
    await world.clock.advance(DAY + 60)
    assert world.wakes == []
    await world.clock.advance(3 * HOUR)
    assert world.wakes == [lro.WakeReason.ELAPSED]
    assert (await op.fetch()).done
    resumes = [request.time - began - DAY for request in world.workflows.requests if request.body["reason"]]
    pauses = [later - earlier for earlier, later in itertools.pairwise(resumes[1:])]
    assert len(pauses) == 19
    assert pauses == sorted(pauses), "with back-off"
    assert pauses[-1] == 600


@pytest.mark.asyncio
async def test_a_resume_that_fails_for_longer_than_it_is_repeated_is_repaired_by_the_sweep(world: World) -> None:
    op = await world.suspended(sleep=HOUR)
    world.workflows.fail_http(503, times=21, path="/lro/resume")
    await world.clock.advance(5 * HOUR)
    assert [execution.state for execution in world.workflows.executions.values()] == ["SUCCEEDED", "FAILED"]
    assert world.wakes == []
    await world.clock.advance(world.client.scheduler.horizon)
    await world.client.sweep()
    await world.clock.settle()
    assert world.wakes == [lro.WakeReason.ELAPSED]
    assert (await op.fetch()).done


@pytest.mark.parametrize("fault", [503, 500, "dropped", "timeout"])
@pytest.mark.asyncio
async def test_a_resume_that_took_effect_and_whose_answer_was_lost_takes_effect_once(world: World, fault: Any) -> None:
    """The repeats have nothing to do, and end the execution."""
    op = await world.suspended(sleep=HOUR)
    world.workflows.fail_http(fault, times=3, path="/lro/resume", when="after")
    await world.clock.advance(2 * HOUR)
    assert world.wakes == [lro.WakeReason.ELAPSED]
    assert world.last_resume()["operation"] == op.name
    assert world.workflows.requests[-1].answer == {"resumed": False}
    assert {execution.state for execution in world.workflows.executions.values()} == {"SUCCEEDED"}


@pytest.mark.asyncio
async def test_a_first_run_whose_answer_was_lost_runs_once(world: World) -> None:
    world.workflows.fail_http("dropped", times=2, path="/lro/resume", when="after")
    op = await world.client.start("waiter", {"sleep": HOUR})
    await world.clock.advance(2 * HOUR)
    assert [point for point, _, _ in world.runs] == ["", "woken"]
    assert (await op.fetch()).done


# Executions


@pytest.mark.asyncio
async def test_an_execution_that_was_created_twice_wakes_once(world: World) -> None:
    world.workflows.double(times=2)
    child = await world.client.create(lease=False)
    op = await world.suspended(sleep=HOUR, children=[child.name])
    assert len(world.workflows.executions) == 4
    await child.done()
    await world.clock.advance(2 * HOUR)
    assert [point for point, _, _ in world.runs] == ["", "woken"]
    assert (await op.fetch()).done
    assert {execution.state for execution in world.workflows.executions.values()} == {"SUCCEEDED"}


CREATE_FAULTS = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("code", CREATE_FAULTS)
@pytest.mark.asyncio
async def test_a_wait_that_was_not_taken_is_handed_over_again_and_reported(
    world: World, caplog: Any, monkeypatch: Any, code: grpc.StatusCode, when: Any
) -> None:
    """With the attempts of one hand-over and of three sweeps refused; "after": each attempt made an execution."""
    monkeypatch.setattr("lro_aio.schedulers._remote.FIRST_PAUSE", 0.0)
    world.workflows.fail("CreateExecution", code, times=12, when=when)
    with caplog.at_level(logging.WARNING, "lro_aio"):
        op = await world.client.start("waiter", {"sleep": HOUR})
        for pause in (5, 10, 20):
            assert f"next attempt is in {pause} s" in caplog.text
            await world.clock.advance(pause)
            await world.client.sweep()
    await world.clock.settle()
    await world.client.sweep()
    await world.clock.advance(60)
    await world.client.sweep()
    await world.clock.advance(2 * HOUR)
    assert [point for point, _, _ in world.runs] == ["", "woken"]
    assert (await op.fetch()).done
    assert {execution.state for execution in world.workflows.executions.values()} == {"SUCCEEDED"}


async def kill_while(world: World, condition: Any) -> None:
    """End the one execution that lives, once ``condition`` holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
    (alive,) = [name for name, execution in world.workflows.executions.items() if execution.state == "ACTIVE"]
    world.workflows.kill(alive)


async def repaired(world: World, op: lro.Operation[Any], within: float) -> None:
    """Sweep every half an hour until the operation has ended."""
    latest = world.clock.time() + within
    while not (await op.fetch()).done:
        assert world.clock.time() < latest, "nobody noticed"
        await world.clock.advance(HOUR / 2)
        await world.client.sweep()
        await world.clock.settle()


@pytest.mark.asyncio
async def test_an_execution_killed_while_it_sleeps_is_replaced(world: World) -> None:
    op = await world.suspended(sleep=2 * HOUR)
    await kill_while(world, lambda: True)
    await repaired(world, op, within=7 * HOUR)
    assert world.wakes == [lro.WakeReason.ELAPSED]


@pytest.mark.asyncio
async def test_an_execution_killed_while_it_polls_is_replaced(world: World) -> None:
    child = await world.client.create(lease=False)
    op = await world.suspended(children=[child.name])
    await world.clock.advance(HOUR)
    await kill_while(world, lambda: True)
    await child.done()
    await repaired(world, op, within=7 * HOUR)
    assert world.wakes == [lro.WakeReason.CHILDREN_DONE]


@pytest.mark.asyncio
async def test_an_execution_killed_while_the_handler_runs_disturbs_it_not(world: World) -> None:
    """The connection breaks; the run that the call started goes on to its end."""
    gate = asyncio.Event()
    ran: list[str] = []

    @world.client.handler("slow")
    async def slow(op: lro.Operation[Any]) -> None:
        ran.append("begin")
        await gate.wait()
        ran.append("end")

    op = await world.client.start("slow")
    await kill_while(world, lambda: ran == ["begin"])
    gate.set()
    await asyncio.wait_for(op.result(), 5)
    await world.clock.advance(DAY)
    await world.client.sweep()
    await world.clock.settle()
    assert ran == ["begin", "end"]


# Tokens

FLAWS: tuple[Flaw, ...] = get_args(Flaw)


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.asyncio
async def test_a_resume_with_a_bad_token_wakes_nothing_and_is_repeated_with_a_good_one(world: World, flaw: Any) -> None:
    """Keys rotate and grants take their time: the workflow comes again, and it is logged there."""
    op = await world.suspended(sleep=HOUR)
    world.workflows.spoil(flaw, times=3, path="/lro/resume")
    await world.clock.advance(HOUR)
    refused = [request for request in world.workflows.requests if request.flaw == flaw]
    assert refused
    assert world.wakes == []
    await world.clock.advance(HOUR)
    refused = [request for request in world.workflows.requests if request.flaw == flaw]
    assert [request.status in REFUSED for request in refused] == [True] * 3
    assert world.wakes == [lro.WakeReason.ELAPSED]
    assert (await op.fetch()).done
    entries = [entry for execution in world.workflows.executions.values() for entry in execution.log_entries]
    assert [entry["severity"] for entry in entries] == ["ERROR"] * 3


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.asyncio
async def test_a_poll_with_a_bad_token_learns_nothing_and_is_repeated_with_a_good_one(world: World, flaw: Any) -> None:
    child = await world.client.create(lease=False)
    await world.suspended(children=[child.name])
    world.workflows.spoil(flaw, times=3, path="/lro/poll")
    await child.done()
    await world.clock.advance(HOUR)
    refused = [request for request in world.workflows.requests if request.flaw == flaw]
    assert [request.status in REFUSED for request in refused] == [True] * 3
    assert not any("pending" in request.answer for request in refused)
    assert world.wakes == [lro.WakeReason.CHILDREN_DONE]


@pytest.mark.parametrize("flaw", ["audience", "email"])
@pytest.mark.asyncio
async def test_polls_that_are_refused_for_half_an_hour_end_the_wait_as_failed(world: World, flaw: Any) -> None:
    child = await world.client.create(lease=False)
    await world.suspended(children=[child.name])
    world.workflows.spoil(flaw, times=100, path="/lro/poll")
    await child.done()
    await world.clock.advance(HOUR)
    ((_, reason, error),) = world.runs[1:]
    assert reason is lro.WakeReason.POLL_FAILED
    assert ("status 403" if flaw == "email" else "status 401") in error


@pytest.mark.parametrize("path", ["/lro/resume", "/lro/poll", "/lro/sweep"])
@pytest.mark.parametrize("flaw", [*FLAWS, "another issuer's key", None])
@pytest.mark.asyncio
async def test_a_stranger_is_refused_even_with_the_resume_token(world: World, flaw: Any, path: str) -> None:
    """Whoever read it in a log. Nothing is run, handed over or told."""
    op = await world.suspended(sleep=HOUR)
    record = await world.row(op)
    assert record.wait is not None
    body = {"operation": op.name, "resumeToken": record.wait.token, "reason": "ELAPSED"}
    issuer = world.workflows.issuer
    if flaw == "another issuer's key":
        with LocalIssuer(email=issuer.email, issuer=issuer.issuer) as other:
            other.rotate()
            token: str | None = other.token(AUDIENCE)
    else:
        token = None if flaw is None else issuer.token(AUDIENCE, flaw)
    status, answer = await world.post(path, body, token)
    assert status in REFUSED
    assert set(answer) == {"error"}
    assert op.name not in json.dumps(answer)
    await world.clock.settle()
    assert world.wakes == []
    assert await world.row(op) == record


@pytest.mark.asyncio
async def test_a_resume_that_is_replayed_has_nothing_to_do(world: World) -> None:
    """Word for word, with its token, which is good for an hour: while the next wait lasts, and after the end."""
    ran: list[str] = []

    @world.client.handler("twice", resume_points=("once", "again"))
    async def twice(op: lro.Operation[Any]) -> Any:
        ran.append(op.resume_point)
        following = {"": "once", "once": "again"}.get(op.resume_point)
        return None if following is None else op.suspend(resume_at=following, sleep=HOUR)

    op = await world.client.start("twice")
    bodies = []
    for _ in range(3):
        await world.clock.advance(HOUR)
        bodies.append(world.last_resume())
        runs = list(ran)
        row = await world.row(op)
        for body in bodies:
            said = await world.post("/lro/resume", body, world.workflows.issuer.token(AUDIENCE))
            assert said == (200, {"resumed": False})
            said = await world.post("/lro/poll", body, world.workflows.issuer.token(AUDIENCE))
            assert said == (200, {"pending": []})
        await world.clock.settle()
        assert ran == runs
        assert await world.row(op) == row
    assert ran == ["", "once", "again"]
    assert (await op.fetch()).done


# The same on Cloud Tasks, where each task is one call


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.asyncio
async def test_a_task_that_was_not_created_or_not_known_to_be_is_created_once(
    queue: World, monkeypatch: Any, when: Any
) -> None:
    monkeypatch.setattr("lro_aio.schedulers._remote.FIRST_PAUSE", 0.0)
    assert queue.tasks is not None
    queue.tasks.fail("CreateTask", grpc.StatusCode.UNAVAILABLE, times=4, when=when)
    op = await queue.client.start("waiter", {"sleep": HOUR})
    for _ in range(4):
        await queue.clock.advance(10)
        await queue.client.sweep()
    await queue.clock.advance(HOUR)
    assert [point for point, _, _ in queue.runs] == ["", "woken"]
    assert (await op.fetch()).done
    assert queue.tasks.statuses == [200, 200]


@pytest.mark.asyncio
async def test_a_task_whose_answer_was_lost_takes_effect_once(queue: World, monkeypatch: Any) -> None:
    assert queue.tasks is not None
    op = await queue.suspended(sleep=HOUR)
    lost = iter([0, 503])
    send = queue.tasks._deliver

    async def deliver(request: Any) -> int:
        status = await send(request)
        return next(lost, status)

    monkeypatch.setattr(queue.tasks, "_deliver", deliver)
    await queue.clock.advance(2 * HOUR)
    assert queue.wakes == [lro.WakeReason.ELAPSED]
    assert queue.tasks.statuses[1:] == [0, 503, 200]
    assert (await op.fetch()).done


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.asyncio
async def test_a_task_with_a_bad_token_wakes_nothing_and_comes_again(queue: World, monkeypatch: Any, flaw: Any) -> None:
    assert queue.tasks is not None
    op = await queue.suspended(sleep=HOUR)
    issuer = queue.workflows.issuer
    flaws = iter([flaw, flaw])
    monkeypatch.setattr(queue.tasks, "_token", lambda audience, _email: issuer.token(audience, next(flaws, None)))
    await queue.clock.advance(HOUR)
    assert queue.wakes == []
    await queue.clock.advance(60)
    assert [status in REFUSED for status in queue.tasks.statuses[1:]] == [True, True, False]
    assert queue.wakes == [lro.WakeReason.ELAPSED]
    assert (await op.fetch()).done


@pytest.mark.asyncio
async def test_a_handler_may_wait_for_the_clock_inside_of_a_task(queue: World) -> None:
    """Its task has no answer for as long; it is not sent again meanwhile, and others come through."""
    assert queue.tasks is not None
    ended: list[float] = []

    @queue.client.handler("patient")
    async def patient(op: lro.Operation[Any]) -> None:
        await op.wait(sleep=100)
        ended.append(queue.clock.time())

    began = queue.clock.time()
    await queue.client.start("patient")
    other = await queue.suspended(sleep=50)
    await queue.clock.advance(60)
    assert (await other.fetch()).done
    assert not ended
    await queue.clock.advance(60)
    assert ended == [began + 100]
    await until(lambda: len(queue.tasks.statuses) == 3)  # the answer goes over a socket, which no clock moves
    assert queue.tasks.statuses == [200, 200, 200]


# All of them, mixed at random


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_mix_of_faults_loses_nothing() -> None:
    struck = await run_all(range(15))
    assert min(struck[kind] for kind in Odds.KINDS) > 0, f"no fault of some kind: {struck}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, 500 if "LRO_AIO_LONG" in os.environ else 200, 50))
@pytest.mark.asyncio
async def test_hundreds_of_mixes_of_faults_lose_nothing(first: int) -> None:
    print(await run_all(range(first, first + 50)))
