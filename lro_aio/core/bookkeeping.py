"""What the engine notes in a row for itself: pure functions as those of ``transitions``, whose changes no reader sees.

They have no holder, and leave the revision as it is: nobody who waits for news of the operation is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lro_aio.core import trail
from lro_aio.core.errors import InvalidTokenError
from lro_aio.core.record import Record, State

__all__ = ["cascaded", "check_for_parent", "handed_over", "keep", "keep_for_parent", "touch", "traced"]


def touch(record: Record, *, found: Record) -> Record:
    """Write to a row whose lease was found to be over, and change nothing that matters (rule 4).

    That it can be written is what counts: while the store takes no writes, a holder who lives cannot renew. The row
    stays due for everybody, whose clock may be another: its lease is for nobody to take who has not watched it himself.
    """
    lease = record.lease_expire_time
    if record.state is not State.RUNNING or lease is None or lease != found.lease_expire_time:
        return record  # it has moved
    earlier = round(lease - 1e-6, 6)
    return record.evolve(check_time=lease if record.check_time == earlier else earlier)


def traced(record: Record, *, event: Callable[[Record], Record | None], traceparent: str) -> Record | None:
    """What ``event`` makes of the row; a wait that begins with it is one of this trace context."""
    after = event(record)
    if after is None or after.wait is None or after.wait is record.wait:
        return after
    return after.evolve(wait=replace(after.wait, traceparent=traceparent))


def handed_over(
    record: Record, *, now: float, token: str, check_time: float, handle: str = "", revision: int | None = None
) -> Record:
    """Note that a scheduler has the wait, and when to look whether it still does.

    Args:
        record: The row.
        now: Epoch seconds.
        token: Of the wait.
        check_time: Epoch seconds.
        handle: The scheduler's name for the wait.
        revision: Of the row that was handed over: one that was run and released since is due now, not at
            ``check_time``. None: not compared.

    Raises:
        InvalidTokenError: The row no longer waits with this token.
    """
    expires = record.wait.expires if record.wait is not None else None
    stale = revision is not None and revision != record.revision
    if (
        record.state not in (State.SUSPENDED, State.PENDING)
        or record.wait is None
        or record.wait.token != token
        or stale
    ):
        raise InvalidTokenError(record.name)
    return record.evolve(
        handover=record.handover + 1,
        schedule_handle=handle or record.schedule_handle,
        check_time=check_time if expires is None else min(check_time, expires),
        trail=trail.noted(record.trail, now, trail.HANDED_OVER, handle, instead=True),
    )


def cascaded(record: Record, *, now: float) -> Record | None:
    """Note that the cancel of a row was passed on to all children."""
    if not record.cancel_children:
        return record
    if record.deleted and record.paused and record.state is not State.RUNNING:
        return None  # nothing would ever end it
    if not record.done:
        return record.evolve(cancel_children=False)
    if record.deleted:
        return None
    check = check_for_parent(record, record.end_time or now, record.expire_time or now)
    return record.evolve(cancel_children=False, check_time=check, update_time=max(now, record.update_time))


def keep(record: Record, *, until: float) -> Record:
    """Keep a row that has ended for longer, for somebody who waits for it (rule 11).

    Args:
        record: The row. One that has not ended, or that was deleted, stays as it is.
        until: Epoch seconds up to which it is kept at least.
    """
    if record.expire_time is None or record.deleted or record.cancel_children:
        return record
    return record.evolve(expire_time=max(record.expire_time, until))


def keep_for_parent(record: Record, *, parent: Record | None, now: float, retention: float) -> Record:
    """Keep a child that has ended from the end of its parent on (rule 11): it is time to look whether that lives.

    Args:
        record: The child. One that has not ended, or that was deleted, stays as it is.
        parent: As just read; None where it is gone.
        now: Epoch seconds.
        retention: Seconds.
    """
    if record.expire_time is None or record.deleted or record.cancel_children:
        return record
    if parent is None:
        return record.evolve(check_time=None)
    if parent.done:
        return keep(record, until=(parent.end_time or now) + retention).evolve(check_time=None)
    return keep(record, until=now + retention).evolve(check_time=check_for_parent(record, now, now + retention))


def check_for_parent(record: Record, ended: float, expires: float) -> float | None:
    """When to look whether the parent of a row that has ended still lives (rule 11): in the middle of its retention."""
    return (ended + expires) / 2 if record.parent_operation else None
