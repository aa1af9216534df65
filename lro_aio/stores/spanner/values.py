"""Values in Spanner's JSON form: text for timestamps, bytes and integers. Every read and write comes through here.

The form of each type: cloud.google.com/spanner/docs/reference/rpc/google.spanner.v1#typecode.
"""

from __future__ import annotations

import calendar
import math
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from types import NoneType
from typing import Any

from google.protobuf import struct_pb2

__all__ = ["blob", "earliest", "field", "latest", "list_of", "moment", "number", "time_text", "values_of"]


def values_of(*items: Any) -> struct_pb2.ListValue:
    """A row or a key. Each item is a str, bytes, int, bool or None; a float is a time in epoch seconds.

    Raises:
        TypeError: An item has another type.
    """
    # Built as bytes: this takes a third of the time of adding the values one by one.
    return struct_pb2.ListValue.FromString(b"".join([_CELLS[type(item)](item) for item in items]))


def list_of(items: Iterable[Any]) -> struct_pb2.Value:
    """An array as the value of a query parameter."""
    return struct_pb2.Value(list_value=values_of(*items))


def number(value: struct_pb2.Value) -> int:
    """An INT64; NULL is 0."""
    return int(value.string_value or 0)


def blob(value: struct_pb2.Value) -> bytes:
    """BYTES or PROTO; NULL is empty."""
    return a2b_base64(value.string_value)


def moment(value: struct_pb2.Value) -> float | None:
    """A TIMESTAMP in epoch seconds: the nearest float."""
    text = value.string_value
    return _moment(text) if text else None


def time_text(when: float) -> str:
    """The TIMESTAMP that ``moment`` converts back to the same float, for times since May 1970.

    In microseconds if they are enough, as for the times of the system clock; otherwise in nanoseconds.
    """
    whole = math.floor(when)
    micros = round((when - whole) * 1e6)
    if micros < 1_000_000 and whole + micros / 1e6 == when:
        return f"{_date(whole)}.{micros:06d}Z"
    return _nanos_text(math.floor(Fraction(when) * 1_000_000_000 + Fraction(1, 2)))


def earliest(when: float) -> str:
    """The first TIMESTAMP that reads as this float. Times of other programs have more digits than a float keeps."""
    return _nanos_text(math.ceil((Fraction(math.nextafter(when, -math.inf)) + Fraction(when)) / 2 * 1_000_000_000))


def latest(when: float) -> str:
    """The last TIMESTAMP that reads as this float."""
    return _nanos_text(math.floor((Fraction(math.nextafter(when, math.inf)) + Fraction(when)) / 2 * 1_000_000_000))


def _nanos_text(nanos: int) -> str:
    whole, rest = divmod(nanos, 1_000_000_000)
    return f"{_date(whole)}.{rest:09d}Z"


def field(tag: bytes, data: bytes) -> bytes:
    """A field of a serialized message: text, bytes or a nested message.

    The wire format: protobuf.dev/programming-guides/encoding.
    """
    size = len(data)
    if size < 0x80:
        return tag + _BYTE[size] + data
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"".join((tag, length, data))


_BYTE = [bytes([value]) for value in range(0x80)]


def _cell(value: bytes) -> bytes:
    """A serialized Value as an element of a serialized ListValue."""
    return field(b"\x0a", value)


def _string(data: bytes) -> bytes:
    size = len(data)
    return _SHORT[size] + data if size < len(_SHORT) else _cell(field(b"\x1a", data))


def _text(item: str) -> bytes:
    return _string(item.encode())


_NULL = _cell(b"\x08\x00")
_SHORT = [bytes([0x0A, size + 2, 0x1A, size]) for size in range(0x7E)]
"""The prefixes of strings of these lengths."""
_FALSE, _TRUE = _cell(b"\x20\x00"), _cell(b"\x20\x01")


@lru_cache(maxsize=4096)  # rows of about the same time share their seconds
def _seconds(text: str) -> int:
    return calendar.timegm(datetime.fromisoformat(text).timetuple())


@lru_cache(maxsize=4096)
def _date(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).isoformat()[:19]


@lru_cache(maxsize=4096)  # a row has some times twice, and is often read again soon
def _moment(text: str) -> float:
    whole = _seconds(text[:19])
    return whole + float(f"0{text[19:-1]}") if len(text) > 20 else float(whole)


@lru_cache(maxsize=4096)
def _time_cell(when: float) -> bytes:
    return _string(time_text(when).encode())


@lru_cache(maxsize=1024)
def _int_cell(item: int) -> bytes:
    return _string(str(int(item)).encode())


class _Cells(dict[type, Callable[[Any], bytes]]):
    def __missing__(self, kind: type) -> Callable[[Any], bytes]:
        for base in kind.__mro__[1:]:
            if base in self:
                return self[base]
        raise TypeError(f"a {kind.__name__} cannot be a Spanner value")


_CELLS = _Cells(
    {
        str: _text,
        NoneType: lambda _: _NULL,
        bool: lambda item: _TRUE if item else _FALSE,
        int: _int_cell,
        float: _time_cell,
        bytes: lambda item: _string(b2a_base64(item, newline=False)),
    }
)
