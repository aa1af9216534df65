"""Key sets of the API as keys of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lro_aio.testing.spanner.problems import precondition, unsupported
from lro_aio.testing.spanner.storage import Table
from lro_aio.testing.spanner.values import decode

__all__ = ["key_text", "keys_of"]


def keys_of(key_set: Any, table: Table) -> list[bytes]:
    """The primary keys of a ``google.spanner.v1.KeySet``, in order and without repetition.

    Raises:
        SpannerError: They do not fit the columns, or there are ranges among them.
    """
    if key_set.all_ or key_set.ranges:
        raise unsupported("ranges of keys")
    return sorted({table.primary.prefix(_parse(key, table)) for key in key_set.keys})


def _parse(key: Any, table: Table) -> list[Any]:
    found, expected = len(key.values), len(table.key_columns)
    if found != expected:
        raise precondition(
            f"Wrong number of key parts for {table.name}. Expected {expected} key parts, found {found} key parts."
            f" Supplied key: {str(key).strip()}"
        )
    values = []
    for value, name in zip(key.values, table.key_columns, strict=True):
        try:
            values.append(decode(table.types[name], value))
        except ValueError as exc:
            raise precondition(f"Invalid value for key part {name} of table {table.name}: {exc}") from exc
    return values


def key_text(parts: Sequence[Any]) -> str:
    """A key as Spanner's messages show it: ``[operations/a]``."""
    return f"[{','.join('NULL' if part is None else str(part) for part in parts)}]"
