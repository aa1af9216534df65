"""Records to the values of a statement, and back. ``stores._columns`` says how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lro_aio.core.record import Record
from lro_aio.stores._columns import AS_IT_IS, FIXED, KINDS, PAYLOADS, Codec
from lro_aio.stores.postgres import schema

__all__ = [
    "COLUMNS",
    "FIXED",
    "LARGE",
    "OUTLINE",
    "PAYLOADS",
    "SMALL",
    "WRITTEN",
    "decode",
    "differing",
    "encode",
    "same_row",
]

_CODEC = Codec(schema.columns(), {**KINDS, "bool": AS_IT_IS, "bytes": AS_IT_IS})

WRITTEN = _CODEC.written
"""What ``encode`` gives, in its order: the name first."""

COLUMNS = _CODEC.columns
"""What ``decode`` takes, in its order: the fields of ``Record``."""

OUTLINE = _CODEC.outline(
    {
        "str": "''",
        "int": "0::bigint",
        "bool": "false",
        "float | None": "NULL::float8",
        "bytes": "''::bytea",
        "Seat | None": "NULL::text",
    }
)
"""What ``decode`` takes for ``Record.outline``."""

LARGE = (*PAYLOADS, "trail", "wait", "wake", "seat")
"""The columns that are only written where they differ: PostgreSQL would store a large value anew. The seat hardly ever
does."""

SMALL = tuple(column for column in WRITTEN if column not in ("name", "parent", *FIXED, *LARGE))
"""The columns that a change always writes."""


def _differing() -> list[str]:
    """Of the large columns, those in which two records differ."""
    return [
        "def differing(old, new):",
        "    found = ()",
        *(f"    if old.{column} != new.{column}: found += ({column!r},)" for column in LARGE),
        "    return found",
    ]


_FUNCTIONS = _CODEC.compiled(
    __name__, *_CODEC.comparison("same_row", FIXED, "old.entries <= new.entries"), *_differing()
)

decode: Callable[[Any], Record] = _FUNCTIONS["decode"]
"""The record of a row of ``COLUMNS``."""

encode: Callable[[Record], tuple[Any, ...]] = _FUNCTIONS["encode"]
"""The values of ``WRITTEN`` for a record."""

same_row: Callable[[Record, Record], bool] = _FUNCTIONS["same_row"]
"""Whether a write can make the second record of the first: else the first goes, and its journal with it."""

differing: Callable[[Record, Record], tuple[str, ...]] = _FUNCTIONS["differing"]
"""The large columns in which a record differs from the one before."""
