"""The metrics. No attribute is an operation's name: what has a value for each operation is no metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.metrics import Meter

from lro_aio.core import moments
from lro_aio.core.moments import Moment

__all__ = ["Metrics"]

SHORT = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Buckets of what takes milliseconds, in seconds: those of the semantic conventions."""
LONG = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400, 604800, 2592000)
"""Buckets of what may take weeks."""
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """Records moments with a meter."""

    def __init__(self, meter: Meter) -> None:
        self._started = meter.create_counter("lro.operation.started", "{operation}", "Operations that were made.")
        self._ended = meter.create_counter("lro.operation.ended", "{operation}", "Operations that ended.")
        self._operations = meter.create_histogram(
            "lro.operation.duration",
            "s",
            "Time from the start of an operation to its end.",
            explicit_bucket_boundaries_advisory=LONG,
        )
        self._running = meter.create_up_down_counter("lro.run.active", "{run}", "Handlers that run in this process.")
        self._runs = meter.create_histogram(
            "lro.run.duration", "s", "Time that one run of a handler took.", explicit_bucket_boundaries_advisory=LONG
        )
        self._lateness = meter.create_histogram(
            "lro.wake.lateness",
            "s",
            "Time from the moment at which a run was due to its begin.",
            explicit_bucket_boundaries_advisory=SHORT,
        )
        self._age = meter.create_gauge("lro.due.age", "s", "For how long the oldest row that is due has been due.")
        self._lost = meter.create_counter("lro.lease.lost", "{lease}", "Operations that another process took.")
        self._taken = meter.create_counter(
            "lro.lease.taken_over", "{lease}", "Operations that were taken from a process that died."
        )
        self._commits = meter.create_histogram(
            "lro.commit.duration", "s", "Time that one transaction took.", explicit_bucket_boundaries_advisory=SHORT
        )
        self._changes = meter.create_histogram(
            "lro.commit.size", "{change}", "Changes in one transaction.", explicit_bucket_boundaries_advisory=COUNTS
        )
        told: dict[type[Any], Callable[[Any], None]] = {
            moments.Started: self._note_started,
            moments.Ended: self._note_ended,
            moments.RunBegan: self._note_run,
            moments.RunEnded: self._note_run_ended,
            moments.LeaseLost: lambda moment: self._lost.add(1, {"lro.handler": moment.handler}),
            moments.TakenOver: lambda moment: self._taken.add(1, {"lro.handler": moment.handler}),
            moments.Committed: self._note_commit,
            moments.Swept: lambda moment: self._age.set(moment.age),
        }
        self._told = told

    def observe(self, moment: Moment) -> None:
        """Record a moment."""
        note = self._told.get(type(moment))
        if note is not None:
            note(moment)

    def _note_started(self, moment: moments.Started) -> None:
        self._started.add(1, {"lro.handler": moment.handler})

    def _note_ended(self, moment: moments.Ended) -> None:
        attributes = {"lro.handler": moment.handler, "lro.outcome": moment.outcome}
        if moment.code:
            attributes["error.type"] = moment.code
        self._ended.add(1, attributes)
        if moment.seconds is not None:
            self._operations.record(moment.seconds, attributes)

    def _note_run(self, moment: moments.RunBegan) -> None:
        self._running.add(1, {"lro.handler": moment.handler})
        if moment.late is not None:
            reason = moment.wake.value if moment.wake is not None else "START"
            self._lateness.record(moment.late, {"lro.handler": moment.handler, "lro.wake.reason": reason})

    def _note_run_ended(self, moment: moments.RunEnded) -> None:
        handler = moment.began.handler
        self._running.add(-1, {"lro.handler": handler})
        self._runs.record(moment.seconds, {"lro.handler": handler, "lro.outcome": moment.outcome})

    def _note_commit(self, moment: moments.Committed) -> None:
        self._commits.record(moment.seconds)
        self._changes.record(moment.changes)
