"""``dispatch="scheduler"``: every run happens inside a wake-up of a scheduler that works elsewhere."""

import asyncio
import math

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.errors import OperationBusyError, WorkerUnavailableError
from lro_aio.core.record import State
from lro_aio.testing.scheduler_contract import SchedulerContract

from ..receiver import receiving, response
from ..waiting import reached, until

HORIZON = 6 * 3600.0


class Elsewhere:
    """What a remote scheduler's service keeps: waits by name, which it works off when a test says so."""

    def __init__(self, clock):
        self.clock = clock
        self.waits = {}
        self.log = []
        self.client = None
        self.broken = None
        self.automatic = False
        self.numbers = iter(range(10_000))

    async def work(self):
        """Wake what is due, once each; says whether anything was."""
        worked = False
        for record in list(self.waits.values()):
            try:
                reason = await self._due(record)
            except RuntimeError:
                continue  # the service is down; it is asked again
            if reason is not None:
                worked = True
                del self.waits[record.name]
                pending = [] if reason is not lro.WakeReason.CHILDREN_TIMEOUT else list(record.wait.children)
                try:
                    woken = await self.client.resume(record.name, record.wait.token, reason=reason, pending=pending)
                    self.log.append(("resume", record.name, woken))
                except (OperationBusyError, WorkerUnavailableError, RuntimeError):
                    self.waits[record.name] = record
        return worked

    async def _due(self, record):
        now = self.clock.time()
        wait = record.wait.plan(now)
        if now < wait.sleep_until:
            return None
        if not wait.children:
            return lro.WakeReason.ELAPSED
        states = []
        for child in wait.children:
            try:
                states.append((await self.client.get_operation(child)).done)
            except lro.OperationNotFoundError:
                states.append(True)
        if all(states) or (wait.some and any(states)):
            return lro.WakeReason.CHILDREN_DONE
        late = wait.deadline is not None and now >= wait.deadline
        return lro.WakeReason.CHILDREN_TIMEOUT if late else None


class Remote:
    """``lro_aio.ports.Scheduler`` over ``Elsewhere``."""

    local = False
    horizon = HORIZON

    def __init__(self, elsewhere):
        self.elsewhere = elsewhere

    async def open(self, host):
        self.host = host

    async def close(self):
        pass

    async def schedule(self, record):
        if self.elsewhere.broken is not None:
            raise self.elsewhere.broken
        if record.wait.plan(self.elsewhere.clock.time()) is None:
            return None
        self.elsewhere.log.append(("schedule", record.name, record.resume_point))
        self.elsewhere.waits[record.name] = record
        return f"wait-{next(self.elsewhere.numbers)}"

    async def cancel(self, record):
        self.elsewhere.log.append(("cancel", record.name, record.schedule_handle))
        self.elsewhere.waits.pop(record.name, None)


LOOK = 5.0
"""Seconds between two looks of what works elsewhere; half of what it may be late by."""


class TestRemoteScheduler(SchedulerContract):
    """The suite holds for a scheduler that works elsewhere, too."""

    poll_slack = 2 * LOOK

    @pytest.fixture
    def elsewhere(self, lro_clock):
        return Elsewhere(lro_clock)

    @pytest.fixture
    def make_scheduler(self, elsewhere):
        self._elsewhere = elsewhere
        return lambda: Remote(elsewhere)

    def connect(self, scheduler, client):
        scheduler.elsewhere.client = client

    async def advance(self, clock, seconds):
        end = clock.time() + seconds
        for _ in range(max(1, math.ceil(seconds / LOOK))):
            await clock.advance(min(LOOK, end - clock.time()))
            for _ in range(3):
                if not await self._elsewhere.work():
                    break
                await clock.settle()


@pytest.fixture
def elsewhere(lro_clock):
    return Elsewhere(lro_clock)


@pytest.fixture
def handlers():
    registry = lro.Handlers()

    @registry.handler("steps", state=dict, resume_points=("on",))
    async def steps(op):
        assert not op.dev_mode
        if op.resume_point == "":
            return op.suspend(resume_at="on", **op.state) if op.state else None
        return wrappers_pb2.StringValue(value=op.wake_reason)

    return registry


@pytest.fixture
def remote(open_client, elsewhere, handlers, store):
    async def make(store=store, **options):
        client = await open_client(store, scheduler=Remote(elsewhere), handlers=[handlers], **options)
        if "sweep" not in options:  # it would hand over again what is due, before the hand-over is noted
            await client.engine.sweeper.stop()
        elsewhere.client = client
        return client

    return make


@pytest.mark.asyncio
async def test_the_first_run_is_handed_over_and_runs_in_a_wake_up(remote, elsewhere, lro_clock, row):
    client = await remote()
    op = await client.start("steps")
    await lro_clock.settle()
    handed = row(op.name)
    assert (handed.state, handed.claim, handed.handover) == (State.PENDING, 0, 1)
    assert handed.schedule_handle == "wait-0"
    assert handed.check_time == lro_clock.time() + HORIZON
    await elsewhere.work()
    await asyncio.wait_for(op.result(), 5)
    assert elsewhere.log == [("schedule", op.name, ""), ("resume", op.name, True)]


@pytest.mark.asyncio
async def test_every_suspend_is_handed_over(remote, elsewhere, lro_clock, row):
    client = await remote()
    op = await client.start("steps", {"sleep": 100})
    await elsewhere.work()
    await lro_clock.settle()
    assert (row(op.name).state, row(op.name).handover) == (State.SUSPENDED, 1)
    await lro_clock.advance(100)
    assert row(op.name).state is State.SUSPENDED, "only the scheduler wakes it"
    await elsewhere.work()
    result = await asyncio.wait_for(op.result(wrappers_pb2.StringValue), 5)
    assert result.value == lro.WakeReason.ELAPSED
    assert [entry[0] for entry in elsewhere.log] == ["schedule", "resume", "schedule", "resume"]


@pytest.mark.asyncio
async def test_a_lost_hint_is_repaired_by_a_sweep_after_its_time(remote, elsewhere, lro_clock, row):
    client = await remote()
    op = await client.start("steps", {"sleep": 100})
    await elsewhere.work()
    await lro_clock.settle()
    elsewhere.waits.clear()
    await lro_clock.advance(99)
    await client.sweep()
    assert not elsewhere.waits
    await lro_clock.advance(2)
    await client.sweep()
    assert list(elsewhere.waits) == [op.name]
    assert row(op.name).handover == 2
    elsewhere.waits.clear()
    await client.sweep()
    assert not elsewhere.waits, "handed over again, it has its time again"
    await lro_clock.advance(HORIZON)
    await client.sweep()
    await elsewhere.work()
    await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_a_lost_first_run_is_repaired_too(remote, elsewhere, lro_clock):
    client = await remote()
    op = await client.start("steps")
    elsewhere.waits.clear()
    await lro_clock.advance(HORIZON + 1)
    await client.sweep()
    await elsewhere.work()
    await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_a_duplicate_hint_has_nothing_to_do(remote, elsewhere, lro_clock):
    client = await remote()
    op = await client.start("steps")
    hints = [elsewhere.waits[op.name]] * 3
    for record in hints:
        elsewhere.waits[op.name] = record
        await elsewhere.work()
        await lro_clock.settle()
    assert [entry[2] for entry in elsewhere.log if entry[0] == "resume"] == [True, False, False]


@pytest.mark.parametrize("error", [lro.SchedulerUnavailableError("quota"), OSError("reset"), KeyError("a defect")])
@pytest.mark.asyncio
async def test_a_scheduler_that_refuses_is_asked_again_with_back_off(remote, elsewhere, lro_clock, row, error):
    client = await remote()
    elsewhere.broken = error
    op = await client.start("steps")
    waits = []
    for _ in range(6):
        waits.append(row(op.name).check_time - lro_clock.time())
        await lro_clock.advance(waits[-1])
        await client.sweep()
    assert waits == [5, 10, 20, 40, 60, 60]
    elsewhere.broken = None
    await lro_clock.advance(60)
    await client.sweep()
    await elsewhere.work()
    await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_a_cancel_is_passed_to_the_scheduler_best_effort(remote, elsewhere, lro_clock, row):
    client = await remote()
    op = await client.start("steps", {"sleep": 100})
    await elsewhere.work()
    await lro_clock.settle()
    handle = row(op.name).schedule_handle
    await op.cancel()
    assert ("cancel", op.name, handle) in elsewhere.log
    assert not elsewhere.waits
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_front_end_hands_over_what_it_starts(remote, elsewhere, lro_clock, open_client, tmp_path):
    store = lro.SqliteStore(tmp_path / "ops.db")
    front = await remote(store, worker=False)
    op = await front.start("steps")
    assert list(elsewhere.waits) == [op.name]
    await remote(lro.SqliteStore(tmp_path / "ops.db"))
    await elsewhere.work()
    assert (await asyncio.wait_for(front.wait_operation(op.name), 5)).done


@pytest.mark.asyncio
async def test_a_child_and_a_retry_are_handed_over_as_well(remote, elsewhere, lro_clock):
    client = await remote()
    runs = []

    @client.handler("child", retry=lro.RetryPolicy(jitter=0))
    async def child(op):
        runs.append(op.attempt)
        if len(runs) == 1:
            raise lro.RetryLater(after=10)

    @client.handler("parent", resume_points=("on",))
    async def parent(op):
        if op.resume_point == "":
            return op.suspend(resume_at="on", children=[(await op.start_child("child", key="c")).name])
        return None

    op = await client.start("parent")
    for _ in range(15):
        await elsewhere.work()
        await lro_clock.advance(1)
    await asyncio.wait_for(op.result(), 5)
    assert runs == [1, 1]
    # The two first runs, the child's retry, the parent's wait, and once more at the child's end: it is pushed.
    assert [entry[0] for entry in elsewhere.log].count("schedule") == 5


@pytest.mark.asyncio
async def test_a_clean_up_is_handed_over(remote, elsewhere, lro_clock, row):
    client = await remote()
    points = []

    @client.handler("tidy", resume_points=("on",), on_cancel="cleanup")
    async def tidy(op):
        points.append(op.resume_point)
        return op.suspend(resume_at="on", sleep=1000) if op.resume_point == "" else None

    op = await client.start("tidy")
    await elsewhere.work()
    await lro_clock.settle()
    await op.cancel()
    assert points == [""]
    await elsewhere.work()
    await lro_clock.settle()
    assert points == ["", "cleanup"]
    assert row(op.name).state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_wait_whose_operation_ends_while_it_is_handed_over_is_taken_back(remote, elsewhere, lro_clock, row):
    client = await remote()
    op = await client.start("steps", {"sleep": 100})
    await elsewhere.work()
    await lro_clock.settle()
    before = len([entry for entry in elsewhere.log if entry[0] == "cancel"])
    schedule = client.scheduler.schedule

    async def ends_meanwhile(record):
        handle = await schedule(record)
        await op.cancel()
        return handle

    client.scheduler.schedule = ends_meanwhile
    await client.engine.dispatcher.hand_over(row(op.name))
    assert row(op.name).state is State.CANCELLED
    assert len([entry for entry in elsewhere.log if entry[0] == "cancel"]) == before + 2


@pytest.mark.asyncio
async def test_a_wake_up_stays_until_it_may_take_what_a_dead_process_left(open_client, lro_clock, tmp_path, abandon):
    """Each may come to a process that has just begun, and that stands still as soon as it is answered."""
    runs = []
    handlers = lro.Handlers()

    @handlers.handler("work")
    async def work(op):
        runs.append(op.claim)
        if op.claim == 1:
            await asyncio.Event().wait()

    elsewhere = Elsewhere(lro_clock)

    async def process():
        options = {"handlers": [handlers], "scheduler": Remote(elsewhere), "sweep": lro.SweepPolicy(interval=3600)}
        return await open_client(f"sqlite:///{tmp_path}/ops.db", **options)

    first = await process()
    op = await first.start("work")
    await lro_clock.settle()
    record = elsewhere.waits[op.name]
    assert await first.resume(op.name, record.wait.token)
    await lro_clock.settle()
    abandon(first)
    second = await process()
    with pytest.raises(OperationBusyError):
        await second.resume(op.name, record.wait.token)
    await lro_clock.advance(3600)
    third = await process()
    waking = asyncio.create_task(third.resume(op.name, record.wait.token))
    await lro_clock.settle()
    assert not waking.done()
    await lro_clock.advance(16)
    assert await waking
    await lro_clock.settle()
    assert runs == [1, 2]


@pytest.mark.asyncio
async def test_a_delivery_runs_in_a_wake_up_too(remote, elsewhere, lro_clock, row):
    """Where there is no CPU between two requests, it is not sent there either."""
    async with receiving() as receiver:
        client = await remote(webhooks=receiver.rules())
        op = await client.create(lease=False, webhook=lro.Webhook(receiver.url))
        visitor = await client.operation(op.name)
        await visitor.done(wrappers_pb2.StringValue(value="x"))
        await until(lambda: elsewhere.waits)
        (name,) = elsewhere.waits
        assert not receiver.requests
        receiver.answers = [response(500)]
        await elsewhere.work()
        record = await reached(client, name, "SUSPENDED")
        assert record.wait.sleep_until == lro_clock.time() + 5
        await until(lambda: elsewhere.waits)
        await lro_clock.advance(5)
        await elsewhere.work()
        await reached(client, name, "SUCCEEDED")
        assert len({request.id for request in receiver.requests}) == 1
        assert len(receiver.requests) == 2


async def _worked_off(elsewhere, client, clock, condition):
    for _ in range(20):
        if condition():
            return
        await elsewhere.work()
        await client.sweep()
        await clock.settle()
    raise AssertionError(elsewhere.log)


@pytest.mark.usefixtures("queues")
@pytest.mark.asyncio
async def test_what_waits_in_a_queue_is_handed_over_when_there_is_a_place(remote, elsewhere, handlers, lro_clock, row):
    gates, running = {name: asyncio.Event() for name in "abc"}, []

    @handlers.handler("queued", state=str, queue=lro.Queue("q", running=1))
    async def queued(op):
        running.append(op.state)
        await gates[op.state].wait()

    client = await remote(sweep=lro.SweepPolicy(interval=3600))
    ops = {name: await client.start("queued", name) for name in "abc"}
    await _worked_off(elsewhere, client, lro_clock, lambda: running)
    await _worked_off(elsewhere, client, lro_clock, lambda: not elsewhere.waits)
    assert running == ["a"]
    assert [row(ops[name].name).state for name in "bc"] == [State.PENDING] * 2
    gates["a"].set()
    await ops["a"]
    await _worked_off(elsewhere, client, lro_clock, lambda: running == ["a", "b"])
    gates["b"].set()
    gates["c"].set()
    await ops["b"]
    await _worked_off(elsewhere, client, lro_clock, lambda: len(running) == 3)
    await ops["c"]


@pytest.mark.usefixtures("queues")
@pytest.mark.asyncio
async def test_a_step_that_waits_in_a_queue_is_woken_through_the_scheduler(remote, elsewhere, handlers, lro_clock, row):
    gates, running = {name: asyncio.Event() for name in "ab"}, []

    async def call(name):
        running.append(name)
        await gates[name].wait()

    @handlers.handler("calls", state=str)
    async def calls(op):
        await op.step("call", call, op.state, queue=lro.Queue("q", running=1))

    client = await remote(linger=0, sweep=lro.SweepPolicy(interval=3600))
    ops = {"a": await client.start("calls", "a")}
    await _worked_off(elsewhere, client, lro_clock, lambda: running)
    ops["b"] = await client.start("calls", "b")
    await _worked_off(elsewhere, client, lro_clock, lambda: row(ops["b"].name).state is State.SUSPENDED)
    assert running == ["a"]
    gates["a"].set()
    gates["b"].set()
    await ops["a"]
    await lro_clock.advance(1)
    await _worked_off(elsewhere, client, lro_clock, lambda: running == ["a", "b"])
    await ops["b"]
