"""Leases: outages, lost answers, processes that die, and who may go on with a row."""

import asyncio
import math
import threading
import time

import pytest
from google.protobuf import wrappers_pb2
from google.rpc import error_details_pb2

import lro_aio as lro
from lro_aio.testing import FaultyStore

from ..waiting import PATIENCE, until


class NthFault(FaultyStore):
    """The ``nth`` call of ``apply`` fails, before or after it takes effect."""

    def __init__(self, inner, nth, when):
        super().__init__(inner)
        self.nth, self.when = nth, when

    def apply(self, changes):
        if self.calls["apply"] == self.nth:
            self.fail("apply", when=self.when)
        return super().apply(changes)


def reason(operation):
    found = error_details_pb2.ErrorInfo()
    assert operation.error.details[0].Unpack(found)
    return found.reason


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(8))
@pytest.mark.asyncio
async def test_a_write_that_fails_or_whose_answer_is_lost_leads_to_exactly_one_result(
    open_client, lro_clock, nth, when
):
    """Create, retry, claim, suspend, claim, finish: whichever of them fails."""
    store = NthFault(lro.SqliteStore("sqlite://"), nth, when)
    client = await open_client(store)
    results = []

    @client.handler("steps", state=int, resume_points=("on",), retry=lro.RetryPolicy(jitter=0))
    async def steps(op):
        if op.resume_point == "" and client.engine.worker.running and not results:
            results.append("retry")
            raise lro.RetryLater(after=5)
        if op.resume_point == "":
            op.state += 1
            return op.suspend(resume_at="on", sleep=10)
        return wrappers_pb2.Int64Value(value=op.state)

    for _ in range(3):
        try:
            op = await client.start("steps", 1, request_id="r-1")
            break
        except lro.StoreUnavailableError:
            pass
    ends = []

    async def watch():
        async for snapshot in client.watch(op.name):
            ends.extend([snapshot] if snapshot.done else [])

    watcher = asyncio.create_task(watch())
    for _ in range(10):
        await lro_clock.advance(40)
        await client.sweep()
        await lro_clock.settle()
        if watcher.done():
            break
    assert len(ends) == 1
    value = wrappers_pb2.Int64Value()
    assert ends[0].response.Unpack(value)
    assert value.value == 2
    assert store.inner.read([op.name])[0].owner == ""
    assert client.engine.leases.held == 0


@pytest.mark.asyncio
async def test_a_lost_answer_of_finish_is_recognized_and_costs_nothing(client, store, lro_clock, row):
    runs = []

    @client.handler("work")
    async def work(op):
        runs.append(op.attempt)
        store.fail("apply", when="after")
        return wrappers_pb2.Int64Value(value=op.claim)

    op = await client.start("work")
    await lro_clock.advance(5)
    assert (await op.result(wrappers_pb2.Int64Value)).value == 1
    assert runs == [1]
    assert row(op.name).claim == 1


@pytest.mark.asyncio
async def test_the_result_waits_for_the_store_to_come_back(client, store, lro_clock):
    @client.handler("work")
    async def work(op):
        store.fail("apply", times=math.inf)
        return wrappers_pb2.Int64Value(value=7)

    op = await client.start("work")
    await lro_clock.advance(20)
    assert not (await op.fetch()).done
    store.fail("apply", times=0)
    await lro_clock.advance(10)
    assert (await op.result(wrappers_pb2.Int64Value)).value == 7


@pytest.mark.asyncio
async def test_a_handler_that_meets_an_outage_runs_again_and_spends_no_attempt(client, store, lro_clock):
    runs = []

    @client.handler("work", retry=lro.RetryPolicy(max_attempts=1))
    async def work(op):
        runs.append(op.attempt)
        if len(runs) <= 3:
            store.fail("read")
        await op.client.list_operations()
        await op.fetch()

    op = await client.start("work")
    await lro_clock.advance(60)
    assert (await client.get_operation(op.name)).HasField("response")
    assert runs == [1, 1, 1, 1]


@pytest.fixture
def forever():
    """A registry with one handler that records its runs and never ends by itself."""
    handlers = lro.Handlers()
    runs = []

    @handlers.handler("forever")
    async def run(op):
        runs.append((op.client, op.attempt, op.claim))
        try:
            await asyncio.Event().wait()
        finally:
            runs.append(op.cancel_reason)

    handlers.runs = runs
    return handlers


@pytest.mark.asyncio
async def test_a_dead_process_is_followed_by_another_when_its_lease_is_over(
    open_client, tmp_path, forever, lro_clock, abandon
):
    url = f"sqlite:///{tmp_path}/ops.db"
    first = await open_client(url, handlers=[forever])
    await first.start("forever")
    await lro_clock.settle()
    second = await open_client(url, handlers=[forever])
    await lro_clock.advance(300)
    assert len(forever.runs) == 1, "a live process keeps its lease"
    abandon(first)
    await second.sweep()  # in real time, each of its intervals brings one
    await lro_clock.advance(44)
    assert len(forever.runs) == 1
    await lro_clock.advance(2)
    await until(lambda: len(forever.runs) >= 2)
    assert forever.runs == [(first, 1, 1), (second, 2, 2)]


@pytest.mark.asyncio
async def test_too_many_crashes_end_the_operation(open_client, tmp_path, forever, lro_clock, abandon):
    url = f"sqlite:///{tmp_path}/ops.db"
    client = await open_client(url, handlers=[forever], max_attempts=3)
    op = await client.start("forever")
    for wanted in (1, 2, 3):
        await until(lambda wanted=wanted: len([run for run in forever.runs if isinstance(run, tuple)]) >= wanted)
        abandon(client)
        client = await open_client(url, handlers=[forever], max_attempts=3)
        await lro_clock.advance(46)
    ended = await asyncio.wait_for(client.wait_operation(op.name), 5)
    assert reason(ended) == "ATTEMPTS_EXHAUSTED"
    assert ended.error.code == lro.Code.ABORTED


@pytest.mark.asyncio
async def test_a_run_whose_claim_was_lost_is_told_so_and_writes_nothing(open_client, tmp_path, lro_clock):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()
    seen = []

    @handlers.handler("work")
    async def work(op):
        if op.claim == 2:
            return wrappers_pb2.Int64Value(value=2)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(op.cancel_reason)
            try:
                await op.set_metadata(wrappers_pb2.Int64Value(value=1))
            except lro.LeaseLostError as exc:
                seen.append(type(exc))
        return wrappers_pb2.Int64Value(value=1)

    first = await open_client(url, handlers=[handlers])
    op = await first.start("work")
    await lro_clock.settle()
    second = await open_client(url, handlers=[handlers])
    first.engine.leases.close()  # its renewals stop, its loop lives: a process that was stopped for a while
    await lro_clock.advance(46)
    assert (await asyncio.wait_for(second.wait_operation(op.name), 5)).done
    await asyncio.to_thread(first.engine.leases.renew)
    await lro_clock.settle()
    assert seen in (
        [lro.CancelReason.LEASE_LOST, lro.LeaseLostError],
        [lro.CancelReason.LEASE_LOST, lro.OperationDoneError],
    )
    result = await (await second.operation(op.name)).result(wrappers_pb2.Int64Value)
    assert result.value == 2


@pytest.mark.asyncio
async def test_after_an_outage_nobody_claims_an_expired_lease_before_its_owner_had_time_to_renew(
    open_client, tmp_path, forever, lro_clock, abandon
):
    path = tmp_path / "ops.db"
    first = await open_client(lro.SqliteStore(path), handlers=[forever])
    op = await first.start("forever")
    await lro_clock.settle()
    store = FaultyStore(lro.SqliteStore(path))
    second = await open_client(store, handlers=[forever])
    await lro_clock.settle()
    abandon(first)
    for method in ("read", "look", "apply"):
        store.fail(method, times=math.inf)
    with pytest.raises(lro.StoreUnavailableError):
        await second.sweep()
    await lro_clock.advance(40)
    for method in ("read", "look", "apply"):
        store.fail(method, times=0)
    await second.sweep()
    await lro_clock.advance(14)
    await second.sweep()
    assert len(forever.runs) == 1, "its owner gets time to renew"
    await lro_clock.advance(2)
    await second.sweep()
    await lro_clock.settle()
    assert len(forever.runs) == 2
    assert store.inner.read([op.name])[0].claim == 2


@pytest.mark.asyncio
async def test_an_outage_is_no_evidence_that_a_claim_was_lost(client, store, forever, lro_clock, row):
    client.handlers.include(forever)
    op = await client.start("forever")
    await lro_clock.settle()
    store.fail("apply", times=math.inf)
    await lro_clock.advance(120)
    assert len(forever.runs) == 1
    store.fail("apply", times=0)
    await lro_clock.advance(1)
    assert row(op.name).lease_expire_time > lro_clock.time()
    assert len(forever.runs) == 1


@pytest.mark.blocks_the_loop("its handler does, and what becomes of it is the promise")
@pytest.mark.parametrize(("max_stall", "claims"), [(600, 1), (0.2, 2)])
@pytest.mark.asyncio
async def test_a_handler_that_blocks_the_loop_keeps_its_lease_up_to_the_stall_limit(tmp_path, max_stall, claims):
    """In real time, with a second worker on an event loop of its own, in another thread."""
    url = f"sqlite:///{tmp_path}/ops.db"
    lease = lro.LeasePolicy(duration=1, max_stall=max_stall)
    runs, stop, opened, taken = [], threading.Event(), threading.Event(), threading.Event()

    async def block(op):
        runs.append(op.claim)
        if op.claim > 1:
            taken.set()
        else:  # real time is what is tested: three leases
            assert taken.wait(3 if claims == 1 else PATIENCE) == (claims > 1)
        return wrappers_pb2.Int64Value(value=op.claim)

    async def other():
        async with lro.Client(url, lease=lease, sweep=lro.SweepPolicy(interval=0.1)) as client:
            client.handler("block")(block)
            opened.set()
            await until(stop.is_set)

    thread = threading.Thread(target=lambda: asyncio.run(other()))
    async with lro.Client(url, lease=lease) as client:
        client.handler("block")(block)
        thread.start()
        await until(opened.is_set)
        op = await client.start("block")
        result = await asyncio.wait_for(op.result(wrappers_pb2.Int64Value), PATIENCE)
        stop.set()
        await asyncio.to_thread(thread.join)
    assert result.value == claims
    assert runs == list(range(1, claims + 1))


@pytest.mark.asyncio
async def test_a_client_that_held_nothing_for_long_renews_its_first_lease(client, lro_clock, row, monkeypatch):
    """The sign of life of the loop is asked for only while something is held."""
    monkeypatch.setattr(client.engine.leases, "_alive", time.monotonic() - 3600)
    op = await client.create()
    first = row(op.name).lease_expire_time
    await lro_clock.advance(10)
    assert row(op.name).lease_expire_time == first + 10
