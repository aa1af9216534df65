"""Key sets of the API as keys of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lro_aio.testing.spanner.keys import successor
from lro_aio.testing.spanner.problems import invalid, precondition
from lro_aio.testing.spanner.storage import Index, Table
from lro_aio.testing.spanner.values import decode

__all__ = ["Keys", "key_text", "keys_of", "parse_key"]


@dataclass(frozen=True, slots=True)
class Keys:
    """A key set: whole keys in order without repetition, and ranges from one key on and before another."""

    keys: tuple[bytes, ...]
    ranges: tuple[tuple[bytes, bytes | None], ...]


def keys_of(key_set: Any, table: Table, index: Index) -> Keys:
    """Translate a ``google.spanner.v1.KeySet``.

    Raises:
        SpannerError: Its keys do not fit the columns.
    """
    if key_set.all_:
        return Keys((), ((b"", None),))
    parts = len(index.declared.key) if index.declared is not None else len(index.parts)
    keys = {index.prefix(parse_key(key, table, index, whole=parts)) for key in key_set.keys}
    ranges = [_range(one, table, index) for one in key_set.ranges]
    if index.declared is not None:  # a key of a secondary index is the beginning of the entry's
        ranges += [(key, successor(key)) for key in sorted(keys)]
        return Keys((), tuple(ranges))
    return Keys(tuple(sorted(keys)), tuple(ranges))


def parse_key(key: Any, table: Table, index: Index, *, whole: int | None = None) -> list[Any]:
    """The values of a key, which has ``whole`` parts (None: any number, for a range).

    Raises:
        SpannerError: It has not, or they are of other types.
    """
    found = len(key.values)
    if found > len(index.parts) or (whole is not None and found != whole):
        name = table.name if index.declared is None else index.name
        expected = whole if whole is not None else len(index.parts)
        raise precondition(
            f"Wrong number of key parts for {name}. Expected {expected} key parts, found {found} key parts."
            f" Supplied key: {str(key).strip()}"
        )
    values = []
    for value, part in zip(key.values, index.parts, strict=False):
        try:
            values.append(decode(table.types[part.column], value))
        except ValueError as exc:
            raise precondition(f"Invalid value for key part {part.column} of table {table.name}: {exc}") from exc
    return values


def key_text(parts: Sequence[Any]) -> str:
    """A key as Spanner's messages show it: ``[operations/a]``."""
    return f"[{','.join('NULL' if part is None else str(part) for part in parts)}]"


def _range(one: Any, table: Table, index: Index) -> tuple[bytes, bytes | None]:
    start, end = one.WhichOneof("start_key_type"), one.WhichOneof("end_key_type")
    if start is None or end is None:
        raise invalid("KeyRange must have a start and an end.")
    low = index.prefix(parse_key(getattr(one, start), table, index))
    high = index.prefix(parse_key(getattr(one, end), table, index))
    first = (successor(low) or low) if start == "start_open" and low else low
    return first, high if end == "end_open" and high else successor(high)
