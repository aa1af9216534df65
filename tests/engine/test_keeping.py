"""Rule 11: results that somebody still waits for are kept."""

import pytest
import pytest_asyncio
from google.protobuf import wrappers_pb2

import lro_aio as lro

DAY = 86400.0


@pytest_asyncio.fixture
async def client(open_client, store):
    """A client that keeps results for a day, and ``quick`` and ``slow``, which end at once and after five days."""
    client = await open_client(store, retention=lro.RetentionPolicy(DAY))

    @client.handler("quick")
    async def quick(op):
        return wrappers_pb2.StringValue(value="the result")

    @client.handler("slow", resume_points=("on",))
    async def slow(op):
        return op.suspend(resume_at="on", sleep=5 * DAY) if op.resume_point == "" else None

    return client


async def pass_days(clock, days):
    for _ in range(4 * days):
        await clock.advance(DAY / 4)


def text(operation):
    value = wrappers_pb2.StringValue()
    assert operation.response.Unpack(value), operation
    return value.value


@pytest.mark.slow
@pytest.mark.parametrize("related", [True, False])
@pytest.mark.asyncio
async def test_the_result_of_a_child_is_there_when_its_last_sibling_ends(client, lro_clock, related):
    seen = []

    @client.handler("parent", state=list[str], resume_points=("collect",))
    async def parent(op):
        if op.resume_point == "collect":
            seen.extend(op.children)
            return None
        if related:
            op.state = [(await op.start_child(name, key=name)).name for name in ("quick", "slow")]
        return op.suspend(resume_at="collect", children=op.state)

    others = [] if related else [(await client.start(name)).name for name in ("quick", "slow")]
    await client.start("parent", others)
    await pass_days(lro_clock, 6)
    assert text(seen[0]) == "the result"
    assert seen[1].HasField("response")


@pytest.mark.asyncio
async def test_the_result_of_a_child_is_there_for_a_parent_that_sleeps_first(client, lro_clock):
    seen = []

    @client.handler("parent", state=str, resume_points=("slept", "collect"))
    async def parent(op):
        match op.resume_point:
            case "":
                op.state = (await op.start_child("quick", key="q")).name
                return op.suspend(resume_at="slept", sleep=5 * DAY)
            case "slept":
                return op.suspend(resume_at="collect", children=[op.state])
        seen.extend(op.children)
        return None

    await client.start("parent", "")
    await pass_days(lro_clock, 6)
    assert text(seen[0]) == "the result"


@pytest.mark.asyncio
async def test_the_retention_of_a_child_counts_from_the_end_of_its_parent(client, lro_clock, row):
    @client.handler("parent", resume_points=("slept",))
    async def parent(op):
        if op.resume_point == "":
            await op.start_child("quick", key="q")
            return op.suspend(resume_at="slept", sleep=3 * DAY)
        return None

    op = await client.start("parent")
    await lro_clock.settle()
    (child,) = [found for found in (await client.list_operations()).operations if found.name != op.name]
    await pass_days(lro_clock, 3)
    ended = row(op.name).end_time
    await lro_clock.advance(DAY - 10)
    assert text(await client.get_operation(child.name)) == "the result"
    assert row(child.name).expire_time >= ended + DAY
    await pass_days(lro_clock, 2)
    assert row(child.name) is None


@pytest.mark.asyncio
async def test_a_result_that_nobody_waits_for_goes_at_its_time(client, lro_clock, row):
    op = await client.start("quick")
    await pass_days(lro_clock, 1)
    await lro_clock.advance(60)
    assert row(op.name) is None
