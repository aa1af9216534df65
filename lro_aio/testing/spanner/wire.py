"""Builds result sets as bytes, from cells that are encoded once for each version of a row.

The parts of a serialized message may be concatenated (https://protobuf.dev/programming-guides/encoding/#last-one-wins),
so the metadata and the rows are made apart. It makes a read of many rows several times as fast as filling messages in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from google.protobuf import struct_pb2

from lro_aio.testing.spanner.messages import PartialResultSet, ResultSet
from lro_aio.testing.spanner.values import Type, encode

__all__ = ["MAX_RESULT", "cell", "head", "partial_sets", "result_set"]

MAX_RESULT = 10 * 1024 * 1024
"""Bytes of a unary result (google.spanner.v1.Spanner.Read: "larger than 10 MiB ... FAILED_PRECONDITION")."""

CHUNK = 1024 * 1024

_ROWS = b"\x12"  # ResultSet.rows = 2
_LIST_VALUES = b"\x0a"  # ListValue.values = 1
_PARTIAL_VALUES = b"\x12"  # PartialResultSet.values = 2


def cell(type_: Type, value: Any) -> bytes:
    """An encoded value with its length before it, to follow a field's tag."""
    return _NULL if value is None else _sized(encode(type_, value).SerializeToString())


def head(names: Sequence[str], types: Sequence[Type], *, partial: bool) -> bytes:
    """The part of a result that names its columns."""
    result = PartialResultSet() if partial else ResultSet()
    result.metadata.row_type.SetInParent()
    for name, type_ in zip(names, types, strict=True):
        result.metadata.row_type.fields.add(name=name, type_=type_.to_proto())
    serialized: bytes = result.SerializeToString()
    return serialized


def result_set(first: bytes, rows: Iterable[Sequence[bytes]]) -> bytes:
    """A ``ResultSet``: ``first`` is its serialized metadata."""
    parts = [first]
    for cells in rows:
        parts += (_ROWS, _sized(b"".join([part for one in cells for part in (_LIST_VALUES, one)])))
    return b"".join(parts)


def partial_sets(first: bytes, rows: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
    """The same as ``PartialResultSet`` messages of about a MiB, values never cut in two."""
    parts, size = [first], 0
    for cells in rows:
        for one in cells:
            parts += (_PARTIAL_VALUES, one)
            size += len(one)
        if size > CHUNK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _sized(data: bytes) -> bytes:
    size, prefix = len(data), bytearray()
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + data


_NULL = _sized(struct_pb2.Value(null_value=struct_pb2.NULL_VALUE).SerializeToString())
