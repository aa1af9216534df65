"""Comparing what a filter asks for with what a protobuf message holds.

The type of the field decides how the text of the filter is read. Nothing matches, not even with ``!=``, where the text
cannot be read as that type, where the field does not exist or is not set, or where a message on the way is not set.
"""

from __future__ import annotations

import datetime as dt
import enum
import operator
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from lro_aio.core.codec import unpack
from lro_aio.core.filter_parser import Value
from lro_aio.core.quick import dataclass

__all__ = ["ORDER", "Operand", "holds", "opened", "type_matches"]

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    ":": operator.eq,  # on a single value, "has" means "is"
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_NANOS = 10**9
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # the offset is subtracted by hand: year 1 and 9999 may pass it

_MAX_NESTED_ANY = 8
"""How many Anys inside one another are opened: each opening copies the rest."""


@dataclass(frozen=True, slots=True)
class Operand:
    """The right side of a condition, read in every way that it allows; None for a way that it does not."""

    text: str
    position: int
    anything: bool
    """The ``*`` of ``field:*``."""
    boolean: bool | None
    number: int | float | None
    timestamp: int | None
    """Nanoseconds since the epoch."""
    duration: int | None
    """Nanoseconds."""
    core: str
    """The text without its wildcards."""
    open_start: bool
    open_end: bool

    @classmethod
    def of(cls, value: Value) -> Operand:
        """Read a value of the filter once, for all rows."""
        core = value.text[1:] if value.open_start else value.text
        return cls(
            text=value.text,
            position=value.position,
            anything=value.anything,
            boolean={"true": True, "false": False}.get(value.text),
            number=_number(value.text),
            timestamp=_timestamp(value.text),
            duration=_duration(value.text),
            core=core[:-1] if value.open_end and core else core,
            open_start=value.open_start,
            open_end=value.open_end,
        )

    def like(self, text: str) -> bool:
        """Whether it equals the text, with the wildcards at its ends."""
        if self.open_start and self.open_end:
            return self.core in text
        if self.open_start:
            return text.endswith(self.core)
        return text.startswith(self.core) if self.open_end else text == self.core

    def compare_text(self, comparator: str, text: str) -> bool:
        """``text comparator operand`` for strings: by code points, and with wildcards for ``=``, ``!=`` and ``:``."""
        if comparator in ("=", ":"):
            return self.like(text)
        return not self.like(text) if comparator == "!=" else ORDER[comparator](text, self.text)


def type_matches(type_url: str, comparator: str, operand: Operand) -> bool:
    """Compare ``@type`` with a full type URL or a bare full name, for ``=``, ``!=`` and ``:``."""
    if not type_url:
        return False
    if operand.anything:
        return True
    found = operand.like(type_url) or operand.like(type_url.rpartition("/")[2])
    return not found if comparator == "!=" else found


def holds(root: Message, path: Sequence[str], comparator: str, operand: Operand) -> bool:
    """Whether ``root.path comparator operand``.

    Names are proto names or JSON names; a Struct and a map are walked by keys, an Any by what it holds. A path may
    lead through a repeated field with ``:`` only: then one element is enough.
    """
    nodes: list[_Node] = [root]
    fanned = False
    for name in path:
        found: list[_Node] = []
        for node in nodes:
            shape = node if name == "@type" else opened(node)
            fanned = fanned or isinstance(shape, _Many)
            steps = shape.elements() if isinstance(shape, _Many) else iter((shape,))
            found.extend(child for item in steps if (child := _step(item, name)) is not None)
        nodes = found
    if comparator == ":":
        return any(_has(node, operand) for node in nodes)
    return not fanned and any(_compare(_scalar(opened(node)), comparator, operand) for node in nodes)


def opened(node: _Node | None) -> _Node | None:
    """What a message stands for: an Any for its content, Value, ListValue and Struct for theirs.

    None for a null, and for an Any that cannot be read here.
    """
    for _ in range(_MAX_NESTED_ANY):
        if not isinstance(node, Message) or node.DESCRIPTOR.full_name != "google.protobuf.Any":
            break
        try:
            node = unpack(node)  # type: ignore[arg-type]  # an Any, as its full name says
        except (LookupError, DecodeError):
            return None
    if not isinstance(node, Message):
        return node
    match node.DESCRIPTOR.full_name:
        case "google.protobuf.Any":
            return None
        case "google.protobuf.Value":
            kind = node.WhichOneof("kind")
            return _VALUE_KINDS[kind](node) if kind in _VALUE_KINDS else None
        case "google.protobuf.Struct":
            return _struct(node)
        case "google.protobuf.ListValue":
            return _list(node)
    return node


class _Kind(enum.Enum):
    STRING = enum.auto()
    TYPE = enum.auto()
    BOOL = enum.auto()
    NUMBER = enum.auto()
    SINGLE = enum.auto()
    ENUM = enum.auto()
    TIMESTAMP = enum.auto()
    DURATION = enum.auto()
    OPAQUE = enum.auto()


@dataclass(frozen=True, slots=True)
class _Scalar:
    kind: _Kind
    value: Any
    present: bool = True
    enum_type: EnumDescriptor | None = None


@dataclass(frozen=True, slots=True)
class _Many:
    items: Sequence[Any]
    field: FieldDescriptor | None = None
    """None where the items are messages."""

    def elements(self) -> Iterator[_Node]:
        return (item if self.field is None else _leaf(item, self.field) for item in self.items)


@dataclass(frozen=True, slots=True)
class _Map:
    items: Mapping[Any, Any]
    entry: Descriptor | None = None
    """The entry type of a map field; None for a Struct."""

    def key(self, name: str) -> Any:
        """The name as a key that is in the map; None if there is none."""
        key: Any = name
        if self.entry is not None:
            kind = self.entry.fields_by_name["key"].type
            if kind == FieldDescriptor.TYPE_BOOL:
                key = {"true": True, "false": False}.get(name)
            elif kind != FieldDescriptor.TYPE_STRING:
                key = number if isinstance(number := _number(name), int) else None
        try:
            return key if key is not None and key in self.items else None
        except ValueError:  # an integer that the key's type cannot hold
            return None

    def get(self, name: str) -> _Node | None:
        key = self.key(name)
        if key is None:
            return None
        value = self.items[key]
        if isinstance(value, Message) or self.entry is None:
            return cast("Message", value)
        return _leaf(value, self.entry.fields_by_name["value"])


_Node = Message | _Scalar | _Many | _Map


def _struct(node: Any) -> _Map:
    return _Map(node.fields)


def _list(node: Any) -> _Many:
    return _Many(node.values)


_VALUE_KINDS: dict[str | None, Callable[[Any], _Node]] = {
    "number_value": lambda value: _Scalar(_Kind.NUMBER, value.number_value),
    "string_value": lambda value: _Scalar(_Kind.STRING, value.string_value),
    "bool_value": lambda value: _Scalar(_Kind.BOOL, value.bool_value),
    "struct_value": lambda value: _struct(value.struct_value),
    "list_value": lambda value: _list(value.list_value),
}

_FIELD_KINDS = {
    FieldDescriptor.TYPE_STRING: _Kind.STRING,
    FieldDescriptor.TYPE_BOOL: _Kind.BOOL,
    FieldDescriptor.TYPE_ENUM: _Kind.ENUM,
    FieldDescriptor.TYPE_FLOAT: _Kind.SINGLE,
    FieldDescriptor.TYPE_BYTES: _Kind.OPAQUE,
}

_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


def _leaf(value: Any, field: FieldDescriptor, *, present: bool = True) -> _Scalar:
    return _Scalar(_FIELD_KINDS.get(field.type, _Kind.NUMBER), value, present, field.enum_type)


def _step(node: _Node | None, name: str) -> _Node | None:
    """The member of a node, if it is set."""
    if name == "@type" and isinstance(node, Message) and node.DESCRIPTOR.full_name == "google.protobuf.Any":
        return _Scalar(_Kind.TYPE, node.type_url)  # type: ignore[attr-defined]  # an Any, as its full name says
    node = opened(node)
    if isinstance(node, _Map):
        return node.get(name)
    if not isinstance(node, Message):
        return None
    field = _field(node, name)
    if field is None or (field.has_presence and not node.HasField(field.name)):
        return None
    value = getattr(node, field.name)
    kind = field.message_type
    if field.is_repeated:
        if kind is not None and kind.GetOptions().map_entry:
            return _Map(value, kind)
        return _Many(value, field if kind is None else None)
    return _leaf(value, field, present=field.has_presence or bool(value)) if kind is None else value


def _field(message: Message, name: str) -> FieldDescriptor | None:
    descriptor = cast("Descriptor", message.DESCRIPTOR)
    found = descriptor.fields_by_name.get(name)
    if found is not None:
        return found
    return next((field for field in descriptor.fields if field.json_name == name), None)


def _present(node: _Node) -> bool:
    match node:
        case _Scalar():
            return node.present
        case _Many() | _Map():
            return len(node.items) > 0
    # A message that was reached is set; a Value may still be a null.
    return node.DESCRIPTOR.full_name != "google.protobuf.Value" or opened(node) is not None


def _has(node: _Node, operand: Operand) -> bool:
    if operand.anything:
        return _present(node)
    shape = opened(node)
    if isinstance(shape, _Many):
        return any(_compare(_scalar(opened(item)), "=", operand) for item in shape.elements())
    if isinstance(shape, _Map):
        return shape.key(operand.text) is not None
    scalar = _scalar(shape)
    if scalar is not None:
        return _compare(scalar, ":", operand)
    member = _step(shape, operand.text)
    return member is not None and _present(member)


def _scalar(node: Any) -> _Scalar | None:
    """A node as a single value; None where it is not one."""
    if isinstance(node, _Scalar):
        return node
    if not isinstance(node, Message):
        return None
    message: Any = node
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        return _Scalar(_Kind.TIMESTAMP, message.seconds * _NANOS + message.nanos)
    if name == "google.protobuf.Duration":
        return _Scalar(_Kind.DURATION, message.seconds * _NANOS + message.nanos)
    if name in _WRAPPERS:
        return _leaf(message.value, message.DESCRIPTOR.fields_by_name["value"])
    return None


def _compare(scalar: _Scalar | None, comparator: str, operand: Operand) -> bool:
    if scalar is None:
        return False
    wanted: Any = None
    equality_only = False
    match scalar.kind:
        case _Kind.STRING:
            return operand.compare_text(comparator, scalar.value)
        case _Kind.TYPE:
            return comparator in ("=", "!=", ":") and type_matches(scalar.value, comparator, operand)
        case _Kind.BOOL:
            wanted, equality_only = operand.boolean, True
        case _Kind.ENUM:
            assert scalar.enum_type is not None
            known = scalar.enum_type.values_by_name.get(operand.text)
            wanted, equality_only = None if known is None else known.number, True
        case _Kind.NUMBER:
            wanted = operand.number
        case _Kind.SINGLE:
            wanted = None if operand.number is None else _single(operand.number)
        case _Kind.TIMESTAMP:
            wanted = operand.timestamp
        case _Kind.DURATION:
            wanted = operand.duration
    if wanted is None or (equality_only and comparator not in ("=", "!=", ":")):
        return False
    return ORDER[comparator](scalar.value, wanted)


def _single(number: float) -> float:
    """Rounded to 32 bits, as a ``float`` field rounds what is put into it."""
    try:
        rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
    return rounded


def _number(text: str) -> int | float | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    return float(text) if match[1] or match[2] else int(text)


def _duration(text: str) -> int | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    nanos = int(match[2]) * _NANOS + int((match[3] or "").ljust(9, "0"))
    return -nanos if match[1] else nanos


def _timestamp(text: str) -> int | None:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(f"{match[1]}T{match[2]}")
    except ValueError:
        return None
    since = moment - _EPOCH
    offset = (int(match[5]) * 60 + int(match[6])) * 60 if match[4] else 0
    seconds = since.days * 86_400 + since.seconds + (offset if match[4] == "-" else -offset)
    return seconds * _NANOS + int((match[3] or "").ljust(9, "0"))
