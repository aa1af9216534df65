"""Steps: run once, kept, and answered from the journal in every later run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.journal import Kind

from ..waiting import all_blocked, reached, until

pytestmark = pytest.mark.asyncio


@dataclass
class Part:
    number: int
    name: str = "part"


class Calls:
    """A remote side that counts."""

    def __init__(self, *failures):
        self.seen = []
        self.failures = list(failures)

    async def __call__(self, value):
        self.seen.append(value)
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        return value * 2


async def entries(client, name):
    return [entry for entry in await client.history(name) if entry.kind in Kind.__members__]


async def test_a_step_runs_once_and_every_later_run_gets_what_it_gave(client):
    calls, runs = Calls(), []

    @client.handler("job")
    async def job(op):
        runs.append(op.attempt)
        value = await op.step("double", calls, 4)
        if len(runs) == 1:
            raise lro.RetryLater(after=0)
        return {"value": value}

    op = await client.start("job")
    assert await asyncio.wait_for(op.result(), 5) == {"value": 8}
    assert (calls.seen, len(runs)) == ([4], 2)
    assert [(entry.kind, entry.name, entry.text) for entry in await entries(client, op.name)] == [
        ("STEP", "double", "8")
    ]


async def test_parallel_steps_of_one_name_have_keys(client):
    calls = Calls()

    @client.handler("job")
    async def job(op) -> list[int]:
        return await asyncio.gather(*(op.step("double", calls, n, key=n) for n in range(20)))

    op = await client.start("job")
    assert await asyncio.wait_for(op.result(), 5) == [2 * n for n in range(20)]
    assert sorted(entry.key for entry in await entries(client, op.name)) == sorted(map(str, range(20)))


@pytest.mark.parametrize("key", [None, "a"])
async def test_the_same_step_twice_in_one_run_is_refused(client, key):
    calls, errors = Calls(), []

    @client.handler("job")
    async def job(op):
        await op.step("double", calls, 1, key=key)
        with pytest.raises(ValueError, match="give key=") as caught:
            await op.step("double", calls, 2, key=key)
        errors.append(str(caught.value))

    await asyncio.wait_for((await client.start("job")).result(), 5)
    assert calls.seen == [1]
    assert "'double'" in errors[0]


async def typed() -> Part:
    return Part(3)


def plain(number: int) -> Part:
    return Part(number)


async def message() -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value="x")


async def nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("function", "arguments", "kind", "expected"),
    [
        (typed, (), None, Part(3)),
        (plain, (4,), None, Part(4)),
        (message, (), None, wrappers_pb2.StringValue(value="x")),
        (nothing, (), None, None),
        (lambda: typed(), (), None, {"number": 3, "name": "part"}),  # it says no type: JSON data
        (lambda: typed(), (), Part, Part(3)),
        (lambda: (1, 2), (), None, [1, 2]),
        (lambda: (1, 2), (), tuple[int, int], (1, 2)),
        (len, ("abc",), None, 3),  # a builtin
    ],
)
async def test_what_the_caller_gets_is_what_was_stored(client, function, arguments, kind, expected):
    """The same in the first run and in the next."""
    found = []

    @client.handler("job")
    async def job(op):
        found.append(await op.step("it", function, *arguments, result_type=kind))
        if len(found) == 1:
            raise lro.RetryLater(after=0)

    await asyncio.wait_for((await client.start("job")).result(), 5)
    assert found == [expected, expected]
    assert type(found[0]) is type(found[1])


async def test_a_plain_function_runs_in_a_thread_and_is_no_hold_up(client):
    @client.handler("job")
    async def job(op) -> int:
        _, other = await asyncio.gather(op.step("slow", time.sleep, 0.05), op.step("quick", lambda: 1))
        return other

    assert await asyncio.wait_for((await client.start("job")).result(), 5) == 1


async def test_an_exception_passes_through_and_is_not_kept(client):
    calls, caught = Calls(ValueError("no")), []

    @client.handler("job")
    async def job(op):
        try:
            await op.step("double", calls, 1)
        except ValueError as exc:
            caught.append(exc)
            raise lro.RetryLater(after=0) from exc

    op = await client.start("job")
    await asyncio.wait_for(op.result(), 5)
    assert (calls.seen, len(caught)) == ([1, 1], 1)


async def test_a_failing_step_is_tried_again_in_place_where_the_delay_is_short(client, lro_clock):
    calls, runs = Calls(OSError(), OSError()), []
    flaky = lro.RetryPolicy(on=(OSError,), initial_delay=0.4, multiplier=1, jitter=0)

    @client.handler("job")
    async def job(op) -> int:
        runs.append(1)
        return await op.step("double", calls, 1, retry=flaky)

    op = await client.start("job")
    await until(lambda: len(calls.seen) == 1)
    await lro_clock.advance(0.4)
    await until(lambda: len(calls.seen) == 2)
    await lro_clock.advance(0.4)
    assert await asyncio.wait_for(op.result(), 5) == 2
    assert runs == [1]


async def test_a_long_delay_holds_no_process_and_the_tries_count_on(client, lro_clock, row):
    calls, runs = Calls(OSError("busy"), OSError("busy"), OSError("busy")), []
    flaky = lro.RetryPolicy(on=(OSError,), initial_delay=60, multiplier=1, max_attempts=3, jitter=0)

    @client.handler("job")
    async def job(op) -> int:
        runs.append(1)
        return await op.step("double", calls, 1, retry=flaky)

    op = await client.start("job")
    await until(lambda: len(calls.seen) == 1)
    await lro_clock.advance(1)
    await reached(client, op.name, "SUSPENDED")
    assert row(op.name).check_time == pytest.approx(lro_clock.time() + 59)
    await lro_clock.advance(59)
    await until(lambda: len(calls.seen) == 2)
    await lro_clock.advance(1)
    await reached(client, op.name, "SUSPENDED")
    await lro_clock.advance(59)
    with pytest.raises(lro.OperationFailedError):  # the third try was the last
        await asyncio.wait_for(op.result(), 5)
    assert (len(calls.seen), runs) == (3, [1, 1, 1])
    retries = [entry for entry in await entries(client, op.name) if entry.kind == "RETRY"]
    assert ["busy" in entry.text for entry in retries] == [True, True]


async def test_retry_later_says_when_a_step_is_tried_again(client, lro_clock):
    calls = Calls(lro.RetryLater(after=30))

    @client.handler("job")
    async def job(op) -> int:
        return await op.step("double", calls, 1)

    op = await client.start("job")
    await until(lambda: len(calls.seen) == 1)
    await lro_clock.advance(29)
    assert calls.seen == [1]
    await lro_clock.advance(1)
    assert await asyncio.wait_for(op.result(), 5) == 2


async def test_a_step_that_takes_too_long_raises_a_timeout(client, lro_clock):
    caught = []

    @client.handler("job")
    async def job(op):
        with pytest.raises(TimeoutError) as found:
            await op.step("long", asyncio.Event().wait, timeout=5)
        caught.append(found.value)

    op = await client.start("job")
    await until(lambda: op.client.engine.worker.running)
    await lro_clock.advance(5)
    await asyncio.wait_for(op.result(), 5)
    assert caught


async def test_a_result_that_cannot_be_stored_names_the_field(client):
    problems = []

    @client.handler("job")
    async def job(op):
        for number, value in enumerate([object(), {"a": {"b": object()}}, {"a": "x" * (1 << 20)}]):
            with pytest.raises((lro.StateCodecError, lro.PayloadTooLargeError)) as caught:
                await op.step("it", lambda value=value: value, key=number)
            problems.append(caught.value)

    op = await client.start("job")
    await asyncio.wait_for(op.result(), 5)
    assert "b" in problems[1].field
    assert (problems[2].field, problems[2].limit) == ("step", 1 << 20)
    assert await entries(client, op.name) == []


async def test_more_entries_than_the_limit_are_refused(open_client, store):
    client = await open_client(store, limits=lro.Limits(entries=3))
    problems = []

    @client.handler("job")
    async def job(op):
        for number in range(3):
            await op.step("it", plain, number, key=number)
        with pytest.raises(lro.PayloadTooLargeError) as caught:
            await op.step("it", plain, 4, key=4)
        problems.append((caught.value.field, caught.value.limit))

    op = await client.start("job")
    await asyncio.wait_for(op.result(), 5)
    assert problems == [("entries", 3)]
    assert len(await entries(client, op.name)) == 3


async def test_a_wait_that_finds_no_room_in_the_journal_fails_the_operation(open_client, store, lro_clock):
    client = await open_client(store, limits=lro.Limits(entries=1))

    @client.handler("job")
    async def job(op):
        await op.step("it", plain, 1)
        await op.sleep("nap", 60)

    op = await client.start("job")
    await until(lambda: store.inner.read([op.name])[0].entries == 1)
    await lro_clock.advance(1)
    with pytest.raises(lro.OperationFailedError, match="entries"):
        await asyncio.wait_for(op.result(), 5)


async def test_steps_belong_into_the_handler(client):
    """Not in the function of a step, not outside, not after the end, not on another loop."""
    problems, leaked = [], []

    @client.handler("job")
    async def job(op):
        leaked.append(op)

        async def nested():
            for begin in (
                op.step("inner", plain, 1), op.sleep("s", 1), op.receive("t"), op.call("job", key="k"), op.join([]),
            ):  # fmt: skip
                with pytest.raises(RuntimeError, match="the function of step 'outer' cannot") as caught:
                    await begin
                problems.append(caught.value)

        await op.step("outer", nested)
        with pytest.raises(RuntimeError, match="loop"):
            await asyncio.to_thread(lambda: asyncio.run(op.step("elsewhere", plain, 1)))

    op = await client.start("job")
    await asyncio.wait_for(op.result(), 5)
    assert len(problems) == 5
    with pytest.raises(RuntimeError, match="inside the operation's handler"):
        await op.step("outside", plain, 1)
    with pytest.raises(RuntimeError, match="until it has ended"):
        await leaked[0].step("late", plain, 1)
    assert [entry.name for entry in await entries(client, op.name)] == ["outer"]


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("", {}, "1 to 128"), ("a\nb", {}, "printable"), ("x" * 129, {}, "1 to 128"), ("s", {"key": ""}, "key"),
        ("s", {"key": "a\nb"}, "key"), ("s", {"timeout": -1}, "timeout"), ("s", {"timeout": float("inf")}, "timeout"),
        ("s", {"key": 1.5}, "key"), ("s", {"key": True}, "key"),
    ],
)  # fmt: skip
async def test_a_malformed_step_is_refused(client, name, options, problem):
    calls = Calls()

    @client.handler("job")
    async def job(op):
        with pytest.raises((ValueError, TypeError), match=problem):
            await op.step(name, calls, 1, **options)

    await asyncio.wait_for((await client.start("job")).result(), 5)
    assert calls.seen == []


@pytest.mark.slow
async def test_a_stored_step_is_progress(open_client, tmp_path, lro_clock, abandon):
    """A long handler is not given up because it met five crashes, each of them further on."""
    store = lro.SqliteStore(f"sqlite:///{tmp_path}/operations.db")

    async def life(crashes):
        client = await open_client(f"sqlite:///{tmp_path}/operations.db", max_attempts=3)

        @client.handler("job")
        async def job(op):
            for number in range(crashes + 1):
                await op.step("it", plain, number, key=number)
                if number == crashes:
                    await asyncio.Event().wait()
            return crashes

        return client

    client = await life(0)
    op = await client.start("job")
    store.open()
    await until(lambda: store.read([op.name])[0].entries == 1)
    for crashes in range(1, 6):
        abandon(client)
        client = await life(crashes)
        while store.read([op.name])[0].entries < crashes + 1:
            await lro_clock.advance(10)
        assert store.read([op.name])[0].attempt == 1
    store.close()


class TestAStepThatWasBegunIsLetEnd:
    """It may have been paid for: its result is kept before the end or the retry of its operation is stored."""

    @pytest.mark.parametrize("group", ["gather", "TaskGroup"])
    async def test_where_a_sibling_fails(self, open_client, store, row, group):
        client = await open_client(store, drain_timeout=30)
        go, begun, ended = asyncio.Event(), asyncio.Event(), []

        async def slow():
            begun.set()
            await go.wait()
            ended.append(1)
            return "paid"

        async def broken():
            await begun.wait()
            raise RuntimeError("no")

        @client.handler("job")
        async def job(op):
            if group == "gather":
                await asyncio.gather(op.step("slow", slow), op.step("broken", broken))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(op.step("slow", slow))
                tasks.create_task(op.step("broken", broken))

        op = await client.start("job")
        await begun.wait()
        await all_blocked()
        assert row(op.name).state == "RUNNING"
        go.set()
        with pytest.raises(lro.OperationFailedError):
            await asyncio.wait_for(op.result(), 5)
        assert ended == [1]
        assert [entry.name for entry in await entries(client, op.name)] == ["slow"]

    async def test_but_not_for_ever(self, open_client, store):
        client = await open_client(store, drain_timeout=0.05)
        cleaned = []

        async def stuck():
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(1)

        @client.handler("job")
        async def job(op):
            await asyncio.gather(op.step("stuck", stuck), op.step("broken", Calls(RuntimeError("no")), 1))

        with pytest.raises(lro.OperationFailedError):
            await asyncio.wait_for((await client.start("job")).result(), 5)
        assert cleaned == [1]

    async def test_and_one_that_waits_for_its_next_try_is_not_waited_for(self, open_client, store):
        client = await open_client(store, drain_timeout=30)
        calls = Calls(lro.RetryLater(after=1000))

        @client.handler("job")
        async def job(op):
            resting = asyncio.create_task(op.step("resting", calls, 1))
            await until(lambda: calls.seen)
            await asyncio.sleep(0)
            with contextlib.suppress(RuntimeError):
                await op.step("broken", Calls(RuntimeError("no")), 1)
            raise RuntimeError(resting)

        with pytest.raises(lro.OperationFailedError):
            await asyncio.wait_for((await client.start("job")).result(), 5)


async def test_a_cancel_reaches_the_step_that_is_under_way(client):
    cleaned, begun = [], asyncio.Event()

    async def long():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("step")

    @client.handler("job")
    async def job(op):
        try:
            await op.step("long", long)
        finally:
            cleaned.append("handler")

    op = await client.start("job")
    await begun.wait()
    await client.cancel_operation(op.name)
    with pytest.raises(lro.OperationCancelledError):
        await asyncio.wait_for(op.result(), 5)
    assert cleaned == ["step", "handler"]


class TestWhereAWriteFails:
    async def test_a_result_waits_for_the_store(self, client, store, lro_clock):
        calls = Calls()

        @client.handler("job")
        async def job(op) -> int:
            return await op.step("double", calls, 1)

        store.fail("apply", nth=2)
        op = await client.start("job")
        await until(lambda: calls.seen)
        await lro_clock.advance(1)
        assert await asyncio.wait_for(op.result(), 5) == 2
        assert calls.seen == [1]

    async def test_a_lost_answer_is_no_second_entry(self, client, store, lro_clock):
        calls = Calls()

        @client.handler("job")
        async def job(op) -> int:
            return await op.step("double", calls, 1)

        store.fail("apply", when="after", nth=2)
        op = await client.start("job")
        await until(lambda: calls.seen)
        await lro_clock.advance(1)
        assert await asyncio.wait_for(op.result(), 5) == 2
        assert calls.seen == [1]
        assert len(await entries(client, op.name)) == 1

    async def test_who_has_lost_the_lease_stores_nothing(self, client, store, row):
        begun, go = asyncio.Event(), asyncio.Event()

        async def slow():
            begun.set()
            await go.wait()
            return 1

        @client.handler("job")
        async def job(op):
            return await asyncio.shield(asyncio.ensure_future(op.step("slow", slow)))

        op = await client.start("job")
        await begun.wait()
        from lro_aio.core.change import Change

        store.inner.apply([Change(op.name, lambda record: record.evolve(claim=record.claim + 1, owner="another"))])
        go.set()
        await until(lambda: not client.engine.worker.running)
        assert row(op.name).entries == 0


async def test_keys_for_the_remote_side_are_stable_and_of_one_step(client):
    keys = []

    @client.handler("job")
    async def job(op):
        keys.append((op.idempotency_key("pay"), op.idempotency_key("pay", 1), op.idempotency_key("other")))
        if len(keys) == 1:
            raise lro.RetryLater(after=0)

    await asyncio.wait_for((await client.start("job")).result(), 5)
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3


async def test_resources_are_for_handlers(open_client, store):
    client = await open_client(store, resources={"pool": 1})
    found = []

    @client.handler("job")
    async def job(op):
        found.append(op.resources)

    op = await client.start("job")
    await asyncio.wait_for(op.result(), 5)
    assert found == [{"pool": 1}]
    with pytest.raises(RuntimeError, match="handler"):
        _ = op.resources
