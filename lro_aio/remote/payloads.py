"""What operations carry, packed messages or JSON, as the type that the caller declared."""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

from google.protobuf import any_pb2, duration_pb2, empty_pb2, json_format, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from pydantic import TypeAdapter, ValidationError

from lro_aio.core.codec import unpack

__all__ = ["Json", "Payload", "decode", "may_be_none", "status_of_json", "to_any", "utf8"]

KNOWN = (duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
"""Imported so that results of these types are what they are in every process, without a declared type."""

UNDECLARED = (None, Any, object, Message)
"""Types that say nothing."""

UNREADABLE = (json_format.ParseError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What ``json_format`` raises for JSON that is not of the message."""


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value, as ``json.loads`` gives it."""

    value: Any


Payload = any_pb2.Any | Json


def decode(payload: Payload, kind: Any) -> Any:
    """The payload as a value of a type.

    Args:
        payload: Packed, or JSON: a google ``Any`` with its "@type", or a plain value.
        kind: A protobuf message class; any type that pydantic knows, for JSON; None, ``Any`` or ``Message`` for
            whatever it says that it is: a packed type that this process does not know then stays an ``Any``, and JSON
            stays JSON. ``NoneType`` for nothing: what there is, such as an Empty, is dropped.

    Raises:
        TypeError: It is not of the type.
    """
    try:
        if kind in UNDECLARED:
            return _undeclared(payload)
        if kind is NoneType:
            return None
        if isinstance(kind, type) and issubclass(kind, Message):
            return _message(payload, kind)
        return _validated(payload, kind)
    except DecodeError as exc:
        raise TypeError(f"what is packed as {to_any(payload).TypeName()!r} cannot be read: {exc}") from exc


def may_be_none(kind: Any) -> bool:
    """Whether a result of the type may be missing."""
    return kind in (None, Any, object, NoneType) or NoneType in get_args(kind)


def to_any(payload: Payload) -> any_pb2.Any:
    """The payload as ``google.longrunning`` carries it. JSON of no known type becomes a ``Value`` or ``Struct``."""
    if isinstance(payload, any_pb2.Any):
        return payload
    value = payload.value
    if isinstance(value, dict) and isinstance(value.get("@type"), str):
        return _any_of_json(value)
    return _any_of_plain(value)


def status_of_json(error: Mapping[str, Any]) -> status_pb2.Status:
    """A ``google.rpc.Status`` from its proto3 JSON. Details of unknown types are kept as they can be."""
    code, message, details = error.get("code"), error.get("message"), error.get("details")
    status = status_pb2.Status(code=_number(code), message=utf8(message) if isinstance(message, str) else "")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("@type"), str):
            status.details.append(_any_of_json(detail))
    return status


def _number(code: Any) -> int:
    """The code, which proto3 JSON has as a number (5.0 too, as a Struct makes it of 5) or as text; else UNKNOWN."""
    try:
        number = 0 if isinstance(code, bool) else int(code) if not isinstance(code, float) or code.is_integer() else 0
    except (TypeError, ValueError):
        return 2
    return number if 0 < number < 2**31 else 2


def utf8(text: str) -> str:
    """The text as a protobuf string can hold it: in JSON there may be half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _message(payload: Payload, kind: type[Message]) -> Message:
    if isinstance(payload, Json) and not (isinstance(payload.value, dict) and "@type" in payload.value):
        try:
            return json_format.ParseDict(payload.value, kind(), ignore_unknown_fields=True)
        except UNREADABLE as exc:
            raise TypeError(f"expected {kind.DESCRIPTOR.full_name}: {exc}") from exc
    return unpack(to_any(payload), kind)


def _validated(payload: Payload, kind: Any) -> Any:
    try:
        return _adapter(kind).validate_python(_plain(payload))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TypeError(f"expected {getattr(kind, '__name__', kind)}: {where or 'the value'}: {first['msg']}") from exc


def _undeclared(payload: Payload) -> Any:
    if isinstance(payload, Json):
        value = payload.value
        if not (isinstance(value, dict) and isinstance(value.get("@type"), str)):
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
    """As JSON, without the "@type" of an ``Any``."""
    value = payload.value if isinstance(payload, Json) else json_format.MessageToDict(payload)
    if not (isinstance(value, dict) and "@type" in value):
        return value
    name = str(value["@type"]).rpartition("/")[2]
    members = {key: item for key, item in value.items() if key != "@type"}
    return members["value"] if name.startswith("google.protobuf.") and set(members) == {"value"} else members


def _any_of_json(value: dict[str, Any]) -> any_pb2.Any:
    """An ``Any`` from its JSON.

    Of a type that this process does not know: from the base64 of its bytes, as this package's servers print such a
    one, or else the JSON itself as a ``Struct``.
    """
    type_url = utf8(value["@type"])
    if type_url.endswith("/google.protobuf.Empty"):  # Go prints {"value": {}} too, which Python's parser refuses
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
    except UNREADABLE:  # such as NaN, too deep, or a number that no double can hold
        packed.Pack(struct_pb2.Value(string_value=json.dumps(value)))
    return packed


@functools.lru_cache(maxsize=256)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
