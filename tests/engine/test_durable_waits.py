"""Sleeps, messages, calls and joins in straight code: in this process first, then without any."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.change import Change

from ..waiting import all_blocked, reached, until

pytestmark = pytest.mark.asyncio

DAY = 86400.0


@dataclass
class Decision:
    ok: bool
    by: str = ""


def kinds(history):
    return [entry.kind for entry in history]


async def waiting(client, name, lro_clock):
    """Let an operation that waits be suspended."""
    await until(lambda: client.engine.host.lingering or not client.engine.worker.running)
    await lro_clock.advance(1)
    return await reached(client, name, "SUSPENDED")


class TestSleep:
    async def test_a_long_sleep_holds_no_process(self, client, lro_clock, row):
        runs = []

        @client.handler("job")
        async def job(op):
            runs.append(lro_clock.time())
            await op.sleep("nap", datetime.timedelta(days=30))

        began = lro_clock.time()
        op = await client.start("job")
        await waiting(client, op.name, lro_clock)
        assert row(op.name).check_time == pytest.approx(began + 30 * DAY)
        assert not client.engine.worker.running
        await lro_clock.advance(30 * DAY - 1)
        await asyncio.wait_for(op.result(), 5)
        assert runs == [began, began + 30 * DAY]

    async def test_a_short_one_holds_it(self, client, lro_clock):
        runs = []

        @client.handler("job")
        async def job(op):
            runs.append(1)
            await op.sleep("nap", 0.5)

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await lro_clock.advance(0.5)
        await asyncio.wait_for(op.result(), 5)
        assert runs == [1]
        assert "SUSPENDED" not in kinds(await client.history(op.name))

    async def test_until_a_moment(self, client, lro_clock):
        @client.handler("job")
        async def job(op):
            end = datetime.datetime.fromtimestamp(lro_clock.time() + DAY, datetime.UTC)
            await op.sleep("nap", until=end)
            await op.sleep("past", until=lro_clock.time() - 1)

        op = await client.start("job")
        await waiting(client, op.name, lro_clock)
        await lro_clock.advance(DAY)
        await asyncio.wait_for(op.result(), 5)

    @pytest.mark.parametrize(
        "arguments",
        [{}, {"duration": -1}, {"duration": float("inf")}, {"duration": 1, "until": 2}, {"until": float("nan")},
         {"until": datetime.datetime(2030, 1, 1)}],  # noqa: DTZ001 (naive on purpose)
    )  # fmt: skip
    async def test_malformed(self, client, arguments):
        @client.handler("job")
        async def job(op):
            with pytest.raises(ValueError):
                await op.sleep("nap", **arguments)

        await asyncio.wait_for((await client.start("job")).result(), 5)

    async def test_the_same_name_twice_is_refused(self, client):
        @client.handler("job")
        async def job(op):
            await op.sleep("nap", 0)
            with pytest.raises(ValueError, match="name of its own"):
                await op.sleep("nap", 0)

        await asyncio.wait_for((await client.start("job")).result(), 5)

    async def test_a_crash_does_not_make_it_longer(self, open_client, tmp_path, lro_clock, abandon):
        """Its end is stored, even where the handler does something else beside it and cannot be suspended."""
        ends = []

        async def life():
            client = await open_client(f"sqlite:///{tmp_path}/operations.db")

            @client.handler("job")
            async def job(op):
                other = asyncio.create_task(asyncio.Event().wait())
                await asyncio.wait({other, asyncio.ensure_future(op.sleep("nap", 600))}, return_when="FIRST_COMPLETED")
                other.cancel()
                ends.append(lro_clock.time())

            return client

        client = await life()
        began = lro_clock.time()
        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await lro_clock.advance(60)
        assert (await client.engine.rows.record(op.name)).entries == 1
        abandon(client)
        client = await life()
        await lro_clock.advance(540)
        await until(lambda: ends)
        assert set(ends) == {began + 600}  # the process that was given up has them too


class TestReceive:
    async def test_a_message_that_is_there_is_received_at_once(self, client):
        @client.handler("job", resume_points=())
        async def job(op) -> dict:
            return await op.receive("go", dict)

        client.engine.slots.close()  # nothing runs yet
        op = await client.start("job")
        await client.send(op.name, "go", {"n": 1})
        client.engine.slots.closed = False
        client.engine.slots.tell_free()
        await client.sweep()
        assert await asyncio.wait_for(op.result(), 5) == {"n": 1}

    async def test_one_that_comes_while_it_lingers_goes_on_in_place(self, client):
        runs = []

        @client.handler("job")
        async def job(op) -> bool:
            runs.append(1)
            return (await op.receive("go", Decision)).ok

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await client.send(op.name, "go", Decision(ok=True))
        assert await asyncio.wait_for(op.result(), 5) is True
        assert runs == [1]

    async def test_one_that_comes_later_wakes_it(self, client, lro_clock):
        runs = []

        @client.handler("job")
        async def job(op) -> bool:
            runs.append(1)
            return (await op.receive("go", Decision)).ok

        op = await client.start("job")
        await waiting(client, op.name, lro_clock)
        await lro_clock.advance(100 * DAY)
        await client.send(op.name, "go", {"ok": True})
        assert await asyncio.wait_for(op.result(), 5) is True
        assert runs == [1, 1]
        happened = await client.history(op.name)
        assert [(entry.kind, entry.text) for entry in happened if entry.kind in ("SUSPENDED", "WOKEN")] == [
            ("SUSPENDED", "for a message on go; then the start"),
            ("WOKEN", "MESSAGE"),
        ]

    async def test_messages_are_received_in_order_and_each_once(self, client, lro_clock):
        found = []

        @client.handler("job")
        async def job(op):
            found.append([await op.receive("go"), await op.receive("other"), await op.receive("go")])
            await op.receive("end")

        op = await client.start("job")
        for topic, payload in [("go", 1), ("go", 2), ("other", 3)]:
            await client.send(op.name, topic, payload)
        await waiting(client, op.name, lro_clock)
        await client.send(op.name, "end")
        await asyncio.wait_for(op.result(), 5)
        assert found == [[1, 3, 2]] * 2  # a later run receives the same again

    async def test_the_same_message_id_once(self, client, row):
        @client.handler("job")
        async def job(op) -> list:
            return [await op.receive("go"), await op.receive("go", timeout=0, default="none")]

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        await asyncio.gather(*(client.send(op.name, "go", n, message_id="m") for n in range(5)))
        assert (await asyncio.wait_for(op.result(), 5))[1] == "none"

    async def test_a_timeout_raises_or_gives_the_default(self, client, lro_clock):
        caught = []

        @client.handler("job")
        async def job(op) -> str:
            try:
                await op.receive("go", timeout=3 * DAY)
            except lro.WaitDeadlineExceededError as exc:
                caught.append(exc)
            return await op.receive("go", str, timeout=0, default="nobody")

        op = await client.start("job")
        await waiting(client, op.name, lro_clock)
        await lro_clock.advance(3 * DAY)
        assert await asyncio.wait_for(op.result(), 5) == "nobody"
        assert (caught[0].timeout, caught[0].topic) == (3 * DAY, "go")
        assert "'go'" in str(caught[0])

    async def test_what_timed_out_stays_so_and_the_late_message_is_for_the_next(self, client, lro_clock):
        found = []

        @client.handler("job")
        async def job(op):
            first = await op.receive("go", timeout=60, default="late")
            second = await op.receive("go")
            found.append((first, second))
            await op.receive("end")

        op = await client.start("job")
        await waiting(client, op.name, lro_clock)
        await lro_clock.advance(60)
        await client.send(op.name, "go", 1)
        await waiting(client, op.name, lro_clock)
        await client.send(op.name, "end")
        await asyncio.wait_for(op.result(), 5)
        assert found == [("late", 1)] * 2

    async def test_a_timeout_counts_from_the_first_time(self, open_client, tmp_path, lro_clock, abandon):
        found = []

        async def life():
            client = await open_client(f"sqlite:///{tmp_path}/operations.db")

            @client.handler("job")
            async def job(op):
                found.append((await op.receive("go", timeout=DAY, default=None), lro_clock.time()))

            return client

        client = await life()
        began = lro_clock.time()
        op = await client.start("job")
        await waiting(client, op.name, lro_clock)
        abandon(client)
        client = await life()
        await lro_clock.advance(DAY - 1)
        await until(lambda: found)
        assert found == [(None, began + DAY)]

    @pytest.mark.parametrize(
        ("payload", "kind", "expected"),
        [
            ({"ok": True, "by": "me"}, Decision, Decision(True, "me")),
            (Decision(True, "me"), None, {"ok": True, "by": "me"}),
            (wrappers_pb2.StringValue(value="x"), wrappers_pb2.StringValue, wrappers_pb2.StringValue(value="x")),
            (wrappers_pb2.StringValue(value="x"), None, wrappers_pb2.StringValue(value="x")),
            ("x", wrappers_pb2.StringValue, wrappers_pb2.StringValue(value="x")),  # JSON from an HTTP client
            (None, None, None),
            (2**60, int, 2**60),
            ([1, "a", None], None, [1, "a", None]),
        ],
    )
    async def test_payloads(self, client, payload, kind, expected):
        found = []

        @client.handler("job")
        async def job(op):
            found.append(await op.receive("go", kind))

        op = await client.start("job")
        await client.send(op.name, "go", payload)
        await asyncio.wait_for(op.result(), 5)
        assert found == [expected]

    async def test_a_payload_of_another_type_is_kept(self, client):
        """The error names the field; a release that reads it receives the same message."""
        problems = []

        @client.handler("job")
        async def job(op) -> dict:
            if not problems:
                try:
                    await op.receive("go", Decision)
                except lro.StateCodecError as exc:
                    problems.append(exc)
                    raise lro.RetryLater(after=0) from exc
            return await op.receive("go", dict)

        op = await client.start("job")
        await client.send(op.name, "go", {"ok": "perhaps"})
        assert await asyncio.wait_for(op.result(), 5) == {"ok": "perhaps"}
        assert problems[0].field == "ok"

    async def test_a_message_that_comes_as_the_handler_is_suspended_is_not_lost(self, client, store, lro_clock):
        """Between the last look at the journal and the commit of the wait."""
        runs = []

        @client.handler("job")
        async def job(op) -> int:
            runs.append(1)
            return await op.receive("go", int)

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        held = store.hold("apply")
        advancing = asyncio.create_task(lro_clock.advance(1))
        await held.reached()
        from functools import partial

        from lro_aio.core import straight
        from lro_aio.core.journal import Entry

        entry = Entry(kind="MESSAGE", key="go\nm", time=1.0, payload=b"7", codec="json;v=1")
        sent = partial(straight.message, now=lro_clock.time(), topic="go")
        store.inner.apply([Change(op.name, sent, appends=(entry,))])  # another process
        held()
        await advancing
        assert await asyncio.wait_for(op.result(), 5) == 7


class TestSend:
    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("", None), ValueError),
            (("a\nb", None), ValueError),
            (("x" * 129, None), ValueError),
            (("go", object()), lro.StateCodecError),
            (("go", "x" * (1 << 20)), lro.PayloadTooLargeError),
        ],
    )
    async def test_what_is_malformed_is_refused(self, client, row, arguments, error):
        op = await client.create(lease=False)
        with pytest.raises(error):
            await client.send(op.name, *arguments)
        assert row(op.name).entries == 0

    @pytest.mark.parametrize("message_id", ["", "a\nb", "x" * 257])
    async def test_a_malformed_id_is_refused(self, client, message_id):
        op = await client.create(lease=False)
        with pytest.raises(ValueError, match="message_id"):
            await client.send(op.name, "go", message_id=message_id)

    async def test_to_what_is_not_there(self, client):
        with pytest.raises(lro.OperationNotFoundError):
            await client.send("operations/none", "go")
        with pytest.raises(lro.InvalidOperationNameError):
            await client.send("none", "go")
        op = await client.create(lease=False)
        await op.delete()
        with pytest.raises(lro.OperationNotFoundError):
            await client.send(op.name, "go")

    async def test_to_what_has_ended(self, client, row):
        op = await client.create(lease=False)
        await op.done()
        with pytest.raises(lro.OperationDoneError):
            await client.send(op.name, "go")
        assert row(op.name).entries == 0

    async def test_a_lost_answer_and_a_repeat_are_one_message(self, client, store, row):
        op = await client.create(lease=False)
        store.fail("apply", when="after")
        with pytest.raises(lro.StoreUnavailableError):
            await client.send(op.name, "go", 1, message_id="m")
        await client.send(op.name, "go", 1, message_id="m")
        assert row(op.name).entries == 1

    async def test_a_repeat_of_what_was_delivered_is_no_error_after_the_end(self, client):
        op = await client.create(lease=False)
        await client.send(op.name, "go", 1, message_id="m")
        await op.done()
        await client.send(op.name, "go", 1, message_id="m")
        with pytest.raises(lro.OperationDoneError):
            await client.send(op.name, "go", 1, message_id="other")

    async def test_too_many(self, open_client, store, row):
        client = await open_client(store, limits=lro.Limits(entries=2))
        op = await client.create(lease=False)
        await client.send(op.name, "go")
        await client.send(op.name, "go")
        with pytest.raises(lro.PayloadTooLargeError) as caught:
            await client.send(op.name, "go")
        assert (caught.value.field, caught.value.limit) == ("entries", 2)


class TestSegments:
    async def test_a_segment_is_woken_by_a_message(self, client, lro_clock):
        found = []

        @client.handler("job", resume_points=("decided",))
        async def job(op):
            if op.resume_point == "decided":
                found.append((op.wake_reason, [(m.topic, m.payload, m.message_id) for m in op.messages]))
                return None
            return op.suspend(resume_at="decided", messages=("approval", "veto"), sleep=DAY)

        op = await client.start("job")
        await reached(client, op.name, "SUSPENDED")
        await client.send(op.name, "unrelated", 0)
        await lro_clock.advance(60)
        assert found == []
        await client.send(op.name, "approval", {"ok": True}, message_id="m")
        await asyncio.wait_for(op.result(), 5)
        assert found[0][0] is lro.WakeReason.MESSAGE
        assert found[0][1][1] == ("approval", {"ok": True}, "m")

    async def test_a_sleep_bounds_it(self, client, lro_clock):
        found = []

        @client.handler("job", resume_points=("decided",))
        async def job(op):
            if op.resume_point == "decided":
                found.append(op.wake_reason)
                return None
            return op.suspend(resume_at="decided", messages=("approval",), sleep=DAY)

        op = await client.start("job")
        await lro_clock.advance(DAY)
        await asyncio.wait_for(op.result(), 5)
        assert found == [lro.WakeReason.ELAPSED]

    async def test_a_message_that_was_there_before_wakes_it_at_once_and_one_that_was_told_does_not(
        self, client, lro_clock
    ):
        found = []

        @client.handler("job", resume_points=("again",))
        async def job(op):
            if op.resume_point == "again":
                found.append(len(op.messages))
            if len(found) == 2:
                return None
            return op.suspend(resume_at="again", messages=("go",))

        client.engine.slots.close()
        op = await client.start("job")
        await client.send(op.name, "go", 1)
        client.engine.slots.closed = False
        await client.sweep()
        await until(lambda: found == [1])
        await reached(client, op.name, "SUSPENDED")
        await lro_clock.advance(DAY)
        assert found == [1]
        await client.send(op.name, "go", 2)
        await asyncio.wait_for(op.result(), 5)
        assert found == [1, 2]

    async def test_both_styles_side_by_side(self, client, lro_clock):
        """What a segment has received, the next does not receive again; a step is one over all segments."""
        found = []

        @client.handler("job", resume_points=("second",))
        async def job(op):
            value = await op.step("once", lambda: len(found))
            found.append((op.resume_point, value, await op.receive("go")))
            return None if op.resume_point else op.suspend(resume_at="second", sleep=1)

        op = await client.start("job")
        await client.send(op.name, "go", 1)
        await client.send(op.name, "go", 2)
        await reached(client, op.name, "SUSPENDED")
        await lro_clock.advance(1)
        await asyncio.wait_for(op.result(), 5)
        assert found == [("", 0, 1), ("second", 0, 2)]

    @pytest.mark.parametrize("messages", ["go", ("",), ("a\nb",)])
    async def test_malformed_topics(self, client, messages):
        @client.handler("job")
        async def job(op):
            with pytest.raises((TypeError, ValueError)):
                op.suspend(resume_at="", messages=messages)

        await asyncio.wait_for((await client.start("job")).result(), 5)


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
        await waiting(client, op.name, lro_clock)
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
        await waiting(client, op.name, lro_clock)
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
        await waiting(client, op.name, lro_clock)
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
        await waiting(client, op.name, lro_clock)
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
        store.inner.keeps_journal = False

        @client.handler("job")
        async def job(op):
            for begin in (op.step("pay", lambda: paid.append(1)), op.sleep("s", 1), op.receive("t"), op.join([])):
                with pytest.raises(lro.StoreSchemaError, match="spanner migrate"):
                    await begin

        await asyncio.wait_for((await client.start("job")).result(), 5)
        assert paid == []
