"""``Handlers``: what can be a handler, how it is named, and where it goes on."""

import asyncio
import functools

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro

from ..waiting import PATIENCE


def text(value):
    return wrappers_pb2.StringValue(value=value)


async def ended(client, started):
    """The text of the response."""
    op = await client.start(*started) if isinstance(started, tuple) else await client.start(started)
    return (await asyncio.wait_for(op.result(wrappers_pb2.StringValue), PATIENCE)).value


class Billing:
    def __init__(self, name):
        self.name = name

    async def charge(self, op):
        return op.suspend(resume_at=self.receipt, sleep=0.01)

    async def receipt(self, op):
        return text(f"{self.name} at {op.resume_point}")


@pytest.mark.asyncio
async def test_a_bound_method_is_found_by_reference(lro_client, lro_clock):
    billing = Billing("billing")
    charge = lro_client.handler("charge")(billing.charge)
    charge.segment(billing.receipt)
    op = await lro_client.start(billing.charge)
    await lro_clock.advance(1)
    assert (await op.result(wrappers_pb2.StringValue)).value == "billing at receipt"
    with pytest.raises(lro.UnknownHandlerError, match="'charge' is registered here"):
        await lro_client.start(Billing("another").charge)


@pytest.mark.asyncio
async def test_a_handler_needs_no_parentheses(client):
    @client.handler
    async def send(op):
        return text("sent")

    assert [await ended(client, what) for what in (send, "send")] == ["sent", "sent"]


@pytest.mark.asyncio
async def test_what_the_decorator_returns_is_called_like_the_function():
    handlers = lro.Handlers()

    @handlers.handler()
    async def send(op):
        """Send."""
        return op

    assert (send.__name__, send.__doc__, await send("op")) == ("send", "Send.", "op")


@pytest.mark.asyncio
async def test_one_function_under_two_names_is_started_under_the_one_it_is_asked_by(client):
    async def say(op):
        return text(op.record.handler)

    first, second = client.handler("first")(say), client.handler("second")(say)
    third = client.handler("third")(first)
    assert [await ended(client, one) for one in (first, second, third)] == ["first", "second", "third"]


async def two(op, more):
    return None


async def keyword(op, *, more):
    return None


async def nothing():
    return None


@pytest.mark.parametrize("function", [two, keyword, nothing, Billing.charge])
def test_a_wrong_number_of_parameters_is_refused_where_it_is_registered(function):
    handlers = lro.Handlers()
    with pytest.raises(TypeError, match="must take one argument, the operation"):
        handlers.handler("wrong")(function)
    with pytest.raises(TypeError, match="must take one argument, the operation"):
        handlers.handler(function)

    @handlers.handler
    async def right(op): ...

    with pytest.raises(TypeError, match="must take one argument, the operation"):
        right.segment(function)
    assert handlers.routes() == [("right", None)]


@pytest.mark.asyncio
async def test_defaults_partials_and_wrappers_take_one_argument(client):
    @functools.wraps(two)
    async def given(op):
        return text("wrapped")

    async def default(op, more="default"):
        return text(more)

    client.handler("wrapped")(given)
    client.handler(default)
    client.handler("partial")(functools.partial(default, more="partial"))
    names = ("wrapped", "default", "partial")
    assert tuple([await ended(client, name) for name in names]) == names


def test_a_function_without_a_name_is_given_one():
    with pytest.raises(ValueError, match="handler '' must be 1 to 128 printable characters"):
        lro.Handlers().handler(functools.partial(nothing))


@pytest.mark.asyncio
async def test_an_operation_goes_on_in_the_function_of_its_segment(lro_client, lro_clock):
    @lro_client.handler(state=list[str])
    async def report(op):
        op.state.append("report")
        child = await op.start_child("page", key="page")
        return op.suspend(resume_at=collect, children=[child])

    @report.segment
    async def collect(op):
        op.state.append(f"collect {len(op.children)} {op.wake_reason}")
        return op.suspend(resume_at=publish, sleep=60)

    @report.segment("publish-it")
    async def publish(op):
        again = len(op.state) < 3
        op.state.append(op.resume_point)
        return op.suspend(resume_at=report, sleep=60) if again else text(" | ".join(op.state))

    @lro_client.handler
    async def page(op): ...

    op = await lro_client.start(report)
    await lro_clock.advance(1000)
    assert (await op.result(wrappers_pb2.StringValue)).value == (
        "report | collect 1 CHILDREN_DONE | publish-it | report | collect 1 CHILDREN_DONE | publish-it"
    )


@pytest.mark.asyncio
async def test_a_segment_is_shared_by_those_that_declare_it_and_by_nobody_else(client):
    refused = []

    async def end(op):
        return text(op.record.handler)

    for name in ("one", "other", "neither"):

        @client.handler(name)
        async def begin(op):
            try:
                return op.suspend(resume_at=end, until=0)
            except lro.UnknownResumePointError as exc:
                refused.append(str(exc))
                return text("refused")

        if name != "neither":
            begin.segment(end)
    assert [await ended(client, name) for name in ("one", "other")] == ["one", "other"]
    await ended(client, "neither")
    assert refused == ["handler 'neither' declares no resume point 'end'; declared: none"]


def test_two_functions_have_two_names():
    @lro.Handlers().handler
    async def report(op): ...

    @report.segment
    async def end(op): ...

    assert report.segment(end) is end
    with pytest.raises(ValueError, match="has a segment named 'end' already"):
        report.segment("end")(report)
    with pytest.raises(ValueError, match="segment '' must be"):
        report.segment("")(end)


@pytest.mark.asyncio
async def test_with_segments_a_name_that_nobody_declared_is_refused(client):
    @client.handler
    async def report(op):
        return op.suspend(resume_at="colect", until=0)

    @report.segment
    async def collect(op): ...

    done = await asyncio.wait_for(client.wait_operation((await client.start(report)).name), PATIENCE)
    assert done.error.message == "handler 'report' declares no resume point 'colect'; declared: 'collect'"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.asyncio
async def test_a_clean_up_may_be_a_function(client, named):
    began, cleaned = asyncio.Event(), []

    async def undo(op):
        cleaned.append(op.resume_point)

    @client.handler(on_cancel="undo" if named else undo)
    async def copy(op):
        began.set()
        await asyncio.Event().wait()

    if named:
        copy.segment(undo)
    op = await client.start(copy)
    await asyncio.wait_for(began.wait(), PATIENCE)
    await op.cancel()
    assert lro.Code((await client.wait_operation(op.name, PATIENCE)).error.code) is lro.Code.CANCELLED
    assert cleaned == ["undo"]


@pytest.mark.parametrize("options", [{}, {"on_cancel": "undo"}])
@pytest.mark.asyncio
async def test_resume_points_need_no_declaration(open_client, tmp_path, lro_clock, options):
    """Nor does the next process: it finds rows wherever they stand."""
    handlers = lro.Handlers()

    @handlers.handler(**options)
    async def trial(op):
        match op.resume_point:
            case "":
                return op.suspend(resume_at="warned", sleep=100)
            case "warned":
                return op.suspend(resume_at="an end", sleep=100)
        return text(op.resume_point)

    url = f"sqlite:///{tmp_path}/ops.db"
    first = await open_client(url, handlers=[handlers])
    op = await first.start(trial)
    await lro_clock.advance(10)
    await first.aclose()
    second = await open_client(url, handlers=[handlers])
    await lro_clock.advance(95)
    assert second.engine.rows.own(op.name) is None
    await lro_clock.advance(110)
    assert (await (await second.operation(op.name)).result(wrappers_pb2.StringValue)).value == "an end"


@pytest.mark.parametrize("points", [(), ("other",)])
@pytest.mark.asyncio
async def test_where_points_are_declared_others_are_left_to_who_has_them(open_client, tmp_path, lro_clock, points):
    """Rule 14."""
    new, old = lro.Handlers(), lro.Handlers()

    @new.handler("report")
    async def report(op):
        return op.suspend(resume_at=end, sleep=10)

    @report.segment
    async def end(op): ...

    @old.handler("report", resume_points=points)
    async def begin(op):
        raise AssertionError("it knows no such point")

    url = f"sqlite:///{tmp_path}/ops.db"
    first = await open_client(url, handlers=[new])
    op = await first.start("report")
    await lro_clock.advance(1)
    await first.aclose()
    client = await open_client(url, handlers=[old])
    await lro_clock.advance(100)
    left = await client.server_host.record(op.name)
    assert (left.state, left.resume_point) == ("SUSPENDED", "end")


@pytest.mark.parametrize("point", ["a\nb", "x" * 129])
@pytest.mark.asyncio
async def test_a_name_that_cannot_be_stored_is_refused(client, point):
    @client.handler
    async def report(op):
        with pytest.raises(ValueError, match="must be 1 to 128 printable characters"):
            op.suspend(resume_at=point, until=0)
        return text("refused")

    assert await ended(client, report) == "refused"
