"""Resolves the names of the fake's SQL, and turns expressions into typed closures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from lro_aio.testing.spanner.values import BOOL, STRING, Type

__all__ = ["NOW", "Binder", "Compiled", "Context", "EvaluationError", "Frame", "Test", "access", "constant", "memoized"]

Frame = list[Any]
"""The values of one evaluation, by slot: the current row of each source of rows."""

NOW = 0
"""The slot of ``CURRENT_TIMESTAMP()``: nanoseconds since the epoch."""
_UNSET = object()


class EvaluationError(ValueError):
    """An expression failed on a value: Spanner answers OUT_OF_RANGE. Other errors are INVALID_ARGUMENT."""


@dataclass(frozen=True, slots=True)
class Test:
    """A condition that a scan can use: it is never TRUE for a NULL in the column."""

    operator: str
    """``=``, ``<``, ``<=``, ``>``, ``>=``, ``IN`` or ``NOT NULL``."""
    column: Compiled
    value: Compiled | None = None
    """What the column is compared with; for ``IN``, its value is a collection without NULL."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression with resolved names and types."""

    type: Type
    run: Callable[[Frame], Any]
    depends: frozenset[int] = frozenset()
    """The slots whose rows it reads. Empty: its value is constant during a run of the query."""
    column: tuple[int, str] | None = None
    """The slot and name of the column, if the expression is just a column."""
    tests: tuple[Test, ...] = ()
    """What it tests about columns, if it is a condition."""


@dataclass(slots=True)
class Context:
    """What is the same for all parts of a statement."""

    messages: DescriptorPool | None = None
    params: Mapping[str, tuple[Type, Any]] = field(default_factory=dict)
    subquery: Callable[[Any, Binder], Any] | None = None
    """Compiles a query inside an expression; None: the expression cannot contain one."""
    slots: int = NOW + 1

    def slot(self) -> int:
        """A new slot."""
        self.slots += 1
        return self.slots - 1

    def frame(self, now: int) -> Frame:
        """A frame for one run of the compiled statement."""
        frame = [_UNSET] * self.slots
        frame[NOW] = now
        return frame

    def parameter(self, name: str) -> Compiled:
        """The value of ``@name``.

        Raises:
            ValueError: It is not given.
        """
        if name not in self.params:
            raise ValueError(f"Incomplete query parameters {name}")
        return constant(*self.params[name])


@dataclass(frozen=True, slots=True)
class _Range:
    """A source of rows: a table, or an array (``element``)."""

    alias: str
    slot: int
    columns: Mapping[str, tuple[str, Type]]
    """The columns of a table, by name in lower case."""
    element: Type | None = None
    needs: set[str] = field(default_factory=set)
    """The columns that expressions name."""

    def column(self, name: str) -> Compiled | None:
        """A column of a table, by its name alone."""
        found = self.columns.get(name.lower())
        if found is None:
            return None
        slot, (own, type_) = self.slot, found
        self.needs.add(own)
        return Compiled(type_.plain, lambda frame: frame[slot][own], frozenset((slot,)), column=(slot, own))

    def whole(self, element: Type) -> Compiled:
        """The current element of an array."""
        slot = self.slot
        return Compiled(element, lambda frame: frame[slot], frozenset((slot,)))


class Binder:
    """The names that a query or an expression may use: those of its own sources, then those of the outer query."""

    def __init__(self, context: Context, parent: Binder | None = None) -> None:
        self.context = context
        self._parent = parent
        self._ranges: list[_Range] = []

    @property
    def slots(self) -> frozenset[int]:
        """The slots of its own sources."""
        return frozenset(source.slot for source in self._ranges)

    def needs(self, slot: int) -> Collection[str]:
        """The columns of its table in that slot that expressions name: more may come until all are compiled."""
        return next(source.needs for source in self._ranges if source.slot == slot)

    def table(self, alias: str, columns: Mapping[str, Type]) -> int:
        """Add a table; return its slot."""
        return self._add(alias, {name.lower(): (name, type_) for name, type_ in columns.items()}, None)

    def array(self, alias: str, element: Type) -> int:
        """Add an array; return its slot."""
        return self._add(alias, {}, element)

    def _add(self, alias: str, columns: Mapping[str, tuple[str, Type]], element: Type | None) -> int:
        if any(source.alias.lower() == alias.lower() for source in self._ranges):
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

    def _first(self, parts: tuple[str, ...]) -> tuple[Compiled, tuple[str, ...]]:
        """What the first part, or a table and its column, stand for, and the parts after it."""
        name = parts[0]
        for source in self._ranges:
            if source.alias.lower() != name.lower():
                continue
            if source.element is not None:
                return source.whole(source.element), parts[1:]
            if len(parts) > 1 and source.column(name) is None:
                column = source.column(parts[1])
                if column is None:
                    raise ValueError(f"Name {parts[1]} not found inside {name}")
                return column, parts[2:]
        found = [item for source in self._ranges if (item := source.column(name)) is not None]
        if len(found) > 1:
            raise ValueError(f"Column name {name} is ambiguous")
        if found:
            return found[0], parts[1:]
        if self._parent is None:
            raise ValueError(f"Unrecognized name: {name}")
        return self._parent._first(parts)  # noqa: SLF001 - the same class


def constant(type_: Type, value: Any) -> Compiled:
    """A value that is known in advance."""
    return Compiled(type_, lambda _frame: value)


def memoized(context: Context, item: Compiled) -> Compiled:
    """The same expression, computed once per run if its value is constant."""
    if item.depends:
        return item
    slot, run = context.slot(), item.run

    def once(frame: Frame) -> Any:
        found = frame[slot]
        if found is _UNSET:
            found = frame[slot] = run(frame)
        return found

    return replace(item, run=once)


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
        raise ValueError(f"Field name {name} does not exist in the STRUCT")
    run, (key, type_) = item.run, found
    return Compiled(type_, lambda frame: run(frame)[key], item.depends)


def _message_field(item: Compiled, name: str, messages: DescriptorPool | None) -> Compiled:
    """An unset field has its default value; an unset message is NULL, and so are its fields."""
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
        if data is None or not (whole := parse(data)).HasField(key):
            return None
        return getattr(whole, key).SerializeToString()

    return Compiled(type_, message if type_.code == "PROTO" else value, item.depends)


def _descriptor(name: str, messages: DescriptorPool | None) -> Descriptor:
    try:
        if messages is not None:
            return messages.FindMessageTypeByName(name)
    except KeyError:
        pass
    raise ValueError(f"Type not found: {name} (it is not in the proto bundle)")


def _field_type(found: FieldDescriptor) -> Type:
    if found.message_type is not None and not found.is_repeated:
        return Type("PROTO", proto=found.message_type.full_name)
    if found.type == FieldDescriptor.TYPE_STRING:
        return STRING
    if found.type == FieldDescriptor.TYPE_BOOL:
        return BOOL
    raise ValueError(f"the field {found.full_name} is of a type that this fake does not know")
