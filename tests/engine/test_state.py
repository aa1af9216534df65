"""``op.state``: what is stored of it and when, and what is the same request without one."""

import asyncio
import datetime
import uuid
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest
from google.protobuf import struct_pb2, wrappers_pb2

import lro_aio as lro

from ..waiting import PATIENCE


@dataclass
class Page:
    number: int = 0


@dataclass
class LongPage(Page):
    dpi: int = 300


@dataclass
class Report:
    title: str = ""
    pages: list[Page] = field(default_factory=list)


class Secret(pydantic.BaseModel):
    name: str = "ada"
    password: str = pydantic.Field("", exclude=True)


def text(value):
    return wrappers_pb2.StringValue(value=str(value))


async def ended(client, op):
    return await asyncio.wait_for(client.wait_operation(op.name), PATIENCE)


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        (Report, Report(pages=[LongPage(1, 72)]), "pages.0.dpi"),
        (Secret, Secret(password="hunter2"), "password"),
        (dict, {"at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}, "at"),
    ],
    ids=str,
)
@pytest.mark.asyncio
async def test_a_state_that_would_lose_something_is_refused_at_the_start(client, store, kind, value, name):
    @client.handler("report", state=kind)
    async def report(op): ...

    with pytest.raises(lro.StateCodecError) as caught:
        await client.start("report", value)
    assert caught.value.field == name
    assert not (await client.list_operations()).operations


@pytest.mark.asyncio
async def test_a_state_that_would_lose_something_is_refused_at_the_suspend(client, lro_clock):
    @client.handler(state=Report)
    async def report(op):
        op.state.pages.append(LongPage())
        return op.suspend(resume_at=report, sleep=1)

    op = await client.start(report)
    assert "(field 'pages.0.dpi')" in (await ended(client, op)).error.message


@pytest.mark.parametrize(
    ("kind", "given"),
    [(Any, None), (Any, {"a": 1}), (object, [1]), (Page | None, None), (Page | None, Page(3)), (int | None, 0)],
    ids=str,
)
@pytest.mark.asyncio
async def test_any_state_and_an_optional_one(client, lro_clock, kind, given):
    seen = []

    @client.handler(state=kind)
    async def keep(op):
        seen.append(op.state)
        op.state = given
        return op.suspend(resume_at=again, sleep=1)

    @keep.segment
    async def again(op):
        seen.append(op.state)

    op = await client.start(keep, given)
    await lro_clock.advance(10)
    assert (await op.fetch()).HasField("response")
    assert seen == [given, given]


@pytest.mark.asyncio
async def test_an_optional_state_may_become_none(client, lro_clock):
    @client.handler(state=Page | None)
    async def forget(op):
        op.state = None
        return op.suspend(resume_at=again, sleep=1)

    @forget.segment
    async def again(op):
        return text(op.state)

    op = await client.start(forget, Page(3))
    await lro_clock.advance(10)
    assert (await op.result(wrappers_pb2.StringValue)).value == "None"


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.asyncio
async def test_reading_the_state_does_not_write_it(open_client, tmp_path, lro_clock, given):
    """A release that only looks at it must not bring it into a form that the one before cannot read."""

    @dataclass
    class Before:
        title: str = ""

    old, new = lro.Handlers(), lro.Handlers()

    @old.handler("report", state=Before)
    async def begin(op):
        return op.suspend(resume_at="look", sleep=1)

    @new.handler("report", state=Report)
    async def report(op): ...

    @report.segment
    async def look(op):
        assert op.state.pages == []
        await op.save()
        return op.suspend(resume_at=change, sleep=10)

    @report.segment
    async def change(op):
        op.state.pages.append(Page(1))
        return op.suspend(resume_at=end, sleep=10)

    @report.segment
    async def end(op):
        return text(op.state)

    url = f"sqlite:///{tmp_path}/ops.db"
    async with lro.Client(url, handlers=[old], clock=lro_clock) as first:
        op = await first.start("report", Before("t") if given else None)
        await lro_clock.advance(0)
    client = await open_client(url, handlers=[new])
    await lro_clock.advance(5)
    looked = await client.server_host.record(op.name)
    stored = (b'{"title":"t"}', "json;v=1") if given else (b"", "")
    assert (looked.resume_point, looked.state_data, looked.state_codec) == ("change", *stored)
    await lro_clock.advance(100)
    result = await (await client.operation(op.name)).result(wrappers_pb2.StringValue)
    assert result.value == str(Report("t" if given else "", [Page(1)]))


@pytest.mark.asyncio
async def test_a_state_is_written_with_the_suspend_that_changed_it_alone(client, lro_clock, row, store):
    written = []

    @client.handler(state=Report)
    async def steps(op):
        op.state.title = "begun"
        return op.suspend(resume_at=look, sleep=1)

    @steps.segment
    async def look(op):
        written.append(op._hold.state_changes())
        assert op.state.title == "begun"
        written.append(op._hold.state_changes())
        op.state.title += "!"
        written.append(op._hold.state_changes())

    op = await client.start(steps)
    await lro_clock.advance(10)
    assert (await op.fetch()).HasField("response")
    assert written == [{}, {}, {"state_data": b'{"title":"begun!","pages":[]}', "state_codec": "json;v=1"}]


STATELESS = [Report, Page | None, list[int], struct_pb2.Struct, Any, None, Secret]


@pytest.mark.parametrize("first", ["front end", "worker"])
@pytest.mark.parametrize("kind", STATELESS, ids=str)
@pytest.mark.asyncio
async def test_no_state_is_the_same_request_from_a_front_end_and_from_a_worker(open_client, tmp_path, kind, first):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()

    @handlers.handler("report", state=kind)
    async def report(op):
        return text(op.state)

    worker, front = await open_client(url, handlers=[handlers]), await open_client(url, worker=False)
    one, other = (front, worker) if first == "front end" else (worker, front)
    op = await one.start("report", request_id="r")
    assert (await other.start("report", request_id="r")).name == op.name
    rows = [await worker.server_host.record((await each.start("report")).name) for each in (one, other)]
    assert len({(row.state_data, row.state_codec) for row in rows}) == 1
    assert not (await ended(worker, op)).HasField("error")


@pytest.mark.asyncio
async def test_no_state_and_the_default_are_one_request(client):
    @client.handler(state=Report)
    async def report(op): ...

    for number, (one, other) in enumerate([(None, Report()), (Report(), None)]):
        op = await client.start(report, one, request_id=f"{number}")
        assert (await client.start(report, other, request_id=f"{number}")).name == op.name
        with pytest.raises(lro.OperationAlreadyExistsError):
            await client.start(report, Report("other"), request_id=f"{number}")


@pytest.mark.asyncio
async def test_a_default_that_is_another_each_time_is_the_operations_own(client, lro_clock):
    """It may be a key for what the handler does elsewhere: it must not change from run to run."""

    @dataclass
    class Order:
        id: uuid.UUID = field(default_factory=uuid.uuid4)

    seen = []

    @client.handler(state=Order, retry=lro.RetryPolicy(on=(ConnectionError,)))
    async def pay(op):
        seen.append(op.state.id)
        if len(seen) < 3:
            raise ConnectionError("worth a retry")

    op = await client.start(pay)
    await lro_clock.advance(1000)
    assert (await op.fetch()).HasField("response")
    assert len(seen) == 3
    assert len(set(seen)) == 1


@pytest.mark.asyncio
async def test_a_state_without_a_default_is_asked_for_at_the_start(client):
    @client.handler(state=pydantic.RootModel[int])
    async def needs(op): ...

    with pytest.raises(lro.StateCodecError, match="no state was given"):
        await client.start(needs)


@pytest.mark.asyncio
async def test_a_front_ends_values_are_what_the_handler_makes_of_them(open_client, tmp_path):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    @handlers.handler("dated", state=dict[int, datetime.datetime])
    async def dated(op):
        assert op.state == {1: moment}
        return text("dated")

    front, worker = await open_client(url, worker=False), await open_client(url, handlers=[handlers])
    op = await front.start("dated", {1: moment})
    assert not (await ended(worker, op)).HasField("error")
    with pytest.raises(lro.StateCodecError, match="dpi"):
        await front.start("report", Report(pages=[LongPage()]))
