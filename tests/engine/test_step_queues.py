"""Steps that wait for a place in a queue."""

import asyncio
from collections import Counter

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore

from ..waiting import all_blocked, durably_suspended, until
from .over_stores import OVER_STORES

pytestmark = [pytest.mark.usefixtures("queues"), OVER_STORES]

RETRY = lro.RetryPolicy(max_attempts=3, on=(RuntimeError,), initial_delay=60, jitter=0)


class Calls:
    """Calls that last until they are told to end."""

    def __init__(self):
        self.gates = {}
        self.running = []
        self.began = []
        self.peak = 0

    async def __call__(self, key):
        self.running.append(key)
        self.began.append(key)
        self.peak = max(self.peak, len(self.running))
        try:
            await self.gates.setdefault(key, asyncio.Event()).wait()
        finally:
            self.running.remove(key)
        return key

    def end(self, *keys):
        for key in keys:
            self.gates.setdefault(key, asyncio.Event()).set()


def serve(client, call, queue, **options):
    """A handler that makes its calls in steps, side by side."""

    @client.handler("work", state=list[str], response=list[str])
    async def work(op):
        steps = (op.step("call", call, key, key=key, queue=queue, result_type=str, **options) for key in op.state)
        return list(await asyncio.gather(*steps))


async def settled(clock):
    await all_blocked()
    await clock.settle()


@pytest.fixture
def another(tmp_path):
    """``another()``: one more store on one file."""
    return lambda: FaultyStore(lro.SqliteStore(tmp_path / "o.db"))


@pytest.mark.asyncio
async def test_no_more_calls_run_than_the_queue_allows_in_all_operations_together(client, lro_clock):
    call = Calls()
    serve(client, call, lro.Queue("q", running=3))
    ops = [await client.start("work", [f"{n}{key}" for key in "abcd"]) for n in range(3)]
    await until(lambda: len(call.running) == 3)
    await settled(lro_clock)
    assert len(call.running) == 3
    call.end(*(f"{n}{key}" for n in range(3) for key in "abcd"))
    await asyncio.gather(*ops)
    assert call.peak == 3
    assert Counter(call.began).most_common(1)[0][1] == 1  # none is made twice
    assert ((await client.queues.get("q")).running, (await client.queues.get("q")).waiting) == (0, 0)


@pytest.mark.asyncio
async def test_who_waits_for_a_place_holds_no_process_and_is_woken_when_there_is_one(client, row, lro_clock):
    call = Calls()
    serve(client, call, lro.Queue("q", running=1))
    first = await client.start("work", ["a"])
    await until(lambda: call.running == ["a"])
    second = await client.start("work", ["b"])
    waits = await durably_suspended(client, second.name, lro_clock)
    assert (waits.attempt, waits.retries) == (0, 0)
    assert (await client.queues.get("q")).waiting == 1
    described = await client.describe(second.name)
    assert described.waits_for == "for a place in the queue q; then the start"
    assert [(place.queue, place.held) for place in described.queues] == [("q", False)]
    assert described.timeline[-1].label == "for a place in the queue q"
    call.end("a")
    await first
    await lro_clock.advance(1)
    await until(lambda: call.running == ["b"])
    call.end("b")
    assert await second == ["b"]


@pytest.mark.asyncio
async def test_another_process_wakes_and_runs_what_waits(open_client, another, lro_clock):
    queue, call = lro.Queue("q", running=1), Calls()
    first, second = await open_client(another()), await open_client(another())
    for one in (first, second):
        serve(one, call, queue)
    holds = await first.start("work", ["a"])
    await until(lambda: call.running == ["a"])
    waits = await second.start("work", ["b"])
    await durably_suspended(second, waits.name, lro_clock)
    await second.drain(0)
    call.end("a")
    assert await holds == ["a"]
    for _ in range(5):
        await lro_clock.advance(1)
    await until(lambda: call.running == ["b"])
    call.end("b")
    assert await (await first.operation(waits.name)).result() == ["b"]


@pytest.mark.asyncio
async def test_a_place_of_a_step_comes_back_with_the_lease_of_a_dead_process(open_client, another, lro_clock, abandon):
    queue, options = lro.Queue("q", running=1), {"lease": lro.LeasePolicy(30)}
    gone, call = Calls(), Calls()
    dead = await open_client(another(), **options)
    serve(dead, gone, queue)
    first = await dead.start("work", ["a"])
    await until(lambda: gone.running)
    lives = await open_client(another(), **options)
    serve(lives, call, queue)
    second = await lives.start("work", ["b"])
    await settled(lro_clock)
    assert call.running == []
    abandon(dead)
    for _ in range(8):
        await lro_clock.advance(10)
    call.end("a", "b")
    for _ in range(3):
        await lro_clock.advance(1)
    assert await (await lives.operation(first.name)).result() == ["a"]
    assert await second == ["b"]
    assert call.peak == 1


@pytest.mark.asyncio
async def test_a_failed_step_gives_its_place_back_also_while_it_waits_for_its_next_try(client, lro_clock):
    tries = []

    async def call(key):
        tries.append(key)
        if tries.count(key) < 2:
            raise RuntimeError("flaky")
        return key

    serve(client, call, lro.Queue("q", running=1), retry=RETRY)
    ops = [await client.start("work", [key]) for key in "ab"]
    await until(lambda: sorted(tries) == ["a", "b"])
    for _ in range(62):
        await lro_clock.advance(1)
    assert await asyncio.gather(*ops) == [["a"], ["b"]]
    assert sorted(tries[2:]) == ["a", "b"]  # both at the same moment


@pytest.mark.asyncio
async def test_an_exception_that_the_handler_catches_gives_the_place_back(client, lro_clock):
    queue = lro.Queue("q", running=1)

    async def fails():
        raise RuntimeError("no")

    @client.handler("work", response=str)
    async def work(op):
        with pytest.raises(RuntimeError, match="no"):
            await op.step("first", fails, queue=queue)
        return await op.step("second", asyncio.sleep, 0, "done", queue=queue, result_type=str)

    assert await (await client.start("work")) == "done"


@pytest.mark.asyncio
async def test_a_step_that_is_rate_limited_puts_its_key_to_rest_for_everybody(client, row, lro_clock):
    began, limited = [], True

    async def call(key):
        began.append(key)
        if limited:
            raise lro.RateLimited(retry_after=30)
        return key

    serve(client, call, lro.Queue("q", running=5), queue_key="peer")
    first = await client.start("work", ["a"])
    await until(lambda: began == ["a"])
    await settled(lro_clock)
    limited = False
    second = await client.start("work", ["b"])
    for _ in range(29):
        await lro_clock.advance(1)
    assert began == ["a"]
    assert row(first.name).state is State.SUSPENDED
    assert (await client.queues.get("q")).keys[0].waiting == 2
    for _ in range(3):
        await lro_clock.advance(1)
    assert await asyncio.gather(first, second) == [["a"], ["b"]]
    assert sorted(began) == ["a", "a", "b"]


@pytest.mark.asyncio
async def test_a_rate_of_calls_holds(client, lro_clock):
    began = []

    async def call(key):
        began.append(lro_clock.time())
        return key

    start = lro_clock.time()
    serve(client, call, lro.Queue("q", rate=lro.Rate(2, per=10)))
    op = await client.start("work", list("abcdef"))
    for _ in range(40):
        await settled(lro_clock)
        await lro_clock.advance(1)
    await op
    times = [time - start for time in began]
    assert all(b - a >= 10 for a, b in zip(times, times[2:], strict=False)), times
    assert times[-1] < 30


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_an_operation_that_ends_takes_its_steps_out_of_the_line(client, lro_clock, how):
    call = Calls()
    serve(client, call, lro.Queue("q", running=1))
    first = await client.start("work", ["a"])
    await until(lambda: call.running)
    waits = await client.start("work", ["b"])
    await durably_suspended(client, waits.name, lro_clock)
    last = await client.start("work", ["c"])
    if how == "cancel":
        await client.cancel_operation(waits.name)
    else:
        await client.delete_operation(waits.name)
    call.end("a", "b", "c")
    await first
    for _ in range(3):
        await lro_clock.advance(1)
    assert await last == ["c"]


@pytest.mark.asyncio
async def test_a_run_that_goes_another_way_leaves_the_line(client, lro_clock):
    call, way = Calls(), "queue"

    @client.handler("work", state=str, response=str)
    async def work(op):
        if op.state == "holds" or way == "queue":
            return await op.step("call", call, op.state, queue=lro.Queue("q", running=1), result_type=str)
        return await op.receive("end", str)

    first = await client.start("work", "holds")
    await until(lambda: call.running)
    other = await client.start("work", "other")
    await durably_suspended(client, other.name, lro_clock)
    last = await client.start("work", "holds")
    await durably_suspended(client, last.name, lro_clock)
    way = "message"
    call.end("holds")
    await first
    for _ in range(5):
        await lro_clock.advance(1)
        await settled(lro_clock)
    assert await last == "holds"
    await client.send(other.name, "end", "ended")
    await lro_clock.advance(1)
    assert await other == "ended"


@pytest.mark.asyncio
async def test_what_makes_no_sense_is_refused(client):
    async def call():
        return None

    refused = []

    @client.handler("work")
    async def work(op):
        for options in ({"queue_key": "k"}, {"queue": lro.Queue("q"), "queue_key": "k" * 257}):
            try:
                await op.step("call", call, **options)
            except ValueError as exc:
                refused.append(str(exc))
        await op.step("one", call, queue=lro.Queue("q", running=1))
        try:
            await op.step("two", call, queue=lro.Queue("q", running=2))
        except ValueError as exc:
            refused.append(str(exc))

    await (await client.start("work"))
    assert [text.split(" ", 2)[0] for text in refused] == ["queue_key", "queue_key", "queue"]
    assert "declared twice" in refused[-1]


@pytest.mark.parametrize("result", [b"x" * 2000, object()], ids=["too large", "of no type that can be kept"])
@pytest.mark.asyncio
async def test_a_result_that_cannot_be_kept_gives_the_place_back(open_client, store, result):
    client = await open_client(store, limits=lro.Limits(step=1000))
    gate, queue = asyncio.Event(), lro.Queue("q", running=1)

    async def gives():
        return result

    @client.handler
    async def goes_on(op: lro.Operation[None]) -> None:
        with pytest.raises(lro.LroError):
            await op.step("call", gives, queue=queue)
        await gate.wait()

    call = Calls()
    serve(client, call, queue)
    first = await client.start(goes_on)
    call.end("a")
    assert await (await client.start("work", ["a"])) == ["a"]
    gate.set()
    await first
