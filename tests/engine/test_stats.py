"""How it goes with all operations, as ``client.stats`` tells it."""

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.ports import Store
from lro_aio.testing import FaultyStore


def shown(stats):
    return {(cell.handler, cell.state.value): str(cell.count) for cell in stats.counts}


@pytest.mark.asyncio
async def test_the_numbers_follow_the_lives_of_operations(client, lro_clock):
    @client.handler("nap")
    async def nap(op):
        if op.resume_point == "":
            return op.suspend(resume_at="late", sleep=60)
        raise lro.OperationFailedError("no disk", code=lro.Code.RESOURCE_EXHAUSTED)

    held = await client.create()
    ops = [await client.start(nap) for _ in range(3)]
    await lro_clock.advance(1)
    stats = await client.stats()
    assert shown(stats) == {("", "RUNNING"): "1", ("nap", "SUSPENDED"): "3"}
    assert stats.suspended.number == 3
    assert [(one.owner, str(one.count)) for one in stats.running] == [(client.engine.settings.owner, "1")]
    assert stats.time == lro_clock.time()
    await client.pause_operation(ops[0].name)
    assert str((await client.stats()).paused) == "1"
    await lro_clock.advance(60)
    for op in ops[1:]:
        with pytest.raises(lro.OperationFailedError):
            await op.result()
    stats = await client.stats()
    assert shown(stats) == {("", "RUNNING"): "1", ("nap", "SUSPENDED"): "1", ("nap", "FAILED"): "2"}
    [group] = stats.failures
    assert (group.handler, group.code, group.reason, str(group.count), group.message) == (
        *("nap", "RESOURCE_EXHAUSTED", "OPERATION_FAILED"),
        *("2", "no disk"),
    )
    await held.done()


@pytest.mark.asyncio
async def test_what_waits_and_nobody_runs_is_told_by_every_process(open_client, tmp_path, lro_clock):
    """By a worker that does not know the handler, and by a front end; not where it is merely not its turn yet."""
    front = await open_client(f"sqlite:///{tmp_path}/o.db", worker=False)
    worker = await open_client(f"sqlite:///{tmp_path}/o.db")
    await front.start("lost")
    assert (await front.stats()).unserved == ()
    await lro_clock.advance(31)
    for client in (front, worker):
        stats = await client.stats()
        assert [(due.handler, due.resume_point) for due in stats.unserved] == [("lost", "")]
        assert stats.lateness == pytest.approx(31)
        assert stats.oldest_due == stats.unserved[0]


@pytest.mark.asyncio
async def test_a_handler_that_some_process_runs_is_only_busy(open_client, tmp_path, lro_clock):
    front = await open_client(f"sqlite:///{tmp_path}/o.db", worker=False)
    worker = await open_client(f"sqlite:///{tmp_path}/o.db", max_running=1)

    @worker.handler("slow")
    async def slow(op):
        await op.wait(sleep=1000)

    await worker.start(slow)
    await worker.start(slow)
    await lro_clock.advance(100)
    stats = await front.stats()
    assert [due.handler for due in stats.due] == ["slow"]
    assert stats.unserved == ()


class _Silent(FaultyStore):
    stats = Store.stats


@pytest.mark.asyncio
async def test_a_store_that_cannot_tell_says_so(open_client):
    client = await open_client(_Silent(lro.SqliteStore("sqlite://")))
    with pytest.raises(lro.StoreSchemaError, match="cannot tell how many"):
        await client.stats()


@pytest.mark.asyncio
async def test_an_outage_is_the_error_of_an_outage(client, store):
    store.fail("stats")
    with pytest.raises(lro.StoreUnavailableError):
        await client.stats()
    assert (await client.stats()).states[State.RUNNING].number == 0
