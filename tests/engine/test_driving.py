"""Operations that their creator drives, metadata and progress, and ``async with op``."""

import asyncio
import gc

import pytest
from google.protobuf import struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore

from ..waiting import all_blocked, until


def shown(operation):
    members = struct_pb2.Struct()
    operation.metadata.Unpack(members)
    return dict(members)


@pytest.mark.asyncio
async def test_a_created_operation_is_running_and_leased_until_its_creator_ends_it(client, row, lro_clock):
    op = await client.create()
    assert row(op.name).state is State.RUNNING
    assert row(op.name).owner
    await lro_clock.advance(86400)
    await client.sweep()
    assert not (await op.fetch()).done
    await op.set_metadata(wrappers_pb2.Int64Value(value=1))
    assert (await op.done()).done
    assert row(op.name).owner == ""


@pytest.mark.asyncio
async def test_without_a_lease_anybody_with_the_name_drives_it_and_no_sweep_touches_it(
    open_client, tmp_path, lro_clock
):
    url = f"sqlite:///{tmp_path}/ops.db"
    first = await open_client(url)
    op = await first.create(lease=False)
    await first.aclose()
    second = await open_client(url)
    await lro_clock.advance(86400)
    await second.sweep()
    theirs = await second.operation(op.name)
    assert not theirs.proto.done
    await theirs.set_metadata(wrappers_pb2.Int64Value(value=1))
    await theirs.done(wrappers_pb2.Int64Value(value=2))
    assert (await theirs.result(wrappers_pb2.Int64Value)).value == 2


@pytest.mark.asyncio
async def test_state_of_a_driven_operation_is_saved_and_read_back(client):
    op = await client.create(state=dict[str, int])
    op.state = {"page": 3}
    await op.save()
    again = await client.operation(op.name, state=dict[str, int])
    assert again.state == {"page": 3}
    op.state = {"page": object()}
    with pytest.raises(lro.StateCodecError):
        await op.save()
    assert (await client.operation(op.name, state=dict[str, int])).state == {"page": 3}


@pytest.mark.asyncio
async def test_an_exception_that_leaves_the_block_fails_the_operation_and_goes_on(client):
    op = await client.create()
    with pytest.raises(KeyError):
        async with op:
            raise KeyError("x")
    assert (await op.fetch()).error.code == lro.Code.UNKNOWN
    other = await client.create()
    with pytest.raises(lro.OperationFailedError):
        async with other:
            raise lro.OperationFailedError("full", code=lro.Code.RESOURCE_EXHAUSTED)
    assert (await other.fetch()).error.message == "full"


@pytest.mark.asyncio
async def test_a_clean_exit_leaves_it_open_and_an_end_inside_stays(client):
    op = await client.create()
    async with op as same:
        assert same is op
    assert not (await op.fetch()).done
    with pytest.raises(KeyError):
        async with op:
            await op.done()
            raise KeyError("after the end")
    assert (await op.fetch()).HasField("response")


@pytest.mark.asyncio
async def test_the_blocks_own_exception_is_not_hidden_by_an_end_that_somebody_else_wrote(client):
    op = await client.create(lease=False)
    with pytest.raises(KeyError):
        async with op:
            await (await client.operation(op.name)).done()
            raise KeyError("x")
    assert (await op.fetch()).HasField("response")


@pytest.mark.asyncio
async def test_who_only_knows_the_name_of_a_leased_operation_does_not_write_to_it(client, row):
    op = await client.create(state=str)
    visitor = await client.operation(op.name, state=str)
    visitor.state = "forged"
    for attempt in (
        visitor.progress(0.5),
        visitor.set_metadata(wrappers_pb2.Int64Value(value=2)),
        visitor.save(),
        visitor.done(wrappers_pb2.StringValue(value="ended by a stranger")),
        visitor.fail("ended by a stranger"),
    ):
        with pytest.raises(lro.LeaseLostError, match="held by"):
            await attempt
    assert row(op.name).revision == 1
    await op.done()


@pytest.mark.asyncio
async def test_a_stopped_creator_fails_its_operation_and_a_cancelled_one_cancels_it(client):
    stopped, cancelled = await client.create(), await client.create()

    async def drive(op):
        async with op:
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(drive(op)) for op in (stopped, cancelled)]
    await all_blocked()
    await client.cancel_operation(cancelled.name)
    assert cancelled.cancel_requested
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert (await stopped.fetch()).error.code == lro.Code.ABORTED
    assert (await cancelled.fetch()).error.code == lro.Code.CANCELLED


@pytest.mark.asyncio
async def test_the_creators_own_cancel_is_the_end(client, row):
    op = await client.create()
    await op.cancel()
    assert row(op.name).state is State.CANCELLED
    await op.cancel()


@pytest.mark.asyncio
async def test_a_cancel_that_was_learnt_is_not_forgotten_by_a_write_that_was_under_way(client, store):
    op = await client.create()
    let_go = store.hold("apply")
    before = store.calls["apply"]
    first = asyncio.create_task(client.create())  # keeps the writer busy, so that the next two share a transaction
    await until(lambda: store.calls["apply"] > before)
    writing = asyncio.create_task(op.set_metadata(wrappers_pb2.Int64Value(value=1)))
    cancelling = asyncio.create_task(client.cancel_operation(op.name))
    await all_blocked()
    let_go()
    await asyncio.gather(first, writing, cancelling)
    assert op.cancel_requested


@pytest.mark.asyncio
async def test_progress_merges_into_the_metadata(client):
    op = await client.create()
    await op.progress(0.25, "a quarter")
    assert shown(await client.get_operation(op.name)) == {"progress": 0.25, "message": "a quarter"}
    members = struct_pb2.Struct()
    members["user"] = "me"
    await op.set_metadata(members)
    await op.progress(message="half")
    await op.done()
    assert shown(await client.get_operation(op.name)) == {"user": "me", "message": "half"}


@pytest.mark.asyncio
async def test_progress_of_other_metadata_is_a_type_error(client):
    op = await client.create(wrappers_pb2.Int64Value(value=1))
    with pytest.raises(TypeError, match="Struct"):
        await op.progress(0.5)
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="fraction"):
            await op.progress(fraction)


@pytest.mark.asyncio
async def test_progress_is_written_once_a_second_and_the_last_one_wins(client, store, lro_clock):
    op = await client.create()
    before = store.changes
    for step in range(100):
        await op.progress(step / 100)
    assert store.changes == before + 1
    await lro_clock.advance(0.5)
    assert shown(await client.get_operation(op.name)) == {"progress": 0.0}
    await lro_clock.advance(0.5)
    assert shown(await client.get_operation(op.name)) == {"progress": 0.99}


@pytest.mark.parametrize("ending", ["return", "fail", "suspend", "done"])
@pytest.mark.asyncio
async def test_the_last_progress_is_flushed_before_the_end(client, lro_clock, ending):
    @client.handler("work", resume_points=("on",))
    async def work(op):
        for step in (1, 2, 3):
            await op.progress(step / 4, f"step {step}")
        match ending:
            case "return":
                return None
            case "fail":
                raise ValueError("no")
            case "suspend":
                return op.suspend(resume_at="on", sleep=1000)
            case "done":
                await op.done()
        return None

    op = await client.start("work")
    await lro_clock.settle()
    assert shown(await op.fetch()) == {"progress": 0.75, "message": "step 3"}


@pytest.mark.asyncio
async def test_no_progress_task_outlives_its_run(client, lro_clock):
    @client.handler("work")
    async def work(op):
        await op.progress(0.1)
        await op.progress(0.2)
        await asyncio.Event().wait()

    await client.start("work")
    await lro_clock.settle()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "lro-aio-progress"]
    await client.aclose()
    await all_blocked()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "lro-aio-progress"]


@pytest.mark.asyncio
async def test_progress_of_an_operation_that_has_ended_is_refused(client):
    op = await client.create()
    await op.progress(0.1)
    await op.done()
    with pytest.raises(lro.OperationDoneError):
        await op.progress(0.2)


@pytest.mark.asyncio
async def test_no_progress_task_outlives_its_client(open_client):
    client = await open_client("sqlite://")
    op = await client.create()
    await op.progress(0.1)
    await op.progress(0.2)
    await client.aclose()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "lro-aio-progress"]


@pytest.mark.parametrize("error", [None, 5, ValueError])
@pytest.mark.asyncio
async def test_a_failure_is_an_exception_a_status_or_a_text(client, error):
    op = await client.create()
    with pytest.raises(TypeError, match="an exception, a Status or a text"):
        await op.fail(error)
    assert not (await op.fetch()).done


@pytest.mark.asyncio
async def test_saved_state_is_what_a_run_after_a_crash_starts_with(open_client, tmp_path, lro_clock, abandon):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()
    seen, saved = [], asyncio.Event()

    @handlers.handler("work", state=int)
    async def work(op):
        seen.append((op.state, op.attempt))
        if op.attempt == 1:
            op.state = 5
            await op.save()
            op.state = 6
            saved.set()
            await asyncio.Event().wait()
        return wrappers_pb2.Int64Value(value=op.state)

    first = await open_client(url, handlers=[handlers])
    op = await first.start("work", 1)
    await asyncio.wait_for(saved.wait(), 5)
    abandon(first)
    second = await open_client(url, handlers=[handlers])
    await lro_clock.advance(46)
    assert (await (await second.operation(op.name)).result(wrappers_pb2.Int64Value)).value == 5
    assert seen == [(1, 1), (5, 2)]


@pytest.mark.asyncio
async def test_a_lost_creator_is_found_and_its_operation_aborted(open_client, tmp_path, lro_clock, abandon):
    first = await open_client(FaultyStore(lro.SqliteStore(tmp_path / "ops.db")))
    second = await open_client(f"sqlite:///{tmp_path}/ops.db")
    op, cancelled = await first.create(), await first.create()
    await first.cancel_operation(cancelled.name)
    abandon(first)
    await second.sweep()  # in real time, each of its intervals brings one
    await lro_clock.advance(29)
    assert not (await second.get_operation(op.name)).done
    await lro_clock.advance(15)
    assert not (await second.get_operation(op.name)).done, "it may live, and be about to renew"
    await lro_clock.advance(2)
    ended = await asyncio.wait_for(second.wait_operation(op.name), 5)
    found = error_details_pb2.ErrorInfo()
    assert ended.error.details[0].Unpack(found)
    assert (ended.error.code, found.reason) == (lro.Code.ABORTED, "CREATOR_LOST")
    assert (await asyncio.wait_for(second.wait_operation(cancelled.name), 5)).error.code == lro.Code.CANCELLED


@pytest.mark.asyncio
async def test_an_operation_whose_object_nobody_keeps_ends_and_says_so(client, lro_clock, caplog):
    name = (await client.create()).name
    gc.collect()
    await lro_clock.settle()
    await client.sweep()
    ended = await client.get_operation(name)
    info = error_details_pb2.ErrorInfo()
    ended.error.details[0].Unpack(info)
    assert info.reason == "CREATOR_LOST"
    assert [record.operation for record in caplog.records if record.event == "driver_forgotten"] == [name]
