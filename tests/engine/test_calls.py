"""``op.call`` and ``op.join``: children as awaited functions, durably."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from types import FrameType

import pytest

import lro_aio as lro
from lro_aio.engine import blocked

from ..waiting import reached, until

pytestmark = pytest.mark.asyncio


@dataclass
class Sum:
    total: int


@pytest.fixture
def children(client):
    """Handlers of children: one that answers, one that fails, one that waits for a message."""

    @client.handler("double", state=int)
    async def double(op) -> Sum:
        return Sum(op.state * 2)

    @client.handler("broken")
    async def broken(op):
        raise lro.OperationFailedError("no luck", code=lro.Code.OUT_OF_RANGE)

    @client.handler("patient")
    async def patient(op) -> dict:
        return await op.receive("go", dict)

    return double


async def test_a_call_returns_what_the_child_does(client, children):
    found = []

    @client.handler("job")
    async def job(op):
        found.append(await op.call(children, 4, key="a"))
        found.append(await op.call("double", 5, key="b"))
        found.append(await op.call("double", 6, key="c", response_type=dict))

    op = await client.start("job")
    await asyncio.wait_for(op.result(), 5)
    assert found == [Sum(8), Sum(10), {"total": 12}]


async def test_it_raises_what_the_child_fails_with(client, children):
    caught = []

    @client.handler("job")
    async def job(op):
        with pytest.raises(lro.OperationFailedError) as found:
            await op.call("broken", key="a")
        caught.append(found.value)

    await asyncio.wait_for((await client.start("job")).result(), 5)
    assert (caught[0].code, caught[0].message) == (lro.Code.OUT_OF_RANGE, "no luck")


async def test_a_child_that_was_cancelled_or_deleted(client, children, lro_clock):
    caught = []

    @client.handler("job")
    async def job(op):
        caught.extend(
            await asyncio.gather(*(op.call("patient", key=key) for key in ("a", "b")), return_exceptions=True)
        )

    op = await client.start("job")
    await until(lambda: len(client.engine.worker.running) == 3)
    await lro_clock.advance(2)
    (first, second) = (await reached(client, op.name, "SUSPENDED")).wait.children
    await client.cancel_operation(first)
    await client.delete_operation(second)
    await lro_clock.advance(1)
    await asyncio.wait_for(op.result(), 5)
    assert [type(exc).__name__ for exc in caught] == ["OperationCancelledError", "NotFoundError"]


async def test_a_long_child_holds_no_process_of_its_parent(client, children, lro_clock):
    runs = []

    @client.handler("job")
    async def job(op) -> dict:
        runs.append(1)
        return await op.call("patient", key="a")

    op = await client.start("job")
    await until(lambda: client.engine.host.lingering)
    await lro_clock.advance(2)
    (child,) = (await reached(client, op.name, "SUSPENDED")).wait.children
    await lro_clock.advance(86400)
    await client.send(child, "go", {"x": 1})
    assert await asyncio.wait_for(op.result(), 5) == {"x": 1}
    assert runs == [1, 1]
    assert (await client.get_operation(child)).done


async def test_a_timeout_of_a_call_stays_so_and_the_child_goes_on(client, children, lro_clock):
    found = []

    @client.handler("job")
    async def job(op):
        try:
            await op.call("patient", key="a", timeout=60)
        except lro.WaitDeadlineExceededError as exc:
            found.append(exc.pending)
        await op.receive("end")

    op = await client.start("job")
    await until(lambda: client.engine.host.lingering)
    await lro_clock.advance(62)
    await until(lambda: found)
    await lro_clock.advance(2)
    await reached(client, op.name, "SUSPENDED")
    await client.send(found[0][0], "go", {})
    await lro_clock.advance(2)
    await client.send(op.name, "end")
    await asyncio.wait_for(op.result(), 5)
    assert len(found) == 2
    assert found[0] == found[1]


async def test_a_join_hands_back_what_has_ended(client, children, lro_clock):
    found = []

    @client.handler("job")
    async def job(op):
        kids = [await op.start_child("double", n, key=str(n)) for n in range(3)]
        kids.append(await op.start_child("broken", key="x"))
        found.append(await op.join([*kids, "operations/none"]))
        found.append(await op.join([]))

    op = await client.start("job")
    await asyncio.wait_for(op.result(), 5)
    done, nothing = found
    assert nothing == []
    assert [operation.WhichOneof("result") for operation in done] == ["response"] * 3 + ["error"] * 2
    assert done[4].error.code == lro.Code.NOT_FOUND


async def test_a_join_times_out_with_what_there_is(client, children, lro_clock):
    caught = []

    @client.handler("job")
    async def job(op):
        quick = await op.start_child("double", 1, key="1")
        slow = await op.start_child("patient", key="2")
        for _ in range(2):  # each has its own time
            try:
                await op.join([quick, slow], timeout=60)
            except lro.WaitDeadlineExceededError as exc:
                caught.append((exc.pending, [operation.name for operation in exc.finished], lro_clock.time()))

    op = await client.start("job")
    began = lro_clock.time()
    for _ in range(130):
        await lro_clock.advance(1)
    await asyncio.wait_for(op.result(), 5)
    assert len(caught[0][0]) == len(caught[0][1]) == 1
    assert caught[0][2] - began == pytest.approx(60, abs=2)
    assert caught[-1][2] - began == pytest.approx(120, abs=4)


async def test_an_operation_cannot_join_itself(client):
    @client.handler("job")
    async def job(op):
        with pytest.raises(ValueError, match="itself"):
            await op.join([op])

    await asyncio.wait_for((await client.start("job")).result(), 5)


async def test_names_of_more_children_than_the_limit_are_refused(open_client, store):
    client = await open_client(store, limits=lro.Limits(children=100))
    names = [(await client.create(lease=False)).name for _ in range(3)]
    caught = []

    @client.handler("job")
    async def job(op):
        with pytest.raises(lro.PayloadTooLargeError) as found:
            await op.join(names, timeout=1)
        caught.append(found.value.field)

    await asyncio.wait_for((await client.start("job")).result(), 5)
    assert caught == ["children"]


@pytest.mark.slow
async def test_a_fan_out_over_a_thousand_calls_enters_the_handler_a_few_times(open_client, store):
    client = await open_client(store, clock=None, drain_timeout=5, max_running=64)
    entered = []

    @client.handler("part", state=int)
    async def part(op) -> int:
        await asyncio.sleep(0.01)
        return op.state

    @client.handler("all")
    async def everything(op) -> int:
        entered.append(1)
        return sum(await asyncio.gather(*(op.call(part, n, key=str(n)) for n in range(1000))))

    began = time.monotonic()
    op = await client.start("all")
    assert await asyncio.wait_for(op.result(), 50) == sum(range(1000))
    assert len(entered) <= 15 + (time.monotonic() - began), "at most once a second, after the first ones"


async def test_a_single_slot_is_enough(open_client, store):
    """A parent that waits for its children gives them its slot, at once."""
    client = await open_client(store, clock=None, drain_timeout=5, max_running=1)

    @client.handler("part", state=int)
    async def part(op) -> int:
        return op.state

    @client.handler("all")
    async def everything(op) -> int:
        return sum(await asyncio.gather(*(op.call(part, n, key=str(n)) for n in range(20))))

    op = await client.start("all")
    assert await asyncio.wait_for(op.result(), 30) == sum(range(20))


async def test_to_look_whether_a_handler_only_waits_takes_no_longer_for_each_of_many_calls(open_client, store):
    """Where others want the slot, it is looked at as soon as a wait begins: not once for each of a thousand."""
    client = await open_client(store, clock=None, drain_timeout=5, max_running=4)

    @client.handler("part", state=int)
    async def part(op) -> None:
        pass

    @client.handler("all", state=int)
    async def everything(op) -> None:
        await asyncio.gather(*(op.call(part, n, key=str(n)) for n in range(op.state)))

    async def looked_at(calls: int) -> float:
        """Tasks that were looked at, for each call."""
        looks = 0

        def count(frame: FrameType, happened: str, _: object) -> None:
            nonlocal looks
            looks += happened == "call" and frame.f_code is blocked.is_blocked.__code__

        sys.setprofile(count)
        try:
            op = await client.start("all", calls)
            await asyncio.wait_for(op.result(), 30)
        finally:
            sys.setprofile(None)
        return looks / calls

    assert await looked_at(300) < 3 * max(await looked_at(30), 3)


async def test_the_end_of_a_child_wakes_a_parent_that_another_process_watches(open_client, tmp_path, lro_clock):
    """And where that process is slow to hear of it, the one that ended the child runs the parent."""
    url = f"sqlite:///{tmp_path}/operations.db"
    first, second = await open_client(url), await open_client(url)
    where = []
    for client in (first, second):

        @client.handler("patient")
        async def patient(op):
            await op.receive("go")

        @client.handler("job")
        async def job(op):
            where.append(op.client)
            await op.call("patient", key="a")

    op = await first.start("job")
    await until(lambda: first.engine.host.lingering)
    await lro_clock.advance(2)
    (child,) = (await reached(first, op.name, "SUSPENDED")).wait.children
    await second.send(child, "go")
    await asyncio.wait_for(op.result(), 10)
    assert len(where) == 2
