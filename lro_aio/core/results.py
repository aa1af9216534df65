"""Taking the result out of an operation."""

from __future__ import annotations

from typing import TypeVar, cast

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.message import Message

from lro_aio.core.codec import unpack
from lro_aio.core.errors import OperationNotDoneError
from lro_aio.core.status import error_of

__all__ = ["unmarshal_operation"]

M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)


def unmarshal_operation(
    operation: operations_pb2.Operation,
    response: type[M] | M | None = None,
    metadata: type[N] | N | None = None,
) -> tuple[M | None, N | None]:
    """Unpack response and metadata of a finished operation.

    Args:
        operation: The operation.
        response: Class of the response, or an instance to fill; None skips it.
        metadata: Class of the metadata, or an instance to fill; None skips it.

    Returns:
        ``(response, metadata)``; None for a part that was not asked for, and for metadata that is not set.

    Raises:
        OperationNotDoneError: It has not ended.
        OperationFailedError: It ended with an error.
        OperationCancelledError: It was cancelled.
        TypeError: It holds another message type.
    """
    if not operation.done:
        raise OperationNotDoneError(operation.name)
    error = error_of(operation)
    if error is not None:
        raise error
    filled = cast("M", unpack(operation.response, response)) if response is not None else None
    if metadata is None or not operation.HasField("metadata"):
        return filled, None
    return filled, cast("N", unpack(operation.metadata, metadata))
