"""Pauses by hand: pure functions as those of ``transitions``.

A paused row is SUSPENDED, has no time at which to look at it but its deadline, and a token that nobody was given. So
a process that knows nothing of pauses leaves it alone too.
"""

from __future__ import annotations

from lro_aio.core import trail
from lro_aio.core.errors import InvalidTransitionError
from lro_aio.core.moves import check_open, evolved, held_back, not_paused
from lro_aio.core.record import Record, State
from lro_aio.core.trail import noted

__all__ = ["pause", "resumed", "unpause"]


def pause(record: Record, *, now: float, reason: str = "") -> Record | None:
    """Let no run of it begin. One that is under way goes on to its next stop. Paused already: nothing changes.

    Raises:
        OperationNotFoundError: The row is deleted or expired.
        OperationDoneError: It has ended.
        InvalidTransitionError: It has no handler, so that nobody could go on with it; or a cancel is about to end it.
    """
    record.check_visible(now)
    check_open(record)
    if not record.handler or record.foreign:
        raise InvalidTransitionError(record.name, f"{record.state} without a handler", "pause")
    if record.cancel_requested and not record.cleaning:
        raise InvalidTransitionError(record.name, f"{record.state} and about to be cancelled", "pause")
    if record.paused:
        return record
    asked = evolved(record, now, paused=True, trail=noted(record.trail, now, trail.PAUSED, reason))
    return asked if record.state is State.RUNNING else held_back(asked, now)


def unpause(record: Record, *, now: float, reason: str = "") -> Record:
    """Let it run again, with a fresh count of attempts and retries. What it waits for, it waits for on.

    Raises:
        OperationNotFoundError: The row is deleted or expired.
        OperationDoneError: It has ended.
        InvalidTransitionError: It is not paused.
    """
    record.check_visible(now)
    check_open(record)
    if not record.paused:
        raise InvalidTransitionError(record.name, f"{record.state} and not paused", "unpause")
    return resumed(record.evolve(trail=noted(record.trail, now, trail.UNPAUSED, reason)), now)


def resumed(record: Record, now: float) -> Record:
    """The row without its pause: due when it would be if there had been none."""
    if record.state is State.RUNNING:
        return evolved(record, now, paused=False)
    columns = not_paused(record)
    if record.cleaning:  # the failure with which it ends
        columns["failure"] = record.failure
    if record.wait is None:
        return evolved(record, now, **columns, check_time=now)
    wait = record.wait.acquitted()
    return evolved(record, now, **columns, wait=wait, check_time=wait.first_check(now), attempt=0, retries=0)
