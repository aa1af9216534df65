"""Sleeps and messages in straight code: awaited in this process first, then without any."""

from __future__ import annotations

import asyncio
import datetime
import math
from dataclasses import dataclass

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.change import Change

from ..waiting import durably_suspended, until

pytestmark = pytest.mark.asyncio

DAY = 86400.0


@dataclass
class Decision:
    ok: bool
    by: str = ""


def kinds(history):
    return [entry.kind for entry in history]


class TestSleep:
    async def test_a_long_sleep_holds_no_process(self, client, lro_clock, row):
        runs = []

        @client.handler("job")
        async def job(op):
            runs.append(lro_clock.time())
            await op.sleep("nap", datetime.timedelta(days=30))

        began = lro_clock.time()
        op = await client.start("job")
        await durably_suspended(client, op.name, lro_clock)
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
        await durably_suspended(client, op.name, lro_clock)
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
        await durably_suspended(client, op.name, lro_clock)
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
        await durably_suspended(client, op.name, lro_clock)
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
        await durably_suspended(client, op.name, lro_clock)
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
        await durably_suspended(client, op.name, lro_clock)
        await lro_clock.advance(60)
        await client.send(op.name, "go", 1)
        await durably_suspended(client, op.name, lro_clock)
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
        await durably_suspended(client, op.name, lro_clock)
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

    async def test_one_that_a_drain_cannot_suspend_is_given_back(self, client, store, lro_clock, row):
        """Messages have come that cannot be read. It had failed, and its cancellation "could not be told"."""

        @client.handler("job")
        async def job(op) -> int:
            return await op.receive("go", int)

        op = await client.start("job")
        await until(lambda: client.engine.host.lingering)
        store.fail("journal", times=math.inf)
        await client.send(op.name, "other", 1)
        await until(lambda: store.calls["journal"])
        await asyncio.wait_for(client.drain(), 5)
        left = row(op.name)
        assert (left.state, left.owner, left.attempt) == ("PENDING", "", 0)
