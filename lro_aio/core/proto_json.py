"""Operations, statuses and packed messages as proto3 JSON. What cannot be printed comes as the base64 of its bytes."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
from typing import Any

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import any_pb2, json_format
from google.rpc import status_pb2

__all__ = [
    "FREE_FORM",
    "any_json",
    "compact",
    "list_json",
    "operation_json",
    "operation_text",
    "printed",
    "status_json",
    "whole_numbers",
]

FREE_FORM = frozenset({"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"})
"""Messages that hold any JSON value. Their numbers are doubles, also those that were integers."""

SMALL = 4096
"""Bytes of a packed message up to which its JSON is remembered: those who poll ask for the same one again and again."""

EXACT = 2**53
"""Up to which a double holds every integer."""

compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""The text of a JSON value as servers send it."""


def operation_json(operation: operations_pb2.Operation) -> dict[str, Any]:
    """proto3 JSON of an operation, without ``done`` where it is false: proto3 JSON leaves default values out.

    An ``Any`` whose type is not known to this process comes as ``any_json`` says.
    """
    members: dict[str, Any] = {}
    if operation.name:
        members["name"] = operation.name
    if operation.HasField("metadata"):
        members["metadata"] = any_json(operation.metadata)
    if operation.done:
        members["done"] = True
    result = operation.WhichOneof("result")
    if result == "error":
        members["error"] = status_json(operation.error)
    elif result == "response":
        members["response"] = any_json(operation.response)
    return members


def operation_text(operation: operations_pb2.Operation) -> str:
    """``compact(operation_json(operation))``: what is remembered as text is not taken apart and put together again."""
    members: list[str] = []
    if operation.name:
        members.append(f'"name":{compact(operation.name)}')
    if operation.HasField("metadata"):
        members.append(f'"metadata":{_any_text(operation.metadata)}')
    if operation.done:
        members.append('"done":true')
    result = operation.WhichOneof("result")
    if result == "error":
        members.append(f'"error":{compact(status_json(operation.error))}')
    elif result == "response":
        members.append(f'"response":{_any_text(operation.response)}')
    return f"{{{','.join(members)}}}"


def list_json(page: operations_pb2.ListOperationsResponse) -> dict[str, Any]:
    """proto3 JSON of a list page."""
    members: dict[str, Any] = {}
    if page.operations:
        members["operations"] = [operation_json(operation) for operation in page.operations]
    if page.next_page_token:
        members["nextPageToken"] = page.next_page_token
    return members


def status_json(status: status_pb2.Status) -> dict[str, Any]:
    """proto3 JSON of a ``google.rpc.Status``; its code is the canonical one, not HTTP's."""
    members: dict[str, Any] = {"code": status.code, "message": status.message}
    if status.details:
        members["details"] = [any_json(detail) for detail in status.details]
    return {key: value for key, value in members.items() if value}


def any_json(packed: any_pb2.Any) -> dict[str, Any]:
    """proto3 JSON of an ``Any``.

    What cannot be printed comes as ``{"@type": ..., "value": <base64 of the bytes>}``, so that a stored operation can
    always be read: a type that this process does not know, bytes that are not of the type, a value that JSON cannot
    hold.
    """
    members = printed(packed)
    if members is None:
        return {"@type": packed.type_url, "value": base64.b64encode(packed.value).decode()}
    return members


def printed(packed: any_pb2.Any) -> dict[str, Any] | None:
    """proto3 JSON of an ``Any`` as the protobuf library prints it; None where it cannot.

    The integers of a ``Struct`` are integers, as other languages print them: their parsers may want 12, and not 12.0.
    """
    try:
        if len(packed.value) > SMALL:
            return _printed(packed)
        found: dict[str, Any] = json.loads(_text(packed.SerializeToString()))
    except Exception:  # noqa: BLE001 (the printer raises many kinds, RecursionError too)
        return None
    return found


def _any_text(packed: any_pb2.Any) -> str:
    """``compact(any_json(packed))``."""
    if len(packed.value) <= SMALL:
        with contextlib.suppress(Exception):  # as above
            return _text(packed.SerializeToString())
    return compact(any_json(packed))


def _printed(packed: any_pb2.Any) -> dict[str, Any]:
    members: dict[str, Any] = json_format.MessageToDict(packed)
    return whole_numbers(members) if packed.TypeName() in FREE_FORM else members


@functools.lru_cache(maxsize=256)
def _text(packed: bytes) -> str:
    """As text: everybody gets objects of their own. What cannot be printed is not remembered: it may be later."""
    return compact(_printed(any_pb2.Any.FromString(packed)))


def whole_numbers(value: Any) -> Any:
    """A JSON value with integers for the doubles that are whole, as far as doubles are exact."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= EXACT else value
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    return [whole_numbers(item) for item in value] if isinstance(value, list) else value
