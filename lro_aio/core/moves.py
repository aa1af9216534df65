"""What the changes of a row are made of: the checks before them, and the columns that belong together.

Pure, as everything in ``transitions``, which is where the rules are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from google.rpc import status_pb2

from lro_aio.core.bookkeeping import check_for_parent
from lro_aio.core.errors import InvalidTransitionError, LeaseLostError, OperationDoneError
from lro_aio.core.record import NO_STATE, NOT_KEPT, Record, State, Wait, Wake, WakeReason
from lro_aio.core.shown_failures import without_failure

__all__ = [
    "KEPT_STATE",
    "PASS_ON",
    "Holder",
    "changed",
    "check_handler",
    "check_holder",
    "check_open",
    "ended",
    "ending",
    "evolved",
    "held_back",
    "not_paused",
    "removed_if_deleted",
    "rewritten",
    "spare_token",
    "to_cleanup",
]

PASS_ON = 5.0
"""Seconds after the end of an operation in which whoever cancelled it passes the cancel on to its children."""


KEPT_STATE = 256 * 1024
"""Bytes of the first state that are kept beside the present one. The row must not outgrow its store."""


class Holder(NamedTuple):
    """What a write must name (rule 2): the row's uid and the claim that the writer holds.

    Claim 0 is the one of somebody who holds nothing: valid only for a row that nobody claims, because it was made
    without a handler and without a lease, or by another program.
    """

    uid: str
    claim: int


def check_open(record: Record) -> None:
    """Rule 1."""
    if record.done:
        raise OperationDoneError(record.name, record.state)


def check_holder(record: Record, holder: Holder) -> None:
    """Rule 2: an old claim loses, whatever became of the row since; then rule 1."""
    if record.uid == holder.uid and not holder.claim:
        check_open(record)  # a visitor has no old claim that could be lost
    if record.uid != holder.uid or record.claim != holder.claim:
        raise LeaseLostError(record.name, holder.claim)
    check_open(record)
    if record.state is not State.RUNNING:
        raise LeaseLostError(record.name, holder.claim)


def check_handler(record: Record, event: str) -> None:
    """Refuse what only a handler could go on with."""
    if not record.handler:
        raise InvalidTransitionError(record.name, record.state, event)


def evolved(record: Record, now: float, **changes: Any) -> Record:
    """The row with other values, as readers are told of it."""
    return rewritten(record, now, changes)


def rewritten(record: Record, now: float, changes: dict[str, Any]) -> Record:
    """As ``evolved``, of columns in a dict of the caller's own, which gets some more."""
    # A clock that steps back must not make an update older than what it follows.
    changes["update_time"] = max(now, record.update_time)
    changes["revision"] = record.revision + 1
    return changed(record, changes)


def changed(record: Record, changes: Mapping[str, Any]) -> Record:
    """The row with other values: before the state is changed for the first time, the one that it began with is kept."""
    if "state_data" in changes and not record.initial_codec:
        fits = len(record.state_data) <= KEPT_STATE
        kept = {
            "initial_data": record.state_data if fits else b"",
            "initial_codec": record.state_codec or NO_STATE if fits else NOT_KEPT,
        }
        changes = {**changes, **kept}
    return record.replaced(changes)


def ended(
    record: Record,
    now: float,
    retention: float,
    state: State,
    *,
    response: bytes = b"",
    error: status_pb2.Status | None = None,
) -> Record:
    """The row with its result."""
    now = max(now, record.update_time)
    columns = ending(record, now, retention)
    columns["state"] = state
    columns["response"] = response
    columns["error"] = error.SerializeToString(deterministic=True) if error is not None else b""
    if record.paused or record.failure:
        columns |= not_paused(record)
    return rewritten(record, now, columns)


def ending(record: Record, now: float, retention: float) -> dict[str, Any]:
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


def to_cleanup(record: Record, now: float, point: str, token: str = "", *, reason: WakeReason) -> Record:
    """The row ready to run its clean-up at ``point``.

    Args:
        record: The row.
        now: Epoch seconds.
        point: Resume point of the clean-up.
        token: The new resume token; "": that of the wait, if there is one.
        reason: Why it runs.
    """
    token = token or (record.wait.token if record.wait is not None else "")
    # The clean-up is told of the children that the segment waited for, or, between two runs of it, was woken by.
    known = record.wait if record.wait is not None and not record.wait.rerun else record.wake
    return evolved(
        record,
        now,
        state=State.PENDING,
        owner="",
        lease_expire_time=None,
        resume_point=point,
        cleaning=True,
        wait=Wait(token=token, sleep_until=now, rerun=True) if token else None,
        wake=Wake(
            reason=reason,
            children=known.children if known is not None else (),
            service=known.service if known is not None else "",
        ),
        check_time=now,
        attempt=0,
        retries=0,
        **not_paused(record),
    )


def not_paused(record: Record) -> dict[str, Any]:
    """The columns that end a pause, and what is shown of the failure that caused it."""
    if not record.paused and not record.failure:
        return {}
    shown = {"metadata": without_failure(record.metadata)} if record.failure and record.paused else {}
    return {"paused": False, "failure": b"", **shown}


def held_back(record: Record, now: float, *, on_cancel: str = "") -> Record | None:
    """A row that is paused and that nobody runs: no scan finds it, and no token that was given away wakes it.

    None where it was deleted: nobody could unpause it any more. The wait of a row that waits stays what it was.

    Args:
        record: The row, as it would be if it were not paused.
        now: Epoch seconds.
        on_cancel: The clean-up that a run of it wants, where its wait does not say so.
    """
    if record.deleted and not record.cancel_children:
        return None
    wait = record.wait
    if wait is None or record.state is not State.SUSPENDED:  # it was about to run, and what it waited for is over
        wait = Wait(token="", sleep_until=now, on_cancel=on_cancel or (wait.on_cancel if wait else ""), rerun=True)
    expires = None if record.cleaning else record.deadline
    return record.evolve(
        state=State.SUSPENDED,
        owner="",
        lease_expire_time=None,
        wait=replace(wait, token=spare_token(record), expires=expires),
        check_time=expires,
        handover=0,
        schedule_handle="",
    )


def spare_token(record: Record) -> str:
    """A resume token for a row that gets one while nobody is there to draw it. As hard to guess as the uid."""
    return f"{record.uid}.{record.claim}.{record.revision}"


def removed_if_deleted(record: Record) -> Record | None:
    """The row that has ended; None where it is not to be kept (rule 13)."""
    # A cancel that must still reach the children keeps even a deleted row, until `bookkeeping.cascaded` lets it go.
    return None if record.deleted and not record.cancel_children else record
