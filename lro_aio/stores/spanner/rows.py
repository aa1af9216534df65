"""Converts records to the columns of the table, and back. Every read and write comes through here, so it is plain.

The column ``Operation`` is the truth about what clients see, since programs in other languages write nothing else.
``Operation.done`` overrides our own columns, and a row whose ``Uid`` is NULL is driven by another program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from typing import Any

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from lro_aio.core.codegen import compiled
from lro_aio.core.codes import Code
from lro_aio.core.errors import StoreDataError
from lro_aio.core.moves import KEPT_STATE
from lro_aio.core.record import OUTCOMES, Draft, Record, Seat, State, Wait, Wake
from lro_aio.stores.spanner.table import OPTIONAL, SCHEMA_VERSION, WITH_QUEUES
from lro_aio.stores.spanner.values import blob, field, moment, number, values_of

__all__ = [
    "BARE",
    "COLUMNS",
    "MAX_ROW",
    "SEATLESS",
    "as_kept",
    "changed_columns",
    "check_size",
    "decode",
    "insert_columns",
    "same_row",
    "values",
]

_NAMED = {"state": "Status", "state_data": "State"}
"""Columns that are not named as their field."""
_FIELDS = tuple(
    (item.name, _NAMED.get(item.name, "".join(map(str.capitalize, item.name.split("_")))))
    for item in dataclasses.fields(Record)
    if item.name not in ("name", "metadata", "response", "error")  # in ``key`` and ``Operation``
)
COLUMNS = ("key", "Operation", *(column for _, column in _FIELDS))
"""The columns that ``decode`` takes, in order."""
SEATLESS = tuple(column for column in COLUMNS if column not in WITH_QUEUES)
"""The same, of a table without queues."""
BARE = tuple(column for column in COLUMNS if column not in OPTIONAL)
"""The same, of a table without a journal, which has no queues either."""

RARE = ("Paused", "Failure", "Deadline", "InitialData", "InitialCodec", "Seat")
"""Columns that are NULL in most rows, and then cost an insert nothing."""
_USUAL = tuple(column for column in COLUMNS[1:] if column not in RARE)

_NOT_KEPT = {
    columns: {
        item.name: item.default
        for item in dataclasses.fields(Record)
        if dict(_FIELDS).get(item.name, "key") not in {"key", *columns}
    }
    for columns in (COLUMNS, SEATLESS, BARE)
}
"""What a record has that a table of these columns does not keep."""

MAX_ROW = 7 * 1024 * 1024
"""Bytes of payload in one row: the answer to a read holds 10 MiB as base64 (``Read`` in spanner.proto)."""
LARGEST = MAX_ROW + KEPT_STATE + 128 * 1024
"""The same, with the first state, the names, the type URLs and everything else in a row."""

_STATES = {state.value: state for state in State}
_READ = {
    "str": "{0}.string_value",
    "bytes": "blob({0})",
    "int": "number({0})",
    "bool": "{0}.bool_value",
    "float": "moment({0})",
    "float | None": "moment({0})",
    "State": "{0}.string_value",  # for ``_see_operation``, which makes a state of it
    "Wait | None": "Wait.from_json(blob({0}).decode()) if {0}.string_value else None",
    "Wake | None": "Wake.from_json(blob({0}).decode()) if {0}.string_value else None",
    "Seat | None": "Seat.from_json({0}.string_value) if {0}.string_value else None",
}
"""How a column is read, by the type of its field."""
_attributes = attrgetter(*(attribute for attribute, _ in _FIELDS))
_payload = attrgetter("metadata", "response", "error")
_WITH_DEFAULT = ("UpdateTime", "CreateTime", "SchemaVersion")


def decode(row: struct_pb2.ListValue) -> Record:
    """The record of a row of ``COLUMNS``, ``SEATLESS`` or ``BARE``.

    Raises:
        StoreDataError: The row cannot be decoded.
    """
    try:
        return _DECODERS[len(row.values)](row)
    except (DecodeError, ValueError, KeyError, TypeError) as exc:
        raise StoreDataError(row.values[0].string_value, str(exc)) from exc


def _see_operation(draft: Any, operation: operations_pb2.Operation) -> None:
    """Let the public message override our own columns."""
    status = draft.state
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


def _decoder(name: str, columns: Collection[str]) -> list[str]:
    """A function for rows of these columns; what they leave out is as in a new record."""
    there = [field for field, column in _FIELDS if column in columns]
    types = {item.name: str(item.type) for item in dataclasses.fields(Record)}
    absent = {item.name: repr(item.default) for item in dataclasses.fields(Record)}
    return [
        f"def {name}(row):",
        f"    key, operation, {', '.join(there)} = row.values",
        "    draft = Draft()",
        "    draft.name = key.string_value",
        *(
            f"    draft.{field} = {_READ[types[field]].format(field) if field in there else absent[field]}"
            for field, _ in _FIELDS
        ),
        "    if draft.update_time is None:  # from before the column had a default",
        "        draft.update_time = draft.create_time",
        "    draft.revision = draft.revision or 1",
        "    see_operation(draft, Operation.FromString(blob(operation)))",
        "    return draft.finish()",
    ]


_FUNCTIONS = compiled(
    __name__,
    [*_decoder("whole", COLUMNS), *_decoder("seatless", SEATLESS), *_decoder("bare", BARE)],
    {
        "Draft": Draft,
        "Operation": operations_pb2.Operation,
        "Seat": Seat,
        "Wait": Wait,
        "Wake": Wake,
        "blob": blob,
        "moment": moment,
        "number": number,
        "see_operation": _see_operation,
    },
)

_DECODERS: dict[int, Callable[[struct_pb2.ListValue], Record]] = {
    len(COLUMNS): _FUNCTIONS["whole"],
    len(SEATLESS): _FUNCTIONS["seatless"],
    len(BARE): _FUNCTIONS["bare"],
}
"""By the number of columns."""


def changed_columns(
    old: Record, new: Record, *, generated_key: bool, emulator: bool, there: tuple[str, ...] = COLUMNS
) -> tuple[str, ...]:
    """The columns that an update must write, ``key`` first.

    They always include the ``Status`` of an ended row: the stored one may be from before another program ended it.

    Args:
        old: The stored row.
        new: The row to store.
        generated_key: Whether ``key`` and ``Outcome`` are generated.
        emulator: Whether the update goes to Google's emulator. If the key is generated, the emulator refuses an update
            that leaves out a column with a default.
        there: ``COLUMNS``, ``SEATLESS`` or ``BARE``: what the table has.
    """
    ends = old.state is not new.state and (old.done or new.done)
    columns = {
        column: None
        for (_, column), before, after in zip(_FIELDS, _attributes(old), _attributes(new), strict=True)
        if before is not after and before != after
    }
    if there is not COLUMNS:
        columns = {column: None for column in columns if column in there}
    if new.done:
        columns["Status"] = None
    if ends or _payload(old) != _payload(new):
        columns["Operation"] = None
    if ends and not generated_key:
        columns["Outcome"] = None
    if generated_key and emulator:
        columns |= dict.fromkeys(_WITH_DEFAULT)
    return ("key", *columns)


def as_kept(record: Record, there: tuple[str, ...]) -> Record:
    """The record as a table of these columns keeps it."""
    return record.evolve(**_NOT_KEPT[there])


def insert_columns(record: Record, *, generated_key: bool, there: tuple[str, ...] = COLUMNS) -> tuple[str, ...]:
    """The columns of an insert: all but the generated ones, and those of ``RARE`` that say nothing of the row."""
    rare = [column for column in RARE if _VALUES[column](record)]
    own = there[1:] if there is BARE else _USUAL
    if rare and there is not BARE:
        own = tuple(column for column in there[1:] if column not in RARE or column in rare)
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
    "Failure": lambda record: record.failure or None,
    "InitialData": lambda record: record.initial_data or None,
    "ParentOperation": lambda record: record.parent_operation or None,
    "Seat": lambda record: record.seat and record.seat.to_json(),
    "Wait": lambda record: record.wait and record.wait.to_json().encode(),
    "Wake": lambda record: record.wake and record.wake.to_json().encode(),
}
"""The value of each column, as ``values_of`` takes it."""
