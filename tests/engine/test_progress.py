"""Progress and metadata while the store is away: nobody's work stops for the sake of a progress bar."""

import asyncio
import math

import pytest
from google.protobuf import struct_pb2, wrappers_pb2

import lro_aio as lro


def shown(operation):
    members = struct_pb2.Struct()
    assert operation.metadata.Unpack(members)
    return dict(members)


@pytest.fixture
def step(client):
    """``await step(function)``: the handler ``long`` awaits ``function(op)`` next; gives what came of it."""
    steps = asyncio.Queue()
    runs = []

    @client.handler("long")
    async def long(op):
        runs.append(op.attempt)
        while True:
            action, told = await steps.get()
            if action is None:
                return
            try:
                told.set_result(await action(op))
            except Exception as exc:
                told.set_exception(exc)
                raise

    async def do(action):
        told = asyncio.get_running_loop().create_future()
        steps.put_nowait((action, told))
        return None if action is None else await told

    do.runs = runs
    return do


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.asyncio
async def test_progress_that_the_store_does_not_take_is_written_later(client, store, lro_clock, step, when, caplog):
    op = await client.start("long")
    store.fail("apply", when=when)
    await step(lambda held: held.progress(0.25, "a quarter"))
    assert [record.event for record in caplog.records] == ["progress_kept"]
    await step(lambda held: held.progress(0.5))
    await lro_clock.advance(1)
    assert shown(await client.get_operation(op.name)) == {"progress": 0.5, "message": "a quarter"}
    await step(None)
    assert (await client.wait_operation(op.name, 5)).HasField("response")
    assert step.runs == [1]


@pytest.mark.asyncio
async def test_progress_is_tried_again_for_as_long_as_the_store_is_away(client, store, lro_clock, step):
    op = await client.start("long")
    store.fail("apply", times=math.inf)
    await step(lambda held: held.progress(0.25))
    await lro_clock.advance(5)
    store.fail("apply", times=0)
    await lro_clock.advance(1)
    assert shown(await client.get_operation(op.name)) == {"progress": 0.25}


@pytest.mark.asyncio
async def test_progress_that_was_not_written_goes_with_the_end(client, store, lro_clock, step):
    op = await client.start("long")
    store.fail("apply")
    await step(lambda held: held.progress(1.0))
    await step(None)
    assert shown(await client.wait_operation(op.name, 5)) == {"progress": 1.0}


@pytest.mark.asyncio
async def test_metadata_that_the_store_does_not_take_is_written_later_in_a_handler(client, store, lro_clock, step):
    op = await client.start("long")
    store.fail("apply")
    await step(lambda held: held.set_metadata(wrappers_pb2.Int64Value(value=7)))
    await lro_clock.advance(1)
    assert (await client.get_operation(op.name)).metadata.Is(wrappers_pb2.Int64Value.DESCRIPTOR)
    assert step.runs == [1]


@pytest.mark.asyncio
async def test_metadata_that_was_not_written_does_not_stand_in_the_way_of_progress(client, store, lro_clock, step):
    op = await client.start("long")
    await step(lambda held: held.progress(0.1))
    store.fail("apply")
    await step(lambda held: held.set_metadata(wrappers_pb2.Int64Value(value=7)))
    await step(lambda held: held.progress(0.2))
    await lro_clock.advance(1)
    assert shown(await client.get_operation(op.name)) == {"progress": 0.2}


@pytest.mark.asyncio
async def test_a_creator_is_told_that_its_metadata_was_not_written_and_nothing_else_changes(client, store, lro_clock):
    op = await client.create()
    await op.progress(0.1)
    store.fail("apply")
    with pytest.raises(lro.StoreUnavailableError):
        await op.set_metadata(wrappers_pb2.Int64Value(value=7))
    await op.progress(0.2)
    await lro_clock.advance(1)
    assert shown(await client.get_operation(op.name)) == {"progress": 0.2}


@pytest.mark.asyncio
async def test_text_that_is_no_text_is_shown_as_that_of_errors_is(client, lro_clock):
    op = await client.create()
    await op.progress(message="caf\udce9")
    assert shown(await client.get_operation(op.name)) == {"message": "caf\\udce9"}
