"""Everything about one operation, as ``client.describe`` tells it."""

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.core.stats import Count


def told(description, *kinds):
    return [(span.kind, span.label, span.outcome) for span in description.timeline if span.kind in kinds or not kinds]


@pytest.mark.asyncio
async def test_a_life_is_a_row_of_spans_without_gaps(client, lro_clock):
    @client.handler(
        "work", resume_points=["collect"], retry=lro.RetryPolicy(on=(ValueError,), initial_delay=5, jitter=0)
    )
    async def work(op):
        if op.resume_point == "collect":
            return wrappers_pb2.Int64Value(value=1)
        if op.retries == 0:
            raise ValueError("not yet")
        await op.wait(sleep=2)
        return op.suspend(resume_at="collect", sleep=60)

    op = await client.start("work")
    for seconds in (5, 2):
        await lro_clock.advance(seconds)
    waiting = await client.describe(op.name)
    assert (waiting.state, waiting.resume_point, waiting.runs) == (State.SUSPENDED, "collect", 2)
    assert waiting.waits_for.startswith("until ")
    assert waiting.timeline[-1].end is None
    await lro_clock.advance(60)
    await op.result()
    description = await client.describe(op.name)
    assert isinstance(description, lro.Description)
    spans = description.timeline
    assert [(span.kind, span.outcome) for span in spans] == [
        ("SEGMENT", "RETRIED"),
        ("WAIT", ""),
        ("SEGMENT", "SUSPENDED"),
        ("WAIT", "ELAPSED"),
        ("SEGMENT", "SUCCEEDED"),
    ]
    assert spans[0].error == "ValueError: not yet"
    assert [span.label for span in spans if span.kind == "SEGMENT"] == ["", "", "collect"]
    assert {span.owner for span in spans if span.kind == "SEGMENT"} == {client.engine.settings.owner}
    assert [before.end for before in spans[:-1]] == pytest.approx([after.start for after in spans[1:]], abs=0.002)
    assert spans[-1].end == description.end_time
    assert description.operation.done
    assert description.history[-1].kind == "SUCCEEDED"


@pytest.mark.asyncio
async def test_steps_sleeps_and_messages_are_told(client, lro_clock):
    tries = []

    async def fetch():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("busy")
        return len(tries)

    @client.handler("straight")
    async def straight(op):
        await op.step("fetch", fetch, retry=lro.RetryPolicy(on=(ValueError,), initial_delay=30, jitter=0))
        await op.sleep("nap", 60)
        await op.receive("go")

    op = await client.start(straight)
    await lro_clock.advance(1)
    failing = await client.describe(op.name)
    assert told(failing, "STEP") == [("STEP", "fetch", "")]
    assert (failing.steps[0].end, failing.steps[0].error, failing.steps[0].attempts) == (None, "ValueError: busy", 1)
    await lro_clock.advance(30)
    await lro_clock.advance(61)
    await client.send(op.name, "go")
    await op.result()
    description = await client.describe(op.name)
    assert told(description, "STEP", "SLEEP", "MESSAGE") == [
        ("STEP", "fetch", "SUCCEEDED"),
        ("SLEEP", "nap", ""),
        ("MESSAGE", "go", ""),
    ]
    [step] = description.steps
    assert step.attempts == 2
    sleep = next(span for span in description.timeline if span.kind == "SLEEP")
    assert sleep.end - sleep.start == pytest.approx(60)
    assert description.entries == 3 + 1


@pytest.mark.asyncio
async def test_a_crash_is_told_with_the_process_that_died(open_client, abandon, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    handlers = lro.Handlers()

    @handlers.handler
    async def work(op):
        if op.attempt == 1:
            await op.wait(sleep=10**6)

    first = await open_client(url, handlers=handlers)
    second = await open_client(url, handlers=handlers)
    op = await first.start(work)
    dead = first.engine.settings.owner
    abandon(first)
    for _ in range(10):
        await lro_clock.advance(30)
    description = await second.describe(op.name)
    assert description.state is State.SUCCEEDED
    assert description.crashes == 1
    assert ("CRASH", dead, "") in told(description)
    assert told(description, "SEGMENT") == [("SEGMENT", "", "CRASHED"), ("SEGMENT", "", "SUCCEEDED")]
    assert description.owners == (dead, second.engine.settings.owner)


@pytest.mark.asyncio
async def test_a_failure_a_pause_and_a_rerun_are_told(client, lro_clock):
    @client.handler("broken", pause_on_failure=True)
    async def broken(op):
        raise KeyError("x")

    @client.handler("nap")
    async def nap(op):
        raise lro.failures.NotFoundError("no bucket")

    op = await client.start(broken)
    await lro_clock.advance(1)
    paused = await client.describe(op.name)
    assert (paused.paused, paused.pause_reason) == (True, "because of the failure")
    assert (paused.problem.code, paused.problem.reason) == ("UNKNOWN", "HANDLER_ERROR")
    assert ("SEGMENT", "", "FAILED") in told(paused)
    assert ("PAUSE", "because of the failure", "") in told(paused)
    ended = await client.start(nap)
    with pytest.raises(lro.OperationFailedError):
        await ended.result()
    again = await client.rerun_operation(ended.name)
    assert (await client.describe(ended.name)).reruns == (again.name,)
    assert (await client.describe(again.name)).rerun_of == ended.name
    problem = (await client.describe(ended.name)).problem
    assert (problem.code, problem.reason, problem.message) == ("NOT_FOUND", "OPERATION_FAILED", "no bucket")


@pytest.mark.asyncio
async def test_children_are_counted_by_state(client, lro_clock):
    @client.handler("child")
    async def child(op):
        if op.state:
            await op.sleep("long", 1000)

    @client.handler("parent")
    async def parent(op):
        for number in range(3):
            await op.start_child("child", bool(number), key=str(number))
        await op.sleep("long", 2000)

    op = await client.start(parent)
    await lro_clock.advance(5)
    description = await client.describe(op.name)
    assert description.children == {State.SUSPENDED: Count(2), State.SUCCEEDED: Count(1)}
    [row] = (await client.list_operations('handler = "child" AND done = true')).operations
    assert (await client.describe(row.name)).parent_operation == op.name


@pytest.mark.asyncio
async def test_a_long_life_is_told_from_where_its_trail_begins(client, lro_clock):
    @client.handler("loop")
    async def loop(op):
        return op.suspend(resume_at="", sleep=1)

    op = await client.start(loop)
    for _ in range(30):
        await lro_clock.advance(1)
    description = await client.describe(op.name)
    assert len(description.timeline) > 15
    assert description.timeline[0].kind != "QUEUED"
    assert description.runs >= 30
    with pytest.raises(lro.OperationNotFoundError):
        await client.describe("operations/never")


@pytest.mark.asyncio
async def test_an_operation_that_its_creator_drives_is_one_segment(client, lro_clock):
    op = await client.create()
    await lro_clock.advance(5)
    driven = await client.describe(op.name)
    assert told(driven) == [("SEGMENT", "", "")]
    assert driven.owners == (client.engine.settings.owner,)
    await op.done()
    assert told(await client.describe(op.name)) == [("SEGMENT", "", "SUCCEEDED")]
