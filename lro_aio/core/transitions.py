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
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from google.protobuf import any_pb2
from google.rpc import status_pb2

from lro_aio.core import trail, trials
from lro_aio.core.bookkeeping import check_for_parent
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    InvalidTokenError,
    InvalidTransitionError,
    LeaseLostError,
    OperationAlreadyExistsError,
    OperationBusyError,
    OperationDoneError,
)
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason
from lro_aio.core.status import cancelled, make_status, relabelled
from lro_aio.core.trail import noted, waits_for, woken_by

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

PASS_ON = 5.0
"""Seconds after the end of an operation in which whoever cancelled it passes the cancel on to its children."""

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


class Holder(NamedTuple):
    """What a write must name (rule 2): the row's uid and the claim that the writer holds.

    Claim 0 is the one of somebody who holds nothing: valid only for a row that nobody claims, because it was made
    without a handler and without a lease, or by another program.
    """

    uid: str
    claim: int


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
    company: int = 1,
) -> Record | None:
    """Take the row for a run (rules 2, 3, 6, 7). The result is RUNNING, or terminal where the claim ended it.

    None where it ended and was deleted.

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

    Raises:
        OperationDoneError: It has ended.
        OperationBusyError: A live run holds it.
        InvalidTokenError: The token is not the row's.
        InvalidTransitionError: It is SUSPENDED and no token was given, or nobody's handler runs it.
    """
    _check_open(record)
    if token is not None and (record.wait is None or record.wait.token != token):
        raise InvalidTokenError(record.name)
    if not record.handler or (record.state is State.SUSPENDED and token is None):
        raise InvalidTransitionError(record.name, record.state, "claim")
    if record.lease_live(now) or _has_moved(record, found):
        raise OperationBusyError(record.name, max(0.0, (record.lease_expire_time or now) - now))
    if record.cancel_requested and not record.cleaning:
        # The run that was asked to stop died or was handed back: what is left is the clean-up, where one is declared.
        if not by.on_cancel:
            return _removed_if_deleted(_end(record, now, by.retention, State.CANCELLED, error=cancelled()))
        record = _to_cleanup(record, now, by.on_cancel)
    attempts = trials.counted(record, by.lease)
    if attempts >= by.max_attempts:
        status = make_status(
            Code.ABORTED,
            f"gave up after {attempts} attempts that ended without a result",
            reason="ATTEMPTS_EXHAUSTED",
            metadata={"attempts": str(attempts)},
        )
        return _removed_if_deleted(_end(record, now, by.retention, State.FAILED, error=status))
    happened = record.trail
    if record.state is State.RUNNING:
        happened = noted(happened, now, trail.LEASE_LOST, record.owner)
    waited = record.wait if record.state is State.SUSPENDED else None
    if waited is not None and (waited.union or not waited.rerun):
        if wake is not None:
            happened = noted(happened, now, trail.WOKEN, woken_by(wake))
        record = record.evolve(wait=waited.spent(), wake=record.wake if waited.rerun else wake)
    return evolved(
        record,
        now,
        **_held(now, by, happened),
        claim=record.claim + 1,
        attempt=attempts + 1,
        schedule_handle="",
        wait=trials.begun(record, now=now, lease=by.lease, on_cancel=by.on_cancel, company=company),
    )


def first_claim(*, now: float, by: Claimant) -> dict[str, Any]:
    """The columns of a row that is claimed in the write that makes it: what ``claim`` makes of a new one."""
    return {**_held(now, by), "claim": 1, "attempt": 1, "revision": 2}


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
) -> Record:
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
    return evolved(
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
    columns = {"wait": wait, "wake": None, "resume_point": resume_point, "check_time": wait.first_check(now)}
    happened = noted(record.trail, now, trail.SUSPENDED, waits_for(wait, now, resume_point))
    counts = {"attempt": 0, "retries": 0, "trail": happened}
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
    columns = {"wait": replace(wait, rerun=True), "check_time": wait.sleep_until, "trail": happened}
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
    return evolved(record, now, **changes)


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
        record = record.evolve(**changes)
    if error is None and record.cleaning:
        error = cancelled()
    if error is None:
        return _removed_if_deleted(_end(record, now, retention, State.SUCCEEDED, response=response or _EMPTY))
    state = State.FAILED
    if error.code == Code.CANCELLED:
        if record.cancel_requested or not record.handler:
            state = State.CANCELLED
        else:
            error = relabelled(error, Code.ABORTED)
    elif error.code == Code.OK:
        error = relabelled(error, Code.UNKNOWN)
    return _removed_if_deleted(_end(record, now, retention, state, error=error))


def begin_cleanup(record: Record, *, holder: Holder, now: float, on_cancel: str) -> Record:
    """Make a run that a cancel stopped ready for its clean-up, which is claimed like any other run.

    Raises:
        LeaseLostError: The holder no longer holds the row.
        OperationDoneError: It has ended.
        InvalidTransitionError: No cancel was asked for, the clean-up has begun already, or there is no handler.
    """
    check_holder(record, holder)
    _check_handler(record, "begin_cleanup")
    if not record.cancel_requested or record.cleaning:
        raise InvalidTransitionError(record.name, record.state, "begin_cleanup")
    return _to_cleanup(record, now, on_cancel)


def request_cancel(
    record: Record, *, now: float, retention: float, token: str, cancel_children: bool = True
) -> Record | None:
    """Ask for a cancel (rule 6). Of a finished or already cancelled operation: nothing changes.

    A running operation is told and may still finish. One that nobody runs ends at once, or is made ready to run
    its clean-up, with ``token`` as the new resume token. One that another program drives ends at once too: nobody
    there looks for a request.

    Raises:
        OperationNotFoundError: The row is deleted or expired.
    """
    record.check_visible(now)
    if record.done or record.cancel_requested:
        return record
    happened = noted(record.trail, now, trail.CANCEL)
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
    ended = evolved(record, now, **_ending(record, max(now, record.update_time), retention))
    return _removed_if_deleted(ended)


def delete(record: Record, *, now: float) -> Record | None:
    """Forget the operation. An unfinished one is hidden, runs to its end and is then removed (rule 13).

    One that nobody here runs or holds, made without a handler and without a lease, is removed at once: nothing would
    ever end it.

    Raises:
        OperationNotFoundError: It is deleted already, or expired.
    """
    record.check_visible(now)
    held = record.handler or record.lease_expire_time is not None or record.foreign
    if not record.cancel_children and (record.done or not held):
        return None
    # A finished one whose cancel has still to reach its children is hidden; `bookkeeping.cascaded` removes it.
    return evolved(record, now, deleted=True)


def lose_creator(record: Record, *, now: float, retention: float, found: Record | None = None) -> Record | None:
    """End a row whose creator drove it and died (rule 12). ``found`` is the row as its lease was found to be over.

    Raises:
        OperationDoneError: It has ended.
        InvalidTransitionError: It has a handler, or its lease is not over, or was moved since.
    """
    _check_open(record)
    if record.handler or record.lease_live(now) or _has_moved(record, found):
        raise InvalidTransitionError(record.name, record.state, "lose_creator")
    if record.cancel_requested:
        return _removed_if_deleted(_end(record, now, retention, State.CANCELLED, error=cancelled()))
    status = make_status(Code.ABORTED, "the process that created the operation is gone", reason="CREATOR_LOST")
    return _removed_if_deleted(_end(record, now, retention, State.FAILED, error=status))


def _held(now: float, by: Claimant, happened: str = "") -> dict[str, Any]:
    return {
        "trail": noted(happened, now, trail.CLAIMED, by.owner),
        "state": State.RUNNING,
        "owner": by.owner,
        "lease_expire_time": now + by.lease,
        "check_time": now + by.lease,
    }


def evolved(record: Record, now: float, **changes: Any) -> Record:
    """A changed row, with its next revision."""
    # A clock that steps back must not make an update older than what it follows.
    changes["update_time"] = max(now, record.update_time)
    changes["revision"] = record.revision + 1
    return record.evolve(**changes)


def park(
    record: Record, event: str, holder: Holder, now: float, retention: float, columns: dict[str, Any]
) -> Record | None:
    """End a run with a wait: nobody holds the row then. A cancel that came while it ran takes effect."""
    check_holder(record, holder)
    _check_handler(record, event)
    parked = evolved(
        record,
        now,
        state=State.SUSPENDED,
        owner="",
        lease_expire_time=None,
        handover=0,
        schedule_handle="",
        **columns,
    )
    if record.cancel_requested and not record.cleaning:
        return _cancel_idle(parked, now, retention)
    return parked


def _has_moved(record: Record, found: Record | None) -> bool:
    """Whether the lease of a row that runs is another than the one that was found."""
    if found is None or record.state is not State.RUNNING:
        return False
    return (record.claim, record.lease_expire_time) != (found.claim, found.lease_expire_time)


def _check_open(record: Record) -> None:
    if record.done:
        raise OperationDoneError(record.name, record.state)


def check_holder(record: Record, holder: Holder) -> None:
    """Rule 2: an old claim loses, whatever became of the row since; then rule 1."""
    if record.uid == holder.uid and not holder.claim:
        _check_open(record)  # a visitor has no old claim that could be lost
    if record.uid != holder.uid or record.claim != holder.claim:
        raise LeaseLostError(record.name, holder.claim)
    _check_open(record)
    if record.state is not State.RUNNING:
        raise LeaseLostError(record.name, holder.claim)


def _check_handler(record: Record, event: str) -> None:
    if not record.handler:
        raise InvalidTransitionError(record.name, record.state, event)


def _end(
    record: Record,
    now: float,
    retention: float,
    state: State,
    *,
    response: bytes = b"",
    error: status_pb2.Status | None = None,
) -> Record:
    now = max(now, record.update_time)
    return evolved(
        record,
        now,
        state=state,
        response=response,
        error=error.SerializeToString(deterministic=True) if error is not None else b"",
        **_ending(record, now, retention),
    )


def _ending(record: Record, now: float, retention: float) -> dict[str, Any]:
    """What every end writes besides the result."""
    return {
        "end_time": now,
        "expire_time": now + retention,
        "owner": "",
        "lease_expire_time": None,
        "wait": None,
        "wake": None,
        # A cancel that has still to reach the children keeps the row in the sweep's sight. Not at once: whoever
        # requested it is about to pass it on.
        "check_time": now + PASS_ON if record.cancel_children else check_for_parent(record, now, now + retention),
    }


def _cancel_idle(record: Record, now: float, retention: float, token: str = "") -> Record | None:
    """Cancel a row that nobody runs: its clean-up if it has one, else the end."""
    on_cancel = record.wait.on_cancel if record.wait is not None else ""
    if on_cancel and not record.cleaning:
        return _to_cleanup(record, now, on_cancel, token)
    return _removed_if_deleted(_end(record, now, retention, State.CANCELLED, error=cancelled()))


def _to_cleanup(record: Record, now: float, on_cancel: str, token: str = "") -> Record:
    token = token or (record.wait.token if record.wait is not None else "")
    # The clean-up is told of the children that the segment waited for, or, between two runs of it, was woken by.
    known = record.wait if record.wait is not None and not record.wait.rerun else record.wake
    return evolved(
        record,
        now,
        state=State.PENDING,
        owner="",
        lease_expire_time=None,
        resume_point=on_cancel,
        cleaning=True,
        wait=Wait(token=token, sleep_until=now, rerun=True) if token else None,
        wake=Wake(
            reason=WakeReason.CANCEL_REQUESTED,
            children=known.children if known is not None else (),
            service=known.service if known is not None else "",
        ),
        check_time=now,
        attempt=0,
        retries=0,
    )


def _removed_if_deleted(record: Record) -> Record | None:
    # A cancel that must still reach the children keeps even a deleted row, until `bookkeeping.cascaded` lets it go.
    return None if record.deleted and not record.cancel_children else record
