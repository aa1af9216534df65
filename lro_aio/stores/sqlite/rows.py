"""Records to the values of a statement, and back: the path of every read and write.

A new field of ``Record`` needs a column in a migration, and nothing here: its type says how it is stored. The functions
are written out at import; ``codegen`` says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from lro_aio.core.codegen import compiled
from lro_aio.core.record import OUTCOMES, Draft, Record, State, Wait, Wake
from lro_aio.stores.sqlite import schema

__all__ = [
    "COLUMNS",
    "ENDED",
    "FIXED",
    "OUTLINE",
    "PROGRESS",
    "WRITTEN",
    "decode",
    "encode",
    "ended_alike",
    "same_row",
]

_TYPES = {item.name: str(item.type) for item in dataclasses.fields(Record)}

_AS_IT_IS = ("{0}", "{0}")
_KINDS = {
    "str": _AS_IT_IS,
    "int": _AS_IT_IS,
    "float": _AS_IT_IS,
    "float | None": _AS_IT_IS,
    "bool": ("{0} == 1", "+{0}"),  # sqlite3 takes an exact int or str five times as fast as one of a subclass
    "State": ("_STATES[{0}]", "_TEXTS[{0}]"),
    "Wait | None": ("None if {0} is None else Wait.from_json({0})", "None if {0} is None else {0}.to_json()"),
    "Wake | None": ("None if {0} is None else Wake.from_json({0})", "None if {0} is None else {0}.to_json()"),
    "bytes": ("{0}", "bytearray({0}) if {0} else _NOTHING"),
}
"""For each type of a field: the field from the value of its column, and the value from the field."""

_DERIVED = {
    "parent": '{0}.name.rpartition("/operations/")[0]',  # as names.parse, which was through with the name long ago
    "outcome": "_OUTCOMES[{0}.state]",
}
"""The columns that are no field: their value from the record."""

# In the table's order, which spares SQLite a copy of every value: 3 % of a batch.
WRITTEN = tuple(sorted((*_TYPES, *_DERIVED), key=schema.columns().index))
"""What ``encode`` gives, in its order: the name first."""

COLUMNS = tuple(column for column in WRITTEN if column in _TYPES)
"""What ``decode`` takes, in its order: the fields of ``Record``."""

PAYLOADS = tuple(column for column, kind in _TYPES.items() if kind == "bytes")

_EMPTY = {
    **dict.fromkeys(PAYLOADS, "x''"),
    "trail": "''",
    "entries": "0",
    "paused": "0",
    "deadline": "NULL",
    "initial_codec": "''",
}
"""What an outline has instead of the payloads and of the columns behind them."""

OUTLINE = tuple(f"{_EMPTY[column]} AS {column}" if column in _EMPTY else column for column in COLUMNS)
"""What ``decode`` takes for ``Record.outline``: of the payloads, not one page is read."""

FIXED = ("uid", "create_time", "handler", "parent_operation", "fingerprint", "traceparent")
"""The columns that never change in the life of a row."""

ENDED = ("outcome", "end_time", "expire_time")
"""The columns that change when the operation ends."""

PROGRESS = tuple(column for column in WRITTEN if column not in ("name", "parent", *FIXED, *ENDED))
"""The columns that change at any time: all others."""


def _value(column: str, record: str) -> str:
    """The expression of a column's value from the record in this variable."""
    if column in _DERIVED:
        return _DERIVED[column].format(record)
    return _KINDS[_TYPES[column]][1].format(f"{record}.{column}")


def _decoder() -> list[str]:
    """One assignment takes the row apart. What is stored as it is goes straight into the draft."""
    made = {column: _KINDS[_TYPES[column]][0].format(column) for column in COLUMNS}
    return [
        "def decode(row):",
        "    draft = Draft()",
        "    (",
        *(f"        {'draft.' * (made[column] == column)}{column}," for column in COLUMNS),
        "    ) = row",
        *(f"    draft.{column} = {value}" for column, value in made.items() if value != column),
        "    return draft.finish()",
    ]


def _encoder() -> list[str]:
    values = [f"        {_value(column, 'record')}," for column in WRITTEN]
    return ["def encode(record):", "    return (", *values, "    )"]


def _comparison(name: str, columns: tuple[str, ...]) -> list[str]:
    """Whether two records have the same values of these columns."""
    equal = " and ".join(f"({_value(column, 'old')}) == ({_value(column, 'new')})" for column in columns)
    return [f"def {name}(old, new):", f"    return {equal}"]


_FUNCTIONS = compiled(
    __name__,
    [*_decoder(), *_encoder(), *_comparison("same_row", FIXED), *_comparison("ended_alike", ENDED)],
    {
        "Draft": Draft,
        "Wait": Wait,
        "Wake": Wake,
        "_NOTHING": bytearray(),  # not bytes, for which Python 3.11 looks for an adapter and a protocol (PEP 246) first
        "_OUTCOMES": OUTCOMES,
        "_STATES": {state.value: state for state in State},
        "_TEXTS": {state: state.value for state in State},
    },
)

decode: Callable[[Any], Record] = _FUNCTIONS["decode"]
"""The record of a row of ``COLUMNS``."""

encode: Callable[[Record], tuple[Any, ...]] = _FUNCTIONS["encode"]
"""The values of ``WRITTEN`` for a record."""

same_row: Callable[[Record, Record], bool] = _FUNCTIONS["same_row"]
"""Whether ``write`` can make the second record, which has the same name, of the first: no ``FIXED`` column differs."""

ended_alike: Callable[[Record, Record], bool] = _FUNCTIONS["ended_alike"]
"""Whether a write can leave the columns ``ENDED`` out: they are the same in both records."""
