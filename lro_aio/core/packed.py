"""What is inside a ``google.protobuf.Any``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

__all__ = ["class_of", "detail_of", "packed_of", "unpacked"]

M = TypeVar("M", bound=Message)


def class_of(packed: any_pb2.Any) -> type[Message]:
    """The class that the type URL names.

    Raises:
        LookupError: This process does not know the type, or the type URL has no slash, which any.proto demands.
    """
    if "/" not in packed.type_url:
        raise LookupError(f"the type URL {packed.type_url!r} names no message type: it has no slash")
    name = packed.TypeName()
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError as exc:
        raise LookupError(f"message type {name!r} is not known here: import its _pb2 module") from exc
    return message_factory.GetMessageClass(descriptor)


def packed_of(message: Message) -> any_pb2.Any:
    """The message in an ``Any``; one that is packed already stays as it is."""
    if isinstance(message, any_pb2.Any):
        return message
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def unpacked(packed: any_pb2.Any) -> Message:
    """The message in an ``Any``; the ``Any`` itself where its type is not known here, or it cannot be read."""
    try:
        message = class_of(packed)()
        return message if packed.Unpack(message) else packed
    except (LookupError, DecodeError):
        return packed


def detail_of(details: Iterable[any_pb2.Any], kind: type[M]) -> M | None:
    """The first detail of a status that is of a class; None without a readable one."""
    for detail in details:
        message = kind()
        try:
            if detail.Unpack(message):
                return message
        except DecodeError:
            continue
    return None
