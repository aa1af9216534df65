"""The metrics. No attribute is an operation's name: what has a value for each operation is no metric."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.metrics import Counter as Rising
from opentelemetry.metrics import Histogram, Meter, UpDownCounter

from lro_aio.core import moments

__all__ = ["Metrics"]

SHORT = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Buckets of what takes milliseconds, in seconds: those of the semantic conventions."""
LONG = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400, 604800, 2592000)
"""Buckets of what may take weeks."""
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


Adds = Rising | UpDownCounter
Attributes = tuple[tuple[str, str], ...]
"""Of a metric, as a key: the same ones are counted together."""


class Metrics:
    """Records moments with a meter.

    Once in a turn of the event loop, and outside of any span: to record costs an SDK more than the rest of an operation
    costs the engine, and three times as much inside of a span.
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
        self._commits = histogram("lro.commit.duration", "s", "Time that one transaction took.", SHORT)
        self._changes = histogram("lro.commit.size", "{change}", "Changes in one transaction.", COUNTS)
        self._counted: Counter[tuple[Adds, Attributes]] = Counter()
        self._timed: list[tuple[Histogram, float, Attributes]] = []
        self._due = False
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

    def _flush_soon(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._flush, context=self._context)

    def _flush(self) -> None:
        self._due = False
        counted, timed = self._counted, self._timed
        self._counted, self._timed = Counter(), []
        for (counter, attributes), number in counted.items():
            if number:
                counter.add(number, dict(attributes))
        for histogram, value, attributes in timed:
            histogram.record(value, dict(attributes))

    def _count(self, counter: Adds, number: int, handler: str, *more: tuple[str, str]) -> None:
        self._counted[counter, (("lro.handler", handler), *more)] += number
        self._flush_soon()

    def _time(self, histogram: Histogram, value: float, *attributes: tuple[str, str]) -> None:
        self._timed.append((histogram, value, attributes))
        self._flush_soon()

    def _note_ended(self, moment: moments.Ended) -> None:
        more = [("lro.outcome", moment.outcome)]
        if moment.code:
            more.append(("error.type", moment.code))
        self._count(self._ended, 1, moment.handler, *more)
        if moment.seconds is not None:
            self._time(self._operations, moment.seconds, ("lro.handler", moment.handler), *more)

    def _note_run(self, moment: moments.RunBegan) -> None:
        self._count(self._running, 1, moment.handler)
        if moment.late is not None:
            reason = str(moment.wake) if moment.wake is not None else "START"
            self._time(self._lateness, moment.late, ("lro.handler", moment.handler), ("lro.wake.reason", reason))

    def _note_run_ended(self, moment: moments.RunEnded) -> None:
        handler = moment.began.handler
        self._count(self._running, -1, handler)
        self._time(self._runs, moment.seconds, ("lro.handler", handler))

    def _note_commit(self, moment: moments.Committed) -> None:
        self._time(self._commits, moment.seconds)
        self._time(self._changes, moment.changes)
