"""The spans of operations: which there are, what belongs together, and that none is open while an operation waits."""

import asyncio

import pytest
from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.record import State, Wake
from lro_aio.testing import TelemetryRecorder

from ..waiting import PATIENCE, reached, until

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def ids(context):
    return context.trace_id, context.span_id


def context_of(span):
    return ids(span.get_span_context())


def links_of(span):
    return [ids(link.context) for link in span.links]


def kept(traceparent):
    _, trace_id, span_id, _ = traceparent.split("-")
    return int(trace_id, 16), int(span_id, 16)


@pytest.fixture
def lro_handlers():
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("again", "awake"))
    async def nap(op):
        following = {"": "again", "again": "awake"}.get(op.resume_point)
        return op.suspend(resume_at=following, sleep=60) if following else None

    @handlers.handler("fail")
    async def fail(op):
        raise ValueError("secret")

    @handlers.handler("flaky", retry=lro.RetryPolicy(on=(OSError,), initial_delay=10, jitter=0))
    async def flaky(op):
        if op.attempt and not tried:
            tried.append(1)
            raise OSError("secret")

    tried = []

    @handlers.handler("listen")
    async def listen(op):
        return await op.receive("news")

    return handlers


@pytest.mark.asyncio
async def test_each_segment_is_a_trace_with_links_to_the_start_and_to_the_segment_before(
    lro_client, lro_clock, lro_telemetry
):
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("nap", traceparent=CALLER)
        for runs in (1, 2, 3):
            await lro_client.until(op, "SUSPENDED", "SUCCEEDED")
            assert len(lro_telemetry.spans("run nap")) == runs  # ended, and so exported: none stays open
            await lro_clock.advance(60)
    start, runs = lro_telemetry.span("start nap"), lro_telemetry.spans("run nap")
    assert (start.kind, start.parent.span_id) == (SpanKind.PRODUCER, 0x00F067AA0BA902B7)
    assert start.get_span_context().trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736
    assert kept((await lro_client.operation(op.name)).traceparent) == context_of(start)
    assert [run.parent for run in runs] == [None] * 3
    assert {run.kind for run in runs} == {SpanKind.CONSUMER}
    assert len({span.get_span_context().trace_id for span in (start, *runs)}) == 4
    assert [links_of(run) for run in runs] == [
        [context_of(start)],
        [context_of(start), context_of(runs[0])],
        [context_of(start), context_of(runs[1])],
    ]
    assert [dict(run.attributes) for run in runs[:2]] == [
        {
            "lro.operation.name": op.name, "lro.handler": "nap", "lro.resume_point": "", "lro.attempt": 1,
            "lro.outcome": "SUSPENDED",
        },
        {
            "lro.operation.name": op.name, "lro.handler": "nap", "lro.resume_point": "again", "lro.attempt": 1,
            "lro.outcome": "SUSPENDED", "lro.wake.reason": "ELAPSED",
        },
    ]  # fmt: skip


@pytest.mark.asyncio
async def test_with_join_parent_all_is_one_trace(open_client, lro_clock, lro_handlers):
    recorder = TelemetryRecorder("parent")
    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=[lro_handlers], telemetry=recorder.telemetry)
        op = await client.start("nap", traceparent=CALLER)
        await reached(client, op.name, "SUSPENDED")
        await lro_clock.advance(60)
        await reached(client, op.name, "SUSPENDED")
    start, runs = recorder.span("start nap"), recorder.spans("run nap")
    assert [run.parent.span_id for run in runs] == [start.get_span_context().span_id] * 2
    assert len({span.get_span_context().trace_id for span in (start, *runs)}) == 1


def test_another_join_is_refused():
    with pytest.raises(ValueError, match="not 'both'"):
        lro.Telemetry(join="both")


@pytest.mark.asyncio
async def test_the_current_span_is_the_parent_unless_a_trace_context_is_given(lro_client, lro_telemetry):
    tracer = lro_telemetry.tracer_provider.get_tracer("test")
    async with asyncio.timeout(PATIENCE):
        with tracer.start_as_current_span("request") as request:
            await lro_client.start("listen")
            await lro_client.start("listen", traceparent=CALLER)
        await lro_client.start("listen", traceparent="garbage")
    below, given, alone = lro_telemetry.spans("start listen")
    assert below.parent.span_id == request.get_span_context().span_id
    assert given.parent.span_id == 0x00F067AA0BA902B7
    assert alone.parent is None


@pytest.mark.asyncio
async def test_what_a_handler_and_its_steps_do_is_below_their_spans(lro_client, lro_handlers, lro_telemetry):
    tracer = lro_telemetry.tracer_provider.get_tracer("library")

    @lro_client.handler("work")
    async def work(op):
        with tracer.start_as_current_span("query"):
            await op.step("fetch", fetch)
        await op.step("plain", plain, key="k")
        await op.start_child("nap", key="child")

    async def fetch():
        with tracer.start_as_current_span("GET"):
            return 1

    def plain():  # in a thread
        with tracer.start_as_current_span("compress"):
            return 2

    async with asyncio.timeout(PATIENCE):
        await lro_client.until(await lro_client.start("work"))
    spans = {span.name: span for span in lro_telemetry.spans()}

    def parent(name):
        parents = [span.name for span in spans.values() if span.context.span_id == spans[name].parent.span_id]
        return parents[0]

    assert [parent(name) for name in ("query", "step fetch", "GET", "step plain", "compress", "start nap")] == [
        "run work", "query", "step fetch", "run work", "step plain", "run work",
    ]  # fmt: skip
    assert spans["step fetch"].attributes["lro.attempt"] == 1
    assert links_of(spans["run nap"])[0] == context_of(spans["start nap"])
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.asyncio
async def test_a_failure_is_an_error_and_says_no_more_than_its_type(lro_client, lro_telemetry):
    async with asyncio.timeout(PATIENCE):
        await lro_client.until(await lro_client.start("fail"))
    run = lro_telemetry.span("run fail")
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, None)
    assert (run.attributes["lro.outcome"], run.attributes["error.type"]) == ("FAILED", "ValueError")
    assert "secret" not in "".join(span.to_json() for span in lro_telemetry.spans())


@pytest.mark.parametrize(
    ("options", "outcome"), [({"pause_on_failure": True}, "PAUSED"), ({"on_failure": "undo"}, "CLEANUP")]
)
@pytest.mark.asyncio
async def test_a_failure_that_does_not_end_the_operation_yet_is_an_error_too(
    lro_client, lro_telemetry, options, outcome
):
    @lro_client.handler("job", **options)
    async def job(op):
        if not op.resume_point:
            raise KeyError

    async with asyncio.timeout(PATIENCE):
        await lro_client.start("job")
        await until(lambda: lro_telemetry.spans("run job"))
    run = lro_telemetry.spans("run job")[0]
    assert (run.status.status_code, run.attributes["error.type"]) == (StatusCode.ERROR, "KeyError")
    assert run.attributes["lro.outcome"] == outcome


@pytest.mark.asyncio
async def test_a_run_is_a_trace_of_its_own_though_the_client_opened_in_one(open_client, lro_handlers, lro_telemetry):
    tracer = lro_telemetry.tracer_provider.get_tracer("test")
    async with asyncio.timeout(PATIENCE):
        with tracer.start_as_current_span("startup"):
            client = await open_client("sqlite://", handlers=[lro_handlers], telemetry=lro_telemetry.telemetry)
        await client.start("fail")
        await until(lambda: lro_telemetry.spans("run fail"))
    assert lro_telemetry.span("run fail").parent is None


@pytest.mark.asyncio
async def test_what_is_logged_of_a_run_names_its_span(lro_client, lro_telemetry, caplog):
    async with asyncio.timeout(PATIENCE):
        await lro_client.until(await lro_client.start("fail"))
    context = lro_telemetry.span("run fail").get_span_context()
    (record,) = [record for record in caplog.records if record.event == "failed"]
    assert (int(record.trace_id, 16), int(record.span_id, 16)) == (context.trace_id, context.span_id)


@pytest.mark.asyncio
async def test_a_retry_is_linked_to_the_run_that_failed(lro_client, lro_clock, lro_telemetry):
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("flaky")
        await lro_client.until(op, "SUSPENDED")
        await lro_clock.advance(10)
        await lro_client.until(op)
    failed, second = lro_telemetry.spans("run flaky")
    assert (failed.attributes["lro.outcome"], failed.attributes["error.type"]) == ("RETRIED", "OSError")
    assert links_of(second) == [context_of(lro_telemetry.span("start flaky")), context_of(failed)]


@pytest.mark.asyncio
async def test_the_tries_of_a_step_are_spans(lro_client, lro_clock, lro_telemetry):
    tries = []

    @lro_client.handler("steps")
    async def steps(op):
        await op.step("pay", pay, retry=lro.RetryPolicy(on=(OSError,), initial_delay=100))

    async def pay():
        tries.append(1)
        if len(tries) < 2:
            raise OSError("secret")

    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("steps")
        await lro_client.until(op, "SUSPENDED")
        await lro_clock.advance(200)
        await lro_client.until(op)
    first, second = lro_telemetry.spans("step pay")
    assert [span.attributes["lro.attempt"] for span in (first, second)] == [1, 2]
    assert (first.status.status_code, first.attributes["error.type"]) == (StatusCode.ERROR, "OSError")
    runs = lro_telemetry.spans("run steps")
    assert [span.parent.span_id for span in (first, second)] == [run.get_span_context().span_id for run in runs]
    assert links_of(runs[1])[-1] == context_of(runs[0])


@pytest.mark.asyncio
async def test_a_message_is_a_span_where_it_is_sent(lro_client, lro_telemetry):
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("listen")
        await lro_client.send(op.name, "news", "secret")
        await lro_client.until(op)
        with pytest.raises(lro.OperationDoneError):
            await lro_client.send(op.name, "news", "late")
    sent, refused = lro_telemetry.spans("send")
    assert (sent.kind, dict(sent.attributes)) == (
        SpanKind.PRODUCER,
        {"lro.operation.name": op.name, "lro.topic": "news"},
    )
    assert refused.attributes["error.type"] == "OperationDoneError"


@pytest.mark.asyncio
async def test_another_process_goes_on_with_the_links_after_a_suspend_and_after_a_crash(
    open_client, tmp_path, abandon, lro_clock
):
    began, recorders = asyncio.Event(), [TelemetryRecorder(), TelemetryRecorder()]
    handlers, url = lro.Handlers(), f"sqlite:////{tmp_path}/operations.db"

    @handlers.handler("job", resume_points=("then",))
    async def job(op):
        if not op.resume_point:
            return op.suspend(resume_at="then", sleep=60)
        if op.attempt == 1:
            began.set()
            await asyncio.Event().wait()
        return None

    async with asyncio.timeout(PATIENCE):
        first = await open_client(url, handlers=[handlers], telemetry=recorders[0].telemetry)
        op = await first.start("job")
        await reached(first, op.name, "SUSPENDED")
        await lro_clock.advance(60)
        await began.wait()
        second = await open_client(url, handlers=[handlers], telemetry=recorders[1].telemetry)
        abandon(first)
        while not (await second.get_operation(op.name)).done:
            await lro_clock.advance(5)
    start, segment = recorders[0].span("start job"), recorders[0].span("run job")
    heir = recorders[1].span("run job")
    assert links_of(heir) == [context_of(start), context_of(segment)]  # the run that died has left no span
    assert (heir.attributes["lro.attempt"], heir.attributes["lro.resume_point"]) == (2, "then")


@pytest.mark.asyncio
async def test_one_that_its_creator_drives_has_a_span_for_its_start(lro_client, lro_telemetry):
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.create()
        await op.done()
    assert lro_telemetry.span("create").attributes["lro.operation.name"] == op.name
    assert kept(op.traceparent) == context_of(lro_telemetry.span("create"))


@pytest.mark.asyncio
async def test_a_start_that_is_refused_ends_its_span_as_an_error(lro_client, lro_telemetry):
    async with asyncio.timeout(PATIENCE):
        await lro_client.start("listen", "a", request_id="r")
        with pytest.raises(lro.OperationAlreadyExistsError):
            await lro_client.start("listen", "b", request_id="r")
    refused = lro_telemetry.spans("start listen")[1]
    assert refused.attributes["error.type"] == "OperationAlreadyExistsError"


@pytest.mark.asyncio
async def test_a_drain_ends_the_span_of_a_run_that_is_given_back(open_client, lro_telemetry):
    handlers, began = lro.Handlers(), asyncio.Event()

    @handlers.handler("held")
    async def held(op):
        began.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=[handlers], telemetry=lro_telemetry.telemetry)
        await client.start("held")
        await began.wait()
        await client.aclose()
    run = lro_telemetry.span("run held")
    assert (run.attributes["lro.outcome"], run.status.status_code) == ("RELEASED", StatusCode.UNSET)


@pytest.mark.asyncio
async def test_a_rerun_is_a_start_in_the_trace_of_the_first_one(lro_client, lro_telemetry):
    async with asyncio.timeout(PATIENCE):
        failed = await lro_client.until(await lro_client.start("fail"))
        again = await lro_client.rerun_operation(failed.name)
        await lro_client.until(again)
    first, second = lro_telemetry.spans("start fail")
    assert second.parent.span_id == first.get_span_context().span_id
    assert kept(again.traceparent) == context_of(second)


@pytest.mark.asyncio
async def test_a_reason_of_a_newer_release_is_told_as_it_is(open_client, store, lro_clock, lro_handlers, caplog):
    recorder = TelemetryRecorder()
    async with asyncio.timeout(PATIENCE):
        client = await open_client(store, handlers=[lro_handlers], telemetry=recorder.telemetry)
        op = await client.start("nap")
        await reached(client, op.name, "SUSPENDED")
        newer = Wake(reason="TIDE")
        change = Change(op.name, lambda row: row.evolve(state=State.PENDING, wake=newer, check_time=lro_clock.time()))
        await client.engine.rows.submit(change)
        await client.sweep()
        await until(lambda: len(recorder.spans("run nap")) == 2)
    assert recorder.spans("run nap")[1].attributes["lro.wake.reason"] == "TIDE"
    assert [record for record in caplog.records if record.event == "observer_failed"] == []


class NoTracers(trace.NoOpTracerProvider):
    def get_tracer(self, *_args, **_options):
        raise AssertionError("somebody wants to make spans")


class NoMeters(metrics.NoOpMeterProvider):
    def get_meter(self, *_args, **_options):
        raise AssertionError("somebody wants to measure")


@pytest.mark.asyncio
async def test_who_wants_metrics_alone_pays_for_no_span(open_client, lro_handlers):
    """The trace context of the caller is kept as it is."""
    recorder = TelemetryRecorder()
    wanted = lro.Telemetry(tracer_provider=NoTracers(), meter_provider=recorder.meter_provider)
    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=[lro_handlers], telemetry=wanted)
        op = await client.start("fail", traceparent=CALLER)
        await reached(client, op.name, "FAILED")
    assert (await client.operation(op.name)).traceparent == CALLER
    assert [point.value for point in recorder.points("lro.operation.started")] == [1]


@pytest.mark.asyncio
async def test_who_wants_spans_alone_pays_for_no_metric(open_client, lro_handlers):
    recorder = TelemetryRecorder()
    wanted = lro.Telemetry(tracer_provider=recorder.tracer_provider, meter_provider=NoMeters())
    async with asyncio.timeout(PATIENCE):
        client = await open_client("sqlite://", handlers=[lro_handlers], telemetry=wanted)
        op = await client.start("fail")
        await reached(client, op.name, "FAILED")
        await until(lambda: recorder.spans("run fail"))
    assert len(recorder.spans("start fail")) == 1
