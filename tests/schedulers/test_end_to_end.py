"""Waits handed to Cloud Workflows and to Cloud Tasks, over real sockets from end to end.

Rows are in a FakeSpanner. The real definition runs in a FakeWorkflows, or tasks in a FakeCloudTasks; both call a real
HTTP server with tokens that the real verifier checks. Only the clock is moved by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.codes import Code
from lro_aio.core.record import Record, State
from lro_aio.testing import FakeSpanner, FakeWorkflows, ManualClock
from lro_aio.testing.cloud_tasks import FakeCloudTasks

from ..waiting import PATIENCE

HOUR, DAY = 3600.0, 86400.0
AUDIENCE = "https://reports.example"
HORIZON = 6 * HOUR


@dataclass
class Workflows:
    """Cloud Workflows as a test sees it."""

    fake: FakeWorkflows
    url: str

    def scheduler(self) -> lro.WorkflowsScheduler:
        return lro.WorkflowsScheduler(
            project="acme", location="l", resume_host=self.url, audience=AUDIENCE, transport=self.fake.transport()
        )

    def waiting(self) -> list[str]:
        return [name for name, execution in self.fake.executions.items() if execution.state == "ACTIVE"]

    def lose(self, name: str) -> None:
        self.fake.kill(name)

    def cancelled(self, name: str) -> bool:
        return self.fake.executions[name].state == "CANCELLED"


@dataclass
class Tasks:
    """Cloud Tasks as a test sees it."""

    fake: FakeCloudTasks
    url: str
    account: str

    def scheduler(self) -> lro.CloudTasksScheduler:
        return lro.CloudTasksScheduler(
            project="acme", location="l", queue="lro", resume_host=self.url, audience=AUDIENCE,
            service_account=self.account, transport=self.fake.transport(),
        )  # fmt: skip

    def waiting(self) -> list[str]:
        return list(self.fake.tasks)

    def lose(self, name: str) -> None:
        self.fake._forget(name)

    def cancelled(self, name: str) -> bool:
        return name not in self.fake.tasks


@pytest_asyncio.fixture(params=["workflows", "tasks"])
async def remote(
    request: Any, workflows: FakeWorkflows, service: Any, lro_clock: ManualClock
) -> AsyncIterator[Workflows | Tasks]:
    """The scheduler's service; tasks get their tokens from the issuer whose certificates the verifier has."""
    if request.param == "workflows":
        yield Workflows(workflows, service.url)
        return
    issuer = workflows.issuer

    def token(audience: str, _email: str) -> str:
        return issuer.token(audience)

    async with FakeCloudTasks(clock=lro_clock, token=token, patience=PATIENCE) as fake:
        yield Tasks(fake, service.url, issuer.email)


@dataclass
class Seen:
    """What handlers saw."""

    times: list[float] = field(default_factory=list)
    reasons: list[lro.WakeReason | None] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    children: list[Any] = field(default_factory=list)
    within: list[bool] = field(default_factory=list)
    """Whether each run took place while a resume request was being answered."""


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def handlers(seen: Seen, lro_clock: ManualClock, service: Any) -> lro.Handlers:
    registry = lro.Handlers()

    @registry.handler("waiter", state=dict[str, Any], resume_points=("woken",))
    async def waiter(op: lro.Operation[dict[str, Any]]) -> Any:
        seen.within.append("/lro/resume" in service.under_way)
        if op.resume_point == "":
            return op.suspend(resume_at="woken", **op.state)
        seen.times.append(lro_clock.time())
        seen.reasons.append(op.wake_reason)
        seen.errors.append(op.wake_error)
        seen.children = op.children
        return wrappers_pb2.StringValue(value=str(op.wake_reason))

    @registry.handler("report", state=dict[str, Any], resume_points=("month over", "parts done"))
    async def report(op: lro.Operation[dict[str, Any]]) -> Any:
        if op.resume_point == "":
            return op.suspend(resume_at="month over", sleep=30 * DAY)
        if op.resume_point == "month over":
            seen.times.append(lro_clock.time())
            parts = [await op.start_child("part", {"number": n}, key=f"part-{n}") for n in range(45)]
            return op.suspend(resume_at="parts done", children=parts, timeout=DAY)
        seen.reasons.append(op.wake_reason)
        numbers = [wrappers_pb2.Int32Value() for _ in op.children]
        for child, number in zip(op.children, numbers, strict=True):
            assert child.done
            assert child.response.Unpack(number)
        return wrappers_pb2.Int32Value(value=sum(number.value for number in numbers))

    @registry.handler("part", state=dict[str, Any], resume_points=("rested",))
    async def part(op: lro.Operation[dict[str, Any]]) -> Any:
        if op.resume_point == "":
            return op.suspend(resume_at="rested", sleep=600 + 90 * op.state["number"])
        return wrappers_pb2.Int32Value(value=op.state["number"])

    @registry.handler("failing")
    async def failing(op: lro.Operation[Any]) -> Any:
        raise ValueError("a defect")

    return registry


OpenClient = Callable[..., Awaitable[lro.Client]]


@pytest_asyncio.fixture
async def open_client(
    remote: Workflows | Tasks, handlers: lro.Handlers, service: Any, lro_clock: ManualClock
) -> AsyncIterator[OpenClient]:
    """Each call opens one more instance of the service."""
    async with AsyncExitStack() as stack:
        spanner = await stack.enter_async_context(FakeSpanner())

        async def make(**options: Any) -> lro.Client:
            client = lro.Client(
                spanner.url, scheduler=remote.scheduler(), handlers=[handlers], clock=lro_clock, drain_timeout=0,
                sweep=lro.SweepPolicy(interval=3600), **options,
            )  # fmt: skip
            service.clients.append(client)
            return await stack.enter_async_context(client)

        yield make


async def row(client: lro.Client, op: Any) -> Record:
    return await client.server_host.record(op.name)


async def suspended(client: lro.Client, clock: ManualClock, **wait: Any) -> Any:
    """A waiter that has suspended, and whose wait is handed over."""
    op = await client.start("waiter", wait)
    await handed_over(client, clock, op)
    return op


async def handed_over(client: lro.Client, clock: ManualClock, op: Any) -> Record:
    """The row, once it is suspended and the scheduler has it; no time goes by."""
    async with asyncio.timeout(10):
        while True:
            record = await row(client, op)
            if record.state is State.SUSPENDED and record.schedule_handle:
                return record
            await clock.settle()
            await asyncio.sleep(0.005)


# A month, and 45 children


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_month_and_45_children_are_waited_for_and_no_process_is_held(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, service: Any, lro_clock: ManualClock
) -> None:
    """The service is not even there for most of the month: rows, and the scheduler's service, are all that is."""
    began = lro_clock.time()
    first = await open_client()
    op = await first.start("report")
    await lro_clock.settle()
    assert (await row(first, op)).state is State.SUSPENDED
    assert len(remote.waiting()) == 1
    await first.aclose()
    await lro_clock.advance(29.5 * DAY)
    client = await open_client()
    await lro_clock.advance(0.5 * DAY + HOUR / 2)
    (woken,) = seen.times
    assert began + 30 * DAY <= woken <= began + 30 * DAY + HOUR / 2
    assert (await row(client, op)).state is State.SUSPENDED
    await lro_clock.advance(2 * HOUR)
    ended = await client.get_operation(op.name)
    number = wrappers_pb2.Int32Value()
    assert ended.response.Unpack(number)
    assert number.value == sum(range(45))
    assert seen.reasons == [lro.WakeReason.CHILDREN_DONE]
    assert not remote.waiting()
    await lro_clock.advance(40 * DAY)
    assert len(seen.times) == 1, "it is not woken again"
    refused = [(path, status) for path, status in service.answers if status != 200]
    assert not [status for _, status in refused if status in (401, 403)]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_every_run_takes_place_inside_of_a_resume_request(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, service: Any, lro_clock: ManualClock
) -> None:
    """The first, too (dispatch="scheduler"): while no request is under way, Cloud Run may freeze the process."""
    client = await open_client()
    assert client.engine.settings.dispatch == "scheduler"
    op = await client.start("waiter", {"sleep": 100})
    assert op.record.state is State.PENDING
    await lro_clock.advance(100)
    assert (await op.fetch()).done
    assert seen.within == [True, True]
    assert service.answers == [("/lro/resume", 200), ("/lro/resume", 200)]


@pytest.mark.asyncio
async def test_a_first_run_in_the_process_that_starts_it_is_a_choice(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    client = await open_client(dispatch="local")
    op = await suspended(client, lro_clock, sleep=100)
    await lro_clock.advance(100)
    assert (await op.fetch()).done
    assert seen.within == [False, True]


# More than a scheduler holds


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_sleep_of_more_than_a_year_ends_at_its_time(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    """Longer than an execution lasts, and than a task is scheduled ahead: others follow. The handler sees none."""
    client = await open_client()
    began = lro_clock.time()
    op = await suspended(client, lro_clock, sleep=800 * DAY)
    await lro_clock.advance(800 * DAY - 1)
    assert not seen.times
    assert (await row(client, op)).handover >= 3
    await lro_clock.advance(1)
    assert seen.times == [began + 800 * DAY]
    assert seen.reasons == [lro.WakeReason.ELAPSED]
    assert (await op.fetch()).done


@pytest.mark.slow
@pytest.mark.asyncio
async def test_children_are_waited_for_for_more_than_a_year(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    client = await open_client()
    child = await client.create(lease=False)
    wait = {"children": [child.name], "poll_interval": DAY, "max_poll_interval": 10 * DAY, "timeout": 900 * DAY}
    op = await suspended(client, lro_clock, **wait)
    await lro_clock.advance(700 * DAY)
    assert not seen.times
    await child.done()
    await lro_clock.advance(20 * DAY)
    assert seen.reasons == [lro.WakeReason.CHILDREN_DONE]
    assert (await op.fetch()).done


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_timeout_of_more_than_a_year_is_kept(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    client = await open_client()
    began = lro_clock.time()
    child = await client.create(lease=False)
    wait = {"children": [child.name], "poll_interval": 10 * DAY, "max_poll_interval": 10 * DAY, "timeout": 500 * DAY}
    await suspended(client, lro_clock, **wait)
    await lro_clock.advance(501 * DAY)
    assert seen.reasons == [lro.WakeReason.CHILDREN_TIMEOUT]
    assert seen.times == [began + 500 * DAY]
    assert [one.done for one in seen.children] == [False]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_2000_children_are_waited_for(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, workflows: FakeWorkflows, lro_clock: ManualClock
) -> None:
    """More than an argument holds, and more than an answer names: the last one to end may be any of them."""
    client = await open_client()
    children = await asyncio.gather(*(client.create(lease=False) for _ in range(2000)))
    await asyncio.gather(*(child.done() for child in children[:1200]))
    op = await suspended(client, lro_clock, children=[child.name for child in children])
    await lro_clock.advance(HOUR)
    assert not seen.times
    late = children[1900]
    await asyncio.gather(*(child.done() for child in children[1200:] if child is not late))
    await lro_clock.advance(HOUR)
    assert not seen.times
    await late.done()
    await lro_clock.advance(HOUR)
    assert seen.reasons == [lro.WakeReason.CHILDREN_DONE]
    assert [one.name for one in seen.children] == [child.name for child in children]
    assert all(one.done for one in seen.children)
    assert (await op.fetch()).done
    polls = [request for request in workflows.requests if request.url.endswith("/lro/poll")]
    assert all("operations" not in request.body and len(request.answer["pending"]) <= 500 for request in polls)


# Cancel, and what gets lost


@pytest.mark.asyncio
async def test_a_cancel_cancels_the_wait(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    client = await open_client()
    op = await suspended(client, lro_clock, sleep=30 * DAY)
    handle = (await row(client, op)).schedule_handle
    assert handle in remote.waiting()
    await op.cancel()
    await lro_clock.settle()
    assert remote.cancelled(handle)
    assert not remote.waiting()
    assert (await row(client, op)).state is State.CANCELLED
    await lro_clock.advance(31 * DAY)
    assert not seen.times


@pytest.mark.parametrize("wait", [{"sleep": 30 * DAY}, {"sleep": HOUR}, {"timeout": 30 * DAY}])
@pytest.mark.asyncio
async def test_a_wait_that_was_lost_is_noticed_by_the_sweep_within_its_time(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock, wait: dict[str, Any]
) -> None:
    """Whatever the length of the wait: a sweep of every hour finds it within the horizon of six."""
    client = await open_client()
    child = await client.create(lease=False)
    op = await suspended(client, lro_clock, **wait, children=[child.name])
    await child.done()
    for name in remote.waiting():
        remote.lose(name)
    lost = lro_clock.time()
    due = (await row(client, op)).check_time
    assert due is not None
    assert due <= lost + HORIZON
    while not remote.waiting() and not seen.times:
        await lro_clock.advance(HOUR)
        assert lro_clock.time() < lost + HORIZON + HOUR, "nobody noticed"
        await client.sweep()
        await lro_clock.settle()
    await lro_clock.advance(wait.get("sleep", 0.0) + HOUR)
    assert seen.reasons == [lro.WakeReason.CHILDREN_DONE]
    assert (await op.fetch()).done


# What becomes of children


@pytest_asyncio.fixture
async def family(open_client: OpenClient, lro_clock: ManualClock) -> dict[str, Any]:
    """Operations that have ended in each way that there is, one that has not, and the client that has them."""
    client = await open_client()
    good, bad, removed, pending = [await client.create(lease=False) for _ in range(4)]
    stopped = await client.create()
    await good.done(wrappers_pb2.StringValue(value="fine"))
    await bad.fail("out of paper")
    await stopped.cancel()
    await removed.delete()
    defect = await client.start("failing")
    await lro_clock.settle()
    names = {
        "good": good.name, "bad": bad.name, "cancelled": stopped.name, "deleted": removed.name, "defect": defect.name,
        "never made": "operations/never-made",
    }  # fmt: skip
    return {"client": client, "ended": names, "pending": pending}


EXPECTED = {
    "good": None, "bad": Code.UNKNOWN, "cancelled": Code.CANCELLED, "deleted": Code.NOT_FOUND,
    "defect": Code.UNKNOWN, "never made": Code.NOT_FOUND,
}  # fmt: skip


def what_became(children: list[Any]) -> list[Any]:
    """The code of each error; None for none, "pending" for a child that is not done."""
    return [
        "pending" if not child.done else child.error.code if child.HasField("error") else None for child in children
    ]


@pytest.mark.asyncio
async def test_children_that_ended_badly_are_reported_as_what_they_are(
    family: dict[str, Any], seen: Seen, lro_clock: ManualClock
) -> None:
    op = await family["client"].start("waiter", {"children": list(family["ended"].values())})
    await lro_clock.advance(60)
    assert seen.reasons == [lro.WakeReason.CHILDREN_DONE]
    assert dict(zip(family["ended"], what_became(seen.children), strict=True)) == EXPECTED
    assert [child.name for child in seen.children] == list(family["ended"].values())
    assert (await op.fetch()).done


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_child_that_times_out_is_reported_as_pending_and_the_others_as_what_they_are(
    family: dict[str, Any], seen: Seen, lro_clock: ManualClock
) -> None:
    children = [*family["ended"].values(), family["pending"].name]
    await suspended(family["client"], lro_clock, children=children, timeout=HOUR)
    began = lro_clock.time()
    await lro_clock.advance(HOUR - 1)
    assert not seen.times
    await lro_clock.advance(60)
    assert seen.reasons == [lro.WakeReason.CHILDREN_TIMEOUT]
    assert began + HOUR <= seen.times[0] <= began + HOUR + 1
    assert what_became(seen.children) == [*EXPECTED.values(), "pending"]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_child_that_is_removed_during_the_wait_is_reported_as_missing(
    family: dict[str, Any], seen: Seen, lro_clock: ManualClock
) -> None:
    await suspended(family["client"], lro_clock, children=[family["pending"].name])
    await lro_clock.advance(HOUR)
    assert not seen.times
    await family["pending"].delete()
    await lro_clock.advance(HOUR)
    assert seen.reasons == [lro.WakeReason.CHILDREN_DONE]
    assert what_became(seen.children) == [Code.NOT_FOUND]


class Elsewhere:
    """Another service's operations: one that runs, one that failed; any other does not exist."""

    def __init__(self) -> None:
        self.down = False
        self.running = True

    async def get_operation(self, name: str, /) -> Any:
        if self.down:
            raise OSError("no route")
        if name == "operations/running":
            return operations_pb2.Operation(name=name, done=not self.running)
        if name == "operations/failed":
            return operations_pb2.Operation(name=name, done=True, error={"code": 9, "message": "out of paper"})
        raise lro.OperationNotFoundError(name)


FOREIGN = ["operations/running", "operations/failed", "operations/none"]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_children_of_another_service_are_reported_as_what_they_are(
    open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    other = Elsewhere()
    client = await open_client(services={"other": other})
    await suspended(client, lro_clock, children=FOREIGN, service="other")
    await lro_clock.advance(HOUR)
    assert not seen.times
    other.running = False
    await lro_clock.advance(HOUR)
    assert seen.reasons == [lro.WakeReason.CHILDREN_DONE]
    assert what_became(seen.children) == [None, Code.FAILED_PRECONDITION, Code.NOT_FOUND]


@pytest.mark.parametrize("timeout", [2 * HOUR, None])
@pytest.mark.asyncio
async def test_children_of_a_service_that_is_down_are_never_done(
    remote: Workflows | Tasks,
    open_client: OpenClient,
    seen: Seen,
    lro_clock: ManualClock,
    timeout: float | None,
) -> None:
    """They are waited for; when the time is up, or the polls have failed for too long, they are reported as pending."""
    other = Elsewhere()
    client = await open_client(services={"other": other})
    await suspended(client, lro_clock, children=FOREIGN, service="other", timeout=timeout)
    await lro_clock.advance(60)
    other.down = True
    other.running = False  # nobody can know
    await lro_clock.advance(4 * HOUR)
    if timeout is None and isinstance(remote, Tasks):
        assert not seen.times  # each task is a look, which comes again and again
        other.down = False
        await lro_clock.advance(4 * HOUR)
        assert seen.reasons == [lro.WakeReason.CHILDREN_DONE]
        return
    assert len(seen.reasons) == 1
    assert seen.reasons[0] in (lro.WakeReason.CHILDREN_TIMEOUT, lro.WakeReason.POLL_FAILED)
    assert what_became(seen.children) == ["pending"] * 3
    assert ("503" in seen.errors[0]) == (seen.reasons[0] is lro.WakeReason.POLL_FAILED)


# Pauses and deadlines


@pytest.mark.asyncio
async def test_a_pause_takes_the_wait_back_and_its_end_hands_it_over_again(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    client = await open_client()
    op = await suspended(client, lro_clock, sleep=100)
    given = await row(client, op)
    await client.pause_operation(op.name)
    assert remote.cancelled(given.schedule_handle)
    await lro_clock.advance(2 * DAY)
    assert not seen.times
    assert given.wait is not None
    assert not await client.resume(op.name, given.wait.token), "a caller that comes all the same"
    await client.unpause_operation(op.name)
    await lro_clock.advance(1)
    assert (await op.fetch()).done
    assert seen.within == [True, True]


@pytest.mark.asyncio
async def test_a_first_run_that_is_paused_before_it_begins(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    client = await open_client()
    op = await client.start("waiter", {"sleep": 0})
    await client.pause_operation(op.name)
    await lro_clock.advance(2 * DAY)
    assert (await row(client, op)).paused
    await client.unpause_operation(op.name)
    await lro_clock.advance(1)
    assert (await op.fetch()).done
    assert seen.within == [True, True]


@pytest.mark.asyncio
async def test_a_deadline_ends_a_wait_at_its_time_without_a_sweep(
    remote: Workflows | Tasks, open_client: OpenClient, seen: Seen, lro_clock: ManualClock
) -> None:
    client = await open_client()
    op = await client.start("waiter", {"sleep": 10 * DAY}, deadline=100)
    await handed_over(client, lro_clock, op)
    await lro_clock.advance(99)
    assert not (await op.fetch()).done
    await lro_clock.advance(10)
    assert (await op.fetch()).error.code == Code.DEADLINE_EXCEEDED
    assert not seen.times
