"""Results that are data: what a handler returns as the message that is stored, and back as what it was.

An object is stored as ``google.protobuf.Struct``, any other JSON value as ``google.protobuf.Value``: a client in any
language can read both. Their numbers are doubles, so what a double cannot hold is refused.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Hashable, Iterable
from types import NoneType
from typing import Any, NamedTuple, cast

import pydantic_core
from google.protobuf import any_pb2, empty_pb2, struct_pb2
from google.protobuf.message import Message
from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError

from lro_aio.core.codec import StateCodec, location, sentence, unpack
from lro_aio.core.errors import ResponseDataError, StateCodecError
from lro_aio.core.payloads import data_of, decode, is_empty, is_message, is_open, members_of, type_name
from lro_aio.core.proto_json import EXACT

__all__ = ["ANY_RESPONSE", "ResponseType", "decode_response", "message_of"]

MAX_DEPTH = 32
"""Objects and arrays in each other. Readers of protobuf messages refuse what is much deeper."""

_EMPTY = empty_pb2.Empty()
_TYPES = 256
"""How many types of undeclared results are looked into once."""


class ResponseType:
    """What a handler returns.

    Args:
        kind: A protobuf message class, a type that pydantic knows, None in a union with such, or a union of them.
            ``None``, ``Any``, ``object`` and ``Message`` declare nothing: then any message and any data will do.
            ``NoneType``: only None.

    Raises:
        TypeError: pydantic has no schema for the type.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = None if is_open(kind) else kind
        members = () if self.kind is None else members_of(kind)
        self._messages = {member.DESCRIPTOR.full_name for member in members if is_message(member)}
        self._none = NoneType in members
        data = None if self.kind is None else data_of(kind)
        self.data = None if data is NoneType else data
        """The part of the type that is data; None where only messages are returned, or nothing is declared."""
        try:
            self._data = None if self.data is None else _Data.of(self.data)
        except TypeError as exc:
            raise TypeError(f"{kind!r} cannot be a response: {exc}") from exc

    def message(self, value: Any) -> Message:
        """What a handler returned, as the message that is stored.

        Raises:
            TypeError: pydantic cannot serialize it.
            ResponseDataError: It is not what is declared, or has a number that JSON cannot hold exactly. It names the
                field.
        """
        if self.kind is None:
            return message_of(value)
        if value is None and self._none:
            return _EMPTY
        if isinstance(value, Message):
            name = value.TypeName() if isinstance(value, any_pb2.Any) else value.DESCRIPTOR.full_name
            if name not in self._messages:
                raise ResponseDataError(f"expected {type_name(self.kind)}, not {name}")
            return value
        if self._data is None:
            raise ResponseDataError(f"expected {type_name(self.kind)}, not {type(value).__name__}")
        return self._data.message(value)

    def decode(self, packed: any_pb2.Any) -> Any:
        """What was stored, as what was returned.

        Raises:
            TypeError: It is of another type.
            LookupError: Nothing is declared, and the type is not known to this process.
        """
        return decode_response(packed, self.kind)


def message_of(value: Any) -> Message:
    """A result of which nothing is declared: a message is itself, None is ``Empty``, all else is data.

    Raises:
        TypeError: pydantic cannot serialize it.
        ResponseDataError: It has a number that JSON cannot hold exactly. It names the field.
    """
    if value is None:
        return _EMPTY
    return value if isinstance(value, Message) else _data_of_class(cast("Hashable", type(value))).message(value)


def decode_response(packed: any_pb2.Any, kind: Any) -> Any:
    """A packed response as a value of a type; None, ``Any``, ``object`` and ``Message``: as the message that it is.

    Raises:
        TypeError: It is of another type.
        LookupError: Nothing is declared, and the type is not known to this process.
    """
    if is_message(kind):
        return unpack(packed, cast("type[Message]", kind))
    if is_open(kind) or (kind is NoneType and not is_empty(packed)):  # who returns None may have ended it by hand
        return unpack(packed)
    return decode(packed, kind)


ANY_RESPONSE = ResponseType(None)
"""Of operations whose handler declares nothing, or is not known here."""


class _Data(NamedTuple):
    """A type of data: how to write it, and how to read what is not yet of it."""

    codec: StateCodec[Any]
    adapter: TypeAdapter[Any]

    @classmethod
    def of(cls, kind: Any) -> _Data:
        try:
            adapter = TypeAdapter(kind)
        except (PydanticUserError, PydanticUndefinedAnnotation) as exc:
            raise TypeError(sentence(exc)) from exc
        # What is of a class with fields must come back as it was. Free-form data is what JSON makes of it.
        return cls(StateCodec(kind, lossless=False), adapter)

    def message(self, value: Any) -> Message:
        """The value as a ``Struct`` or a ``Value``."""
        try:
            data, _ = self.codec.encode(self._of_type(value))
        except StateCodecError as exc:
            if isinstance(exc.__cause__, pydantic_core.PydanticSerializationError):
                where = f" (field {exc.field!r})" if exc.field else ""
                raise TypeError(f"{type(value).__name__} cannot be serialized{where}: {exc.problem}") from exc
            raise ResponseDataError(exc.problem, field=exc.field) from exc
        return _of_json(json.loads(data, parse_int=_integer, object_pairs_hook=_object))

    def _of_type(self, value: Any) -> Any:
        """A dict where a class is declared, say: plain data is made into what is declared, if it is right for that."""
        if not isinstance(value, dict | list):
            return value
        try:
            return self.adapter.validate_python(value)
        except ValidationError as exc:
            raise ResponseDataError(sentence(exc), field=location(exc)) from exc


@functools.lru_cache(_TYPES)
def _data_of_class(kind: Any) -> _Data:
    try:
        return _Data.of(kind)
    except TypeError:  # pydantic has no schema for it, as for a subclass of str, and may serialize it all the same
        return _Data.of(Any)


def _integer(digits: str) -> int:
    """A long one is too large in any case, and Python refuses to read very long ones."""
    return int(digits) if len(digits) < 20 else 10**20


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        keys = [key for key, _ in members]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ResponseDataError("two keys are the same in JSON", field=twice)
    return found


def _of_json(value: Any) -> Message:
    found = struct_pb2.Value()
    try:
        _fill(found, value, MAX_DEPTH)
    except _RefusedError as exc:
        raise ResponseDataError(exc.problem, field=".".join(reversed(exc.path))) from None
    return found.struct_value if isinstance(value, dict) else found


class _RefusedError(Exception):
    """A part that cannot be stored. Its path is put together on the way out: nearly no part needs one."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.path: list[str] = []


def _fill(target: struct_pb2.Value, value: Any, depth: int) -> None:
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = _exact(value)
    elif value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif depth == 0:
        raise _RefusedError(f"it is nested more than {MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        fields = target.struct_value.fields
        _fill_each(((key, fields[key], item) for key, item in value.items()), depth - 1)
    else:
        target.list_value.SetInParent()
        values = target.list_value.values
        _fill_each(((index, values.add(), item) for index, item in enumerate(value)), depth - 1)


def _fill_each(parts: Iterable[tuple[str | int, struct_pb2.Value, Any]], depth: int) -> None:
    for name, target, item in parts:
        try:
            _fill(target, item, depth)
        except _RefusedError as exc:
            exc.path.append(str(name))
            raise


def _exact(number: float) -> float:
    if isinstance(number, int) and abs(number) > EXACT:
        raise _RefusedError("JSON does not hold integers beyond 2**53 exactly: return it as text")
    if not math.isfinite(number):
        raise _RefusedError("JSON has no NaN and no infinity")
    return float(number)
