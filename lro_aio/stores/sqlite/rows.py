"""Records to the values of a statement, and back. The code is plain for speed: every read and write runs it."""

from __future__ import annotations

from typing import Any, cast

from lro_aio.core.record import Draft, Record, State, Wait, Wake

__all__ = [
    "COLUMNS",
    "OUTCOMES",
    "WIDTH",
    "decode",
    "encode",
    "ended_alike",
    "same_row",
]

COLUMNS = (
    "name",
    "uid",
    "state",
    "deleted",
    "create_time",
    "update_time",
    "end_time",
    "expire_time",
    "handler",
    "resume_point",
    "parent_operation",
    "owner",
    "lease_expire_time",
    "claim",
    "attempt",
    "retries",
    "check_time",
    "handover",
    "schedule_handle",
    "cleaning",
    "cancel_requested",
    "cancel_children",
    "fingerprint",
    "traceparent",
    "revision",
    "state_codec",
    "wait",
    "wake",
    "metadata",
    "error",
    "state_data",
    "response",
)
"""The columns that ``decode`` takes, in its order."""

WIDTH = len(COLUMNS) + 2
"""Values of a row: ``parent`` and ``outcome`` are derived from the others."""

OUTCOMES = {
    State.PENDING: 0,
    State.RUNNING: 0,
    State.SUSPENDED: 0,
    State.SUCCEEDED: 1,
    State.FAILED: 2,
    State.CANCELLED: 2,
}
"""The column ``outcome``, by which the partial indexes tell live rows from ended ones."""

_NOTHING = bytearray()
"""Not ``bytes``, for which Python 3.11 first searches an adapter and a protocol (PEP 246)."""
_TEXTS = {state: state.value for state in State}  # sqlite3 takes an exact str five times as fast as a subclass
_STATES = {state.value: state for state in State}


def decode(row: Any) -> Record:
    """The record of a row of ``COLUMNS``."""
    draft: Any = Draft()
    (
        draft.name,
        draft.uid,
        state,
        deleted,
        draft.create_time,
        draft.update_time,
        draft.end_time,
        draft.expire_time,
        draft.handler,
        draft.resume_point,
        draft.parent_operation,
        draft.owner,
        draft.lease_expire_time,
        draft.claim,
        draft.attempt,
        draft.retries,
        draft.check_time,
        draft.handover,
        draft.schedule_handle,
        cleaning,
        cancel_requested,
        cancel_children,
        draft.fingerprint,
        draft.traceparent,
        draft.revision,
        draft.state_codec,
        wait,
        wake,
        draft.metadata,
        draft.error,
        draft.state_data,
        draft.response,
    ) = row
    draft.state = _STATES[state]
    draft.deleted = deleted == 1
    draft.cleaning = cleaning == 1
    draft.cancel_requested = cancel_requested == 1
    draft.cancel_children = cancel_children == 1
    draft.wait = None if wait is None else Wait.from_json(wait)
    draft.wake = None if wake is None else Wake.from_json(wake)
    return cast("Record", draft.finish())


def encode(record: Record) -> tuple[Any, ...]:
    """The values of one row for the statement ``write``."""
    return (
        record.name,
        record.name.rpartition("/operations/")[0],  # as names.parse, which checked the name long ago
        record.uid,
        _TEXTS[record.state],
        OUTCOMES[record.state],
        +record.deleted,  # an exact int, as with the texts
        record.create_time,
        record.update_time,
        record.end_time,
        record.expire_time,
        record.handler,
        record.resume_point,
        record.parent_operation,
        record.owner,
        record.lease_expire_time,
        record.claim,
        record.attempt,
        record.retries,
        record.check_time,
        record.handover,
        record.schedule_handle,
        +record.cleaning,
        +record.cancel_requested,
        +record.cancel_children,
        record.fingerprint,
        record.traceparent,
        record.revision,
        record.state_codec,
        None if record.wait is None else record.wait.to_json(),
        None if record.wake is None else record.wake.to_json(),
        bytearray(record.metadata) if record.metadata else _NOTHING,
        bytearray(record.error) if record.error else _NOTHING,
        bytearray(record.state_data) if record.state_data else _NOTHING,
        bytearray(record.response) if record.response else _NOTHING,
    )


def same_row(old: Record, new: Record) -> bool:
    """Whether ``write`` can turn one into the other: every column that it leaves out is equal."""
    return (
        old.uid == new.uid
        and old.create_time == new.create_time
        and old.handler == new.handler
        and old.parent_operation == new.parent_operation
        and old.fingerprint == new.fingerprint
        and old.traceparent == new.traceparent
    )


def ended_alike(old: Record, new: Record) -> bool:
    """Whether the part ``ended`` can be left out: the outcome and the times of the end are equal."""
    return (
        OUTCOMES[old.state] == OUTCOMES[new.state]
        and old.end_time == new.end_time
        and old.expire_time == new.expire_time
    )
