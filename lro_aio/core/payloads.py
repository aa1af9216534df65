"""The payloads of operations, packed messages or JSON, as the type that a handler or a caller declares."""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from google.protobuf import any_pb2, duration_pb2, empty_pb2, json_format, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from pydantic import TypeAdapter, ValidationError

from lro_aio.core.codec import unpack
from lro_aio.core.proto_json import FREE_FORM, whole_numbers
from lro_aio.core.quick import dataclass
from lro_aio.core.status import utf8

__all__ = [
    "Json",
    "Payload",
    "data_of",
    "decode",
    "is_empty",
    "is_message",
    "is_open",
    "may_be_none",
    "members_of",
    "status_of_json",
    "to_any",
    "type_name",
]

KNOWN = (duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
"""Imported so that every process can unpack results of these types without a declared type."""

UNDECLARED = (None, Any, object, Message)
"""Types that declare nothing."""

UNREADABLE = (json_format.ParseError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What ``json_format`` raises for JSON that is not the message's."""


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value, as ``json.loads`` gives it."""

    value: Any


Payload = any_pb2.Any | Json


def decode(payload: Payload, kind: Any) -> Any:
    """The payload as a value of a type.

    Args:
        payload: Packed, or JSON: a google ``Any`` with its "@type", or a plain value.
        kind: A protobuf message class; any type that pydantic can validate, for JSON; a union of such; or None, ``Any``
            or ``Message`` for the type that the payload names. Then a packed type that this process does not know stays
            an ``Any``, and JSON stays JSON. ``NoneType`` drops the payload, such as an Empty.

    Raises:
        TypeError: It is not of the type. Names the type that it is of.
    """
    try:
        if is_open(kind):
            return _undeclared(payload)
        if kind is NoneType:
            return None
        if is_message(kind):
            return _message(payload, kind)
        for member in members_of(kind):
            if member is NoneType and is_empty(payload):
                return None
            if is_message(member) and _is(payload, member):
                return _message(payload, member)
        return _validated(payload, kind)
    except DecodeError as exc:
        raise TypeError(f"what is packed as {to_any(payload).TypeName()!r} cannot be read: {exc}") from exc


def members_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of any other type, itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def is_open(kind: Any) -> bool:
    """Whether a type declares nothing: whatever message it is, it is taken as that."""
    return kind is None or any(member in UNDECLARED for member in members_of(kind))


def is_message(kind: Any) -> bool:
    """Whether a type is a class of protobuf messages, and not the base of all."""
    return isinstance(kind, type) and issubclass(kind, Message) and kind is not Message


def data_of(kind: Any) -> Any:
    """A type without the message classes of its union, which pydantic does not know. None where nothing is left."""
    left = tuple(member for member in members_of(kind) if not is_message(member))
    return Union[left] if left else None  # noqa: UP007 (the members are known at run time alone)


def type_name(kind: Any) -> str:
    """The name of a declared type, for people."""
    if is_message(kind):
        return str(kind.DESCRIPTOR.full_name)
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def may_be_none(kind: Any) -> bool:
    """Whether a result of the type may be missing."""
    return kind in (None, Any, object, NoneType) or NoneType in get_args(kind)


def to_any(payload: Payload) -> any_pb2.Any:
    """The payload in the form of ``google.longrunning``. JSON of no known type becomes a ``Value`` or a ``Struct``."""
    if isinstance(payload, any_pb2.Any):
        return payload
    value = payload.value
    return _any_of_json(value) if _names_type(value) else _any_of_plain(value)


def status_of_json(error: Mapping[str, Any]) -> status_pb2.Status:
    """A ``google.rpc.Status`` from its proto3 JSON. Details of unknown types are kept as far as possible."""
    code, message, details = error.get("code"), error.get("message"), error.get("details")
    status = status_pb2.Status(code=_number(code), message=utf8(message) if isinstance(message, str) else "")
    for detail in details if isinstance(details, list) else ():
        if _names_type(detail):
            status.details.append(_any_of_json(detail))
    return status


def _number(code: Any) -> int:
    """The code, in proto3 JSON a number (a Struct makes 5.0 of 5) or text; UNKNOWN for anything else."""
    try:
        number = 0 if isinstance(code, bool) else int(code) if not isinstance(code, float) or code.is_integer() else 0
    except (TypeError, ValueError):
        return 2
    return number if 0 < number < 2**31 else 2


def _message(payload: Payload, kind: type[Message]) -> Message:
    if isinstance(payload, Json) and not _names_type(payload.value):
        try:
            return json_format.ParseDict(payload.value, kind(), ignore_unknown_fields=True)
        except UNREADABLE as exc:
            raise _mismatch(payload, kind, str(exc)) from exc
    packed = to_any(payload)
    if packed.TypeName() != kind.DESCRIPTOR.full_name:
        raise _mismatch(payload, kind)
    return unpack(packed, kind)


def _validated(payload: Payload, kind: Any) -> Any:
    try:
        plain = _plain(payload)
    except TypeError as exc:  # json_format does not know the packed type
        raise _mismatch(payload, kind, "import the _pb2 module of its type") from exc
    data = data_of(kind)
    if data is None:
        raise _mismatch(payload, kind)
    try:
        # As JSON, so that a strict type reads a moment or a set from what JSON has instead.
        return _adapter(data).validate_json(json.dumps(plain))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _mismatch(payload, kind, f"{where or 'the value'}: {first['msg']}") from exc


def _mismatch(payload: Payload, kind: Any, why: str = "") -> TypeError:
    sentence = f"expected {type_name(kind)}, found {_found(payload)}"
    return TypeError(f"{sentence}: {why}" if why else sentence)


def _found(payload: Payload) -> str:
    """The type of a payload, for people."""
    if isinstance(payload, any_pb2.Any):
        return repr(payload.TypeName()) if payload.type_url else "nothing"
    value = payload.value
    if _names_type(value):
        return repr(value["@type"].rpartition("/")[2])
    if isinstance(value, dict):
        listed = ", ".join(repr(key) for key in list(value)[:10])
        return f"a JSON object with the members {listed}" if value else "an empty JSON object"
    if isinstance(value, list):
        return "a JSON array"
    return f"the JSON value {json.dumps(value)[:80]}"


def _is(payload: Payload, kind: type[Message]) -> bool:
    named = payload if isinstance(payload, any_pb2.Any) or _names_type(payload.value) else None
    return named is not None and to_any(named).TypeName() == kind.DESCRIPTOR.full_name


def is_empty(payload: Payload) -> bool:
    """Whether it is an ``Empty``, or nothing at all."""
    return (isinstance(payload, any_pb2.Any) and not payload.type_url) or _is(payload, empty_pb2.Empty)


def _names_type(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("@type"), str)


def _undeclared(payload: Payload) -> Any:
    if isinstance(payload, Json):
        value = payload.value
        if not _names_type(value):
            return value
        packed = _any_of_json(value)
        if packed.TypeName() != value["@type"].rpartition("/")[2]:
            return value
    else:
        packed = payload
    try:
        return unpack(packed)
    except LookupError:
        return payload.value if isinstance(payload, Json) else packed


def _plain(payload: Payload) -> Any:
    """The payload as JSON, without the "@type" of an ``Any``."""
    value = payload.value if isinstance(payload, Json) else json_format.MessageToDict(payload)
    if not (isinstance(value, dict) and "@type" in value):
        return value
    name = str(value["@type"]).rpartition("/")[2]
    members = {key: item for key, item in value.items() if key != "@type"}
    if not name.startswith("google.protobuf.") or set(members) != {"value"}:
        return members
    return whole_numbers(members["value"]) if name in FREE_FORM else members["value"]


def _any_of_json(value: dict[str, Any]) -> any_pb2.Any:
    """An ``Any`` from its JSON.

    A type that this process does not know comes as the base64 of its bytes from this package's servers. From others it
    comes as JSON, which becomes a ``Struct``.
    """
    type_url = utf8(value["@type"])
    if type_url.endswith("/google.protobuf.Empty"):  # Go also prints {"value": {}}, which Python's parser refuses
        return any_pb2.Any(type_url=type_url)
    packed = any_pb2.Any()
    try:
        return json_format.ParseDict(value, packed, ignore_unknown_fields=True)
    except UNREADABLE:
        data = value.get("value")
        if set(value) == {"@type", "value"} and isinstance(data, str):
            try:
                return any_pb2.Any(type_url=type_url, value=base64.b64decode(data, validate=True))
            except binascii.Error:
                pass
        return _any_of_plain(value)


def _any_of_plain(value: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    form: Message = struct_pb2.Struct() if isinstance(value, dict) else struct_pb2.Value()
    try:
        packed.Pack(json_format.ParseDict(value, form))
    except UNREADABLE:  # such as NaN, JSON that is too deep, or a number that no double can hold
        packed.Pack(struct_pb2.Value(string_value=json.dumps(value)))
    return packed


@functools.lru_cache(maxsize=256)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
