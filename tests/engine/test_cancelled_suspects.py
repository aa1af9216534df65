"""A suspect that was cancelled has nothing left to run: it ends without a trial, and holds nobody up."""

import asyncio

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.core.record import State

from ..waiting import until

LEASE_AND_PROOF = 46


@pytest.fixture
def handlers():
    handlers = lro.Handlers()
    handlers.runs = []

    @handlers.handler("deadly")
    async def deadly(op):
        handlers.runs.append(("deadly", op.claim))
        await asyncio.Event().wait()

    @handlers.handler("tidy", on_cancel="tidy-up", resume_points=("tidy-up",))
    async def tidy(op):
        handlers.runs.append(("tidy", op.resume_point))
        if op.resume_point == "":
            await asyncio.Event().wait()

    @handlers.handler("other")
    async def other(op):
        handlers.runs.append(("other", op.claim))
        await asyncio.Event().wait()

    return handlers


@pytest_asyncio.fixture
async def suspect(open_client, tmp_path, lro_clock, handlers, abandon):
    """``await suspect(handler)``: an operation whose process died twice, and two clients that live."""

    async def make(handler):
        async def process():
            return await open_client(f"sqlite:///{tmp_path}/ops.db", handlers=[handlers])

        client = await process()
        op = await client.start(handler)
        for count in (1, 2):
            await until(lambda count=count: len(handlers.runs) >= count)
            abandon(client)
            client = await process()
            if count == 1:
                await lro_clock.advance(LEASE_AND_PROOF)
        return op.name, client, await open_client(f"sqlite:///{tmp_path}/ops.db", worker=False)

    return make


@pytest.mark.asyncio
async def test_one_that_is_cancelled_before_its_lease_is_taken_ends_at_once_then(suspect, handlers, lro_clock):
    name, client, front = await suspect("deadly")
    await client.start("other")
    await front.cancel_operation(name)
    await lro_clock.advance(44)
    await client.start("other")  # young: a trial would have to wait for it
    await lro_clock.advance(2)
    assert (await front.operation(name)).record.state is State.CANCELLED
    assert handlers.runs == [("deadly", 1), ("deadly", 2), ("other", 1), ("other", 1)]


@pytest.mark.parametrize("by", ["the process that has it", "another process"])
@pytest.mark.asyncio
async def test_one_that_waits_for_its_turn_ends_with_the_cancel_and_others_go_on(suspect, handlers, lro_clock, by):
    name, client, front = await suspect("deadly")
    await lro_clock.advance(44)
    await client.start("other")
    await lro_clock.advance(2)
    assert client.engine.slots.waits(name), "for its turn"
    if by == "another process":
        await front.cancel_operation(name)
        await client.sweep()
    else:
        await client.cancel_operation(name)
    await lro_clock.settle()
    assert (await front.operation(name)).record.state is State.CANCELLED
    assert not client.engine.slots.blocked
    await client.start("other")
    await lro_clock.settle()
    assert handlers.runs[2:] == [("other", 1), ("other", 1)]


@pytest.mark.asyncio
async def test_one_that_waits_while_another_is_on_trial_ends_with_the_cancel(suspect, handlers, lro_clock):
    name, client, front = await suspect("deadly")
    await lro_clock.advance(44)
    client.engine.slots.suspects.add("another")  # which is on trial
    client.engine.slots.blocked = True
    await lro_clock.advance(2)
    await client.cancel_operation(name)
    await lro_clock.settle()
    assert (await front.operation(name)).record.state is State.CANCELLED
    assert client.engine.slots.blocked


@pytest.mark.asyncio
async def test_one_that_has_a_clean_up_waits_for_its_turn_to_run_it(suspect, handlers, lro_clock):
    name, client, front = await suspect("tidy")
    await lro_clock.advance(44)
    await client.start("other")
    await lro_clock.advance(2)
    await client.cancel_operation(name)
    await lro_clock.settle()
    assert (await front.operation(name)).record.state is State.RUNNING
    await lro_clock.advance(120)
    assert (await front.operation(name)).record.state is State.CANCELLED
    assert handlers.runs[-1] == ("tidy", "tidy-up")
