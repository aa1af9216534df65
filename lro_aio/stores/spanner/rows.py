"""Converts records to the columns of the table, and back. Every read and write comes through here, so it is plain.

The column ``Operation`` is the truth about what clients see, since programs in other languages write nothing else.
``Operation.done`` overrides our own columns, and a row whose ``Uid`` is NULL is driven by another program.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from typing import Any, cast

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from lro_aio.core.codes import Code
from lro_aio.core.errors import StoreDataError
from lro_aio.core.record import OUTCOMES, Draft, Record, State, Wait, Wake
from lro_aio.stores.spanner.table import SCHEMA_VERSION
from lro_aio.stores.spanner.values import blob, field, moment, number, values_of

__all__ = [
    "COLUMNS",
    "MAX_ROW",
    "changed_columns",
    "check_size",
    "decode",
    "insert_columns",
    "place",
    "same_row",
    "values",
]

COLUMNS = (
    "key",
    "Operation",
    "Uid",
    "Status",
    "CreateTime",
    "UpdateTime",
    "EndTime",
    "ExpireTime",
    "Handler",
    "ResumePoint",
    "State",
    "StateCodec",
    "ParentOperation",
    "Wait",
    "Wake",
    "Cleaning",
    "CancelRequested",
    "CancelChildren",
    "Owner",
    "LeaseExpireTime",
    "Claim",
    "Attempt",
    "Retries",
    "CheckTime",
    "Handover",
    "ScheduleHandle",
    "Fingerprint",
    "Traceparent",
    "Deleted",
    "Revision",
)
"""The columns that ``decode`` takes, in order."""

_CREATE_TIME = COLUMNS.index("CreateTime")

MAX_ROW = 7 * 1024 * 1024
"""Bytes of payload in one row: the answer to a read holds 10 MiB as base64 (``Read`` in spanner.proto)."""
LARGEST = MAX_ROW + 128 * 1024
"""The same, with the names, the type URLs and everything else in a row."""

_STATES = {state.value: state for state in State}
_FIELDS = (
    ("resume_point", "ResumePoint"),
    ("state_data", "State"),
    ("update_time", "UpdateTime"),
    ("create_time", "CreateTime"),
    ("uid", "Uid"),
    ("state", "Status"),
    ("deleted", "Deleted"),
    ("end_time", "EndTime"),
    ("expire_time", "ExpireTime"),
    ("handler", "Handler"),
    ("parent_operation", "ParentOperation"),
    ("owner", "Owner"),
    ("lease_expire_time", "LeaseExpireTime"),
    ("claim", "Claim"),
    ("attempt", "Attempt"),
    ("retries", "Retries"),
    ("check_time", "CheckTime"),
    ("handover", "Handover"),
    ("schedule_handle", "ScheduleHandle"),
    ("cleaning", "Cleaning"),
    ("cancel_requested", "CancelRequested"),
    ("cancel_children", "CancelChildren"),
    ("fingerprint", "Fingerprint"),
    ("traceparent", "Traceparent"),
    ("revision", "Revision"),
    ("state_codec", "StateCodec"),
    ("wait", "Wait"),
    ("wake", "Wake"),
)
_attributes = attrgetter(*(attribute for attribute, _ in _FIELDS))
_payload = attrgetter("metadata", "response", "error")
_WITH_DEFAULT = ("UpdateTime", "CreateTime", "SchemaVersion")


def decode(row: struct_pb2.ListValue) -> Record:
    """The record of a row of ``COLUMNS``.

    Raises:
        StoreDataError: The row cannot be decoded.
    """
    try:
        return _decode(row)
    except (DecodeError, ValueError, KeyError, TypeError) as exc:
        raise StoreDataError(row.values[0].string_value, str(exc)) from exc


def _decode(row: struct_pb2.ListValue) -> Record:
    (
        key,
        operation,
        uid,
        status,
        create_time,
        update_time,
        end_time,
        expire_time,
        handler,
        resume_point,
        state_data,
        state_codec,
        parent_operation,
        wait,
        wake,
        cleaning,
        cancel_requested,
        cancel_children,
        owner,
        lease_expire_time,
        claim,
        attempt,
        retries,
        check_time,
        handover,
        schedule_handle,
        fingerprint,
        traceparent,
        deleted,
        revision,
    ) = row.values
    draft: Any = Draft()
    draft.name = key.string_value
    draft.uid = uid.string_value
    draft.create_time = moment(create_time)
    seen = moment(update_time)
    draft.update_time = draft.create_time if seen is None else seen  # NULL: from before the column had a default
    draft.end_time = moment(end_time)
    draft.expire_time = moment(expire_time)
    draft.handler = handler.string_value
    draft.resume_point = resume_point.string_value
    draft.state_data = blob(state_data)
    draft.state_codec = state_codec.string_value
    draft.parent_operation = parent_operation.string_value
    draft.wait = Wait.from_json(blob(wait).decode()) if wait.string_value else None
    draft.wake = Wake.from_json(blob(wake).decode()) if wake.string_value else None
    draft.cleaning = cleaning.bool_value
    draft.cancel_requested = cancel_requested.bool_value
    draft.cancel_children = cancel_children.bool_value
    draft.owner = owner.string_value
    draft.lease_expire_time = moment(lease_expire_time)
    draft.claim = number(claim)
    draft.attempt = number(attempt)
    draft.retries = number(retries)
    draft.check_time = moment(check_time)
    draft.handover = number(handover)
    draft.schedule_handle = schedule_handle.string_value
    draft.fingerprint = fingerprint.string_value
    draft.traceparent = traceparent.string_value
    draft.deleted = deleted.bool_value
    draft.revision = number(revision) or 1
    _see_operation(draft, operations_pb2.Operation.FromString(blob(operation)), status.string_value)
    return cast("Record", draft.finish())


def place(row: struct_pb2.ListValue) -> tuple[float, str]:
    """The position of a row of ``COLUMNS`` in a list: its CreateTime and its key."""
    return moment(row.values[_CREATE_TIME]) or 0.0, row.values[0].string_value


def _see_operation(draft: Any, operation: operations_pb2.Operation, status: str) -> None:
    """Let the public message override our own columns."""
    draft.metadata = operation.metadata.SerializeToString() if operation.HasField("metadata") else b""
    draft.response = draft.error = b""
    state = _STATES.get(status)
    if not operation.done:
        if state is None or state.terminal:  # another program made the row, or undid its end
            state = State.RUNNING
            draft.uid = draft.handler = draft.owner = ""
            draft.lease_expire_time = draft.check_time = draft.end_time = draft.expire_time = None
    elif operation.HasField("error"):
        draft.error = operation.error.SerializeToString()
        if state is not State.FAILED and state is not State.CANCELLED:
            state = State.CANCELLED if operation.error.code == Code.CANCELLED else State.FAILED
    else:
        draft.response = operation.response.SerializeToString()
        state = State.SUCCEEDED
    draft.state = state


def changed_columns(old: Record, new: Record, *, generated_key: bool, emulator: bool) -> tuple[str, ...]:
    """The columns that an update must write, ``key`` first.

    They always include the ``Status`` of an ended row: the stored one may be from before another program ended it.

    Args:
        old: The stored row.
        new: The row to store.
        generated_key: Whether ``key`` and ``Outcome`` are generated.
        emulator: Whether the update goes to Google's emulator. If the key is generated, the emulator refuses an update
            that leaves out a column with a default.
    """
    ends = old.state is not new.state and (old.done or new.done)
    columns = {
        column: None
        for (_, column), before, after in zip(_FIELDS, _attributes(old), _attributes(new), strict=True)
        if before is not after and before != after
    }
    if new.done:
        columns["Status"] = None
    if ends or _payload(old) != _payload(new):
        columns["Operation"] = None
    if ends and not generated_key:
        columns["Outcome"] = None
    if generated_key and emulator:
        columns |= dict.fromkeys(_WITH_DEFAULT)
    return ("key", *columns)


def insert_columns(*, generated_key: bool) -> tuple[str, ...]:
    """The columns of an insert: all but the generated ones."""
    own = ("Operation", *(column for _, column in _FIELDS))
    return own if generated_key else ("key", "Outcome", *own)


def values(record: Record, columns: Iterable[str]) -> struct_pb2.ListValue:
    """The record's values for these columns, in their order."""
    return values_of(*[_VALUES[column](record) for column in columns])


def check_size(record: Record) -> None:
    """Refuse a row that could be written but not be read again.

    The children of a suspended row count three times: the wake-up writes their names again, all and pending ones.

    Raises:
        ValueError: The row is larger than one answer holds.
    """
    size = record.size
    wait, wake = record.wait, record.wake
    if wait is not None and wait.children:
        size += _length(wait.children) * (3 if record.state is State.SUSPENDED else 1)
    if wake is not None and wake.children:
        size += _length(wake.children) + _length(wake.pending)
    if size > LARGEST:
        raise ValueError(
            f"the row of {record.name} has {size} bytes, including the names of its children; the limit is {LARGEST}"
        )


def _length(names: Collection[str]) -> int:
    return sum(map(len, names)) + 3 * len(names)


def same_row(old: Record, new: Record) -> bool:
    """Whether these are two states of one row, and not two rows of the same name."""
    return old.uid == new.uid and old.create_time == new.create_time


def _operation(record: Record) -> bytes:
    """The serialized Operation, built from payloads that are already serialized.

    Field numbers: google/longrunning/operations.proto.
    """
    parts = [field(b"\x0a", record.name.encode())]
    if record.metadata:
        parts.append(field(b"\x12", record.metadata))
    if record.done:
        parts.append(b"\x18\x01")
        succeeded = record.state is State.SUCCEEDED
        parts.append(field(b"\x2a", record.response) if succeeded else field(b"\x22", record.error))
    return b"".join(parts)


_VALUES: dict[str, Callable[[Record], Any]] = {
    **{column: attrgetter(attribute) for attribute, column in _FIELDS},
    "key": attrgetter("name"),
    "Operation": _operation,
    "Outcome": lambda record: OUTCOMES[record.state],
    "SchemaVersion": lambda _: SCHEMA_VERSION,
    "Status": lambda record: record.state.value,
    "State": lambda record: record.state_data or None,
    "ParentOperation": lambda record: record.parent_operation or None,
    "Wait": lambda record: record.wait and record.wait.to_json().encode(),
    "Wake": lambda record: record.wake and record.wake.to_json().encode(),
}
"""The value of each column, as ``values_of`` takes it."""
