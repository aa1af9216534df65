"""Resume tokens (rule 7), and rows of handlers that are not registered here (rule 14)."""

import asyncio

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore

from ..waiting import until

NO_SWEEP = lro.SweepPolicy(interval=3600)


class Silent(lro.LocalScheduler):
    """A scheduler that is elsewhere: nothing wakes here but what a test resumes."""

    local = False

    async def open(self, host):
        self.horizon = 6 * 3600.0

    async def close(self):
        pass

    async def schedule(self, record):
        return "elsewhere"

    async def cancel(self, record):
        pass


@pytest.fixture
def steps():
    handlers = lro.Handlers()
    handlers.log = []

    @handlers.handler("steps", state=int, resume_points=("on", "off"))
    async def run(op):
        handlers.log.append((op.client, op.resume_point, op.wake_reason, op.wake_error))
        match op.resume_point:
            case "":
                return op.suspend(resume_at="on", sleep=3600)
            case "on" if op.state:
                await asyncio.Event().wait()
        return wrappers_pb2.Int64Value(value=1)

    return handlers


@pytest.fixture
def opened(open_client, steps, tmp_path):
    async def make():
        store = FaultyStore(lro.SqliteStore(tmp_path / "ops.db"))
        options = {"handlers": [steps], "sweep": NO_SWEEP, "dispatch": "local"}
        return await open_client(store, scheduler=Silent(), **options)

    return make


async def suspended(client, lro_clock, state=0):
    op = await client.start("steps", state)
    await lro_clock.settle()
    row = client.store.inner.read([op.name])[0]
    assert row.state is State.SUSPENDED
    return op, row.wait.token


@pytest.mark.asyncio
async def test_the_current_token_claims_and_a_used_or_foreign_one_has_nothing_to_do(opened, lro_clock, steps):
    client = await opened()
    op, token = await suspended(client, lro_clock)
    other, _ = await suspended(client, lro_clock)
    assert not await client.resume(op.name, "made-up")
    assert not await client.resume(other.name, token)
    assert not await client.resume("operations/nobody", token)
    assert not await client.resume("not a name", token)
    assert await client.resume(op.name, token)
    await asyncio.wait_for(op.result(), 5)
    assert not await client.resume(op.name, token)
    assert [point for _, point, _, _ in steps.log] == ["", "", "on"]


@pytest.mark.asyncio
async def test_a_resume_says_why_and_the_handler_hears_it(opened, lro_clock, steps):
    client = await opened()
    op, token = await suspended(client, lro_clock)
    assert await client.resume(op.name, token, reason="POLL_FAILED", error="503 for an hour")
    await asyncio.wait_for(op.result(), 5)
    assert steps.log[-1][2:] == (lro.WakeReason.POLL_FAILED, "503 for an hour")
    with pytest.raises(ValueError, match="WHIM"):
        await client.resume(op.name, token, reason="WHIM")


@pytest.mark.asyncio
async def test_while_a_live_run_holds_the_row_the_scheduler_is_told_to_come_back(opened, lro_clock):
    client = await opened()
    op, token = await suspended(client, lro_clock, state=1)
    assert await client.resume(op.name, token)
    await lro_clock.settle()
    with pytest.raises(lro.OperationBusyError) as caught:
        await client.resume(op.name, token)
    assert 0 < caught.value.retry_after <= 30
    with pytest.raises(lro.OperationBusyError):
        await (await opened()).resume(op.name, token)


@pytest.mark.asyncio
async def test_a_run_that_died_is_resumed_by_the_same_token_with_no_sweep(opened, lro_clock, abandon, steps):
    first, second = await opened(), await opened()
    op, token = await suspended(first, lro_clock, state=1)
    assert await first.resume(op.name, token, reason=lro.WakeReason.CHILDREN_TIMEOUT)
    await lro_clock.settle()
    abandon(first)
    with pytest.raises(lro.OperationBusyError):
        await second.resume(op.name, token)
    await lro_clock.advance(30)
    with pytest.raises(lro.OperationBusyError) as caught:
        await second.resume(op.name, token)  # its holder may have stood still, and be about to renew
    assert caught.value.retry_after == 15
    await lro_clock.advance(15)
    assert await second.resume(op.name, token)
    await lro_clock.settle()
    assert steps.log[-1] == (second, "on", lro.WakeReason.CHILDREN_TIMEOUT, ""), "told the same as the run that died"


@pytest.mark.asyncio
async def test_ten_concurrent_resumes_are_one_run(opened, lro_clock, steps):
    clients = [await opened() for _ in range(2)]
    op, token = await suspended(clients[0], lro_clock, state=1)
    calls = [client.resume(op.name, token) for client in clients for _ in range(5)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results.count(True) == 1
    assert all(result in (True, False) or isinstance(result, lro.OperationBusyError) for result in results)
    await lro_clock.settle()
    assert [point for _, point, _, _ in steps.log] == ["", "on"]


@pytest.mark.asyncio
async def test_a_resume_whose_caller_goes_away_still_runs(opened, lro_clock, steps):
    client = await opened()
    op, token = await suspended(client, lro_clock)
    let_go = client.store.hold("apply")
    caller = asyncio.create_task(client.resume(op.name, token))
    before = client.store.calls["apply"]
    await until(lambda: client.store.calls["apply"] > before)
    caller.cancel()
    await asyncio.wait([caller])
    let_go()
    await asyncio.wait_for(op.result(), 5)
    assert [point for _, point, _, _ in steps.log] == ["", "on"]


@pytest.mark.asyncio
async def test_after_an_outage_a_resume_claims_no_expired_lease_either(opened, lro_clock, abandon):
    first, second = await opened(), await opened()
    op, token = await suspended(first, lro_clock, state=1)
    assert await first.resume(op.name, token)
    await lro_clock.settle()
    abandon(first)
    second.store.fail("read")
    with pytest.raises(lro.StoreUnavailableError):
        await second.get_operation(op.name)
    await lro_clock.advance(31)
    await second.get_operation(op.name)  # the store is back
    with pytest.raises(lro.OperationBusyError):
        await second.resume(op.name, token)
    claim = (await second.operation(op.name)).record.claim
    await lro_clock.advance(14)
    with pytest.raises(lro.OperationBusyError):
        await second.resume(op.name, token)
    assert (await second.operation(op.name)).record.claim == claim
    await lro_clock.advance(2)
    assert (await second.operation(op.name)).record.claim == claim + 1, "the sweep took it"


@pytest.mark.asyncio
async def test_a_process_that_cannot_run_it_says_so(opened, open_client, lro_clock, tmp_path):
    client = await opened()
    op, token = await suspended(client, lro_clock)
    url = f"sqlite:///{tmp_path}/ops.db"
    front = await open_client(url, worker=False)
    stranger = await open_client(url, scheduler=Silent(), sweep=NO_SWEEP)
    await client.drain()
    for other in (front, stranger, client):
        with pytest.raises(lro.WorkerUnavailableError) as caught:
            await other.resume(op.name, token)
        assert caught.value.retry_after > 0
    assert client.store.inner.read([op.name])[0].state is State.SUSPENDED


@pytest.mark.asyncio
async def test_a_full_process_says_so(open_client, steps, store, lro_clock):
    client = await open_client(store, scheduler=Silent(), handlers=[steps], dispatch="local", max_running=1)
    op, token = await suspended(client, lro_clock)
    client.handler("block")(_forever)
    await client.start("block")
    with pytest.raises(lro.WorkerUnavailableError, match="full"):
        await client.resume(op.name, token)


async def _forever(op):
    await asyncio.Event().wait()


@pytest.mark.parametrize("old_release", ["no handler", "no resume point"])
@pytest.mark.asyncio
async def test_rows_that_only_another_release_can_run_are_left_alone_and_starve_nobody(
    open_client, tmp_path, lro_clock, steps, old_release, caplog
):
    url = f"sqlite:///{tmp_path}/ops.db"
    new = await open_client(url, handlers=[steps])
    ops = [await new.start("steps") for _ in range(20)]
    await lro_clock.settle()
    await new.aclose()
    old_handlers = lro.Handlers()

    @old_handlers.handler("nap", resume_points=("awake",))
    async def nap(op):
        return op.suspend(resume_at="awake", sleep=10) if op.resume_point == "" else None

    if old_release == "no resume point":

        @old_handlers.handler("steps", state=int, resume_points=("off",))
        async def run(op):
            raise AssertionError("not mine")

    old = await open_client(url, handlers=[old_handlers], sweep=lro.SweepPolicy(batch=4))
    napping = await old.start("nap")
    await lro_clock.advance(7200)
    for _ in range(3):
        await old.sweep()
    assert (await napping.fetch()).done
    rows = [old.store.read([op.name])[0] for op in ops]
    assert {(row.state, row.claim) for row in rows} == {(State.SUSPENDED, 1)}
    reports = [record.getMessage() for record in caplog.records if "not registered here" in record.getMessage()]
    assert len(reports) == 1
    assert "'steps'" in reports[0]
    newer = await open_client(url, handlers=[steps])
    async with asyncio.timeout(5):
        for op in ops:
            assert (await newer.wait_operation(op.name)).HasField("response")
