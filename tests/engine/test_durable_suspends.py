"""When a handler that waits durably is suspended, and what it is told."""

from __future__ import annotations

import asyncio

import pytest

import lro_aio as lro

from ..waiting import all_blocked, durably_suspended, reached, until

pytestmark = pytest.mark.asyncio

DAY = 86400.0


def kinds(history):
    return [entry.kind for entry in history]


class TestSuspending:
    async def test_a_step_beside_a_wait_keeps_the_process(self, client, lro_clock):
        go = asyncio.Event()

        @client.handler("job")
        async def job(op):
            await asyncio.gather(op.receive("go"), op.step("slow", go.wait))

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await lro_clock.advance(100)
        assert client.engine.worker.running
        go.set()
        await all_blocked()
        await lro_clock.advance(2)
        await reached(client, op.name, "SUSPENDED")

    async def test_so_does_anything_else_that_the_handler_awaits(self, client, lro_clock):
        """It may be on its way to a step: to stop it until a message comes, in three days, would be no good."""
        go, ends = asyncio.Event(), []

        @client.handler("job")
        async def job(op):
            async def other():
                await go.wait()
                ends.append(await op.step("one", lambda: 1))

            await asyncio.gather(op.receive("go"), other())

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await lro_clock.advance(100)
        assert client.engine.worker.running
        go.set()
        await until(lambda: ends)
        await lro_clock.advance(2)
        await reached(client, op.name, "SUSPENDED")

    @pytest.mark.parametrize("form", ["gather", "group", "wait", "wait_for", "nested", "task"])
    async def test_whatever_form_the_waits_have(self, client, lro_clock, form):
        @client.handler("job")
        async def job(op):
            if form == "gather":
                await asyncio.gather(op.receive("a"), op.sleep("s", DAY))
            elif form == "group":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(op.receive("a"))
                    tasks.create_task(op.sleep("s", DAY))
            elif form == "wait":
                await asyncio.wait({asyncio.ensure_future(op.receive("a"))}, return_when="FIRST_COMPLETED")
            elif form == "wait_for":
                await asyncio.wait_for(op.receive("a"), None)
            elif form == "task":
                await asyncio.create_task(op.receive("a"))
            else:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(asyncio.wait([asyncio.gather(op.receive("a"), op.receive("b"))]))

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await all_blocked()
        await lro_clock.advance(1)
        await reached(client, op.name, "SUSPENDED")
        await client.cancel_operation(op.name)

    async def test_the_reason_is_told_and_what_cleans_up_may_fail(self, client, lro_clock, caplog):
        reasons = []

        @client.handler("job")
        async def job(op) -> str:
            try:
                return await op.receive("go", str)
            except asyncio.CancelledError:
                reasons.append(op.cancel_reason)
                raise RuntimeError("while cleaning up") from None

        op = await client.start("job")
        await durably_suspended(client, op.name, lro_clock)
        assert reasons == [lro.CancelReason.SUSPENDED]
        assert "raised while" in caplog.text
        await client.send(op.name, "go", "on")
        assert await asyncio.wait_for(op.result(), 5) == "on"

    async def test_a_handler_that_swallows_it_and_returns_has_finished(self, client, lro_clock):
        @client.handler("job")
        async def job(op) -> str:
            try:
                return await op.receive("go", str)
            except asyncio.CancelledError:
                return "swallowed"

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await lro_clock.advance(1)
        assert await asyncio.wait_for(op.result(), 5) == "swallowed"

    async def test_one_that_goes_on_is_stopped_at_its_next_step(self, client, lro_clock):
        steps = []

        @client.handler("job")
        async def job(op):
            try:
                await op.receive("go")
            except asyncio.CancelledError:
                await op.step("no", lambda: steps.append(1))

        op = await client.start("job")
        await durably_suspended(client, op.name, lro_clock)
        assert steps == []
        await client.send(op.name, "go")
        await asyncio.wait_for(op.result(), 5)

    async def test_the_state_is_stored_by_save_alone(self, client, lro_clock):
        seen = []

        @client.handler("job", state=dict)
        async def job(op):
            seen.append(dict(op.state))
            if len(seen) == 1:
                op.state["saved"] = True
                await op.save()
            op.state["lost"] = True
            await op.receive("go")

        op = await client.start("job", {})
        await durably_suspended(client, op.name, lro_clock)
        await client.send(op.name, "go")
        await asyncio.wait_for(op.result(), 5)
        assert seen == [{}, {"saved": True}]

    async def test_a_shutdown_suspends_instead_of_releasing(self, open_client, tmp_path, lro_clock):
        url = f"sqlite:///{tmp_path}/operations.db"
        client = await open_client(url, linger=3600)

        @client.handler("job")
        async def job(op):
            await op.receive("go")

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await client.aclose()
        async with lro.Client(url, worker=False, clock=lro_clock) as front:
            record = await front.engine.rows.record(op.name)
            assert record.state == "SUSPENDED"
            assert "RELEASED" not in kinds(await front.history(op.name))

    async def test_a_cancel_ends_it_or_runs_its_clean_up(self, client, lro_clock):
        cleaned = []

        @client.handler("job", on_cancel="undo")
        async def job(op):
            if op.resume_point == "undo":
                cleaned.append(await op.step("undo", lambda: 1))
                return
            await op.receive("go")

        op = await client.start("job")
        await durably_suspended(client, op.name, lro_clock)
        await client.cancel_operation(op.name)
        with pytest.raises(lro.OperationCancelledError):
            await asyncio.wait_for(op.result(), 5)
        assert cleaned == [1]

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_one_that_is_deleted_and_waits_for_a_message_alone_is_gone(self, client, lro_clock, row, when):
        """Nobody can send it one any more, so nothing would ever end it."""

        @client.handler("job")
        async def job(op):
            await op.receive("go")

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        if when == "before":
            await op.delete()
        await lro_clock.advance(1)
        await until(lambda: not client.engine.worker.running)
        if when == "after":
            await op.delete()
        assert row(op.name) is None

    async def test_a_thousand_that_wait_hold_no_slot(self, open_client, store):
        """``max_running=1``: a trivial one runs at once."""
        client = await open_client(store, max_running=1)

        @client.handler("wait")
        async def wait(op):
            await op.receive("go")

        @client.handler("trivial")
        async def trivial(op):
            pass

        ops = await asyncio.gather(*(client.start("wait") for _ in range(1000)))
        op = await client.start("trivial")
        await asyncio.wait_for(op.result(), 60)
        for waiter in ops[:3]:
            await reached(client, waiter.name, "SUSPENDED")

    async def test_a_store_without_a_journal_says_what_to_do_before_anything_is_paid_for(self, client, store):
        paid = []
        store.inner.keeps_journal, store.inner.no_journal_reason = False, "run `make tables`"

        @client.handler("job")
        async def job(op):
            for begin in (op.step("pay", lambda: paid.append(1)), op.sleep("s", 1), op.receive("t"), op.join([])):
                with pytest.raises(lro.StoreSchemaError, match=r"cannot keep steps.*: run `make tables`"):
                    await begin

        await asyncio.wait_for((await client.start("job")).result(), 5)
        assert paid == []

    async def test_a_store_without_a_journal_is_not_taken_for_another_product(self, client, store):
        """A store of somebody else's is not migrated by a command of ours."""
        store.inner.keeps_journal = store.keeps_journal = False

        @client.handler("job")
        async def job(op):
            pass

        with pytest.raises(lro.StoreSchemaError, match=r"cannot keep deadlines: it has no journal$"):
            await client.start("job", deadline=5)
