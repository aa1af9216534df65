"""WorkflowsScheduler: the contract of schedulers with the real definition, over real sockets; and its own promises."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import Record, State, Wait
from lro_aio.testing import FakeWorkflows, ManualClock
from lro_aio.testing.scheduler_contract import SchedulerContract

from .workflow_runs import Script

DAY = 86400.0
AUDIENCE = "https://reports.example"


@pytest.fixture
def make_scheduler(workflows: FakeWorkflows, service: Any) -> Callable[..., lro.WorkflowsScheduler]:
    def make(**options: Any) -> lro.WorkflowsScheduler:
        return lro.WorkflowsScheduler(
            **{
                "project": "acme", "location": "europe-west1", "resume_host": service.url, "audience": AUDIENCE,
                "transport": workflows.transport(),
            } | options
        )  # fmt: skip

    return make


class TestContract(SchedulerContract):
    """Executions of ``workflow.yaml`` sleep, poll and call the endpoints, with tokens that are verified."""

    poll_slack = 40.0

    @pytest.fixture(autouse=True)
    def _served(self, service: Any) -> None:
        self.service = service

    def connect(self, scheduler: Any, client: lro.Client) -> None:
        self.service.clients.append(client)


class Host:
    """As much of an engine as the scheduler asks for."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock


@pytest_asyncio.fixture
async def scheduler(
    make_scheduler: Callable[..., lro.WorkflowsScheduler], lro_clock: ManualClock
) -> AsyncIterator[lro.WorkflowsScheduler]:
    scheduler = make_scheduler()
    await scheduler.open(Host(lro_clock))  # type: ignore[arg-type]
    yield scheduler
    await scheduler.close()


def suspended(clock: ManualClock, *, handle: str = "", handover: int = 0, **wait: Any) -> Record:
    now = clock.time()
    return Record(
        name="operations/One-1", uid="u", state=State.SUSPENDED, create_time=now, update_time=now, handler="h",
        wait=Wait(**{"token": "t", "sleep_until": now} | wait), schedule_handle=handle, handover=handover,
    )  # fmt: skip


def argument(workflows: FakeWorkflows, handle: str) -> dict[str, Any]:
    return workflows.executions[handle].argument


@pytest.mark.asyncio
async def test_a_sleep_is_an_execution_with_its_time_and_token(workflows, scheduler, service, lro_clock):
    handle = await scheduler.schedule(suspended(lro_clock, sleep_until=lro_clock.time() + 30 * DAY))
    assert handle.startswith("projects/acme/locations/europe-west1/workflows/lro-aio/executions/")
    assert argument(workflows, handle) == {
        "operation": "operations/One-1",
        "resumeToken": "t",
        "wakeTime": lro_clock.time() + 30 * DAY,
        "resumeUrl": f"{service.url}/lro/resume",
        "resumeAudience": AUDIENCE,
    }
    assert workflows.executions[handle].labels == {"lro-operation": "one-1"}


@pytest.mark.asyncio
async def test_children_are_polled_through_our_own_endpoint(workflows, scheduler, service, lro_clock):
    record = suspended(lro_clock, children=("operations/a",), deadline=lro_clock.time() + 2 * DAY, poll_interval=4.0)
    said = argument(workflows, await scheduler.schedule(record))
    assert said["children"] == ["operations/a"]
    assert said["pollUrl"] == f"{service.url}/lro/poll"
    assert (said["pollStyle"], said["pollAudience"]) == ("batch", AUDIENCE)
    assert (said["pollInterval"], said["maxPollInterval"]) == (4.0, 600.0)
    assert said["deadline"] == lro_clock.time() + 2 * DAY


@pytest.mark.asyncio
async def test_an_execution_that_follows_others_looks_as_rarely_as_they_did(workflows, scheduler, lro_clock):
    children = ("operations/a",)
    intervals = []
    for handover in (0, 1, 10, 60):
        handle = await scheduler.schedule(suspended(lro_clock, children=children, handover=handover))
        intervals.append(argument(workflows, handle)["pollInterval"])
    assert intervals == [3.0, 3.75, pytest.approx(27.94, abs=0.01), 300.0]


@pytest.mark.asyncio
async def test_a_foreign_endpoint_is_asked_for_each(workflows, scheduler, lro_clock):
    record = suspended(
        lro_clock,
        children=("operations/a",),
        poll_endpoint="https://other.example/x/GetOperation",
        max_poll_interval=9.0,
    )
    said = argument(workflows, await scheduler.schedule(record))
    assert (said["pollUrl"], said["pollStyle"]) == ("https://other.example/x/GetOperation", "each")
    assert said["pollAudience"] == "https://other.example"
    assert said["maxPollInterval"] == 9.0
    assert "deadline" not in said


@pytest.mark.parametrize(
    ("length", "most"), [(12, 1024), (47, 321), (512, 31)], ids=["short names", "usual names", "longest names"]
)
@pytest.mark.asyncio
async def test_children_that_do_not_fit_are_read_from_the_row(workflows, scheduler, lro_clock, caplog, length, most):
    """What fits is counted in bytes: each name is held several times within 512 KB."""
    caplog.set_level(logging.INFO, "lro_aio")
    for count, named in ((most, True), (most + 1, False)):
        children = (f"operations/{'x' * (length - 11)}",) * count
        said = argument(workflows, await scheduler.schedule(suspended(lro_clock, children=children)))
        assert said["pollUrl"].endswith("/lro/poll")
        assert ("children" in said) == named
    (record,) = caplog.records
    assert f"the names of its {most + 1} children do not fit" in record.getMessage()
    assert (record.operation, record.handler, record.event) == ("operations/One-1", "h", "children_left_out")


@pytest.mark.asyncio
async def test_foreign_children_that_do_not_fit_are_asked_for_by_our_own_endpoint(workflows, scheduler, lro_clock):
    """An execution that cannot be created would be a wait without an end."""
    children = tuple(f"operations/{i:036}" for i in range(2000))
    record = suspended(lro_clock, children=children, service="other", poll_endpoint="https://other.example/Get")
    said = argument(workflows, await scheduler.schedule(record))
    assert "children" not in said
    assert (said["pollStyle"], said["pollAudience"]) == ("batch", AUDIENCE)
    assert said["pollUrl"].endswith("/lro/poll")


@pytest.mark.asyncio
async def test_after_a_failed_execution_a_remote_service_is_polled_by_our_own_endpoint(workflows, scheduler, lro_clock):
    """An answer that is too large for a workflow ends its execution: the same again would be a wait without an end."""
    record = suspended(
        lro_clock, children=("operations/a",), service="other", poll_endpoint="https://other.example/Get"
    )
    first = await scheduler.schedule(record)
    assert argument(workflows, first)["pollStyle"] == "each"
    workflows.kill(first)
    said = argument(workflows, await scheduler.schedule(record.evolve(schedule_handle=first)))
    assert said["children"] == ["operations/a"]
    assert (said["pollStyle"], said["pollAudience"]) == ("batch", AUDIENCE)
    assert said["pollUrl"].endswith("/lro/poll")


class Other:
    """A remote service whose only operation has ended."""

    async def get_operation(self, name: str) -> operations_pb2.Operation:
        return operations_pb2.Operation(name=name, done=True)


@pytest.mark.asyncio
async def test_a_remote_service_with_answers_that_no_workflow_can_hold_delays_the_wait_and_no_more(
    workflows, make_scheduler, service, lro_clock
):
    client = lro.Client(
        "sqlite://", scheduler=make_scheduler(), clock=lro_clock, services={"other": Other()}, drain_timeout=0
    )

    @client.handler("waits", state=str, resume_points=("done",))
    async def waits(op: lro.Operation[str]) -> Any:
        if op.resume_point:
            return wrappers_pb2.StringValue(value="woken")
        return op.suspend(resume_at="done", children=["operations/a"], service="other", poll_endpoint=f"{op.state}/get")

    service.clients.append(client)
    with Script() as other:
        other.answer("/get", (200, {"done": False, "metadata": ["x" * 1000] * 600}))
        async with client:
            op = await client.start("waits", other.url)
            await lro_clock.settle()
            assert [one.state for one in workflows.executions.values()] == ["SUCCEEDED", "FAILED"]
            await lro_clock.advance(6 * 3600 + 60)
            assert (await op.result(wrappers_pb2.StringValue, timeout=1)).value == "woken"
        assert len(other.calls) == 1


@pytest.mark.asyncio
async def test_a_lost_execution_is_told(workflows, scheduler, lro_clock, caplog):
    record = suspended(lro_clock, sleep_until=lro_clock.time() + DAY)
    handle = await scheduler.schedule(record)
    workflows.kill(handle)
    gone = handle.rpartition("/")[0] + "/none"
    for lost, words in ((handle, "has ended as FAILED"), (gone, "is gone")):
        caplog.clear()
        await scheduler.schedule(record.evolve(schedule_handle=lost))
        (said,) = caplog.records
        assert said.levelname == "WARNING"
        assert said.getMessage() == (
            f"operations/One-1 was not woken: execution {lost} {words}; the wait is handed over again"
        )
        assert (said.operation, said.handler, said.event) == ("operations/One-1", "h", "execution_lost")


@pytest.mark.asyncio
async def test_a_call_that_is_repeated_is_told(workflows, scheduler, lro_clock, caplog, monkeypatch):
    monkeypatch.setattr("lro_aio.schedulers._remote.FIRST_PAUSE", 0.0)
    caplog.set_level(logging.INFO, "lro_aio")
    workflows.fail("CreateExecution", grpc.StatusCode.UNAVAILABLE, times=2)
    await scheduler.schedule(suspended(lro_clock))
    assert [record.event for record in caplog.records] == ["call_repeated"] * 2
    assert {record.operation for record in caplog.records} == {"operations/One-1"}
    assert "failed with UNAVAILABLE and is repeated in 0 s" in caplog.text


@pytest.mark.asyncio
async def test_the_handle_of_another_scheduler_is_left_alone(workflows, scheduler, lro_clock):
    """The service would refuse to read a task's name as an execution's, and the wait would never be handed over."""
    task = "projects/acme/locations/l/queues/q/tasks/t"
    handle = await scheduler.schedule(suspended(lro_clock, handle=task))
    assert handle in workflows.executions
    await scheduler.cancel(suspended(lro_clock, handle=task))
    assert set(workflows.rpcs) == {"CreateExecution"}


@pytest.mark.parametrize(("length", "cap"), [(3600.0, 300.0), (DAY, 300.0), (4 * DAY, 1200.0), (365 * DAY, 3600.0)])
@pytest.mark.asyncio
async def test_the_cap_of_the_interval_grows_with_the_wait(workflows, scheduler, lro_clock, length, cap):
    """With its timeout, and without one as long as it has been going on."""
    begun = lro_clock.time()
    known = suspended(lro_clock, children=("operations/a",), deadline=begun + length)
    assert argument(workflows, await scheduler.schedule(known))["maxPollInterval"] == cap
    await lro_clock.advance(length)
    unknown = suspended(lro_clock, children=("operations/a",), sleep_until=begun)
    assert argument(workflows, await scheduler.schedule(unknown))["maxPollInterval"] == cap


@pytest.mark.asyncio
async def test_a_repair_keeps_an_execution_that_is_alive_and_replaces_one_that_is_not(workflows, scheduler, lro_clock):
    record = suspended(lro_clock, sleep_until=lro_clock.time() + DAY)
    first = await scheduler.schedule(record)
    assert await scheduler.schedule(record.evolve(schedule_handle=first)) == first
    workflows.kill(first)
    second = await scheduler.schedule(record.evolve(schedule_handle=first))
    assert second != first
    gone = "projects/acme/locations/europe-west1/workflows/lro-aio/executions/none"
    assert await scheduler.schedule(record.evolve(schedule_handle=gone)) not in (first, second, gone)


@pytest.mark.asyncio
async def test_cancel_ends_the_execution_and_minds_none_that_has_ended(workflows, scheduler, lro_clock):
    record = suspended(lro_clock, sleep_until=lro_clock.time() + DAY)
    handle = await scheduler.schedule(record)
    for _ in range(2):
        await scheduler.cancel(record.evolve(schedule_handle=handle))
    assert workflows.executions[handle].state == "CANCELLED"
    await scheduler.cancel(record)


@pytest.mark.asyncio
async def test_what_fails_says_what_to_do(workflows, scheduler, lro_clock):
    record = suspended(lro_clock)
    workflows.fail("CreateExecution", grpc.StatusCode.NOT_FOUND)
    with pytest.raises(lro.SchedulerUnavailableError, match="gcloud workflows deploy lro-aio"):
        await scheduler.schedule(record)
    workflows.fail("CreateExecution", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(lro.SchedulerUnavailableError, match="PERMISSION_DENIED"):
        await scheduler.schedule(record)
    workflows.fail("CreateExecution", grpc.StatusCode.UNAVAILABLE, times=3)
    with pytest.raises(lro.SchedulerUnavailableError, match="UNAVAILABLE"):
        await scheduler.schedule(record)
    workflows.fail("CreateExecution", grpc.StatusCode.UNAVAILABLE, times=2)
    assert await scheduler.schedule(record)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"project": ""}, "project must be the project's id"),
        ({"workflow": "a b"}, "workflow must be the workflow's id"),
        ({"resume_host": "service.run.app"}, "resume_host must be the URL"),
    ],
)
def test_malformed_arguments_are_refused(wrong, words):
    good = {"project": "acme", "location": "l", "resume_host": "https://service.run.app"}
    with pytest.raises(ValueError, match=words):
        lro.WorkflowsScheduler(**good | wrong)


def test_the_audience_is_the_origin_of_the_host_unless_given():
    made = lro.WorkflowsScheduler(project="acme", location="l", resume_host="https://service.run.app/base/")
    assert made._callback.audience == "https://service.run.app"
    assert made._callback.resume_url == "https://service.run.app/base/lro/resume"
