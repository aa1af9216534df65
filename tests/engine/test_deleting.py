"""What a delete leaves of a name: nothing, or the truth about what still has it."""

import pytest

import lro_aio as lro


@pytest.mark.asyncio
async def test_an_operation_that_nobody_would_ever_end_is_removed_at_once(client, row):
    op = await client.create(lease=False, operation_id="job-7")
    await op.delete()
    assert row(op.name) is None
    again = await client.create(lease=False, operation_id="job-7")
    assert again.uid != op.uid
    with pytest.raises(lro.LroError):
        await op.done()
    assert not (await again.fetch()).done


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.asyncio
async def test_the_name_of_a_deleted_operation_that_still_sleeps_is_refused_with_the_reason(client, lro_clock, other):
    @client.handler("nap", state=str, resume_points=("up",))
    async def nap(op):
        return op.suspend(resume_at="up", sleep=1000) if op.resume_point == "" else None

    op = await client.start("nap", "a", request_id="r-1")
    await lro_clock.settle()
    await op.delete()
    with pytest.raises(lro.OperationAlreadyExistsError, match="was deleted, and keeps its name until") as refused:
        await client.start("nap", "b" if other else "a", request_id="r-1")
    assert refused.value.deleted
    await lro_clock.advance(1000)
    assert (await client.start("nap", "a", request_id="r-1")).uid != op.uid


@pytest.mark.asyncio
async def test_what_its_creator_drives_keeps_its_name_until_the_end(client, row):
    op = await client.create(operation_id="job-7")
    await op.delete()
    with pytest.raises(lro.OperationAlreadyExistsError, match="was deleted"):
        await client.create(operation_id="job-7")
    await op.done()
    assert row(op.name) is None
    await (await client.create(operation_id="job-7")).done()
