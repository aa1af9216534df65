"""Progress that counts, in a message of its own: ``lro.v1.Progress``."""

import datetime

import pytest
from google.protobuf import struct_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.core.progress_pb2 import Progress
from lro_aio.remote import LocalTransport, RemoteOperation


async def told(client, lro_clock, handler):
    """What clients see of the metadata once the handler waits."""
    client.handler("counts")(handler)
    op = await client.start("counts")
    await lro_clock.advance(2)
    return op, await client.get_operation(op.name)


@pytest.mark.asyncio
async def test_what_is_not_said_again_stays(client, lro_clock):
    async def counts(op):
        await op.progress(done=0, total=40, unit="files", eta=datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC))
        await op.progress(done=7)
        await op.progress(message="a.txt")
        await op.wait(sleep=1000)

    op, seen = await told(client, lro_clock, counts)
    progress = Progress()
    assert seen.metadata.Unpack(progress)
    assert (progress.done, progress.total, progress.unit, progress.text) == (7, 40, "files", "a.txt")
    assert progress.eta.ToJsonString() == "2030-01-02T00:00:00Z"
    await op.fetch()
    assert op.metadata == progress
    handle = RemoteOperation.from_name(LocalTransport(client), op.name)
    await handle.update_status()
    assert handle.metadata == progress


@pytest.mark.asyncio
async def test_a_count_may_go_back_to_zero_and_a_total_to_unknown(client, lro_clock):
    async def counts(op):
        await op.progress(done=5, total=9)
        await op.progress(done=0, total=0)
        await op.wait(sleep=1000)

    _, seen = await told(client, lro_clock, counts)
    progress = Progress()
    assert seen.metadata.Unpack(progress)
    assert (progress.done, progress.total) == (0, 0)


@pytest.mark.asyncio
async def test_the_last_counts_are_there_at_the_end(client, lro_clock):
    async def counts(op):
        for number in range(5):
            await op.progress(done=number + 1, total=5)

    _, seen = await told(client, lro_clock, counts)
    progress = Progress()
    assert seen.done
    assert seen.metadata.Unpack(progress)
    assert progress.done == 5


@pytest.mark.asyncio
async def test_what_cannot_be_meant_is_refused(client):
    seen = []

    @client.handler("wrong")
    async def wrong(op):
        for error, options in [
            (ValueError, {"fraction": 0.5, "done": 1}),
            (ValueError, {"done": -1}),
            (ValueError, {"total": 2**63}),
            (TypeError, {"done": 1.5}),
            (TypeError, {"done": True}),
            (ValueError, {"eta": datetime.datetime(2030, 1, 1)}),  # noqa: DTZ001 (that is the point)
        ]:
            with pytest.raises(error):
                await op.progress(**options)
        await op.set_metadata(wrappers_pb2.Int64Value(value=1))
        with pytest.raises(TypeError, match=r"counts in an lro\.v1\.Progress"):
            await op.progress(done=1)
        await op.set_metadata(struct_pb2.Struct())
        with pytest.raises(TypeError, match=r"counts in an lro\.v1\.Progress"):
            await op.progress(done=1)
        await op.set_metadata(Progress(done=1))
        with pytest.raises(TypeError, match=r"merges into a google\.protobuf\.Struct"):
            await op.progress(0.5)
        seen.append(True)

    op = await client.start(wrong)
    await op.result()
    assert seen == [True]
    assert isinstance(lro.Operation.progress.__doc__, str)
