"""What the names of the fake's SQL stand for, and what an expression becomes once they are known: a typed closure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from lro_aio.testing.spanner.values import (
    BOOL,
    BYTES,
    FLOAT64,
    INT64,
    STRING,
    TIMESTAMP,
    Type,
    array,
    parse_timestamp,
)

__all__ = [
    "NOW",
    "NULL",
    "UNSET",
    "Binder",
    "Compiled",
    "Context",
    "EvaluationError",
    "Frame",
    "Test",
    "coerce",
    "common",
    "constant",
    "memoized",
]

Frame = list[Any]
"""The values of one evaluation: of each source of rows its current row, by slot."""

NOW = 0
"""The slot of ``CURRENT_TIMESTAMP()``: nanoseconds since the epoch."""
UNSET = object()
"""What a slot holds in the beginning."""
NULL = Type("NULL")
"""The type of the literal NULL, which fits in everywhere."""


class EvaluationError(ValueError):
    """A value broke an expression as it ran: Spanner answers OUT_OF_RANGE, and INVALID_ARGUMENT to other errors."""


@dataclass(frozen=True, slots=True)
class Test:
    """A condition that a scan can use: it is not TRUE where the column is NULL."""

    operator: str
    """``=``, ``<``, ``<=``, ``>``, ``>=``, ``IN`` or ``NOT NULL``."""
    column: Compiled
    value: Compiled | None = None
    """What the column is compared with; of ``IN``, it runs to a collection of values without NULL."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression with its names and types settled."""

    type: Type
    run: Callable[[Frame], Any]
    depends: frozenset[int] = frozenset()
    """The slots whose rows it reads; none: it is the same in the whole run of the query."""
    literal: bool = False
    """A literal or a parameter, whose STRING also stands for a TIMESTAMP."""
    parameter: bool = False
    column: tuple[int, str] | None = None
    """It is just this column of the row in this slot."""
    tests: tuple[Test, ...] = ()
    """What it says about columns, if it is a condition."""


@dataclass(slots=True)
class Context:
    """What is the same for all parts of a statement."""

    messages: DescriptorPool | None = None
    params: Mapping[str, tuple[Type | None, Any]] = field(default_factory=dict)
    subquery: Callable[[Any, Binder], Any] | None = None
    """Compiles a query inside of an expression; None: there can be none."""
    slots: int = NOW + 1

    def slot(self) -> int:
        """A new one."""
        self.slots += 1
        return self.slots - 1

    def frame(self, now: int) -> Frame:
        """For one run of what was compiled."""
        frame = [UNSET] * self.slots
        frame[NOW] = now
        return frame

    def parameter(self, name: str) -> Compiled:
        """The value of ``@name``.

        Raises:
            ValueError: It is not given, or has no type.
        """
        for known, (type_, value) in self.params.items():
            if known.lower() == name.lower():
                if type_ is None:
                    raise ValueError(f"the parameter {name} needs a type (param_types): this fake does not infer it")
                return replace(constant(type_.plain, value), literal=True, parameter=True)
        raise ValueError(f"Incomplete query parameters {name}")


@dataclass(frozen=True, slots=True)
class _Range:
    """A source of rows: a table, or an array (``element``)."""

    alias: str
    """As written; "" for none."""
    slot: int
    columns: Mapping[str, tuple[str, Type]]
    """Of a table: by name in lower case."""
    element: Type | None = None

    def implied(self, name: str) -> Compiled | None:
        """A column, or a field of an element, by its name alone."""
        if self.element is not None:
            whole = self.whole(self.element)
            known = self.element.code == "STRUCT" and any(f.lower() == name for f, _ in self.element.fields)
            return access(whole, name, None) if known else None
        found = self.columns.get(name)
        return None if found is None else self.of_column(*found)

    def whole(self, element: Type) -> Compiled:
        slot = self.slot
        return Compiled(element, lambda frame: frame[slot], frozenset((slot,)))

    def of_column(self, name: str, type_: Type) -> Compiled:
        slot = self.slot
        return Compiled(type_.plain, lambda frame: frame[slot][name], frozenset((slot,)), column=(slot, name))


class Binder:
    """The names that a query, or an expression, may use: its own sources', then those of the query around it."""

    def __init__(self, context: Context, parent: Binder | None = None) -> None:
        self.context = context
        self._parent = parent
        self._ranges: list[_Range] = []

    @property
    def slots(self) -> frozenset[int]:
        """Of its own sources."""
        return frozenset(source.slot for source in self._ranges)

    def table(self, alias: str, columns: Mapping[str, Type]) -> int:
        """Add a table; return its slot."""
        return self._add(alias, {name.lower(): (name, type_) for name, type_ in columns.items()}, None)

    def array(self, alias: str, element: Type) -> int:
        """Add an array; return its slot."""
        return self._add(alias, {}, element)

    def _add(self, alias: str, columns: Mapping[str, tuple[str, Type]], element: Type | None) -> int:
        if alias and any(source.alias.lower() == alias.lower() for source in self._ranges):
            raise ValueError(f"Duplicate table alias {alias} in the same FROM clause")
        self._ranges.append(_Range(alias, self.context.slot(), columns, element))
        return self._ranges[-1].slot

    def resolve(self, parts: tuple[str, ...]) -> Compiled:
        """What ``a.b.c`` stands for.

        Raises:
            ValueError: There is no such name, or more than one.
        """
        found, rest = self._first(parts)
        for name in rest:
            found = access(found, name, self.context.messages)
        return found

    def stars(self, alias: str) -> list[tuple[str, Compiled]]:
        """The columns that ``*`` (alias "") or ``alias.*`` stands for, with their names."""
        chosen = [source for source in self._ranges if not alias or source.alias.lower() == alias.lower()]
        if not chosen:
            raise ValueError(f"Unrecognized name: {alias}" if alias else "SELECT * must have a FROM clause")
        columns: list[tuple[str, Compiled]] = []
        for source in chosen:
            columns.extend((name, source.of_column(name, type_)) for name, type_ in source.columns.values())
            if source.element is not None and source.element.code == "STRUCT":
                whole = source.whole(source.element)
                columns.extend((name, access(whole, name, None)) for name, _ in source.element.fields)
            elif source.element is not None:
                if alias:
                    raise ValueError(f"Dot-star is not supported for type {source.element}")
                columns.append((source.alias, source.whole(source.element)))
        return columns

    def _first(self, parts: tuple[str, ...]) -> tuple[Compiled, tuple[str, ...]]:
        first = parts[0].lower()
        for source in self._ranges:
            if source.alias.lower() != first:
                continue
            if source.element is not None:
                return source.whole(source.element), parts[1:]
            if len(parts) == 1:
                raise ValueError(f"{parts[0]} is a table: its row is no value in this dialect")
            column = source.columns.get(parts[1].lower())
            if column is None:
                raise ValueError(f"Name {parts[1]} not found inside {parts[0]}")
            return source.of_column(*column), parts[2:]
        found = [item for source in self._ranges if (item := source.implied(first)) is not None]
        if len(found) > 1:
            raise ValueError(f"Column name {parts[0]} is ambiguous")
        if found:
            return found[0], parts[1:]
        if self._parent is None:
            raise ValueError(f"Unrecognized name: {parts[0]}")
        return self._parent._first(parts)  # noqa: SLF001 - the same class


def constant(type_: Type, value: Any) -> Compiled:
    """A value known beforehand."""
    return Compiled(type_, lambda _frame: value)


def memoized(context: Context, item: Compiled) -> Compiled:
    """The same, computed once a run if it is the same in the whole of it."""
    if item.depends:
        return item
    slot, run = context.slot(), item.run

    def once(frame: Frame) -> Any:
        found = frame[slot]
        if found is UNSET:
            found = frame[slot] = run(frame)
        return found

    return replace(item, run=once)


def common(items: list[Compiled]) -> Type | None:
    """The type that all can be coerced to: INT64 if there are only NULLs; None if there is none."""
    types = {item.type for item in items} - {NULL}
    if len(types) < 2:
        return next(iter(types), INT64)
    if types == {INT64, FLOAT64}:
        return FLOAT64
    texts = [item for item in items if item.type == STRING]
    if types != {STRING, TIMESTAMP} or not all(item.literal for item in texts):
        return None
    # Where one side is a parameter, the other must know its own type.
    known = any(item.type == TIMESTAMP and not item.parameter for item in items)
    return TIMESTAMP if known or not any(item.parameter for item in texts) else None


def coerce(item: Compiled, type_: Type) -> Compiled | None:
    """The expression as another type, where GoogleSQL does that by itself; None where it does not.

    Raises:
        ValueError: A literal that is not in the form of a TIMESTAMP.
    """
    if item.type == type_:
        return item
    if item.type == NULL:
        return constant(type_, None)
    run = item.run
    if (item.type, type_) == (INT64, FLOAT64):
        return Compiled(type_, lambda frame: None if (x := run(frame)) is None else float(x), item.depends)
    if (item.type, type_) == (STRING, TIMESTAMP) and item.literal:
        text = run([])
        try:
            return replace(constant(type_, None if text is None else parse_timestamp(text)), literal=True)
        except ValueError as exc:
            raise ValueError(f'Could not cast literal "{text}" to type TIMESTAMP') from exc
    return None


def access(item: Compiled, name: str, messages: DescriptorPool | None) -> Compiled:
    """``item.name``: a field of a STRUCT or of a PROTO.

    Raises:
        ValueError: There is no such field, or it is of a type that this fake does not know.
    """
    if item.type.code == "STRUCT":
        return _struct_field(item, name)
    if item.type.code == "PROTO":
        return _message_field(item, name, messages)
    raise ValueError(f"Cannot access field {name} on a value with type {item.type}")


def _struct_field(item: Compiled, name: str) -> Compiled:
    found = next(((own, type_) for own, type_ in item.type.fields if own.lower() == name.lower()), None)
    if found is None:
        raise ValueError(f"Field name {name} does not exist in {item.type}")
    run, (key, type_) = item.run, found
    return Compiled(type_, lambda frame: None if (x := run(frame)) is None else x[key], item.depends)


_WHOLE_NUMBERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})


def _message_field(item: Compiled, name: str, messages: DescriptorPool | None) -> Compiled:
    """A field that is not set is its default value; a message that is not there is NULL, and so are its fields."""
    descriptor = _descriptor(item.type.proto, messages)
    found = next((f for f in descriptor.fields if f.name.lower() == name.lower()), None)
    if found is None:
        raise ValueError(f"Protocol buffer {descriptor.full_name} does not have a field called {name}")
    from_string: Any = GetMessageClass(descriptor).FromString

    def parse(data: bytes) -> Any:
        try:
            return from_string(data)
        except DecodeError as exc:
            raise EvaluationError(f"Corrupted protocol buffer: {descriptor.full_name}") from exc

    run, key, type_ = item.run, found.name, _field_type(found)

    def value(frame: Frame) -> Any:
        data = run(frame)
        return None if data is None else getattr(parse(data), key)

    def message(frame: Frame) -> Any:
        data = run(frame)
        if data is None:
            return None
        whole = parse(data)
        return getattr(whole, key).SerializeToString() if whole.HasField(key) else None

    return Compiled(type_, message if type_.code == "PROTO" else value, item.depends)


def _descriptor(name: str, messages: DescriptorPool | None) -> Descriptor:
    try:
        if messages is not None:
            return messages.FindMessageTypeByName(name)
    except KeyError:
        pass
    raise ValueError(f"Type not found: {name} (it is not in the proto bundle)")


def _field_type(found: FieldDescriptor) -> Type:
    kind = found.cpp_type
    if found.is_repeated or kind == FieldDescriptor.CPPTYPE_ENUM:
        raise ValueError(f"the field {found.full_name} is repeated or an enum, which this fake does not know")
    if found.message_type is not None:
        return Type("PROTO", proto=found.message_type.full_name)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return BYTES if found.type == FieldDescriptor.TYPE_BYTES else STRING
    if kind in _WHOLE_NUMBERS:
        return INT64
    return FLOAT64 if kind in _FLOATS else BOOL


def element_of(item: Compiled, what: str) -> Type:
    """The type of the elements of an array.

    Raises:
        ValueError: It is none.
    """
    if item.type.element is None:
        raise ValueError(f"{what} must be an array but was {item.type}")
    return item.type.element


def list_of(element: Type) -> Type:
    """ARRAY of a type.

    Raises:
        ValueError: It is an array itself.
    """
    if element.code == "ARRAY":
        raise ValueError(f"nested arrays are not supported: the element is {element}")
    return array(INT64 if element == NULL else element)
