"""Who may start children, and which of them a cancel reaches."""

import asyncio
import contextlib
import threading

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore


@pytest.fixture
def started(client):
    @client.handler("leaf")
    async def leaf(op):
        await asyncio.Event().wait()

    async def children(parent):
        return {
            (await client.operation(op.name)).record.state
            async for op in client.iter_operations()
            if (await client.operation(op.name)).record.parent_operation == parent.name
        }

    return children


@pytest.mark.asyncio
async def test_what_a_clean_up_starts_is_not_cancelled(client, lro_clock, row):
    """Not by the cancel that it cleans up after, not by a repeat of it, and not by the sweep."""
    refunded, go = [], asyncio.Event()

    @client.handler("order", on_cancel="undo", resume_points=("paid", "undone"))
    async def order(op):
        match op.resume_point:
            case "":
                return op.suspend(resume_at="paid", sleep=3600)
            case "undo":
                refund = await op.start_child("refund", key="refund")
                return op.suspend(resume_at="undone", children=[refund])
            case "undone":
                refunded.extend(child.HasField("response") for child in op.children)
        return None

    @client.handler("refund")
    async def refund(op):
        await go.wait()

    op = await client.start("order")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    await op.cancel()
    await client.sweep()
    await lro_clock.advance(60)
    assert refunded == []
    go.set()
    await lro_clock.settle()
    assert refunded == [True]
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_cancel_is_passed_on_once(client, store, lro_clock, started):
    @client.handler("parent")
    async def parent(op):
        await op.start_child("leaf", key="only")
        await asyncio.Event().wait()

    op = await client.start("parent")
    await lro_clock.settle()
    before = store.calls["list"]
    await op.cancel()
    await lro_clock.advance(60)
    await client.sweep()
    assert store.calls["list"] - before == 2, "one scan for the children of the parent, one for those of the child"
    assert await started(op) == {State.CANCELLED}


@pytest.mark.asyncio
async def test_a_handler_whose_claim_was_lost_starts_no_child(open_client, tmp_path, lro_clock):
    url = f"sqlite:///{tmp_path}/ops.db"
    resumed, refused = asyncio.Event(), []

    def handlers(which):
        made = lro.Handlers()

        @made.handler("parent")
        async def parent(op):
            if which == "second":
                return
            while not resumed.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await resumed.wait()
            try:
                await op.start_child("leaf", key="late")
            except lro.LeaseLostError as exc:
                refused.append(exc)
                raise

        @made.handler("leaf")
        async def leaf(op):
            pass

        return made

    first = await open_client(url, handlers=[handlers("first")])
    op = await first.start("parent")
    await lro_clock.settle()
    first.engine.worker.close()  # it renews no longer: a process that stands still
    second = await open_client(url, handlers=[handlers("second")])
    await lro_clock.advance(46)
    assert (await second.get_operation(op.name)).done
    resumed.set()
    await lro_clock.settle()
    assert len(refused) == 1
    assert [found.name async for found in second.iter_operations()] == [op.name]


@pytest.mark.asyncio
async def test_a_task_that_outlives_its_handler_starts_no_child(client, lro_clock):
    ended, refused = asyncio.Event(), []

    @client.handler("leaf")
    async def leaf(op):
        pass

    async def late(op):
        await ended.wait()
        try:
            await op.start_child("leaf", key="late")
        except lro.LroError as exc:
            refused.append(type(exc))

    tasks = []

    @client.handler("parent")
    async def parent(op):
        tasks.append(asyncio.create_task(late(op)))

    op = await client.start("parent")
    await lro_clock.settle()
    assert (await client.get_operation(op.name)).done
    ended.set()
    await asyncio.wait(tasks)
    assert refused == [lro.OperationDoneError]
    assert [found.name async for found in client.iter_operations()] == [op.name]


@pytest.mark.asyncio
async def test_a_handler_that_starts_a_child_after_another_process_has_cancelled_it_is_stopped(tmp_path, lro_clock):
    """It hears of the cancel by it, and the operation is not failed."""
    handlers, go, seen = lro.Handlers(), asyncio.Event(), []

    @handlers.handler("parent")
    async def parent(op):
        await go.wait()
        try:
            await op.start_child("leaf", key="k")
        except asyncio.CancelledError:
            seen.append(op.cancel_reason)
            raise

    @handlers.handler("leaf")
    async def leaf(op):
        pass

    url = f"sqlite:///{tmp_path}/o.db"
    async with (
        lro.Client(url, handlers=[handlers], clock=lro_clock, drain_timeout=0) as client,
        lro.Client(url, worker=False, clock=lro_clock) as other,
    ):
        op = await client.start("parent")
        await other.cancel_operation(op.name)
        go.set()
        operation = await client.wait_operation(op.name, 10)
        assert operation.error.message == "the operation was cancelled"
    assert seen == [lro.CancelReason.CANCEL_REQUESTED]


class SlowBirths(FaultyStore):
    """A store with several lanes, whose commits of children wait for ``go``."""

    def __init__(self, inner):
        super().__init__(inner)
        self.lanes = 4
        self.go = threading.Event()
        self.waiting = threading.Event()

    def apply(self, changes):
        if any(change.guard is not None for change in changes):
            self.waiting.set()
            self.go.wait(10)
        return super().apply(changes)


@pytest.mark.asyncio
async def test_no_child_whose_commit_is_slow_is_missed_by_a_cancel(tmp_path, lro_clock):
    """The cancel is committed first: the child is never made."""
    handlers, refused = lro.Handlers(), []

    @handlers.handler("parent")
    async def parent(op):
        try:
            await asyncio.shield(op.start_child("leaf", key="k"))
        except lro.InvalidTransitionError as exc:
            refused.append(exc)
            raise

    @handlers.handler("leaf")
    async def leaf(op):
        await asyncio.Event().wait()

    store = SlowBirths(lro.SqliteStore(f"{tmp_path}/o.db"))
    async with lro.Client(store, handlers=[handlers], clock=lro_clock, drain_timeout=0) as client:
        op = await client.start("parent")
        await asyncio.to_thread(store.waiting.wait, 10)
        await asyncio.sleep(0.3)  # real time: from then on, the lane counts as slow, and others' changes take another
        await client.cancel_operation(op.name)
        store.go.set()
        await lro_clock.settle()
        assert (await client.get_operation(op.name)).error.code == lro.Code.CANCELLED
        assert [found.name async for found in client.iter_operations()] == [op.name]
