"""Pauses, deadlines and reruns on Spanner, and on tables from before there were any."""

import asyncio

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.stores.spanner import schema
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.migrate import migrate

from .test_journal import ddl_of_before

both_variants = pytest.mark.parametrize("variant", schema.VARIANTS)


@pytest.fixture
def handlers():
    registry = lro.Handlers()

    @registry.handler("sleeps", state=list[str], resume_points=("on",))
    async def sleeps(op):
        if op.resume_point:
            return None
        op.state.append("slept")
        return op.suspend(resume_at="on", sleep=100)

    @registry.handler("fails", pause_on_failure=True, on_failure="undo")
    async def fails(op):
        assert not op.resume_point
        raise OSError

    return registry


async def paused(client):
    return [operation.name async for operation in client.iter_operations("paused = true")]


@both_variants
@pytest.mark.asyncio
async def test_a_table_of_the_release_before_has_none_of_it_until_it_is_migrated(
    variant, spanner_database, apply_ddl, handlers, lro_clock
):
    url = spanner_database(None)
    apply_ddl(url, ddl_of_before(variant))
    async with lro.Client(url, handlers=handlers, clock=lro_clock, drain_timeout=0) as client:
        op, failed = await client.start("sleeps", ["a"]), await client.start("fails")
        await lro_clock.settle()
        assert (await client.server_host.record(failed.name)).state is State.FAILED
        assert await paused(client) == []
        for refused in (
            client.pause_operation(op.name),
            client.unpause_operation(op.name),
            client.rerun_operation(failed.name),
            client.start("sleeps", deadline=5),
        ):
            with pytest.raises(lro.StoreSchemaError, match="lro spanner migrate"):
                await refused
        await lro_clock.advance(100)
        assert (await client.server_host.record(op.name)).state is State.SUCCEEDED
    migrate(Location.parse(url))
    async with lro.Client(url, handlers=handlers, clock=lro_clock, drain_timeout=0) as client:
        op = await client.start("fails")
        await lro_clock.settle()
        assert await paused(client) == [op.name]


@both_variants
@pytest.mark.asyncio
async def test_pause_deadline_and_rerun(variant, spanner_database, handlers, lro_clock):
    async with lro.Client(spanner_database(variant), handlers=handlers, clock=lro_clock, drain_timeout=0) as client:
        op, late = await client.start("sleeps", ["a"]), await client.start("sleeps", ["b"], deadline=50)
        await lro_clock.settle()
        for each in (op, late):
            await client.pause_operation(each.name)
        assert set(await paused(client)) == {op.name, late.name}
        await lro_clock.advance(200)
        assert (await late.fetch()).error.code == lro.Code.DEADLINE_EXCEEDED
        assert await paused(client) == [op.name]
        await client.unpause_operation(op.name)
        await asyncio.wait_for(op.result(), 10)
        again = await client.rerun_operation(op.name)
        await lro_clock.settle()
        assert (await client.server_host.record(again.name)).state_data == b'["a","slept"]'
        assert (await client.server_host.record(again.name)).initial_data == b'["a"]'
