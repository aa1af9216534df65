"""What the sweep and a repeated start find and mend."""

import asyncio
import logging
import sqlite3

import pytest
from google.protobuf import struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2

import lro_aio as lro
from lro_aio.core.record import State


@pytest.mark.asyncio
async def test_a_handler_that_nobody_here_has_is_reported_once(open_client, store, lro_clock, caplog):
    """Rule 14: the row is left to a process that has it, and whoever reads the log knows why it waits."""
    client = await open_client(store)
    record = client.engine.starter._new_record("", {"handler": "elsewhere"}, operation_id="one")
    await client.engine.starter._create(record)
    await client.sweep()
    assert not [entry for entry in caplog.records if "elsewhere" in entry.getMessage()]  # a deploy may be under way
    await lro_clock.advance(60)
    with caplog.at_level(logging.WARNING, "lro_aio"):
        await client.sweep()
        await client.sweep()
    said = [entry.getMessage() for entry in caplog.records if "elsewhere" in entry.getMessage()]
    assert said == ["operations wait for handler 'elsewhere' at '', which is not registered here"]
    assert not (await client.get_operation("operations/one")).done


@pytest.mark.asyncio
async def test_a_repeated_start_runs_what_a_lost_answer_left_behind_at_once(client, store, lro_clock):
    """The row is claimed in this process's name, which never heard so: it must not wait for the lease to end."""
    runs = []

    @client.handler("order")
    async def order(op):
        runs.append(op.claim)
        return wrappers_pb2.BoolValue(value=True)

    store.fail("apply", when="after")
    with pytest.raises(lro.StoreUnavailableError):
        await client.start("order", request_id="r")
    assert runs == []
    op = await client.start("order", request_id="r")
    assert (await op.result(wrappers_pb2.BoolValue)).value
    again = await client.start("order", request_id="r")
    await lro_clock.settle()
    assert (again.name, runs) == (op.name, [1])


@pytest.mark.asyncio
async def test_operations_are_taken_where_names_are(client, lro_clock):
    @client.handler("leaf")
    async def leaf(op):
        return wrappers_pb2.StringValue(value=op.id)

    @client.handler("tree", resume_points=("leaves",))
    async def tree(op):
        if op.resume_point == "":
            first, second = [await op.start_child(leaf, key=key) for key in "ab"]
            await op.wait(children=[first])
            return op.suspend(resume_at="leaves", children=[first, second.proto])
        return wrappers_pb2.Int64Value(value=len(op.children))

    op = await client.start(tree)
    assert (await op.result(wrappers_pb2.Int64Value)).value == 2


@pytest.mark.asyncio
async def test_rows_whose_holders_may_live_hide_none_behind_them(open_client, store, lro_clock):
    """Rule 4 leaves an expired lease alone for a while: a batch full of them must not be the end of the scan."""
    client = await open_client(store, sweep=lro.SweepPolicy(batch=2))
    ended = []

    @client.handler("nap", resume_points=("back",))
    async def nap(op):
        if op.resume_point == "":
            return op.suspend(resume_at="back", sleep=5)
        ended.append(op.name)
        return None

    now = lro_clock.time()
    for index in range(7):
        expired = client.engine.starter._new_record(
            "",
            {
                "handler": "nap",
                "state": State.RUNNING,
                "owner": "gone",
                "claim": 1,
                "attempt": 1,
                "lease_expire_time": now - 1,
                "check_time": now - 1,
            },
            operation_id=f"gone-{index}",
        )
        await client.engine.starter._create(expired)
    op = await client.start(nap)
    await lro_clock.advance(6)
    assert ended == [op.name]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_rows_of_a_service_that_is_not_here_hide_none_behind_them(open_client, store, lro_clock):
    """Rows that only another process can watch come due again and again; one batch of them must not be the end."""
    client = await open_client(store, sweep=lro.SweepPolicy(batch=4), services={"far": _Far()})
    ended = []

    @client.handler("far", resume_points=("back",))
    async def far(op):
        return op.suspend(resume_at="back", children=["operations/x"], service="far")

    @client.handler("near", resume_points=("back",))
    async def near(op):
        if op.resume_point == "":
            return op.suspend(resume_at="back", sleep=3700)
        ended.append(op.name)
        return None

    for _ in range(10):
        await client.start(far)
    await lro_clock.settle()
    client.engine.children.services.clear()  # as in a process that does not have the service
    await client.scheduler.close()
    await client.scheduler.open(client.engine.dispatcher)
    op = await client.start(near)
    await lro_clock.advance(4000)  # the horizon of a store that no other process can have
    await client.sweep()
    await client.sweep()
    await lro_clock.settle()
    assert ended == [op.name]


@pytest.mark.asyncio
async def test_a_result_that_the_store_refuses_for_good_fails_the_operation_at_once(client, store):
    """Rule 16: to run it again would only be refused again."""

    @client.handler("work")
    async def work(op):
        store.fail("apply", error=lambda: sqlite3.IntegrityError("a constraint"))
        return wrappers_pb2.BoolValue(value=True)

    op = await client.start("work")
    with pytest.raises(lro.OperationFailedError) as failed:
        await op.result()
    info = failed.value.details[0]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (failed.value.code, info.reason) == (lro.Code.INTERNAL, "NOT_STORABLE")


@pytest.mark.asyncio
async def test_a_handler_that_cancels_its_own_task_comes_to_an_end(client, lro_clock, row):
    """It looks like the end of the event loop, so it runs again: but it costs an attempt."""
    runs = []

    @client.handler("work")
    async def work(op):
        runs.append(op.attempt)
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    op = await client.start("work")
    for _ in range(10):
        await lro_clock.advance(30)
    assert runs == [1, 2, 3, 4, 5]
    info = error_details_pb2.ErrorInfo()
    assert (await client.get_operation(op.name)).error.details[0].Unpack(info)
    assert info.reason == "ATTEMPTS_EXHAUSTED"


@pytest.mark.parametrize(
    "options",
    [{"store": 5}, {"store": None}, {"lease": 30}, {"sweep": 1.0}, {"retention": 5}, {"limits": {}}],
    ids=str,
)
def test_an_option_of_the_wrong_kind_is_refused_when_the_client_is_made(options):
    with pytest.raises(TypeError, match=next(iter(options))):
        lro.Client(**{"store": "sqlite://", **options})


@pytest.mark.asyncio
async def test_one_registry_needs_no_list_even_if_it_is_filled_later(open_client, store):
    handlers = lro.Handlers()
    client = await open_client(store, handlers=handlers)

    @handlers.handler("late")
    async def late(op):
        return None

    assert (await client.start("late")).name


class _Far:
    async def get_operation(self, name):
        raise AssertionError("nobody asks while it is away")


@pytest.mark.asyncio
async def test_progress_is_written_before_another_process_goes_on(tmp_path):
    """A shutdown hands the row back with what the handler last said of itself."""
    url = f"sqlite:///{tmp_path / 'operations.db'}"
    reached = asyncio.Event()
    async with lro.Client(url, drain_timeout=0) as client:

        @client.handler("work")
        async def work(op):
            await op.progress(0.1)
            await op.progress(0.7, "nearly there")  # within the same second: not written yet
            reached.set()
            await asyncio.Event().wait()

        op = await client.start("work")
        await reached.wait()
    async with lro.Client(url, worker=False) as client:
        shown = struct_pb2.Struct()
        assert (await client.get_operation(op.name)).metadata.Unpack(shown)
    assert dict(shown) == {"progress": 0.7, "message": "nearly there"}
