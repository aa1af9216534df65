"""The types of Spanner that the fake knows, and their values in Python and on the wire.

==========  ==========================  ===============================================================
Type        In Python                   On the wire (``google.protobuf.Value``; see Spanner's ``TypeCode``)
==========  ==========================  ===============================================================
BOOL        ``bool``                    bool
INT64       ``int``                     string of decimal digits
STRING      ``str``                     string
BYTES       ``bytes``                   string, base64
PROTO       ``bytes`` (serialized)      string, base64
TIMESTAMP   ``int``, nanoseconds since  string, RFC 3339 that ends with Z
            the epoch
ARRAY       ``list``                    list; as a parameter or in an answer
STRUCT      ``dict`` by field name      list of its fields; only in an ARRAY
==========  ==========================  ===============================================================

NULL is None everywhere.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from google.protobuf import struct_pb2

from lro_aio.testing.spanner.tokens import Cursor, place

__all__ = [
    "BOOL",
    "BYTES",
    "INT64",
    "STRING",
    "TIMESTAMP",
    "Type",
    "array",
    "check_size",
    "decode",
    "encode",
    "format_timestamp",
    "parse_timestamp",
    "read_type",
]

MAX_STRING = 2_621_440
"""Characters of a STRING."""
MAX_CELL = 10 * 1024 * 1024
"""Bytes of a cell."""
_MAX_LENGTH = {"STRING": MAX_STRING, "BYTES": MAX_CELL}
_SCALARS = frozenset({"BOOL", "INT64", "TIMESTAMP"})
_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64_RANGE = range(-(2**63), 2**63)
_TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?Z", re.ASCII)


@dataclass(frozen=True)
class Type:
    """A type of Spanner."""

    code: str
    """Its ``TypeCode`` by name: BOOL, INT64, STRING, BYTES, PROTO, TIMESTAMP, ARRAY or STRUCT."""
    length: int | None = None
    """Limit of a STRING (characters) or BYTES (bytes) column; None: MAX, or not a column's type."""
    element: Type | None = None
    """What an ARRAY holds."""
    proto: str = ""
    """Full name of the message of a PROTO."""
    fields: tuple[tuple[str, Type], ...] = ()
    """What a STRUCT holds."""

    @classmethod
    def from_proto(cls, message: Any) -> Type:
        """From a ``google.spanner.v1.Type`` (the raw protobuf class).

        Raises:
            ValueError: No parameter of the store has such a type.
        """
        from google.cloud.spanner_v1.types import TypeCode

        code = TypeCode(message.code).name
        if code in _SCALARS or code in _MAX_LENGTH:
            return cls(code)
        if code == "ARRAY":
            return array(cls.from_proto(message.array_element_type))
        if code == "STRUCT":
            return cls(code, fields=tuple((one.name, cls.from_proto(one.type_)) for one in message.struct_type.fields))
        raise ValueError(f"the type {code} is not one that this fake takes as a parameter")

    def to_proto(self) -> Any:
        """As a ``google.spanner.v1.Type`` (the raw protobuf class), for ``StructType.Field.type_``."""
        from google.cloud.spanner_v1 import types

        made = types.Type.pb(types.Type(code=getattr(types.TypeCode, self.code), proto_type_fqn=self.proto))
        if self.element is not None:
            made.array_element_type.CopyFrom(self.element.to_proto())
        for name, type_ in self.fields:
            made.struct_type.fields.add(name=name, type_=type_.to_proto())
        return made

    @property
    def ddl(self) -> str:
        """As ``INFORMATION_SCHEMA.COLUMNS.SPANNER_TYPE`` writes it."""
        if self.code in _MAX_LENGTH:
            return f"{self.code}({'MAX' if self.length is None else self.length})"
        return f"`{self.proto}`" if self.code == "PROTO" else self.code

    @cached_property
    def plain(self) -> Type:
        """The type without a length, as in expressions."""
        return Type(self.code) if self.length is not None else self

    def __str__(self) -> str:
        """As it appears in errors: ``STRING``, ``ARRAY<INT64>``."""
        if self.code == "PROTO":
            return f"PROTO<{self.proto}>"
        return f"ARRAY<{self.element}>" if self.element is not None else self.code


BOOL, INT64 = Type("BOOL"), Type("INT64")
STRING, BYTES, TIMESTAMP = Type("STRING"), Type("BYTES"), Type("TIMESTAMP")


def array(element: Type) -> Type:
    """ARRAY of a type."""
    return Type("ARRAY", element=element)


def read_type(cursor: Cursor) -> Type:
    """The type of a column at the cursor.

    Raises:
        ValueError: It is none of those above.
    """
    token = cursor.token
    code = token.text if token.kind == "word" else ""
    if code in _SCALARS:
        return Type(cursor.next().text)
    if code in _MAX_LENGTH:
        cursor.next()
        return Type(code, length=_read_length(cursor, code))
    name = ".".join(cursor.path())
    if "." not in name:
        says = f"the type {name} is not one that this fake knows (a message has a package: google.rpc.Status)"
        raise ValueError(says + place(cursor.text, token.start))
    return Type("PROTO", proto=name)


def _read_length(cursor: Cursor, code: str) -> int | None:
    cursor.expect("(")
    length = None if cursor.take("MAX") else int(cursor.literal("int"))
    cursor.expect(")")
    if length is not None and not 1 <= length <= _MAX_LENGTH[code]:
        raise ValueError(f"Bad length for {code}: {length} : Allowed length range: [1, {_MAX_LENGTH[code]}].")
    return length


def decode(type_: Type, value: struct_pb2.Value) -> Any:
    """The Python form of a value on the wire; ``check_size`` checks its length.

    Raises:
        ValueError: It is not in the wire form of this type ("Could not parse x as an integer", ...).
    """
    kind = value.WhichOneof("kind")
    if kind == "null_value":
        return None
    code = type_.code
    if kind == "string_value" and code not in ("BOOL", "ARRAY", "STRUCT"):
        return _from_text(code, value.string_value)
    if kind == "bool_value" and code == "BOOL":
        return value.bool_value
    if kind == "list_value" and type_.element is not None:
        return [decode(type_.element, item) for item in value.list_value.values]
    if kind == "list_value" and code == "STRUCT" and len(value.list_value.values) == len(type_.fields):
        return {name: decode(own, item) for (name, own), item in zip(type_.fields, value.list_value.values)}
    raise ValueError(f"Could not parse {str(value).strip() or 'a Value without a kind'} as {type_}")


def _from_text(code: str, text: str) -> Any:
    if code == "STRING":
        return text
    if code == "TIMESTAMP":
        return parse_timestamp(text)
    if code == "INT64":
        if not _WHOLE.fullmatch(text) or (number := int(text)) not in _INT64_RANGE:
            raise ValueError(f"Could not parse {text} as an integer")
        return number
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"Could not parse {text} as BYTES. Byte strings must be base64-encoded.") from exc


def encode(type_: Type, value: Any) -> struct_pb2.Value:
    """The wire form of a value in an answer."""
    code = type_.code
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if code == "BOOL":
        return struct_pb2.Value(bool_value=value)
    if type_.element is not None:
        return _list(encode(type_.element, item) for item in value)
    if code == "STRUCT":
        return _list(encode(own, value[name]) for name, own in type_.fields)
    if code in ("BYTES", "PROTO"):
        return struct_pb2.Value(string_value=base64.b64encode(value).decode())
    return struct_pb2.Value(string_value=format_timestamp(value) if code == "TIMESTAMP" else str(value))


def _list(values: Iterable[struct_pb2.Value]) -> struct_pb2.Value:
    return struct_pb2.Value(list_value=struct_pb2.ListValue(values=list(values)))


def check_size(type_: Type, value: Any) -> None:
    """Compare a value with the length of its column and Spanner's limits for a cell.

    Raises:
        ValueError: "size: 7, limit: 5."; the caller names the column before it.
    """
    if isinstance(value, str | bytes):
        limit = type_.length or _MAX_LENGTH.get(type_.code, MAX_CELL)
        if len(value) > limit:
            raise ValueError(f"size: {len(value)}, limit: {limit}.")


@lru_cache(maxsize=4096)  # a row has some times twice
def parse_timestamp(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 timestamp in UTC (``2026-01-31T12:00:00.5Z``).

    Raises:
        ValueError: It is none.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        hint = "" if text.endswith("Z") else " The timestamp value must end with an uppercase literal 'Z'."
        raise ValueError(f"Could not parse {text} as a TIMESTAMP.{hint}")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise ValueError(f"Could not parse {text} as a TIMESTAMP: Out-of-range field.")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    return seconds * 1_000_000_000 + int((match[7] or "0").ljust(9, "0"))


@lru_cache(maxsize=4096)
def format_timestamp(nanoseconds: int) -> str:
    """As Spanner writes it on the wire: only the digits of the fraction that are needed."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    at = time.gmtime(seconds)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{at.tm_year:04}-{at.tm_mon:02}-{at.tm_mday:02}T{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}{fraction}Z"
