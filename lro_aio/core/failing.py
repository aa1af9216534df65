"""What becomes of an operation whose run failed: it is paused, or puts away what it began, or ends.

Pure, as everything in ``transitions``, which is where the runs are.
"""

from __future__ import annotations

from typing import Any

from google.rpc import status_pb2

from lro_aio.core import trail
from lro_aio.core.codes import Code
from lro_aio.core.moves import (
    Holder,
    changed,
    check_holder,
    ended,
    evolved,
    held_back,
    removed_if_deleted,
    spare_token,
    to_cleanup,
)
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State, WakeReason
from lro_aio.core.shown_failures import with_failure
from lro_aio.core.status import make_status, reason_of, relabelled
from lro_aio.core.trail import noted

__all__ = ["OnFailure", "expired", "fail", "failed", "of_failure", "overdue", "overdue_status", "why_not"]

OVERDUE = "DEADLINE_EXCEEDED"
"""Reason of the error with which an operation fails at its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnFailure:
    """What a handler wants when it is about to fail."""

    point: str = ""
    """Resume point of the clean-up that runs before the end; "" for none."""
    pause: bool = False
    """Wait for an operator instead of the end. Not for what the handler did on purpose, and not at the deadline."""
    on_cancel: str = ""
    """Resume point of the clean-up that a cancel of the paused operation runs; "" for none."""


def fail(
    record: Record,
    *,
    holder: Holder,
    now: float,
    retention: float,
    error: status_pb2.Status,
    then: OnFailure,
    told: str = "",
    changes: dict[str, Any] | None = None,
) -> Record | None:
    """Commit that a run failed. None where the operation ended and was deleted.

    Args:
        record: The row.
        holder: Who writes.
        now: Epoch seconds.
        retention: Seconds to keep the row, should it end here.
        error: Of code CANCELLED, it ends an operation whose cancel was asked for.
        then: What the handler wants.
        told: The error as operators read it; "": what clients read.
        changes: ``metadata`` to write with it.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
    """
    check_holder(record, holder)
    if changes:
        record = changed(record, changes)
    if error.code == Code.CANCELLED and record.cancel_requested and not record.failure:
        return removed_if_deleted(ended(record, now, retention, State.CANCELLED, error=error))
    return failed(record, now=now, retention=retention, error=of_failure(error), then=then, told=told)


def of_failure(error: status_pb2.Status) -> status_pb2.Status:
    """The error with a code that a failed operation may have: nobody cancelled it, and it is not well."""
    if error.code == Code.CANCELLED:
        return relabelled(error, Code.ABORTED)
    return relabelled(error, Code.UNKNOWN) if error.code == Code.OK else error


def failed(
    record: Record,
    *,
    now: float,
    retention: float,
    error: status_pb2.Status | None,
    then: OnFailure,
    told: str = "",
) -> Record | None:
    """The row after a failure. None where it ended and was deleted.

    A clean-up that runs because of a failure ends with that one, whatever becomes of the clean-up. One that runs
    because of a cancel ends FAILED with its own.

    Args:
        record: The row, which has not ended.
        now: Epoch seconds.
        retention: Seconds to keep the row, should it end here.
        error: None only where a clean-up has come to its end.
        then: What the handler wants.
        told: The error as operators read it; "": what clients read.
    """
    if record.cleaning and record.failure:
        if error is not None:
            record = _noting(record, now, error, told)
        error = status_pb2.Status.FromString(record.failure)
    assert error is not None
    stops = record.cleaning or record.cancel_requested
    if then.pause and not stops and not record.deleted and reason_of(error) != OVERDUE:
        return held_back(_paused(_noting(record, now, error, told), now, error), now, on_cancel=then.on_cancel)
    if then.point and not record.cleaning:
        held = record.paused and reason_of(error) != OVERDUE  # by hand: what comes next waits until it is unpaused
        cleaning = to_cleanup(
            _noting(record, now, error, told), now, then.point, spare_token(record), reason=WakeReason.FAILED
        )
        cleaning = cleaning.evolve(failure=error.SerializeToString(deterministic=True), paused=held)
        return held_back(cleaning, now) if held else cleaning
    return removed_if_deleted(ended(record, now, retention, State.FAILED, error=error))


def why_not(record: Record, *, now: float, attempts: int, most: int) -> status_pb2.Status | None:
    """Why a row is not claimed but fails; None where it is claimed.

    Args:
        record: The row.
        now: Epoch seconds.
        attempts: Runs of it that ended without a result and for which it is to blame.
        most: After so many it is given up.
    """
    if expired(record, now):
        return overdue_status()
    if attempts < most or record.paused:
        return None
    return make_status(
        Code.ABORTED,
        f"gave up after {attempts} attempts that ended without a result",
        reason="ATTEMPTS_EXHAUSTED",
        metadata={"attempts": str(attempts)},
    )


def expired(record: Record, now: float) -> bool:
    """Whether the deadline of an operation that has not ended has come. It ends in any case once it cleans up."""
    return record.deadline is not None and record.deadline <= now and not record.cleaning and not record.done


def overdue(record: Record, *, now: float, retention: float, then: OnFailure) -> Record | None:
    """Fail a row that nobody runs and whose deadline has come. Of any other row, nothing changes."""
    if record.state is State.RUNNING or not expired(record, now):
        return record
    return failed(record, now=now, retention=retention, error=overdue_status(), then=then)


def overdue_status() -> status_pb2.Status:
    """How an operation fails at its deadline."""
    return make_status(Code.DEADLINE_EXCEEDED, "the operation did not end before its deadline", reason=OVERDUE)


def _noting(record: Record, now: float, error: status_pb2.Status, told: str) -> Record:
    text = told or error.message
    words = [word for word in dict.fromkeys((Code.of(error.code).name, reason_of(error))) if word]
    return record.evolve(trail=noted(record.trail, now, trail.FAILURE, f"{' '.join(words)}: {text}"))


def _paused(record: Record, now: float, error: status_pb2.Status) -> Record:
    return evolved(
        record,
        now,
        paused=True,
        failure=error.SerializeToString(deterministic=True),
        metadata=with_failure(record.metadata, error),
        trail=noted(record.trail, now, trail.PAUSED, "because of the failure"),
    )
