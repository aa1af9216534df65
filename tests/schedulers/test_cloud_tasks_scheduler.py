"""CloudTasksScheduler: the contract of schedulers, against a loopback server of Cloud Tasks; and its own promises."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.core.errors import OperationBusyError, WorkerUnavailableError
from lro_aio.core.record import Record, State, Wait
from lro_aio.schedulers.cloud_tasks import LONGEST
from lro_aio.testing import ManualClock
from lro_aio.testing.cloud_tasks import FakeCloudTasks
from lro_aio.testing.scheduler_contract import SchedulerContract

from ..tcp_server import tcp_server

ACCOUNT = "tasks@acme.iam.gserviceaccount.com"
DAY = 86400.0


class Host:
    """As much of an engine as the scheduler asks for."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock


class Deliveries:
    """Hands tasks to the clients of a test, as the resume endpoint would."""

    def __init__(self) -> None:
        self.clients: list[lro.Client] = []
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, request: Any) -> int:
        body = json.loads(request.body)
        self.bodies.append(body)
        for client in reversed(self.clients):
            try:
                reason = None if body["reason"] == "STEP_BUDGET" else lro.WakeReason(body["reason"])
                await client.engine.dispatcher.resume(
                    body["operation"], body["resumeToken"], reason=reason, early=False, visit=body["visit"]
                )
            except (OperationBusyError, WorkerUnavailableError, lro.StoreUnavailableError):
                return 503
            except RuntimeError:
                continue  # that client is closed
            return 200
        return 0


@pytest.fixture
def deliveries() -> Deliveries:
    return Deliveries()


@pytest_asyncio.fixture
async def fake(lro_clock: ManualClock, deliveries: Deliveries) -> AsyncIterator[FakeCloudTasks]:
    async with FakeCloudTasks(clock=lro_clock, deliver=deliveries) as fake:
        yield fake


@pytest.fixture
def make_scheduler(fake: FakeCloudTasks) -> Callable[..., lro.CloudTasksScheduler]:
    def make(**options: Any) -> lro.CloudTasksScheduler:
        return lro.CloudTasksScheduler(
            project="acme", location="europe-west1", queue="lro", resume_host="https://reports.run.app",
            service_account=ACCOUNT, transport=fake.transport(), **options,
        )  # fmt: skip

    return make


class TestContract(SchedulerContract):
    """With children looked at by tasks, each later than the one before."""

    poll_slack = 40.0

    @pytest.fixture(autouse=True)
    def _delivered(self, deliveries: Deliveries) -> None:
        self.deliveries = deliveries

    def connect(self, scheduler: Any, client: lro.Client) -> None:
        self.deliveries.clients.append(client)


@pytest_asyncio.fixture
async def scheduler(
    make_scheduler: Callable[..., lro.CloudTasksScheduler], lro_clock: ManualClock
) -> AsyncIterator[lro.CloudTasksScheduler]:
    scheduler = make_scheduler()
    await scheduler.open(Host(lro_clock))
    yield scheduler
    await scheduler.close()


def suspended(clock: ManualClock, *, handover: int = 0, handle: str = "", **wait: Any) -> Record:
    now = clock.time()
    return Record(
        name="operations/one", uid="u", state=State.SUSPENDED, create_time=now, update_time=now, handler="h",
        wait=Wait(**{"token": "t", "sleep_until": now} | wait), handover=handover, schedule_handle=handle,
    )  # fmt: skip


def when(task: Any) -> float:
    return float(task.schedule_time.seconds + task.schedule_time.nanos / 1e9)


@pytest.mark.asyncio
async def test_a_task_calls_the_resume_endpoint_at_its_time(fake, scheduler, lro_clock):
    record = suspended(lro_clock, sleep_until=lro_clock.time() + 100.25)
    handle = await scheduler.schedule(record)
    (task,) = fake.tasks.values()
    assert task.name == handle
    assert when(task) == lro_clock.time() + 100.25
    request = task.http_request
    assert request.url == "https://reports.run.app/lro/resume"
    assert json.loads(request.body) == {
        "operation": "operations/one", "resumeToken": "t", "reason": "ELAPSED", "visit": 0,
    }  # fmt: skip
    assert request.oidc_token.service_account_email == ACCOUNT
    assert request.oidc_token.audience == "https://reports.run.app"
    assert task.dispatch_deadline.seconds == 1800


@pytest.mark.asyncio
async def test_a_repeat_is_one_task_and_a_repair_is_another(fake, scheduler, lro_clock, caplog):
    """The same hand-over again, its answer lost or not; and the next one, whose task is gone."""
    record = suspended(lro_clock, sleep_until=lro_clock.time() + 100)
    fake.fail("CreateTask", grpc.StatusCode.UNAVAILABLE, when="after")
    first = await scheduler.schedule(record)
    assert await scheduler.schedule(record) == first
    assert len(fake.tasks) == 1
    repaired = suspended(lro_clock, sleep_until=lro_clock.time() + 100, handover=1, handle=first)
    assert await scheduler.schedule(repaired) == first  # it is there
    await scheduler.cancel(repaired)
    assert not fake.tasks
    second = await scheduler.schedule(repaired)
    assert second != first
    assert list(fake.tasks) == [second]
    (lost,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert lost.getMessage() == f"operations/one was not woken: task {first} is gone; the wait is handed over again"
    assert (lost.operation, lost.handler, lost.event) == ("operations/one", "h", "task_lost")


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_longer_wait_is_scheduled_again_on_arrival(fake, make_scheduler, deliveries, lro_clock, tmp_path):
    """A year, with an API that takes 30 days: nobody is woken before the end."""
    woken = []
    handlers = lro.Handlers()

    @handlers.handler("year", resume_points=("on",))
    async def year(op):
        if op.resume_point == "":
            return op.suspend(resume_at="on", sleep=365 * DAY)
        woken.append(lro_clock.time())
        return None

    began = lro_clock.time()
    client = lro.Client(
        "sqlite://",
        scheduler=make_scheduler(),
        handlers=[handlers],
        clock=lro_clock,
        drain_timeout=0,
        sweep=lro.SweepPolicy(interval=1e9),  # it would come at the very moment at which the task arrives
    )
    deliveries.clients.append(client)
    async with client:
        op = await client.start("year")
        for _ in range(366):
            await lro_clock.advance(DAY)
        assert (await op.fetch()).done
    assert woken == [began + 365 * DAY]
    visits = [body["reason"] for body in deliveries.bodies]
    assert len(visits) == 2 + int(365 * DAY // LONGEST)  # the first run, the visits on the way, the end


def visit(scheduler, record, clock):
    return scheduler._visit(record, record.wait, record.wait.plan(clock.time()))


@pytest.mark.asyncio
async def test_looks_at_children_get_rarer_up_to_the_cap(scheduler, lro_clock):
    children = ("operations/a",)
    gaps = []
    for handover in range(40):
        at, reason = visit(scheduler, suspended(lro_clock, children=children, handover=handover), lro_clock)
        gaps.append(at - lro_clock.time())
        assert reason == "STEP_BUDGET"
    assert gaps[0] == 0.0  # they may have ended before
    assert gaps[1] == pytest.approx(3.75)
    assert gaps == sorted(gaps)
    assert gaps[-1] == 300.0
    late = suspended(lro_clock, children=children, handover=30, deadline=lro_clock.time() + 10)
    assert visit(scheduler, late, lro_clock)[0] == lro_clock.time() + 10


@pytest.mark.asyncio
async def test_what_is_refused_says_what_to_do(fake, scheduler, lro_clock):
    fake.fail("CreateTask", grpc.StatusCode.NOT_FOUND)
    with pytest.raises(lro.SchedulerUnavailableError, match="no queue projects/acme/locations/europe-west1/queues/lro"):
        await scheduler.schedule(suspended(lro_clock))
    fake.fail("CreateTask", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(lro.SchedulerUnavailableError, match="PERMISSION_DENIED"):
        await scheduler.schedule(suspended(lro_clock))
    fake.fail("CreateTask", grpc.StatusCode.UNAVAILABLE, times=3)
    with pytest.raises(lro.SchedulerUnavailableError, match="UNAVAILABLE"):
        await scheduler.schedule(suspended(lro_clock))
    assert fake.rpcs["CreateTask"] == 5


@pytest.mark.asyncio
async def test_the_handle_of_another_scheduler_is_left_alone(fake, scheduler, lro_clock):
    execution = "projects/acme/locations/l/workflows/w/executions/e"
    assert await scheduler.schedule(suspended(lro_clock, handle=execution)) in fake.tasks
    await scheduler.cancel(suspended(lro_clock, handle=execution))
    assert set(fake.rpcs) == {"CreateTask"}


@pytest.mark.asyncio
async def test_cancel_of_what_is_gone_is_nothing(fake, scheduler, lro_clock):
    await scheduler.cancel(suspended(lro_clock, handle="projects/acme/locations/l/queues/q/tasks/none"))
    await scheduler.cancel(suspended(lro_clock))
    assert fake.rpcs["DeleteTask"] == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"queue": "a/b"}, "queue must be the queue's id"),
        ({"resume_host": "reports.run.app"}, "resume_host must be the URL"),
        ({"service_account": "nobody"}, "service_account must be the e-mail"),
        ({"dispatch_deadline": 10}, "from 15 to 1800 seconds"),
        ({"dispatch_deadline": 3600}, "from 15 to 1800 seconds"),
    ],
)
def test_malformed_arguments_are_refused(wrong, words):
    good = {
        "project": "acme", "location": "l", "queue": "q", "resume_host": "https://h", "service_account": ACCOUNT,
    }  # fmt: skip
    with pytest.raises(ValueError, match=words):
        lro.CloudTasksScheduler(**good | wrong)


@pytest.mark.asyncio
async def test_the_task_comes_again_until_it_is_answered(lro_clock):
    """Over a real socket, from the fake's own sender: 503 twice, then 200; no answer counts as none."""
    answers = iter([b"503 Busy", b"503 Busy", b"200 OK"])
    seen = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.decode())
        writer.write(b"HTTP/1.1 " + next(answers) + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with (
        tcp_server(serve) as port,
        FakeCloudTasks(clock=lro_clock, token=lambda audience, email: f"{audience}|{email}") as fake,
    ):
        scheduler = lro.CloudTasksScheduler(
            project="acme", location="l", queue="q", resume_host=f"http://127.0.0.1:{port}", service_account=ACCOUNT,
            transport=fake.transport(),
        )  # fmt: skip
        await scheduler.open(Host(lro_clock))
        await scheduler.schedule(suspended(lro_clock, sleep_until=lro_clock.time() + 5))
        await lro_clock.advance(5)
        assert fake.statuses == [503]
        await lro_clock.advance(10)
        assert fake.statuses == [503, 503, 200]
        assert not fake.tasks
        await scheduler.close()
    assert f"Authorization: Bearer http://127.0.0.1:{port}|{ACCOUNT}" in seen[0]
