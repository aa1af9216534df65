"""``op.suspend``: what it accepts, when the operation goes on, and what it is then told."""

import asyncio
import datetime
from dataclasses import dataclass, field

import pytest
from google.protobuf import wrappers_pb2
from google.rpc import error_details_pb2

import lro_aio as lro
from lro_aio.core.record import State

from ..waiting import PATIENCE


@dataclass
class Plan:
    children: list[str] = field(default_factory=list)
    options: dict[str, float] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def wakes():
    """(time, wake_reason, {child: done or error code}) of every second segment."""
    return []


@pytest.fixture
def lro_handlers(wakes, lro_clock):
    handlers = lro.Handlers()

    @handlers.handler("waiter", state=Plan, resume_points=("woken",))
    async def waiter(op):
        if op.resume_point == "":
            op.state.seen.append("first")
            return op.suspend(resume_at="woken", children=op.state.children, **op.state.options)
        wakes.append((lro_clock.time(), op.wake_reason, [(c.name, c.done, c.error.code) for c in op.children]))
        return wrappers_pb2.StringValue(value=",".join(op.state.seen))

    @handlers.handler("nap", state=float, resume_points=("awake",))
    async def nap(op):
        if op.resume_point == "":
            return op.suspend(resume_at="awake", sleep=op.state)
        return wrappers_pb2.StringValue(value="rested")

    @handlers.handler("fail")
    async def fail(op):
        raise lro.OperationFailedError("no", code=lro.Code.DATA_LOSS)

    return handlers


async def suspend(client, **plan):
    return await client.start("waiter", Plan(**plan))


@pytest.mark.asyncio
async def test_state_and_time_survive_the_suspend(lro_client, lro_clock, wakes):
    began = lro_clock.time()
    op = await suspend(lro_client, options={"sleep": 60})
    await lro_clock.advance(3600)
    assert wakes == [(began + 60, lro.WakeReason.ELAPSED, [])]
    assert (await op.result(wrappers_pb2.StringValue)).value == "first"


@pytest.mark.parametrize("ahead", [60, 0, -60])
@pytest.mark.asyncio
async def test_until_is_a_moment_and_one_in_the_past_is_now(lro_client, lro_clock, wakes, ahead):
    began = lro_clock.time()
    await suspend(lro_client, options={"until": began + ahead})
    await lro_clock.advance(100)
    assert wakes == [(began + max(0, ahead), lro.WakeReason.ELAPSED, [])]


@pytest.mark.asyncio
async def test_an_aware_datetime_is_a_moment_and_a_naive_one_is_refused(lro_client, lro_clock):
    woken, errors = [], []

    @lro_client.handler("dated", resume_points=("on",))
    async def dated(op):
        if op.resume_point == "on":
            woken.append(lro_clock.time())
            return None
        moment = datetime.datetime.fromtimestamp(lro_clock.time() + 30, datetime.UTC)
        try:
            op.suspend(resume_at="on", until=moment.replace(tzinfo=None))
        except ValueError as exc:
            errors.append(str(exc))
        return op.suspend(resume_at="on", until=moment)

    began = lro_clock.time()
    await lro_client.start("dated")
    await lro_clock.advance(60)
    assert woken == [began + 30]
    assert "time zone" in errors[0]


@pytest.mark.asyncio
async def test_children_end_the_wait_when_all_have_ended(lro_client, lro_clock, wakes):
    began = lro_clock.time()
    naps = [(await lro_client.start("nap", float(s))).name for s in (10, 40)]
    op = await suspend(lro_client, children=naps)
    await lro_clock.advance(39)
    assert not wakes
    await lro_clock.advance(61)
    assert wakes == [(began + 40, lro.WakeReason.CHILDREN_DONE, [(name, True, 0) for name in naps])]
    assert (await op.fetch()).done


@pytest.mark.asyncio
async def test_children_that_had_ended_before_are_seen_at_once(lro_client, lro_clock, wakes):
    child = await lro_client.create()
    await child.done()
    await suspend(lro_client, children=[child.name])
    await lro_clock.advance(0)
    assert wakes == [(lro_clock.time(), lro.WakeReason.CHILDREN_DONE, [(child.name, True, 0)])]


@pytest.mark.asyncio
async def test_failed_missing_and_deleted_children_are_handed_back_in_order(lro_client, lro_clock, wakes):
    failed = await lro_client.start("fail")
    deleted = await lro_client.create()
    cancelled = await lro_client.create()
    await deleted.delete()
    await cancelled.cancel()
    await suspend(lro_client, children=["operations/nobody", failed.name, cancelled.name, deleted.name, failed.name])
    await lro_clock.advance(1)
    assert [child for _, _, children in wakes for child in children] == [
        ("operations/nobody", True, lro.Code.NOT_FOUND),
        (failed.name, True, lro.Code.DATA_LOSS),
        (cancelled.name, True, lro.Code.CANCELLED),
        (deleted.name, True, lro.Code.NOT_FOUND),
        (failed.name, True, lro.Code.DATA_LOSS),
    ]


@pytest.mark.asyncio
async def test_a_child_deleted_while_it_is_waited_for_counts_as_ended(lro_client, lro_clock, wakes):
    child = await lro_client.create()
    await suspend(lro_client, children=[child.name])
    await lro_clock.advance(5)
    assert not wakes
    await child.delete()
    await lro_clock.advance(0)
    assert wakes[0][2] == [(child.name, True, lro.Code.NOT_FOUND)]


@pytest.mark.asyncio
async def test_the_timeout_counts_from_the_end_of_the_sleep_and_tells_who_is_pending(lro_client, lro_clock, wakes):
    began = lro_clock.time()
    done, open_ = await lro_client.create(), await lro_client.create()
    await done.done()
    op = await suspend(lro_client, children=[done.name, open_.name], options={"sleep": 100, "timeout": 50})
    await lro_clock.advance(149)
    assert not wakes
    await lro_clock.advance(10)
    assert wakes == [
        (began + 150, lro.WakeReason.CHILDREN_TIMEOUT, [(done.name, True, 0), (open_.name, False, 0)]),
    ]
    assert (await op.fetch()).done


@pytest.mark.asyncio
async def test_the_sleep_comes_first_even_when_the_children_have_ended(lro_client, lro_clock, wakes):
    began = lro_clock.time()
    child = await lro_client.create()
    await child.done()
    await suspend(lro_client, children=[child.name], options={"sleep": 100})
    await lro_clock.advance(200)
    assert [(at, why) for at, why, _ in wakes] == [(began + 100, lro.WakeReason.CHILDREN_DONE)]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_month_of_waiting_for_a_child_takes_a_moment_of_a_test(lro_client, lro_clock, wakes):
    child = await lro_client.start("nap", 30 * 86400.0)
    await suspend(lro_client, children=[child.name])
    async with asyncio.timeout(PATIENCE):
        await lro_clock.advance(30 * 86400)
    assert len(wakes) == 1


@pytest.mark.parametrize("options", [{"sleep": 0}, {"sleep": datetime.timedelta(0)}, {"sleep": 0, "until": 5.0}])
@pytest.mark.asyncio
async def test_no_time_at_all_is_over_at_once(client, lro_clock, options):
    woken = []

    @client.handler
    async def remind(op):
        return op.suspend(resume_at=now, **options)

    @remind.segment
    async def now(op):
        woken.append((lro_clock.time(), op.wake_reason))

    began = lro_clock.time()
    op = await client.start(remind)
    await asyncio.wait_for(op.result(), PATIENCE)
    assert woken == [(began, lro.WakeReason.ELAPSED)]


@pytest.mark.parametrize(
    ("options", "reason"), [({}, "CHILDREN_DONE"), ({"timeout": 5}, "CHILDREN_DONE"), ({"sleep": 60}, "ELAPSED")]
)
@pytest.mark.asyncio
async def test_no_children_at_all_have_ended(lro_client, lro_clock, wakes, options, reason):
    """The handler goes on as with any list of children."""
    began = lro_clock.time()
    op = await suspend(lro_client, children=[], options=options)
    await lro_clock.advance(100)
    assert (await op.fetch()).done
    assert wakes == [(began + options.get("sleep", 0), reason, [])]


@pytest.mark.asyncio
async def test_no_children_at_all_of_a_service_have_ended(open_client, client):
    asking = await open_client("sqlite://", services={"billing": client})

    @asking.handler
    async def invoice(op):
        return op.suspend(resume_at=paid, children=[], service="billing", poll_endpoint="https://billing.test/get")

    @invoice.segment
    async def paid(op):
        return wrappers_pb2.StringValue(value=f"{op.wake_reason} {op.children}")

    op = await asking.start(invoice)
    found = await asyncio.wait_for(op.result(wrappers_pb2.StringValue), PATIENCE)
    assert found.value == "CHILDREN_DONE []"


async def complaint(client, **arguments):
    """The exception that ``op.suspend(**arguments)`` raises in a handler."""
    raised = []

    async def body(op):
        with pytest.raises(Exception) as caught:
            op.suspend(**arguments)
        raised.append(caught.value)

    client.handler("complain", resume_points=("on",))(body)
    op = await client.start("complain")
    await asyncio.wait_for(client.wait_operation(op.name), 5)
    assert (await op.fetch()).HasField("response"), "what was refused left no trace"
    return raised[0]


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "nothing to wait for", {}),
        (ValueError, "sleep", {"sleep": -1}),
        (ValueError, "sleep", {"sleep": float("inf")}),
        (ValueError, "timeout", {"children": ["operations/a"], "timeout": -1}),
        (ValueError, "poll_interval", {"children": ["operations/a"], "poll_interval": 0}),
        (ValueError, "max_poll_interval", {"children": ["operations/a"], "max_poll_interval": -1}),
        (ValueError, "not both", {"sleep": 1, "until": 5.0}),
        (ValueError, "until", {"until": float("nan")}),
        (ValueError, "until", {"until": float("inf")}),
        (ValueError, "no service 'billing'", {"children": ["operations/a"], "service": "billing"}),
        (
            ValueError,
            "poll_endpoint needs service",
            {"children": ["operations/a"], "poll_endpoint": "https://b.test/g"},
        ),
        (TypeError, "children", {"children": "operations/a"}),
        (TypeError, "children", {"children": ""}),
        (TypeError, "sleep", {"sleep": "1"}),
        (TypeError, "resume_at", {"resume_at": None, "sleep": 1}),
        (lro.InvalidOperationNameError, "resource name", {"children": ["nobody"]}),
        (
            lro.UnknownResumePointError,
            "declares no resume point 'off'; declared: 'on'",
            {"resume_at": "off", "sleep": 1},
        ),
    ],
)
@pytest.mark.asyncio
async def test_bad_arguments_are_refused_and_leave_no_trace(client, error, match, arguments):
    raised = await complaint(client, **{"resume_at": "on", **arguments})
    assert isinstance(raised, error)
    assert match in str(raised)


@pytest.mark.asyncio
async def test_a_poll_endpoint_is_a_url(open_client, client):
    second = await open_client("sqlite://", services={"billing": client})
    raised = await complaint(
        second, resume_at="on", children=["operations/a"], service="billing", poll_endpoint="billing/GetOperation"
    )
    assert isinstance(raised, ValueError)
    assert "must be the URL" in str(raised)


@pytest.mark.asyncio
async def test_waiting_for_itself_is_refused(client):
    errors = []

    @client.handler("selfish", resume_points=("on",))
    async def selfish(op):
        try:
            op.suspend(resume_at="on", children=[op.name])
        except ValueError as exc:
            errors.append(str(exc))
        try:
            await op.wait(children=[op.name])
        except ValueError as exc:
            errors.append(str(exc))

    op = await client.start("selfish")
    await asyncio.wait_for(op.result(), 5)
    assert len(errors) == 2
    assert all("wait for itself" in error for error in errors)


@pytest.mark.asyncio
async def test_outside_a_handler_there_is_no_suspend(client):
    driven = await client.create()
    with pytest.raises(RuntimeError, match=r"await op\.wait"):
        driven.suspend(resume_at="on", sleep=1)


@pytest.mark.asyncio
async def test_after_its_run_a_handlers_operation_takes_no_suspend(client):
    kept = []

    @client.handler("keeper", resume_points=("on",))
    async def keeper(op):
        kept.append(op)

    op = await client.start("keeper")
    await asyncio.wait_for(op.result(), 5)
    with pytest.raises(RuntimeError, match=r"await op\.wait"):
        kept[0].suspend(resume_at="on", sleep=1)


@pytest.mark.parametrize("returned", [None, wrappers_pb2.Int64Value(value=1)])
@pytest.mark.asyncio
async def test_a_suspend_that_is_not_returned_fails_the_operation(client, returned):
    @client.handler("forgetful", resume_points=("on",))
    async def forgetful(op):
        op.suspend(resume_at="on", sleep=1)
        return returned

    op = await client.start("forgetful")
    ended = await asyncio.wait_for(client.wait_operation(op.name), 5)
    found = error_details_pb2.ErrorInfo()
    assert ended.error.details[0].Unpack(found)
    assert found.reason == "SUSPEND_NOT_RETURNED"
    assert "forgetful" in ended.error.message


@pytest.mark.asyncio
async def test_of_two_suspends_only_the_last_may_be_returned(client):
    @client.handler("two", resume_points=("on",))
    async def two(op):
        first = op.suspend(resume_at="on", sleep=1)
        op.suspend(resume_at="on", sleep=2)
        return first

    op = await client.start("two")
    assert (await asyncio.wait_for(client.wait_operation(op.name), 5)).error.code == lro.Code.INTERNAL


@pytest.mark.asyncio
async def test_fifty_suspends_exhaust_no_attempts(client, lro_clock, row):
    @client.handler("steps", state=int, resume_points=("on",))
    async def steps(op):
        assert op.attempt == 1
        op.state += 1
        return op.suspend(resume_at="on", sleep=1) if op.state < 50 else wrappers_pb2.Int64Value(value=op.state)

    op = await client.start("steps")
    await lro_clock.advance(100)
    assert (await op.result(wrappers_pb2.Int64Value)).value == 50
    assert row(op.name).claim == 50


@pytest.mark.asyncio
async def test_the_start_may_be_a_resume_point_again(client, lro_clock):
    @client.handler("loop", state=int)
    async def loop(op):
        op.state += 1
        return op.suspend(resume_at="", sleep=1) if op.state < 3 else wrappers_pb2.Int64Value(value=op.state)

    op = await client.start("loop")
    await lro_clock.advance(10)
    assert (await op.result(wrappers_pb2.Int64Value)).value == 3


@pytest.mark.asyncio
async def test_a_suspended_operation_costs_no_task(lro_client, lro_clock):
    child = await lro_client.create()
    await suspend(lro_client, children=[child.name])
    await lro_clock.advance(1)
    before = len(asyncio.all_tasks())
    for _ in range(100):
        await suspend(lro_client, children=[child.name])
        await suspend(lro_client, options={"sleep": 1000})
    await lro_clock.advance(1)
    assert len((await lro_client.list_operations("state=SUSPENDED", page_size=500)).operations) == 201
    assert len(asyncio.all_tasks()) <= before


@pytest.mark.asyncio
async def test_a_restart_loses_no_suspended_operation(open_client, tmp_path, lro_handlers, lro_clock, wakes):
    url = f"sqlite:///{tmp_path}/ops.db"
    first = await open_client(url, handlers=[lro_handlers])
    child = await first.create(lease=False)
    slept = await suspend(first, options={"sleep": 500})
    waited = await suspend(first, children=[child.name])
    await lro_clock.advance(1)
    await first.aclose()
    second = await open_client(url, handlers=[lro_handlers])
    await lro_clock.advance(10)
    assert {(await second.server_host.record(op.name)).state for op in (slept, waited)} == {State.SUSPENDED}
    await (await second.operation(child.name)).done()
    await lro_clock.advance(1)
    assert (await second.get_operation(waited.name)).done
    await lro_clock.advance(500)
    assert (await second.get_operation(slept.name)).done


@pytest.mark.asyncio
async def test_a_child_that_ends_while_the_process_drains_is_seen_by_the_next_at_once(
    open_client, tmp_path, lro_handlers, lro_clock
):
    url = f"sqlite:///{tmp_path}/ops.db"
    first = await open_client(url, handlers=[lro_handlers])
    child = await first.create(lease=False)
    waited = await suspend(first, children=[child.name])
    await lro_clock.advance(1)
    await first.drain(0)
    await child.done()
    await lro_clock.settle()
    await first.aclose()
    second = await open_client(url, handlers=[lro_handlers])
    await lro_clock.advance(1)
    assert (await second.get_operation(waited.name)).done
