"""Start -> result of a trivial handler, told to OpenTelemetry's SDK: by ``lro_aio``, or by hand with telemetry off."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from google.protobuf import wrappers_pb2
from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, set_span_in_context
from opentelemetry.util.types import AttributeValue

import lro_aio as lro
from benchmarks.programs.common import main
from benchmarks.programs.lro_common import CountedStore, hello
from benchmarks.programs.lro_runs import Program, handlers

TOGETHER = 64
"""Operations whose counters are added at once: as many as one transaction has at 256 callers, about."""


class LastBatch(SpanExporter):
    """Keeps the spans of the last batch: an exporter that sends them lets go of them, too."""

    def __init__(self) -> None:
        self.batch: Sequence[ReadableSpan] = ()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batch = spans
        return SpanExportResult.SUCCESS


class ByHand(Program):
    """The floor: what ``Telemetry`` tells of an operation of one run, told by who starts it, with the SDK alone.

    Two spans with the same attributes and the same link, an entry in each of two histograms, and the counters. The
    histograms of transactions are not there: a sixty-fourth of two entries.
    """

    def __init__(
        self, store: CountedStore, client: lro.Client, folder: Path, tracers: TracerProvider, meters: MeterProvider
    ) -> None:
        super().__init__(store, client, folder)
        self._tracer = tracers.get_tracer("by hand")
        meter = meters.get_meter("by hand")
        self._started = meter.create_counter("hand.operation.started")
        self._ended = meter.create_counter("hand.operation.ended")
        self._active = meter.create_up_down_counter("hand.run.active")
        self._operations = meter.create_histogram("hand.operation.duration")
        self._runs = meter.create_histogram("hand.run.duration")
        self._handler = {"lro.handler": "trivial"}
        self._outcome = {"lro.handler": "trivial", "lro.outcome": "SUCCEEDED"}
        self._nothing = Context()
        self._uncounted = 0

    async def once(self) -> None:
        began, beginning = time.perf_counter(), time.time_ns()
        operation = await self._client.start("trivial")
        name = operation.name  # not known before: so the first span is made late, and says when it began
        known = {"lro.operation.name": name, "lro.handler": "trivial"}
        first = self._tracer.start_span("start trivial", None, SpanKind.PRODUCER, known, (), beginning)
        first.end()
        attributes: dict[str, AttributeValue] = {**known, "lro.resume_point": "", "lro.attempt": 1}
        links = [Link(first.get_span_context())]
        run = self._tracer.start_span("run trivial", self._nothing, SpanKind.CONSUMER, attributes, links)
        token = contexts.attach(set_span_in_context(run, self._nothing))
        await operation.result(wrappers_pb2.StringValue)
        contexts.detach(token)
        run.set_attribute("lro.outcome", "SUCCEEDED")
        run.end()
        self._record(time.perf_counter() - began)

    def _record(self, seconds: float) -> None:
        self._operations.record(seconds, self._outcome)
        self._runs.record(seconds, self._handler)
        self._uncounted += 1
        if self._uncounted == TOGETHER:
            self._uncounted = 0
            self._started.add(TOGETHER, self._handler)
            self._ended.add(TOGETHER, self._outcome)
            self._active.add(TOGETHER, self._handler)
            self._active.add(-TOGETHER, self._handler)


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    by_hand = arguments.by == "hand"
    tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    tracers.add_span_processor(BatchSpanProcessor(InMemorySpanExporter() if arguments.keep == "all" else LastBatch()))
    telemetry = False if by_hand else lro.Telemetry(tracer_provider=tracers, meter_provider=meters)
    store = CountedStore(arguments.folder / "operations.db")
    async with lro.Client(store, handlers=[handlers], max_running=256, telemetry=telemetry) as client:
        if by_hand:
            running: Program = ByHand(store, client, arguments.folder, tracers, meters)
        else:
            running = Program(store, client, arguments.folder)
        yield hello(store.durability()), {"lifecycle": running.lifecycle}


if __name__ == "__main__":
    main(program, "by", "keep")
