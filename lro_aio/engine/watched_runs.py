"""What observers are told of a run: that it begins, how it ended, and that it was another process's."""

from __future__ import annotations

from lro_aio.core import moments
from lro_aio.core.record import Record
from lro_aio.engine.holding import CancelReason
from lro_aio.engine.observing import Observing
from lro_aio.engine.run import Run

__all__ = ["WatchedRun"]


ENDED_WELL = ("SUCCEEDED", "CANCELLED", "SUSPENDED", "RELEASED", "LEASE_LOST")
"""Outcomes of a run that are nobody's failure."""


class WatchedRun:
    """A run that observers are told of. Made and used in the run's own task.

    Args:
        observing: Tells them.
        run: It begins now.
    """

    __slots__ = ("_began", "_observing", "_run", "_since")

    def __init__(self, observing: Observing, run: Run) -> None:
        record, wait = run.record, run.record.wait
        self._observing = observing
        self._run = run
        self._since = run.now()
        self._began = moments.RunBegan(
            name=record.name,
            handler=record.handler,
            resume_point=record.resume_point,
            attempt=record.attempt,
            retries=record.retries,
            wake=record.wake.reason if record.wake is not None else None,
            late=run.found.late,
            takeover=run.found.takeover,
            traceparent=record.traceparent,
            before=wait.traceparent if wait is not None else "",
        )
        run.traceparent = observing.tell(self._began)

    def end(self, after: Record | None) -> None:
        """The run is over.

        Args:
            after: The row that it has left; None: it committed nothing, or the row was removed.
        """
        run = self._run
        row = run.holding.record if after is None else after
        if run.lost or run.cancel_reason is CancelReason.LEASE_LOST:
            outcome = "LEASE_LOST"
            self._observing.tell(moments.LeaseLost(name=run.record.name, handler=run.record.handler))
        elif after is None and run.committed:
            outcome = "DELETED"
        else:
            outcome = moments.outcome(row, run.record)
        error = run.error
        if outcome == "FAILED" and not error:  # the handler called op.fail(), or a cleaning run ends with its failure
            code, reason = moments.failure(row)
            error = reason or code
        self._observing.tell(
            moments.RunEnded(
                began=self._began,
                outcome=outcome,
                seconds=run.now() - self._since,
                error="" if outcome in ENDED_WELL else error,
            )
        )
