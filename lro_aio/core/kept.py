"""Values in the journal: the results of steps, and what messages carry.

What a reader gets is always what was stored, decoded: the first run and the tenth see the same.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any, cast

from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message

from lro_aio.core.codec import StateCodec, sentence
from lro_aio.core.errors import StateCodecError
from lro_aio.core.packed import unpacked
from lro_aio.core.payloads import is_message, is_open

__all__ = ["decode_value", "encode_value"]

_TYPES = 1024
"""Types of which the codec is kept."""
_JSON, _PROTO = "json", "proto:"


def encode_value(value: Any, kind: Any = None) -> tuple[bytes, str]:
    """A value as bytes, and the tag that tells how to read them.

    Args:
        value: A protobuf message, None, or data that pydantic can serialize.
        kind: Its type; None: what it is.

    Raises:
        StateCodecError: It is of another type, or has a part that cannot be stored. It names the field.
    """
    if isinstance(value, Message) and (kind is None or is_open(kind)):
        kind = type(value)
    if value is None and kind is None:
        return b"", ""
    return _codec(type(value) if kind is None else kind, guessed=kind is None).encode(value)


def decode_value(data: bytes, tag: str, kind: Any = None) -> Any:
    """What ``encode_value`` wrote, as a type; None: as JSON has it, or as the message that it is.

    Raises:
        StateCodecError: It is something else. It names the field.
    """
    if kind is None or is_open(kind):
        if tag.startswith(_PROTO):
            return unpacked(any_pb2.Any(type_url=f"type.googleapis.com/{tag.removeprefix(_PROTO)}", value=data))
        return _codec(None).decode(data, tag)
    if is_message(kind) and tag.startswith(_JSON):
        return _message_of_json(data, kind)
    if not tag:
        data, tag = b"null", "json;v=1"
    return _codec(kind).decode(data, tag)


def _message_of_json(data: bytes, kind: type[Message]) -> Message:
    try:
        return json_format.Parse(data, kind())
    except json_format.ParseError as exc:
        raise StateCodecError(f"it is no {kind.DESCRIPTOR.full_name}: {sentence(exc)}") from exc


def _codec(kind: Any, *, guessed: bool = False) -> StateCodec[Any]:
    try:
        return _kept(cast("Hashable", kind), guessed)
    except TypeError as exc:
        if guessed:  # pydantic has no schema for the class, and may serialize it all the same
            return _kept(None, guessed)
        raise StateCodecError(str(exc)) from exc


@functools.lru_cache(_TYPES)
def _kept(kind: Any, guessed: bool) -> StateCodec[Any]:
    return StateCodec(kind, lossless=not guessed and kind is not None)
