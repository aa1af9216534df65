"""Replies from ``google.longrunning.Operation`` messages, for the transports that receive them."""

from __future__ import annotations

import re
from typing import Any

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.errors import RemoteProtocolError
from lro_aio.remote.transport import Place, Reply

__all__ = ["check_name", "reply_of"]

MAX_NAME = 2048
"""Characters. Other services may have longer names than this package's own."""

_NAME = re.compile(r"[^\x00-\x20\x7f-\x9f/\ud800-\udfff]+(/[^\x00-\x20\x7f-\x9f/\ud800-\udfff]+)*")


def check_name(name: str) -> str:
    """Any resource name (AIP-122): segments between single slashes, without white space.

    Raises:
        ValueError: It is not one.
    """
    fits = isinstance(name, str) and len(name) <= MAX_NAME and _NAME.fullmatch(name)
    if not fits or {".", ".."} & set(name.split("/")):
        raise ValueError(f"{str(name)[:200]!r} is not a resource name")
    return name


def reply_of(operation: Any, place: Place | None = None) -> Reply:
    """What a message says.

    Args:
        operation: The message.
        place: Where it was asked for, which stays the operation's name. None: the message has the name.

    Raises:
        TypeError: It is another message.
        RemoteProtocolError: It has no name by which to ask for it.
    """
    if not isinstance(operation, operations_pb2.Operation):
        raise TypeError(f"expected an Operation, not {type(operation).__name__}")
    done = operation.done
    if place is None:
        if not done:  # one that is done may have no name (AIP-151, validate_only)
            try:
                check_name(operation.name)
            except ValueError as exc:
                raise RemoteProtocolError(operation.name, "the operation has no name by which to ask for it") from exc
        place = Place(operation.name)
    result = operation.WhichOneof("result") if done else None
    return Reply(
        place,
        operation,
        done,
        metadata=operation.metadata if operation.HasField("metadata") else None,
        response=operation.response if result == "response" else None,
        error=operation.error if result == "error" else None,
    )
