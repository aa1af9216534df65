"""The metrics. No attribute is an operation's name: what has a value for each operation is no metric."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter

from lro_aio.core import moments

__all__ = ["Metrics"]

SHORT = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Buckets of what takes milliseconds, in seconds: those of the semantic conventions."""
LONG = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400, 604800, 2592000)
"""Buckets of what may take weeks."""
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class _Sum:
    """What is to be added to a counter, with one set of attributes."""

    __slots__ = ("_attributes", "_counter", "number")

    def __init__(self, counter: Counter | UpDownCounter, attributes: dict[str, str]) -> None:
        self._counter = counter
        self._attributes = attributes
        self.number = 0

    def flush(self) -> None:
        number, self.number = self.number, 0
        if number:
            self._counter.add(number, self._attributes)


class _Values:
    """What is to be recorded in a histogram, with one set of attributes."""

    __slots__ = ("_attributes", "_histogram", "values")

    def __init__(self, histogram: Histogram, attributes: dict[str, str] | None = None) -> None:
        self._histogram = histogram
        self._attributes = attributes
        self.values: list[float] = []

    def flush(self) -> None:
        values, self.values = self.values, []
        record, attributes = self._histogram.record, self._attributes
        for value in values:
            record(value, attributes)


class Metrics:
    """Records moments with a meter.

    Once in a turn of the event loop, and outside of any span: to record costs an SDK more than the rest of an operation
    costs the engine, and three times as much inside of a span. What is told of a handler is kept with its attributes:
    there are never more of these than an SDK has points.
    """

    def __init__(self, meter: Meter) -> None:
        self._started = meter.create_counter("lro.operation.started", "{operation}", "Operations that were made.")
        self._ended = meter.create_counter("lro.operation.ended", "{operation}", "Operations that ended.")
        self._running = meter.create_up_down_counter("lro.run.active", "{run}", "Handlers that run in this process.")
        self._lost = meter.create_counter("lro.lease.lost", "{lease}", "Operations that another process took.")
        self._taken = meter.create_counter("lro.lease.taken_over", "{lease}", "Operations that a dead process had.")
        self._age = meter.create_gauge("lro.due.age", "s", "For how long the oldest row that is due has been due.")

        def histogram(name: str, unit: str, what: str, bounds: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, what, explicit_bucket_boundaries_advisory=bounds)

        self._operations = histogram("lro.operation.duration", "s", "Time from an operation's start to its end.", LONG)
        self._runs = histogram("lro.run.duration", "s", "Time that one run of a handler took.", LONG)
        self._lateness = histogram("lro.wake.lateness", "s", "Time by which a run began after it was due.", SHORT)
        self._commits = _Values(histogram("lro.commit.duration", "s", "Time that one transaction took.", SHORT))
        self._changes = _Values(histogram("lro.commit.size", "{change}", "Changes in one transaction.", COUNTS))
        self._sums: dict[tuple[Counter | UpDownCounter, str], _Sum] = {}
        self._ends: dict[tuple[str, str, str], tuple[_Sum, _Values]] = {}
        """By handler, outcome and code."""
        self._times: dict[str, _Values] = {}
        """Of runs, by handler."""
        self._late: dict[tuple[str, str], _Values] = {}
        """By handler and reason."""
        self._touched: dict[_Sum | _Values, None] = {}
        """What has something for the next flush."""
        self._due: asyncio.AbstractEventLoop | None = None
        """The loop that is about to flush. One that was stopped before it did is no reason to wait for ever."""
        self._context = contextvars.Context()
        self.told: dict[type[Any], Callable[[Any], None]] = {
            moments.Started: lambda moment: self._count(self._started, 1, moment.handler),
            moments.Ended: self._note_ended,
            moments.RunBegan: self._note_run,
            moments.RunEnded: self._note_run_ended,
            moments.LeaseLost: lambda moment: self._count(self._lost, 1, moment.handler),
            moments.TakenOver: lambda moment: self._count(self._taken, 1, moment.handler),
            moments.Committed: self._note_commit,
            moments.Swept: lambda moment: self._age.set(moment.age),
        }
        """Records a moment, by its type. Called on the event loop."""

    def _touch(self, entry: _Sum | _Values) -> None:
        self._touched[entry] = None
        loop = asyncio.get_running_loop()
        if self._due is not loop:
            self._due = loop
            loop.call_soon(self._flush, context=self._context)

    def _flush(self) -> None:
        self._due = None
        touched, self._touched = self._touched, {}
        for entry in touched:
            entry.flush()

    def _count(self, counter: Counter | UpDownCounter, number: int, handler: str) -> None:
        entry = self._sums.get((counter, handler))
        if entry is None:
            entry = self._sums[counter, handler] = _Sum(counter, {"lro.handler": handler})
        entry.number += number
        self._touch(entry)

    def _note_ended(self, moment: moments.Ended) -> None:
        kind = (moment.handler, moment.outcome, moment.code)
        ends = self._ends.get(kind)
        if ends is None:
            attributes = {"lro.handler": moment.handler, "lro.outcome": moment.outcome}
            if moment.code:
                attributes["error.type"] = moment.code
            ends = self._ends[kind] = _Sum(self._ended, attributes), _Values(self._operations, attributes)
        number, seconds = ends
        number.number += 1
        self._touch(number)
        if moment.seconds is not None:
            seconds.values.append(moment.seconds)
            self._touch(seconds)

    def _note_run(self, moment: moments.RunBegan) -> None:
        self._count(self._running, 1, moment.handler)
        if moment.late is None:
            return
        kind = (moment.handler, "START" if moment.wake is None else str(moment.wake))
        late = self._late.get(kind)
        if late is None:
            attributes = dict(zip(("lro.handler", "lro.wake.reason"), kind))
            late = self._late[kind] = _Values(self._lateness, attributes)
        late.values.append(moment.late)
        self._touch(late)

    def _note_run_ended(self, moment: moments.RunEnded) -> None:
        handler = moment.began.handler
        self._count(self._running, -1, handler)
        times = self._times.get(handler)
        if times is None:
            times = self._times[handler] = _Values(self._runs, {"lro.handler": handler})
        times.values.append(moment.seconds)
        self._touch(times)

    def _note_commit(self, moment: moments.Committed) -> None:
        self._commits.values.append(moment.seconds)
        self._touch(self._commits)
        self._changes.values.append(moment.changes)
        self._touch(self._changes)
