"""What is inside a ``google.protobuf.Any``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

__all__ = ["class_of", "detail_of", "packed", "unpacked"]

M = TypeVar("M", bound=Message)


def class_of(detail: any_pb2.Any) -> type[Message]:
    """The class that the type URL names.

    Raises:
        LookupError: This process does not know the type, or the type URL has no slash, which any.proto demands.
    """
    if "/" not in detail.type_url:
        raise LookupError(f"the type URL {detail.type_url!r} names no message type: it has no slash")
    name = detail.TypeName()
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError as exc:
        raise LookupError(f"message type {name!r} is not known here: import its _pb2 module") from exc
    return message_factory.GetMessageClass(descriptor)


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


def packed(detail: Message) -> any_pb2.Any:
    """A message as an ``Any``; one that is an ``Any`` stays as it is."""
    if isinstance(detail, any_pb2.Any):
        return detail
    made = any_pb2.Any()
    made.Pack(detail)
    return made


def unpacked(detail: any_pb2.Any) -> Message:
    """What is inside; the ``Any`` itself where this process does not know the type, or cannot read it."""
    try:
        message = class_of(detail)()
        return message if detail.Unpack(message) else detail
    except (LookupError, DecodeError):
        return detail
