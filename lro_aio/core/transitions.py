"""Every legal change of a row, as a pure function from the old row to the new one.

::

                      ┌────────────── release, retry due ─────────────┐
                      ▼                                               │
    create ──▶ PENDING ──claim──▶ RUNNING ──suspend / retry──▶ SUSPENDED ──claim (wake)──▶ RUNNING
       └──────────(claimed in the same write)──▲│                     │
                                               │└─ finish ─▶ SUCCEEDED, FAILED, CANCELLED ◀─ request_cancel

No I/O, no clock, no randomness: time, tokens and identities are arguments. A function returns the *same object* where
there is nothing to write, None where the row is to be removed, and raises a typed error where the change is illegal.
What the engine notes in a row for itself, and no reader sees, is in ``bookkeeping``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from google.protobuf import any_pb2
from google.rpc import status_pb2

from lro_aio.core import failing, pausing, trail, trials
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    InvalidTokenError,
    InvalidTransitionError,
    OperationAlreadyExistsError,
    OperationBusyError,
)
from lro_aio.core.failing import OnFailure, of_failure
from lro_aio.core.moves import (
    PASS_ON,  # noqa: F401 (of the cancels here)
    Holder,
    changed,
    check_handler,
    check_holder,
    check_open,
    ended,
    ending,
    evolved,
    held_back,
    not_paused,
    removed_if_deleted,
    rewritten,
    to_cleanup,
)
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason
from lro_aio.core.status import cancelled, make_status
from lro_aio.core.trail import noted, woken_by

__all__ = [
    "Claimant",
    "Holder",
    "begin_cleanup",
    "check_holder",
    "check_parent",
    "claim",
    "create",
    "delete",
    "evolved",
    "finish",
    "first_claim",
    "lose_creator",
    "park",
    "release",
    "renew",
    "request_cancel",
    "retry",
    "save",
    "settle",
    "suspend",
]

_EMPTY = any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Empty").SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who claims, and on what terms."""

    owner: str
    lease: float
    """Seconds."""
    max_attempts: int
    retention: float
    """Seconds from the end for which a finished row is kept."""
    on_cancel: str = ""
    """The clean-up that the claimant's handler declares."""
    on_failure: OnFailure = OnFailure()
    """What the claimant's handler declares for its failure."""


def create(existing: Record | None, *, record: Record, now: float, also: Sequence[str] = ()) -> Record:
    """Make the row, or find the one that the same request made before (rule 8).

    A child is found by its name, which is made of its parent and key, whatever its state: a segment that runs again may
    compute another. One that was deleted is found too: the segment is not to fail because of it. To all who read it, it
    does not exist. ``also`` are other fingerprints of the same request.

    Raises:
        OperationAlreadyExistsError: Another request has the name, or the operation was deleted and has not ended yet.
    """
    if existing is None or (existing.hidden(now) and not existing.deleted):
        return record
    child = bool(record.parent_operation) and existing.parent_operation == record.parent_operation
    same = existing.uid == record.uid or (
        existing.handler == record.handler and (child or existing.same_request(record, also))
    )
    if not same or (existing.deleted and not record.parent_operation):
        raise OperationAlreadyExistsError(record.name, deleted=existing.deleted)
    return existing


def claim(
    record: Record,
    *,
    now: float,
    by: Claimant,
    token: str | None = None,
    wake: Wake | None = None,
    found: Record | None = None,
    dead: bool = False,
    company: int = 1,
) -> Record | None:
    """Take the row for a run (rules 2, 3, 6, 7).

    The result is RUNNING, or terminal where the claim ended it, or PENDING where the failure that it found has a
    clean-up, or SUSPENDED where it is paused. None where it ended and was deleted.

    Args:
        record: The row.
        now: Epoch seconds.
        by: The claimant.
        token: The resume token; needed for a SUSPENDED row.
        wake: Why a SUSPENDED row runs again.
        company: How many suspects share the trial, where the row is one (``core.trials``).
        found: The row as the claimant found it. A lease that is over is taken only where it is still the one that was
            found, and for which there is evidence (rule 4): one that was moved or made since is somebody's who lives,
            whatever the claimant's clock says of it. None: not compared.
        dead: Whether the owner of ``found`` is known to be dead: its lease is over then, whatever its time.

    Raises:
        OperationDoneError: It has ended.
        OperationBusyError: A live run holds it.
        InvalidTokenError: The token is not the row's.
        InvalidTransitionError: It is SUSPENDED and no token was given, or nobody's handler runs it.
    """
    check_open(record)
    if token is not None and (record.wait is None or record.wait.token != token):
        raise InvalidTokenError(record.name)
    if not record.handler or (record.state is State.SUSPENDED and token is None):
        raise InvalidTransitionError(record.name, record.state, "claim")
    if (record.lease_live(now) and not dead) or _has_moved(record, found):
        raise OperationBusyError(record.name, max(0.0, (record.lease_expire_time or now) - now))
    if record.cancel_requested and not record.cleaning:
        # The run that was asked to stop died or was handed back: what is left is the clean-up, where one is declared.
        if not by.on_cancel:
            return removed_if_deleted(ended(record, now, by.retention, State.CANCELLED, error=cancelled()))
        record = to_cleanup(record, now, by.on_cancel, reason=WakeReason.CANCEL_REQUESTED)
    attempts = trials.counted(record, by.lease)
    why = failing.why_not(record, now=now, attempts=attempts, most=by.max_attempts)
    if why is not None:
        return failing.failed(record, now=now, retention=by.retention, error=why, then=by.on_failure)
    happened = record.trail
    if record.state is State.RUNNING:
        happened = noted(happened, now, trail.LEASE_LOST, record.owner)
    if record.paused:
        return held_back(evolved(record, now, trail=happened), now, on_cancel=by.on_cancel)
    waited = record.wait if record.state is State.SUSPENDED else None
    woken = record.wake
    if waited is not None and not waited.repeats:
        if wake is not None:
            happened = noted(happened, now, trail.WOKEN, woken_by(wake))
        if waited.union:
            record = record.evolve(wait=waited.spent())
        if not waited.rerun:
            woken = wake
    columns = _held(now, by, happened)
    columns["wake"] = woken
    columns["claim"] = record.claim + 1
    columns["attempt"] = attempts + 1
    columns["schedule_handle"] = ""
    columns["wait"] = trials.begun(record, now=now, lease=by.lease, on_cancel=by.on_cancel, company=company)
    return rewritten(record, now, columns)


def first_claim(*, now: float, by: Claimant, happened: str = "") -> dict[str, Any]:
    """The columns of a row that is claimed in the write that makes it: what ``claim`` makes of a new one."""
    return _held(now, by, happened) | {"claim": 1, "attempt": 1, "revision": 2}


def renew(record: Record, *, holder: Holder, now: float, lease: float) -> Record:
    """Extend the lease (rule 4). Nothing that a reader can see changes, so the revision stays.

    A lease never gets shorter by it: a clock that steps back must not make a live run look dead. A row that was made
    without a lease gets none.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
    """
    check_holder(record, holder)
    if record.lease_expire_time is None:
        return record
    # Always later, by a microsecond at least: that it moves is how others know that somebody lives.
    until = max(now + lease, round(record.lease_expire_time + 1e-6, 6))
    return record.evolve(lease_expire_time=until, check_time=until)


def release(
    record: Record,
    *,
    holder: Holder,
    now: float,
    check_time: float | None = None,
    wait: Wait | None = None,
    changes: dict[str, Any] | None = None,
    counts: bool = False,
) -> Record | None:
    """Give the row back for another process to go on with at once (rule 5).

    The attempt is not counted (rule 3), unless ``counts``: for a run that ended for no reason that anybody gave.

    ``wait`` is taken by a row that has none yet: it tells a cancel which clean-up the begun run wants (rule 6).
    ``changes`` are columns to write with it: ``metadata``.

    A row that its creator drives is left to the sweep, which ends it: no other process can go on with it. One that
    was made without a lease stays as it is.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
    """
    check_holder(record, holder)
    if not record.handler:
        if record.lease_expire_time is None:
            return record
        return record.evolve(owner="", lease_expire_time=now, check_time=now)
    released = evolved(
        record,
        now,
        state=State.PENDING,
        owner="",
        lease_expire_time=None,
        check_time=now if check_time is None else check_time,
        attempt=record.attempt if counts else max(0, record.attempt - 1),
        trail=noted(record.trail, now, trail.RELEASED),
        wait=record.wait if record.wait is not None or wait is None else replace(wait, rerun=True),
        **(changes or {}),
    )
    if record.cancel_requested and not record.cleaning:
        return released.replaced(not_paused(released))  # as a cancel ends the pause of what nobody runs
    return held_back(released, now) if record.paused else released


def suspend(
    record: Record,
    *,
    holder: Holder,
    now: float,
    retention: float,
    wait: Wait,
    resume_point: str,
    changes: dict[str, Any] | None = None,
) -> Record | None:
    """Commit the end of a segment: state, wait and token in one write. ``attempt`` starts anew (rule 3).

    A cancel that came while the segment ran takes effect here.

    Args:
        record: The row.
        holder: Who writes.
        now: Epoch seconds.
        retention: Seconds to keep the row, should it end here.
        wait: What to wait for.
        resume_point: Where the handler goes on.
        changes: ``state_data``, ``state_codec`` and ``metadata`` to write with it.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
        InvalidTransitionError: It has no handler that could go on with it.
    """
    columns = {"wait": wait, "wake": None, "resume_point": resume_point}
    counts = {"attempt": 0, "retries": 0, "trail": trail.suspended(record.trail, now, wait, resume_point)}
    return park(record, "suspend", holder, now, retention, {**columns, **counts, **(changes or {})})


def retry(
    record: Record,
    *,
    holder: Holder,
    now: float,
    retention: float,
    wait: Wait,
    counts: bool = True,
    error: str = "",
    changes: dict[str, Any] | None = None,
) -> Record | None:
    """Commit that the same segment runs again after ``wait.sleep_until``, because of an error.

    The claim's attempt is taken back: the process is well, and the retry policy keeps its own count.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
        InvalidTransitionError: It has no handler that could run again.
    """
    happened = noted(record.trail, now, trail.RETRIED, error)
    columns = {"wait": replace(wait, rerun=True), "trail": happened}
    tries = {"attempt": max(0, record.attempt - 1), "retries": record.retries + (1 if counts else 0)}
    return park(record, "retry", holder, now, retention, {**columns, **tries, **(changes or {})})


def check_parent(record: Record, *, holder: Holder) -> None:
    """Whether a child may be started: by whoever holds the parent, and not once the parent was cancelled.

    A clean-up may start children: it begins after the cancel was passed on to those that were there before.

    Raises:
        LeaseLostError: The holder no longer holds the parent.
        OperationDoneError: The parent has ended.
        InvalidTransitionError: A cancel of the parent was requested.
    """
    check_holder(record, holder)
    if record.cancel_requested and not record.cleaning:
        raise InvalidTransitionError(record.name, record.state, "start_child after a cancel")


def save(record: Record, *, holder: Holder, now: float, changes: dict[str, Any]) -> Record:
    """Write ``metadata``, or ``state_data`` with ``state_codec``, while the operation runs.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
    """
    check_holder(record, holder)
    return rewritten(record, now, {**changes})


def finish(
    record: Record,
    *,
    holder: Holder,
    now: float,
    retention: float,
    response: bytes = b"",
    error: status_pb2.Status | None = None,
    changes: dict[str, Any] | None = None,
) -> Record | None:
    """End the operation with a response or an error (rules 1, 6, 11). A deleted row is removed (rule 13).

    Code CANCELLED ends the row CANCELLED only if a cancel was asked for, or the row's creator drives it. Otherwise
    (a child's cancel that the handler let through, say) it fails with ABORTED: nobody cancelled *this* operation.
    Neither response nor error is completed with Empty, and an error of code OK is UNKNOWN: a finished operation has
    always one of the two.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
    """
    check_holder(record, holder)
    if changes:
        record = changed(record, changes)
    if record.cleaning and record.failure:
        return failing.failed(record, now=now, retention=retention, error=error, then=OnFailure())
    if error is None and record.cleaning:
        error = cancelled()
    if error is None:
        return removed_if_deleted(ended(record, now, retention, State.SUCCEEDED, response=response or _EMPTY))
    if error.code == Code.CANCELLED and (record.cancel_requested or not record.handler):
        return removed_if_deleted(ended(record, now, retention, State.CANCELLED, error=error))
    return removed_if_deleted(ended(record, now, retention, State.FAILED, error=of_failure(error)))


def begin_cleanup(record: Record, *, holder: Holder, now: float, on_cancel: str) -> Record:
    """Make a run that a cancel stopped ready for its clean-up, which is claimed like any other run.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
        InvalidTransitionError: No cancel was asked for, the clean-up has begun already, or there is no handler.
    """
    check_holder(record, holder)
    check_handler(record, "begin_cleanup")
    if not record.cancel_requested or record.cleaning:
        raise InvalidTransitionError(record.name, record.state, "begin_cleanup")
    return to_cleanup(record, now, on_cancel, reason=WakeReason.CANCEL_REQUESTED)


def request_cancel(
    record: Record, *, now: float, retention: float, token: str, cancel_children: bool = True, reason: str = ""
) -> Record | None:
    """Ask for a cancel (rule 6). Of a finished or already cancelled operation: nothing changes.

    A running operation is told and may still finish. One that nobody runs ends at once, or is made ready to run
    its clean-up, with ``token`` as the new resume token. One that another program drives ends at once too: nobody
    there looks for a request. The ``reason`` is for its history.

    Raises:
        OperationNotFoundError: The row is deleted or expired.
    """
    record.check_visible(now)
    if record.done or record.cancel_requested:
        return record
    happened = noted(record.trail, now, trail.CANCEL, reason)
    record = record.evolve(cancel_requested=True, cancel_children=cancel_children, trail=happened)
    if record.state is State.RUNNING and not record.foreign:
        return evolved(record, now)
    return _cancel_idle(record, now, retention, token)


def settle(record: Record, *, now: float, retention: float) -> Record | None:
    """Complete a row that another program ended: it wrote the result and nothing else. Retention counts from here.

    Nothing to do for a row that lives, and for one that has its ``expire_time``. A deleted row is removed (rule 13).
    """
    if not record.done or record.expire_time is not None:
        return record
    ended = evolved(record, now, **ending(record, max(now, record.update_time), retention))
    return removed_if_deleted(ended)


def delete(record: Record, *, now: float) -> Record | None:
    """Forget the operation. An unfinished one is hidden, runs to its end and is then removed (rule 13).

    One that nobody here runs or holds, made without a handler and without a lease, is removed at once, and so is one
    that is paused, or that waits for messages alone, which nobody can send to it any more: nothing would ever end it.

    Raises:
        OperationNotFoundError: It is deleted already, or expired.
    """
    record.check_visible(now)
    held = record.handler or record.lease_expire_time is not None or record.foreign
    stays = record.state is State.SUSPENDED and (record.paused or _waits_for_ever(record))
    if not record.cancel_children and (record.done or stays or not held):
        return None
    # A finished one whose cancel has still to reach its children is hidden; `bookkeeping.cascaded` removes it.
    return evolved(record, now, deleted=True)


def lose_creator(
    record: Record, *, now: float, retention: float, found: Record | None = None, dead: bool = False
) -> Record | None:
    """End a row whose creator drove it and died (rule 12). ``found`` is the row as its lease was found to be over.

    ``dead``: its owner is known to be dead, so that its lease is over whatever its time.

    Raises:
        OperationDoneError: It has ended.
        InvalidTransitionError: It has a handler, or its lease is not over, or was moved since.
    """
    check_open(record)
    if record.handler or (record.lease_live(now) and not dead) or _has_moved(record, found):
        raise InvalidTransitionError(record.name, record.state, "lose_creator")
    if record.cancel_requested:
        return removed_if_deleted(ended(record, now, retention, State.CANCELLED, error=cancelled()))
    status = make_status(Code.ABORTED, "the process that created the operation is gone", reason="CREATOR_LOST")
    return removed_if_deleted(ended(record, now, retention, State.FAILED, error=status))


def _held(now: float, by: Claimant, happened: str = "") -> dict[str, Any]:
    return {
        "trail": noted(happened, now, trail.CLAIMED, by.owner),
        "state": State.RUNNING,
        "owner": by.owner,
        "lease_expire_time": now + by.lease,
        "check_time": now + by.lease,
    }


def park(
    record: Record, event: str, holder: Holder, now: float, retention: float, columns: dict[str, Any]
) -> Record | None:
    """End a run with a wait: nobody holds the row then. A cancel, or a pause, that came while it ran takes effect."""
    check_holder(record, holder)
    check_handler(record, event)
    wait = columns["wait"]
    if record.deadline is not None and not record.cleaning:
        wait = columns["wait"] = replace(wait, expires=record.deadline)
    held_by_nobody = {"state": State.SUSPENDED, "owner": "", "lease_expire_time": None}
    not_handed_over = {"check_time": wait.first_check(now), "handover": 0, "schedule_handle": ""}
    parked = rewritten(record, now, {**held_by_nobody, **not_handed_over, **columns})
    if record.cancel_requested and not record.cleaning:
        return _cancel_idle(parked, now, retention)
    if record.paused:
        return held_back(parked, now)
    return removed_if_deleted(parked) if _waits_for_ever(parked) else parked


def _waits_for_ever(record: Record) -> bool:
    """Whether only a message can wake a row that waits."""
    return record.check_time is None and record.wait is not None


def _has_moved(record: Record, found: Record | None) -> bool:
    """Whether the lease of a row that runs is another than the one that was found."""
    if found is None or record.state is not State.RUNNING:
        return False
    return (record.claim, record.lease_expire_time) != (found.claim, found.lease_expire_time)


def _cancel_idle(record: Record, now: float, retention: float, token: str = "") -> Record | None:
    """Cancel a row that nobody runs: its clean-up if it has one, else the end."""
    if record.cleaning and record.failure:  # it is about to fail, and puts away what it began
        return pausing.resumed(record, now) if record.paused else evolved(record, now)
    on_cancel = record.wait.on_cancel if record.wait is not None else ""
    if on_cancel and not record.cleaning:
        return to_cleanup(record, now, on_cancel, token, reason=WakeReason.CANCEL_REQUESTED)
    return removed_if_deleted(ended(record, now, retention, State.CANCELLED, error=cancelled()))
