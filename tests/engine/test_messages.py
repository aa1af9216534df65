"""Sending messages, and segments that wait for them."""

from __future__ import annotations

import asyncio

import pytest

import lro_aio as lro

from ..waiting import reached, until

pytestmark = pytest.mark.asyncio

DAY = 86400.0


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

    async def test_a_read_that_fails_while_the_handler_is_suspended_does_not_run_it_again(
        self, client, store, lro_clock
    ):
        """A message has come that the run does not know. What it left was dropped, and done again after its lease."""
        runs = []

        @client.handler("job", resume_points=("again",))
        async def job(op):
            runs.append((op.resume_point, op.claim))
            if op.resume_point:
                return None
            await client.send(op.name, "go", 1)
            store.fail("journal")
            return op.suspend(resume_at="again", messages=("go",))

        op = await client.start("job")
        await lro_clock.advance(1)
        await asyncio.wait_for(op.result(), 5)
        assert runs == [("", 1), ("again", 2)]

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
