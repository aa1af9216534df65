"""Sleeping: without holding a task, and in no time under a manual clock."""

import asyncio

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro

from ..waiting import PATIENCE


@pytest.fixture
def lro_handlers():
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("awake",))
    async def nap(op):
        if op.resume_point == "":
            return op.suspend(resume_at="awake", sleep=30 * 86400)
        assert op.wake_reason is lro.WakeReason.ELAPSED
        return wrappers_pb2.StringValue(value="rested")

    @handlers.handler("doze")
    async def doze(op):
        await op.wait(sleep=30 * 86400)
        return wrappers_pb2.StringValue(value="rested")

    return handlers


@pytest.mark.parametrize("handler", ["nap", "doze"])
@pytest.mark.asyncio
async def test_a_thirty_day_sleep_takes_milliseconds_and_ends_at_its_time(lro_client, lro_clock, handler):
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start(handler)
        await lro_clock.advance(30 * 86400 - 1)
        assert not (await lro_client.get_operation(op.name)).done
        await lro_clock.advance(1)
        assert (await lro_client.get_operation(op.name)).done
        assert (await op.result(wrappers_pb2.StringValue)).value == "rested"
