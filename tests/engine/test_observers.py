"""Observers are told what happens, once and in order; what they do harms nobody."""

import asyncio
import logging
from typing import get_args

import pytest
from google.rpc import status_pb2
from opentelemetry import metrics, trace

import lro_aio as lro
from lro_aio import moments
from lro_aio.core.change import Change
from lro_aio.core.record import Record, State
from lro_aio.engine.observing import Observing

from ..waiting import PATIENCE, reached, until


class Notes:
    """Keeps every moment, and gives a trace context where one is asked for."""

    def __init__(self, given=""):
        self.seen = []
        self.given = given

    def observe(self, moment):
        self.seen.append(moment)
        return self.given

    def of(self, *kinds):
        return [moment for moment in self.seen if isinstance(moment, kinds)]


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def lro_options(notes):
    return {"observers": [notes], "telemetry": False}


@pytest.fixture
def lro_handlers():
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("awake",))
    async def nap(op):
        return op.suspend(resume_at="awake", sleep=60) if not op.resume_point else None

    @handlers.handler("fail")
    async def fail(op):
        raise ValueError("not for everybody")

    @handlers.handler("flaky", retry=lro.RetryPolicy(on=(OSError,), max_attempts=3, initial_delay=10, jitter=0))
    async def flaky(op):
        raise OSError("away")

    @handlers.handler("steps")
    async def steps(op):
        async def once(value):
            return value

        await op.step("one", once, 1)
        return await op.step("two", once, 2, key="b")

    @handlers.handler("listen")
    async def listen(op):
        return await op.receive("news")

    @handlers.handler("parent")
    async def parent(op):
        return await op.call("steps", key="child")

    return handlers


def names(seen):
    return [type(moment).__name__ for moment in seen]


@pytest.mark.asyncio
async def test_a_life_is_told_in_order(lro_client, lro_clock, notes):
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("nap")
        await lro_client.until(op, "SUSPENDED")
        await lro_clock.advance(60)
        await lro_client.until(op)
    life = names(notes.of(*(set(moments.Moment.__args__) - {moments.Committed, moments.Swept})))
    assert life == [
        "StartBegan", "Started", "StartEnded", "RunBegan", "Suspended", "RunEnded", "RunBegan", "Ended", "RunEnded",
    ]  # fmt: skip
    first, second = notes.of(moments.RunEnded)
    assert (first.outcome, second.outcome) == ("SUSPENDED", "SUCCEEDED")
    assert (first.began.wake, second.began.wake) == (None, lro.WakeReason.ELAPSED)
    assert (first.began.late, second.began.late) == (None, 0.0)
    assert (first.began.resume_point, second.began.resume_point) == ("", "awake")
    (ended,) = notes.of(moments.Ended)
    assert (ended.outcome, ended.seconds, ended.handler) == ("SUCCEEDED", 60.0, "nap")


@pytest.mark.asyncio
async def test_a_failure_names_the_type_and_not_the_text(lro_client, notes):
    async with asyncio.timeout(PATIENCE):
        await lro_client.until(await lro_client.start("fail"))
    (run,), (ended,) = notes.of(moments.RunEnded), notes.of(moments.Ended)
    assert (run.outcome, run.error) == ("FAILED", "ValueError")
    assert (ended.outcome, ended.code) == ("FAILED", "UNKNOWN")
    assert "not for everybody" not in repr(notes.seen)


@pytest.mark.asyncio
async def test_a_run_that_runs_again_is_a_retry(lro_client, lro_clock, notes):
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("flaky")
        await lro_client.until(op, "SUSPENDED")
        await lro_clock.advance(10)
        await lro_client.until(op, "SUSPENDED", "FAILED")
    first, second = notes.of(moments.RunEnded)[:2]
    assert (first.outcome, first.error, second.began.retries) == ("RETRIED", "OSError", 1)
    retried = notes.of(moments.Retried)[0]
    assert (retried.retries, retried.delay) == (1, 10.0)


@pytest.mark.asyncio
async def test_steps_messages_and_children_are_told(lro_client, notes):
    async with asyncio.timeout(PATIENCE):
        await lro_client.until(await lro_client.start("parent"))
        listening = await lro_client.start("listen")
        await lro_client.send(listening.name, "news", "payload")
        await lro_client.until(listening)
        with pytest.raises(lro.OperationDoneError):
            await lro_client.send(listening.name, "news", "late")
    steps = [(moment.began.step, moment.began.key, moment.began.attempt) for moment in notes.of(moments.StepEnded)]
    assert steps == [("one", "", 1), ("two", "b", 1)]
    child = notes.of(moments.StartBegan)[1]
    assert (child.handler, child.parent_operation) == ("steps", notes.of(moments.StartBegan)[0].name)
    assert [sent.error for sent in notes.of(moments.SendEnded)] == ["", "OperationDoneError"]
    (received,) = notes.of(moments.Received)
    assert (received.handler, received.topic) == ("listen", "news")


@pytest.mark.asyncio
async def test_a_start_that_is_repeated_or_refused_makes_nothing(lro_client, notes):
    async with asyncio.timeout(PATIENCE):
        first = await lro_client.start("nap", request_id="r")
        again = await lro_client.start("nap", request_id="r")
        with pytest.raises(lro.OperationAlreadyExistsError):
            await lro_client.start("nap", {"another": 1}, request_id="r")
    assert first.name == again.name
    assert [(ended.new, ended.error) for ended in notes.of(moments.StartEnded)] == [
        (True, ""), (False, ""), (False, "OperationAlreadyExistsError"),
    ]  # fmt: skip
    assert len(notes.of(moments.Started)) == 1
    await until(lambda: sum(committed.refused for committed in notes.of(moments.Committed)) == 1)


@pytest.mark.asyncio
async def test_who_ended_it_does_not_matter(lro_client, notes):
    """A cancel of one that waits, an operation that its creator drives, and one that is deleted before its end."""
    async with asyncio.timeout(PATIENCE):
        waits, goes = await lro_client.start("nap"), await lro_client.create(lease=False)
        await lro_client.until(waits, "SUSPENDED")
        await lro_client.cancel_operation(waits.name)
        await lro_client.cancel_operation(waits.name)
        await (await lro_client.create()).fail(lro.OperationNotFoundError("operations/other"))
        await lro_client.delete_operation(goes.name)
    told = [(ended.handler, ended.outcome, ended.code, ended.reason) for ended in notes.of(moments.Ended)]
    assert told == [
        ("nap", "CANCELLED", "CANCELLED", "CANCELLED"),
        ("", "FAILED", "NOT_FOUND", "OPERATION_NOT_FOUND"),
        ("", "DELETED", "", ""),
    ]


@pytest.mark.asyncio
async def test_what_a_dead_process_had_is_taken_over(open_client, tmp_path, abandon, lro_clock):
    ran = asyncio.Event()
    handlers = lro.Handlers()

    @handlers.handler("job")
    async def job(op):
        ran.set()
        await asyncio.Event().wait() if op.attempt == 1 else None

    dead, heir, url = Notes(), Notes(), f"sqlite:////{tmp_path}/operations.db"
    async with asyncio.timeout(PATIENCE):
        first = await open_client(url, handlers=[handlers], observers=[dead], telemetry=False)
        op = await first.start("job")
        await ran.wait()
        second = await open_client(url, handlers=[handlers], observers=[heir], telemetry=False)
        abandon(first)
        while not (await second.get_operation(op.name)).done:
            await lro_clock.advance(5)
    (taken,) = heir.of(moments.TakenOver)
    assert taken.owner == first.engine.settings.owner
    (run,) = heir.of(moments.RunEnded)
    assert (run.began.takeover, run.began.attempt, run.outcome) == (True, 2, "SUCCEEDED")


@pytest.mark.asyncio
async def test_a_run_whose_operation_is_anothers_by_now_lost_its_lease(lro_client, notes):
    began = asyncio.Event()

    @lro_client.handler("held")
    async def held(op):
        began.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("held")
        await began.wait()
        run = next(iter(lro_client.engine.worker.running.values()))
        lro_client.engine.worker.lose(run.holder)
        await until(lambda: notes.of(moments.LeaseLost))
    (ended,) = notes.of(moments.RunEnded)
    assert (ended.outcome, notes.of(moments.LeaseLost)[0].name) == ("LEASE_LOST", op.name)


@pytest.mark.asyncio
async def test_an_operation_that_is_driven_by_hand_may_lose_its_lease_too(open_client, tmp_path, lro_clock, notes):
    url = f"sqlite:////{tmp_path}/operations.db"
    async with asyncio.timeout(PATIENCE):
        client = await open_client(url, observers=[notes], telemetry=False)
        op = await client.create()
        client.store.apply([Change(op.name, lambda row: row.evolve(claim=row.claim + 1))])
        while not notes.of(moments.LeaseLost):
            await lro_clock.advance(5)
    assert [lost.name for lost in notes.of(moments.LeaseLost)] == [op.name]


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        ("raises", "KeyError"),
        ("fails", "DATA_LOSS"),
        ("group", "KeyError"),
        ("late", "DEADLINE_EXCEEDED"),
        ("long", "TimeoutError"),
    ],
)
@pytest.mark.asyncio
async def test_a_failed_run_says_why_it_failed(lro_client, lro_clock, notes, handler, error):
    @lro_client.handler("raises")
    async def raises(op):
        raise KeyError

    @lro_client.handler("fails")
    async def fails(op):
        await op.fail(status_pb2.Status(code=lro.Code.DATA_LOSS.value, message="gone"))

    @lro_client.handler("group")
    async def group(op):
        raise ExceptionGroup("both", [KeyError(), KeyError()])

    @lro_client.handler("late", deadline=5)
    async def late(op):
        await asyncio.Event().wait()

    @lro_client.handler("long", run_timeout=5)
    async def long(op):
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start(handler)
        await until(lambda: notes.of(moments.RunBegan))
        await lro_clock.advance(5)
        await lro_client.until(op)
        await until(lambda: notes.of(moments.RunEnded))
    (ended,) = notes.of(moments.RunEnded)
    assert (ended.outcome, ended.error) == ("FAILED", error)


@pytest.mark.asyncio
async def test_transactions_and_looks_are_told(lro_client, notes):
    async with asyncio.timeout(PATIENCE):
        await lro_client.until(await lro_client.start("steps"))
        await until(lambda: notes.of(moments.Swept))
    assert all(committed.changes >= 1 and committed.seconds >= 0 for committed in notes.of(moments.Committed))
    assert sum(committed.changes for committed in notes.of(moments.Committed)) >= 4
    assert notes.of(moments.Swept)[0].age == 0.0


@pytest.mark.asyncio
async def test_a_step_is_timed_and_a_look_tells_how_late_the_oldest_is(notes, lro_clock):
    observing = Observing([notes], lro_clock)
    with pytest.raises(KeyError), observing.step("operations/a", "h", "s", "", 1):
        await lro_clock.advance(3)
        raise KeyError
    (ended,) = notes.of(moments.StepEnded)
    assert (ended.seconds, ended.error) == (3.0, "KeyError")
    columns = {"uid": "u", "state": State.PENDING, "create_time": 1.0, "update_time": 1.0}
    observing.swept([Record(name=f"operations/{at}", check_time=at, **columns) for at in (7.0, 4.0)], 9.0)
    (swept,) = notes.of(moments.Swept)
    assert (swept.due, swept.age) == (2, 5.0)


@pytest.mark.asyncio
async def test_an_observer_that_raises_is_logged_once_and_harms_nothing(open_client, caplog):
    class Faulty:
        def observe(self, moment):
            raise asyncio.CancelledError if isinstance(moment, moments.RunBegan) else ZeroDivisionError

    handlers, others = lro.Handlers(), Notes()

    @handlers.handler("job")
    async def job(op):
        return None

    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=[handlers], observers=[Faulty(), others], telemetry=False)
        await (await client.start("job")).result()
        await (await client.start("job")).result()
        await until(lambda: len(others.of(moments.RunEnded)) == 2)
    failed = [record for record in caplog.records if record.event == "observer_failed"]
    assert [record.levelno for record in failed] == [logging.ERROR]


@pytest.mark.asyncio
async def test_what_an_observer_gives_is_kept_for_the_next_run(open_client, lro_clock, row, store):
    """Also across two suspends. The first one's counts; what is no text, or too long for a row, is none."""
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("again", "awake"))
    async def nap(op):
        following = {"": "again", "again": "awake"}.get(op.resume_point)
        return op.suspend(resume_at=following, sleep=1) if following else op.traceparent

    class Wrong:
        def observe(self, moment):
            return 3 if isinstance(moment, moments.StartBegan) else "x" * 257

    given, later = Notes("given"), Notes("later")
    async with asyncio.timeout(PATIENCE):
        client = await open_client(store, handlers=[handlers], observers=[Wrong(), given, later], telemetry=False)
        op = await client.start("nap", traceparent="caller")
        for _ in range(2):
            await reached(client, op.name, "SUSPENDED")
            assert row(op.name).wait.traceparent == "given"
            await lro_clock.advance(1)
        assert await (await client.operation(op.name, response=str)).result() == "given"
    assert given.of(moments.StartBegan)[0].traceparent == "caller"
    assert [began.before for began in given.of(moments.RunBegan)] == ["", "given", "given"]
    assert [began.traceparent for began in given.of(moments.RunBegan)] == ["given"] * 3


@pytest.mark.asyncio
async def test_runs_that_are_cancelled_paused_deleted_or_given_back_say_so(open_client, lro_clock, notes):
    handlers, began = lro.Handlers(), []

    @handlers.handler("held", on_cancel="undo")
    async def held(op):
        began.append(op.name)
        if not op.resume_point:
            await asyncio.Event().wait()

    @handlers.handler("wrong", pause_on_failure=True)
    async def wrong(op):
        raise KeyError

    @handlers.handler("gone")
    async def gone(op):
        await op.client.delete_operation(op.name)

    async def ends(count):
        await until(lambda: len(notes.of(moments.RunEnded)) == count)

    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=handlers, observers=[notes], telemetry=False)
        cancelled = await client.start("held")
        await until(lambda: began)
        await client.cancel_operation(cancelled.name)
        await ends(2)
        await client.start("wrong")
        await ends(3)
        await client.start("gone")
        await ends(4)
        await client.start("held")
        await until(lambda: len(began) == 3)
        await client.aclose()
    told = [(ended.outcome, ended.error, ended.began.wake) for ended in notes.of(moments.RunEnded)]
    assert told == [
        ("CLEANUP", "", None),
        ("CANCELLED", "", lro.WakeReason.CANCEL_REQUESTED),
        ("PAUSED", "KeyError", None),
        ("DELETED", "", None),
        ("RELEASED", "", None),
    ]


def test_what_is_no_observer_is_refused_when_the_client_is_made():
    with pytest.raises(TypeError, match="an observer must have a method observe"):
        lro.Client("sqlite://", observers=[print])
    with pytest.raises(TypeError, match="telemetry must be True, False or a Telemetry, not 'on'"):
        lro.Client("sqlite://", telemetry="on")


async def through_all(client, clock):
    """An operation that steps, hears of a message, waits and fails once, with a sweep at its side."""

    async def step():
        return 1

    failed = []

    @client.handler("all", retry=lro.RetryPolicy(on=(OSError,), initial_delay=1, jitter=0))
    async def everything(op):
        await op.step("step", step)
        await op.receive("news")
        if not failed:
            failed.append(1)
            raise OSError
        await op.sleep("rest", 60)

    op = await client.start("all")
    await client.send(op.name, "news", "told")
    while not (await client.get_operation(op.name)).done:
        await clock.advance(5)
    await client.sweep()
    return op


SPANS = {
    moments.StartBegan, moments.StartEnded, moments.StepBegan, moments.StepEnded, moments.SendBegan, moments.SendEnded
}  # fmt: skip
WAITS = {moments.Suspended, moments.Retried, moments.Received}
METRICS = {
    moments.Started, moments.Ended, moments.LeaseLost, moments.TakenOver, moments.Committed, moments.Swept
}  # fmt: skip


@pytest.mark.parametrize(
    ("providers", "unwanted"),
    [
        ({}, WAITS),
        ({"tracer_provider": trace.NoOpTracerProvider()}, WAITS | SPANS),
        ({"meter_provider": metrics.NoOpMeterProvider()}, WAITS | METRICS),
    ],
    ids=["both", "metrics", "spans"],
)
@pytest.mark.asyncio
async def test_what_telemetry_does_not_want_is_not_made(
    open_client, lro_clock, monkeypatch, caplog, providers, unwanted
):
    made = set()
    for kind in get_args(moments.Moment):

        def init(self, *, _kind=kind, _init=kind.__init__, **fields):
            made.add(_kind)
            _init(self, **fields)

        monkeypatch.setattr(kind, "__init__", init)
    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=lro.Handlers(), telemetry=lro.Telemetry(**providers))
        await (await through_all(client, lro_clock)).result()
        await until(lambda: not client.engine.worker.running)
    assert made.isdisjoint(unwanted)
    assert made >= {moments.RunBegan, moments.RunEnded}
    assert not [record for record in caplog.records if record.event == "observer_failed"]


@pytest.mark.asyncio
async def test_one_beside_telemetry_is_told_everything(open_client, lro_clock, notes):
    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=lro.Handlers(), observers=[notes], telemetry=lro.Telemetry())
        await (await through_all(client, lro_clock)).result()
        await until(lambda: len(notes.of(moments.RunEnded)) == 3)
    assert {type(moment) for moment in notes.seen} >= (SPANS | WAITS | METRICS) - {
        moments.LeaseLost,
        moments.TakenOver,
    }


@pytest.mark.asyncio
async def test_a_telemetry_with_an_observe_of_its_own_is_told_everything(open_client, lro_clock):
    seen = []

    class Mine(lro.Telemetry):
        def observe(self, moment):
            seen.append(type(moment))
            return super().observe(moment)

    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=lro.Handlers(), telemetry=Mine())
        await (await through_all(client, lro_clock)).result()
    assert set(seen) >= WAITS


def test_a_telemetry_with_a_constructor_of_its_own_wants_everything():
    class Mine(lro.Telemetry):
        def __init__(self):
            """It takes nothing from the class that it is made of but the name."""

        def observe(self, moment):
            """Nothing is kept."""

    assert moments.wanted_by([Mine()]) == set(get_args(moments.Moment))
