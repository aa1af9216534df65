"""``google.longrunning.Operation`` messages as replies; for the transports that get them."""

from __future__ import annotations

import re
from typing import Any

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.errors import RemoteProtocolError
from lro_aio.remote.transport import Place, Reply

__all__ = ["check_name", "reply_of"]

MAX_NAME = 2048
"""Characters. Services that are not this package's may have longer names than it allows itself."""

_NAME = re.compile(r"[^\x00-\x20\x7f-\x9f/\ud800-\udfff]+(/[^\x00-\x20\x7f-\x9f/\ud800-\udfff]+)*")


def check_name(name: str) -> str:
    """Any resource name (AIP-122): segments between single slashes, without white space.

    Raises:
        ValueError: It is none.
    """
    fits = isinstance(name, str) and len(name) <= MAX_NAME and _NAME.fullmatch(name)
    if not fits or {".", ".."} & set(name.split("/")):
        raise ValueError(f"{str(name)[:200]!r} is not the resource name of an operation")
    return name


def reply_of(operation: Any, place: Place | None = None) -> Reply:
    """What a message says.

    Args:
        operation: The message.
        place: Where it was asked for: that stays its name, whatever the answer calls it. None: the message tells.

    Raises:
        TypeError: It is another message.
        RemoteProtocolError: It has no name under which it could be asked for.
    """
    if not isinstance(operation, operations_pb2.Operation):
        raise TypeError(f"expected an Operation, not {type(operation).__name__}")
    done = operation.done
    if place is None:
        if not done:  # one that is done already may have none (AIP-151, validate_only)
            try:
                check_name(operation.name)
            except ValueError as exc:
                raise RemoteProtocolError(operation.name, "the operation has no name to ask for it by") from exc
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
