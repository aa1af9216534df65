"""Records to the values of a statement, and back. ``stores._columns`` says how."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lro_aio.core.record import Record
from lro_aio.stores._columns import FIXED, KINDS, PAYLOADS, Codec
from lro_aio.stores.sqlite import schema

__all__ = [
    "COLUMNS",
    "ENDED",
    "FIXED",
    "KEY",
    "MOVED",
    "OUTLINE",
    "PAYLOADS",
    "PROGRESS",
    "WRITTEN",
    "decode",
    "encode",
    "encode_ended",
    "encode_moved",
    "ended_alike",
    "only_moved",
    "same_row",
]


def _or_null(value: str) -> str:
    """The expression of a value that may be None.

    For None, sqlite3 looks for an adapter and a protocol (PEP 246) each time, and forms two error messages on the way:
    that was a fifth of what the two writes of an operation cost. SQLite has no NaN, and stores NULL where it is given
    one.
    """
    return value.replace("None if", "_NULL if") if "None if" in value else f"_NULL if {value} is None else {value}"


_NULLABLE = ("float | None", "Wait | None", "Wake | None", "Seat | None")

# In the table's order, which spares SQLite a copy of every value: 3 % of a batch.
_CODEC = Codec(
    schema.columns(),
    {
        **KINDS,
        **{kind: (KINDS[kind][0], _or_null(KINDS[kind][1])) for kind in _NULLABLE},
        "bool": ("{0} == 1", "+{0}"),  # sqlite3 takes an exact int or str five times as fast as one of a subclass
        "bytes": ("{0}", "bytearray({0}) if {0} else _NOTHING"),
    },
)

WRITTEN = _CODEC.written
"""What ``encode`` gives, in its order: the name first."""

COLUMNS = _CODEC.columns
"""What ``decode`` takes, in its order: the fields of ``Record``."""

OUTLINE = _CODEC.outline(
    {"str": "''", "int": "0", "bool": "0", "float | None": "NULL", "bytes": "x''", "Seat | None": "NULL"}
)
"""What ``decode`` takes for ``Record.outline``."""

ENDED = ("outcome", "end_time", "expire_time")
"""The columns that change when the operation ends."""

MOVED = (
    *("state", "update_time", "owner", "lease_expire_time", "claim", "attempt", "check_time", "handover"),
    *("schedule_handle", "revision", "wait", "wake", "error", "response", "trail"),
)
"""The columns that change when a row is claimed, released or ended: with the others, it would cost a third more."""

KEY = ("name", "uid")

PROGRESS = tuple(column for column in WRITTEN if column not in ("name", "parent", *FIXED, *ENDED))
"""The columns that change at any time: all others."""

_FUNCTIONS = _CODEC.compiled(
    __name__,
    *_CODEC.comparison("same_row", FIXED),
    *_CODEC.comparison("ended_alike", ENDED),
    *_CODEC.comparison("only_moved", [column for column in PROGRESS if column not in MOVED]),
    *_CODEC.encoder("encode_moved", (*MOVED, *KEY)),
    *_CODEC.encoder("encode_ended", (*MOVED, *ENDED, *KEY)),
    _NULL=math.nan,
    _NOTHING=bytearray(),  # not bytes, for which Python 3.11 looks for an adapter and a protocol (PEP 246) first
)

decode: Callable[[Any], Record] = _FUNCTIONS["decode"]
"""The record of a row of ``COLUMNS``."""

encode: Callable[[Record], tuple[Any, ...]] = _FUNCTIONS["encode"]
"""The values of ``WRITTEN`` for a record."""

encode_moved: Callable[[Record], tuple[Any, ...]] = _FUNCTIONS["encode_moved"]
"""The values of ``MOVED`` and ``KEY`` for a record."""

encode_ended: Callable[[Record], tuple[Any, ...]] = _FUNCTIONS["encode_ended"]
"""The values of ``MOVED``, ``ENDED`` and ``KEY`` for a record."""

same_row: Callable[[Record, Record], bool] = _FUNCTIONS["same_row"]
"""Whether ``write`` can make the second record, which has the same name, of the first: no ``FIXED`` column differs."""

ended_alike: Callable[[Record, Record], bool] = _FUNCTIONS["ended_alike"]
"""Whether a write can leave the columns ``ENDED`` out: they are the same in both records."""

only_moved: Callable[[Record, Record], bool] = _FUNCTIONS["only_moved"]
"""Whether a write can leave out all but ``MOVED`` and ``ENDED``: the others are the same in both records."""
