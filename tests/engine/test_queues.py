"""Operations that wait for a place in a queue: over one store, and over several clients of it."""

import asyncio
import contextlib
import logging
from collections import Counter
from datetime import timedelta

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore

from ..waiting import all_blocked, until
from .over_stores import OVER_STORES

pytestmark = [pytest.mark.usefixtures("queues"), OVER_STORES]


class Work:
    """A handler that runs until it is told to end."""

    def __init__(self, client, queue, name="work", **options):
        self.gates = {}
        self.running = []
        self.began = []
        self.peak = 0

        @client.handler(name, state=str, response=str, queue=queue, **options)
        async def work(op):
            key = op.state
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


@pytest.fixture
def another(tmp_path):
    """``another()``: one more store on one file."""
    return lambda: FaultyStore(lro.SqliteStore(tmp_path / "o.db"))


async def settled(clock):
    await all_blocked()
    await clock.settle()


@pytest.mark.asyncio
async def test_no_more_run_than_the_queue_allows_and_all_end(client, row, lro_clock):
    work = Work(client, lro.Queue("q", running=2))
    ops = [await client.start("work", str(n)) for n in range(6)]
    await until(lambda: len(work.running) == 2)
    await settled(lro_clock)
    assert work.running == ["0", "1"]
    waits = row(ops[3].name)
    assert (waits.state, waits.attempt, waits.retries) == (State.PENDING, 0, 0)
    work.end(*map(str, range(6)))
    assert await asyncio.gather(*ops) == list(map(str, range(6)))
    assert (work.peak, work.began) == (2, list(map(str, range(6))))


@pytest.mark.asyncio
async def test_waiting_takes_no_slot_and_no_task(open_client, store, lro_clock):
    client = await open_client(store, max_running=2)
    work = Work(client, lro.Queue("q", running=1))

    @client.handler("other")
    async def other(op):
        return None

    for n in range(20):
        await client.start("work", str(n))
    await until(lambda: work.running)
    await settled(lro_clock)
    tasks = len(asyncio.all_tasks())
    assert client.engine.slots.free == 1
    for n in range(20, 40):
        await client.start("work", str(n))
    await settled(lro_clock)
    assert len(asyncio.all_tasks()) <= tasks
    await (await client.start("other"))


@pytest.mark.asyncio
async def test_a_place_goes_to_another_client_at_once(open_client, another, lro_clock):
    queue = lro.Queue("q", running=1)
    first, second = await open_client(another()), await open_client(another(), max_running=1)
    mine, theirs = Work(first, queue), Work(second, queue, "theirs")
    await first.start("work", "a")
    await until(lambda: mine.running)
    waits = await second.start("theirs", "b")
    mine.end("a")
    await until(lambda: theirs.running)
    theirs.end("b")
    assert await waits == "b"


@pytest.mark.asyncio
async def test_keys_have_their_own_places_and_take_turns(client, lro_clock):
    work = Work(client, lro.Queue("q", running=3, per_key=1), queue_key=lambda state: state[0])
    for n in range(4):
        await client.start("work", f"a{n}")
    await client.start("work", "b0")
    await client.start("work", "c0", queue_key="b")
    await until(lambda: len(work.running) == 2)
    await settled(lro_clock)
    assert sorted(work.running) == ["a0", "b0"]
    work.end("b0")
    await until(lambda: "c0" in work.running)
    work.end("a0", "a1", "a2", "a3", "c0")
    await until(lambda: len(work.began) == 6)


@pytest.mark.asyncio
async def test_lower_priorities_come_first(client, lro_clock):
    work = Work(client, lro.Queue("q", running=1))
    await client.start("work", "x")
    await until(lambda: work.running)
    ops = [await client.start("work", f"p{n}", priority=n) for n in (3, 1, 2, -1)]
    work.end("x", *(f"p{n}" for n in (3, 1, 2, -1)))
    await asyncio.gather(*ops)
    assert work.began == ["x", "p-1", "p1", "p2", "p3"]


@pytest.mark.asyncio
async def test_a_rate_holds_by_engine_time(client, lro_clock):
    began = []

    @client.handler("work", queue=lro.Queue("q", rate=lro.Rate(2, per=60)))
    async def work(op):
        began.append(lro_clock.time())

    start = lro_clock.time()
    ops = [await client.start("work") for _ in range(5)]
    await until(lambda: len(began) == 2)
    await settled(lro_clock)
    for _ in range(130):
        await lro_clock.advance(1)
    await asyncio.gather(*ops)
    assert [round(time - start) for time in began] == [0, 0, 60, 60, 120]


@pytest.mark.asyncio
async def test_the_operation_keeps_its_place_while_it_waits(client, lro_clock):
    began = []

    @client.handler("work", state=str, queue=lro.Queue("q", running=1, scope="operation"))
    async def work(op):
        began.append(op.state)
        if not op.resume_point:
            return op.suspend(resume_at="on", sleep=60)
        return None

    ops = [await client.start("work", key) for key in "ab"]
    await until(lambda: began)
    await lro_clock.advance(59)
    assert began == ["a"]
    await lro_clock.advance(1)
    await ops[0]
    await until(lambda: began == ["a", "a", "b"])
    await lro_clock.advance(60)
    await ops[1]


@pytest.mark.asyncio
async def test_a_run_gives_its_place_back_while_the_operation_waits(client, lro_clock):
    began = []

    @client.handler("work", state=str, queue=lro.Queue("q", running=1))
    async def work(op):
        began.append((op.state, op.resume_point, op.wake_reason))
        if not op.resume_point:
            return op.suspend(resume_at="on", sleep=60)
        return None

    ops = [await client.start("work", key) for key in "ab"]
    await until(lambda: len(began) == 2)
    await lro_clock.advance(60)
    await asyncio.gather(*ops)
    assert sorted(began[2:]) == [("a", "on", "ELAPSED"), ("b", "on", "ELAPSED")]


@pytest.mark.asyncio
@pytest.mark.parametrize("key", ["a", None])
async def test_who_is_rate_limited_puts_its_key_to_rest_for_everybody(client, row, lro_clock, key):
    began = []
    limited = True

    @client.handler("work", state=str, response=str, queue=lro.Queue("q", running=5))
    async def work(op):
        began.append(op.state)
        if limited:
            raise lro.RateLimited(retry_after=timedelta(seconds=30))
        return op.state

    first = await client.start("work", "one", queue_key=key)
    await until(lambda: began == ["one"])
    await settled(lro_clock)
    limited = False
    second = await client.start("work", "two", queue_key=key)
    other = await client.start("work", "three", queue_key="b")
    if key:
        assert await other == "three"
    await lro_clock.advance(29)
    assert began == (["one", "three"] if key else ["one"])
    assert (row(first.name).attempt, row(first.name).retries) == (0, 0)
    await lro_clock.advance(1)
    assert await asyncio.gather(first, second, other) == ["one", "two", "three"]
    assert [kind.kind for kind in await client.history(first.name)].count("RETRIED") == 1


@pytest.mark.asyncio
async def test_without_a_queue_who_is_rate_limited_comes_again_alone(client, row, lro_clock):
    tries = []

    @client.handler("work", retry=lro.RetryPolicy(max_attempts=1))
    async def work(op):
        tries.append(op.attempt)
        if len(tries) < 4:
            raise lro.RateLimited(until=lro_clock.time() + 60)

    op = await client.start("work")
    for n in range(3):
        await until(lambda n=n: len(tries) == n + 1)
        await lro_clock.advance(60)
    await op
    assert tries == [1, 1, 1, 1]


@pytest.mark.asyncio
async def test_a_place_comes_back_with_the_lease_of_a_dead_process(open_client, another, lro_clock, abandon):
    queue, options = lro.Queue("q", running=1), {"lease": lro.LeasePolicy(30)}
    dead = await open_client(another(), **options)
    gone = Work(dead, queue)
    first = await dead.start("work", "a")
    await until(lambda: gone.running)
    lives = await open_client(another(), **options)
    work = Work(lives, queue)
    second = await lives.start("work", "b")
    await settled(lro_clock)
    assert work.running == []
    abandon(dead)
    for _ in range(8):
        await lro_clock.advance(10)
    await until(lambda: work.running)
    assert work.running == ["a"]
    work.end("a", "b")
    assert await (await lives.operation(first.name)).result(str) == "a"
    assert await second == "b"


@pytest.mark.asyncio
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_takes_no_place_too_many(open_client, store, lro_clock, when):
    client = await open_client(store, lease=lro.LeasePolicy(30))
    work = Work(client, lro.Queue("q", running=1))
    ops = [await client.start("work", "x")]
    await until(lambda: work.running)
    ops += [await client.start("work", key) for key in "ab"]
    store.fail("apply", when=when, times=2)
    work.end("x", "a", "b")
    for _ in range(40):
        await lro_clock.advance(5)
        if all([(await client.operation(op.name)).is_done for op in ops]):
            break
    assert await asyncio.gather(*ops) == ["x", "a", "b"]
    assert work.peak == 1
    assert (await client.queues.get("q")).running == 0


@pytest.mark.asyncio
async def test_a_shutdown_gives_places_back_to_other_processes(open_client, another, lro_clock):
    queue = lro.Queue("q", running=1)
    first = lro.Client(another(), clock=lro_clock, drain_timeout=0)
    async with first:
        Work(first, queue)
        op = await first.start("work", "a")
        await until(lambda: first.engine.worker.running)
    second = await open_client(another())
    work = Work(second, queue)
    work.end("a")
    await second.sweep()
    assert await (await second.operation(op.name)).result(str) == "a"


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["cancel", "delete", "pause", "deadline"])
async def test_what_leaves_the_line_is_in_nobodys_way(client, lro_clock, how):
    work = Work(client, lro.Queue("q", running=1))
    first = await client.start("work", "a")
    waits = await client.start("work", "b", deadline=10)
    last = await client.start("work", "c")
    await until(lambda: work.running)
    if how == "cancel":
        await client.cancel_operation(waits.name)
    elif how == "delete":
        await client.delete_operation(waits.name)
    elif how == "pause":
        await client.pause_operation(waits.name)
    else:
        await lro_clock.advance(10)
        with pytest.raises(lro.OperationFailedError, match="deadline"):
            await waits
    work.end("a", "c")
    if how == "delete":
        work.end("b")  # it runs to its end, unseen
    await asyncio.gather(first, last)
    if how == "pause":
        await client.unpause_operation(waits.name)
        work.end("b")
        assert await waits == "b"


@pytest.mark.asyncio
async def test_a_front_end_that_knows_no_handler_starts_what_waits_in_its_queue(open_client, another, row, lro_clock):
    store = another()
    front = await open_client(store, worker=False)
    ops = [await front.start("work", key, queue_key="k", priority=-n) for n, key in enumerate("abc")]
    worker = await open_client(another())
    work = Work(worker, lro.Queue("q", per_key=1))
    await worker.sweep()
    await until(lambda: work.running)
    await settled(lro_clock)
    assert len(work.running) == 1
    assert {row(op.name, store).seat.queue for op in ops} == {"q"}
    work.end("a", "b", "c")
    await until(lambda: len(work.began) == 3)


@pytest.mark.asyncio
async def test_a_key_function_that_fails_refuses_the_start_and_fails_what_others_started(open_client, another, row):
    store = another()
    front = await open_client(store, worker=False)
    op = await front.start("work", "a")
    client = await open_client(another())

    def fails(state):
        raise RuntimeError("a secret")

    Work(client, lro.Queue("q"), queue_key=fails)
    with pytest.raises(ValueError, match=r"queue_key of handler 'work' fails with RuntimeError"):
        await client.start("work", "b")
    await client.sweep()
    await until(lambda: row(op.name, store).done)
    with pytest.raises(lro.OperationFailedError) as failed:
        await (await client.operation(op.name))
    assert (failed.value.code, failed.value.details[0].reason) == (lro.Code.INVALID_ARGUMENT, "QUEUE_KEY")
    assert "secret" not in str(failed.value)


@pytest.mark.asyncio
async def test_what_makes_no_sense_is_refused_at_the_start(client):
    Work(client, lro.Queue("q"))

    @client.handler("free")
    async def free(op):
        return None

    for wrong in ({"queue_key": "k" * 257}, {"queue_key": ""}, {"priority": 1.5}, {"priority": 10**10}):
        with pytest.raises(ValueError, match="must be"):
            await client.start("work", "a", **wrong)
    with pytest.raises(ValueError, match="has none"):
        await client.start("free", priority=1)
    with pytest.raises(TypeError, match="must be a Queue"):
        client.handler("x", queue="q")
    with pytest.raises(TypeError, match="needs a queue"):
        client.handler("x", queue_key=str)


@pytest.mark.asyncio
async def test_two_sizes_of_one_queue_in_one_process_do_not_open(store):
    client = lro.Client(store)
    Work(client, lro.Queue("q", running=1))
    Work(client, lro.Queue("q", running=2), "more")
    with pytest.raises(ValueError, match=r"queue 'q' is declared twice: with running=1, and with running=2"):
        await client.__aenter__()
    assert not client.is_open


@pytest.mark.asyncio
async def test_a_store_without_queues_does_not_open_with_a_handler_that_needs_one():
    old = lro.SqliteStore("sqlite://")
    old.no_queues_reason = "its tables are old"
    client = lro.Client(old)
    Work(client, lro.Queue("q"))
    with pytest.raises(lro.StoreSchemaError, match="its tables are old"):
        await client.__aenter__()


@pytest.mark.asyncio
async def test_of_two_releases_the_strictest_holds_while_both_live(another, lro_clock, caplog):
    options = {"clock": lro_clock, "drain_timeout": 0}
    old = lro.Client(another(), **options)
    Work(old, lro.Queue("q", running=1))
    async with contextlib.AsyncExitStack() as stack, contextlib.AsyncExitStack() as life_of_old:
        await life_of_old.enter_async_context(old)
        new = lro.Client(another(), **options)
        work = Work(new, lro.Queue("q", running=3))
        with caplog.at_level(logging.WARNING, "lro_aio"):
            await stack.enter_async_context(new)
        (told,) = [record for record in caplog.records if record.event == "queue_differs"]
        assert "running=3" in told.getMessage()
        assert "running=1" in told.getMessage()
        assert (await new.queues.get("q")).bounds == lro.Bounds(running=1)
        await old.queues.set("q", running=2)
        assert (await new.queues.get("q")).bounds == lro.Bounds(running=2)
        await old.queues.unset("q")
        await life_of_old.aclose()
        assert (await new.queues.get("q")).bounds == lro.Bounds(running=3)
        del work


@pytest.mark.asyncio
async def test_a_queue_is_seen_set_and_paused_while_it_runs(client, lro_clock):
    work = Work(client, lro.Queue("q", running=1))
    with pytest.raises(LookupError, match="no queue 'other'"):
        await client.queues.set("other", running=3)
    await client.sweep()
    for n in range(5):
        await client.start("work", str(n), queue_key="k")
    await until(lambda: work.running)
    await settled(lro_clock)
    (seen,) = await client.queues.list()
    assert (seen.running, seen.waiting, seen.bounds.running) == (1, 4, 1)
    assert seen.keys == (lro.KeyStatus(key="k", waiting=4, running=1),)
    await client.queues.set("q", running=3)
    await until(lambda: len(work.running) == 3)
    await client.queues.pause("q")
    work.end(*map(str, range(5)))
    await until(lambda: not work.running)
    await settled(lro_clock)
    assert len(work.began) == 3
    assert (await client.queues.unpause("q")).paused is False
    await until(lambda: len(work.began) == 5)
    with pytest.raises(ValueError, match="running must be"):
        await client.queues.set("q", running=0)


@pytest.mark.asyncio
async def test_a_rerun_waits_in_the_same_line(client, row, lro_clock):
    work = Work(client, lro.Queue("q", running=1))
    first = await client.start("work", "a", queue_key="k", priority=3)
    work.end("a")
    await first
    again = await client.rerun_operation(first.name)
    assert row(again.name).seat == row(first.name).seat
    await again


@pytest.mark.asyncio
async def test_operations_without_a_queue_ask_no_queue(client, store, lro_clock):
    @client.handler("free")
    async def free(op):
        return None

    await (await client.start("free"))
    await client.sweep()
    assert Counter(store.calls)["line"] == Counter(store.calls)["change_queue"] == 0


@pytest.mark.asyncio
async def test_all_that_a_key_may_start_when_its_time_comes_start(client, lro_clock):
    began = []

    @client.handler("work", queue=lro.Queue("q", rate_per_key=lro.Rate(3, per=60)))
    async def work(op):
        began.append(lro_clock.time())

    await client.sweep()
    ops = [await client.start("work", queue_key="k") for _ in range(9)]
    for _ in range(121):
        await lro_clock.advance(1)
    await asyncio.gather(*ops)
    assert [round(time - began[0]) for time in began] == [0, 0, 0, 60, 60, 60, 120, 120, 120]


@pytest.mark.asyncio
async def test_what_waits_in_a_queue_that_a_release_has_given_up_is_served_on(another, open_client, lro_clock):
    async with lro.Client(another(), clock=lro_clock, drain_timeout=0) as old:
        Work(old, lro.Queue("q", running=1))
        await old.sweep()
        await old.queues.pause("q")
        ops = [await old.start("work", key) for key in "ab"]
        await old.queues.unpause("q")
    new = await open_client(another())
    work = Work(new, None)
    work.end("a", "b")
    await new.sweep()
    assert await asyncio.gather(*[(await new.operation(op.name)).result(str) for op in ops]) == ["a", "b"]
    assert work.peak == 1


@pytest.mark.asyncio
async def test_a_claim_that_comes_too_late_for_a_place_is_not_repeated(open_client, store, lro_clock, caplog):
    client = await open_client(store, max_running=2)
    work = Work(client, lro.Queue("q", running=1), deadline=3600)
    busy = Work(client, None, "busy")
    await asyncio.gather(client.start("work", "first"), client.start("busy", "other"))
    await until(lambda: work.running and busy.running)
    late = await client.start("work", "late")  # no slot: nobody has claimed it yet
    record = await client.server_host.record(late.name)
    assert (record.claim, record.check_time) == (0, record.deadline)
    busy.end("other")
    await until(lambda: client.engine.slots.free)
    await settled(lro_clock)
    writes = store.calls["apply"]
    assert await client.engine.worker.claim(record, client.handlers.get("work")) is None
    await settled(lro_clock)
    assert store.calls["apply"] == writes + 1
    assert not caplog.records
    work.end("first", "late")
    assert await late == "late"


@pytest.mark.parametrize("deadline", [None, 3600])
@pytest.mark.asyncio
async def test_a_description_says_in_which_queue_it_waits(client, deadline):
    work = Work(client, lro.Queue("q", running=1), deadline=deadline)
    first, second = await client.start("work", "1"), await client.start("work", "2")
    await until(lambda: work.running)
    assert (await client.describe(second.name)).waits_for == "for a place in the queue q"
    work.end("1", "2")
    await asyncio.gather(first, second)
    assert (await client.describe(second.name)).waits_for == ""


@pytest.mark.asyncio
async def test_what_is_run_again_waits_in_the_queue_that_its_handler_has_by_then(open_client, another, row):
    first = another()
    client = await open_client(first)
    work = Work(client, lro.Queue("before", running=1))
    work.end("1")
    op = await client.start("work", "1", queue_key="ada", priority=3)
    await op
    assert row(op.name, first).seat.queue == "before"
    await client.queues.pause("before")
    await client.aclose()
    second = another()
    client = await open_client(second)
    work = Work(client, lro.Queue("now", running=1))
    again = await client.rerun_operation(op.name)
    await until(lambda: work.running)
    seat = row(again.name, second).seat
    assert (seat.queue, seat.key, seat.priority) == ("now", "ada", 3)
    work.end("1")
    await again


@pytest.mark.asyncio
@pytest.mark.parametrize("call", ["queues", "change_queue"])
async def test_a_client_opens_though_the_store_does_not_answer_for_its_queues(open_client, another, lro_clock, call):
    """They are declared as soon as it does, and nobody has a place until then."""
    store = another()
    handlers = lro.Handlers()

    @handlers.handler("work", state=str, response=str, queue=lro.Queue("q", running=1))
    async def work(op) -> str:
        return op.state

    store.fail(call)
    client = await open_client(store, handlers=[handlers])
    op = await client.start("work", "x")
    await lro_clock.advance(60)
    assert await op.result() == "x"
    assert [queue.name for queue in await client.queues.list()] == ["q"]
