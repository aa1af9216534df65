"""Records to the values of a statement, and back: the path of every read and write.

A new field of ``Record`` needs a column in a migration, and nothing here: its type says how it is stored. The functions
are written out at import; ``codegen`` says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from lro_aio.core.codegen import compiled
from lro_aio.core.record import LATER, OUTCOMES, Draft, Record, State, Wait, Wake
from lro_aio.stores.postgres import schema

__all__ = [
    "COLUMNS",
    "FIXED",
    "OUTLINE",
    "PAYLOADS",
    "SMALL",
    "WRITTEN",
    "decode",
    "differing",
    "encode",
    "same_row",
]

_TYPES = {item.name: str(item.type) for item in dataclasses.fields(Record)}

_AS_IT_IS = ("{0}", "{0}")
_JSON = "None if {{0}} is None else {kind}.from_json({{0}})", "None if {0} is None else {0}.to_json()"
_KINDS = {
    **dict.fromkeys(("str", "int", "float", "float | None", "bool", "bytes"), _AS_IT_IS),
    "State": ("_STATES[{0}]", "_TEXTS[{0}]"),
    "Wait | None": (_JSON[0].format(kind="Wait"), _JSON[1]),
    "Wake | None": (_JSON[0].format(kind="Wake"), _JSON[1]),
}
"""For each type of a field: the field from the value of its column, and the value from the field."""

_DERIVED = {
    "parent": '{0}.name.rpartition("/operations/")[0]',  # as names.parse, which was through with the name long ago
    "outcome": "_OUTCOMES[{0}.state]",
}
"""The columns that are no field: their value from the record."""

WRITTEN = tuple(schema.columns())
"""What ``encode`` gives, in its order: the name first."""

COLUMNS = tuple(column for column in WRITTEN if column in _TYPES)
"""What ``decode`` takes, in its order: the fields of ``Record``."""

PAYLOADS = tuple(column for column, kind in _TYPES.items() if kind == "bytes")

_NOTHING = {"text": "''", "bytea": "''::bytea", "bigint": "0::bigint", "boolean": "false"}
_EMPTY = {
    column: _NOTHING.get(kind, "NULL::float8")
    for column, kind in schema.columns().items()
    if column in PAYLOADS or column in LATER
}
"""What an outline has instead of what it leaves out."""

OUTLINE = tuple(f"{_EMPTY[column]} AS {column}" if column in _EMPTY else column for column in COLUMNS)
"""What ``decode`` takes for ``Record.outline``: of the payloads, not one page is read."""

FIXED = ("uid", "create_time", "handler", "parent_operation", "fingerprint", "traceparent")
"""The columns that never change in the life of a row."""

_LARGE = (*PAYLOADS, "trail", "wait", "wake")
"""The columns that are only written where they differ: PostgreSQL would store a large value anew."""

SMALL = tuple(column for column in WRITTEN if column not in ("name", "parent", *FIXED, *_LARGE))
"""The columns that a change always writes."""


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


def _comparison() -> list[str]:
    """Whether two records of one name are the same row, by what never changes in its life."""
    equal = " and ".join(f"old.{column} == new.{column}" for column in FIXED)
    return ["def same_row(old, new):", f"    return {equal} and old.entries <= new.entries"]


def _differing() -> list[str]:
    """Of the large columns, those in which two records differ."""
    return [
        "def differing(old, new):",
        "    found = ()",
        *(f"    if old.{column} != new.{column}: found += ({column!r},)" for column in _LARGE),
        "    return found",
    ]


_FUNCTIONS = compiled(
    __name__,
    [*_decoder(), *_encoder(), *_comparison(), *_differing()],
    {
        "Draft": Draft,
        "Wait": Wait,
        "Wake": Wake,
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
"""Whether a write can make the second record of the first: else the first goes, and its journal with it."""

differing: Callable[[Record, Record], tuple[str, ...]] = _FUNCTIONS["differing"]
"""The large columns in which a record differs from the one before."""
