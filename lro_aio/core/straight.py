"""Changes of a row that straight code makes, as pure functions like those of ``transitions``.

A handler that awaits steps, sleeps, messages and children has no segments: it runs again from the top, and what stands
in the journal answers at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lro_aio.core import trail
from lro_aio.core.errors import OperationDoneError
from lro_aio.core.moves import Holder, check_holder, evolved
from lro_aio.core.record import Record, Seat, State, Wait
from lro_aio.core.transitions import park

__all__ = ["JournalMovedError", "appended", "called", "message", "ripened", "wait_durably", "wants_place"]


class JournalMovedError(Exception):
    """The journal has entries that the run does not know: what it waits for may be among them.

    Attributes:
        entries: How many it has.
    """

    def __init__(self, entries: int) -> None:
        self.entries = entries
        super().__init__(f"the journal has {entries} entries")


def appended(record: Record, *, holder: Holder, now: float, progress: bool, gives: bool = False) -> Record:
    """Append to the journal, by whoever holds the row.

    Args:
        record: The row.
        holder: Who writes.
        now: Epoch seconds.
        progress: Whether ``attempt`` starts anew (rule 3): a stored step is not run again.
        gives: Whether a place is given back with it: other processes are told then.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
    """
    check_holder(record, holder)
    if gives:
        record = evolved(record, now)
    return record.evolve(attempt=1) if progress and record.attempt > 1 else record


def wants_place(record: Record, *, holder: Holder, now: float) -> Record:  # noqa: ARG001 (as all events)
    """Note that a step of the row waits in a queue, by whoever holds the row.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
    """
    check_holder(record, holder)
    seat = record.seat or Seat(queue="")
    return record if seat.steps else record.evolve(seat=replace(seat, steps=True))


def called(record: Record, *, token: str, now: float) -> Record:
    """Wake a row of whose steps one is next in line: it runs again, and takes the place."""
    wait = record.wait
    if record.state is not State.SUSPENDED or record.paused or wait is None or wait.token != token:
        return record
    if not wait.union or wait.news is not None:
        return record
    wait = wait.told(now)
    return evolved(record, now, wait=wait, check_time=wait.first_check(now))


def wait_durably(
    record: Record,
    *,
    holder: Holder,
    now: float,
    retention: float,
    wait: Wait,
    known: int,
    changes: dict[str, Any] | None = None,
) -> Record | None:
    """Commit that nothing but waits is left in a handler: it runs again from the top when one of them is over.

    The segment stays the same, with the state that it began with or saved, and ``attempt`` starts anew.

    Args:
        record: The row.
        holder: Who writes.
        now: Epoch seconds.
        retention: Seconds to keep the row, should it end here.
        wait: A union.
        known: How many entries of the journal the run knows.
        changes: Columns to write with it: ``metadata``.

    Raises:
        JournalMovedError: There are more. Nothing is written.
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
    """
    check_holder(record, holder)
    if record.entries != known:
        raise JournalMovedError(record.entries)
    happened = trail.suspended(record.trail, now, wait, record.resume_point)
    columns = {"wait": wait, "attempt": 0, "trail": happened}
    return park(record, "suspend", holder, now, retention, {**columns, **(changes or {})})


def message(record: Record, *, now: float, topic: str) -> Record:
    """Take a message, which the change appends; it ends a wait for its topic in the same write.

    Raises:
        OperationNotFoundError: The row is deleted or expired.
        OperationDoneError: It has ended.
    """
    record.check_visible(now)
    if record.done:
        raise OperationDoneError(record.name, record.state)
    wait = record.wait
    if record.state is not State.SUSPENDED or wait is None or topic not in wait.topics or wait.news is not None:
        return record
    wait = wait.told(now)
    # With a new revision: a hand-over that is being noted is one of the wait as it was.
    return evolved(
        record,
        now,
        wait=wait,
        check_time=record.check_time if record.paused else wait.first_check(now),
    )


def ripened(record: Record, *, token: str, now: float) -> Record:
    """Make a row due whose wait is found to be over, for the processes that can run it."""
    if record.state is not State.SUSPENDED or record.paused or record.wait is None or record.wait.token != token:
        return record
    if record.check_time is not None and record.check_time <= now:
        return record
    return evolved(record, now, check_time=now)
