"""Taking the result out of an operation."""

from __future__ import annotations

from typing import Any, TypeVar

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from lro_aio.core.codec import unpack
from lro_aio.core.errors import OperationNotDoneError
from lro_aio.core.payloads import decode, is_message
from lro_aio.core.status import error_of

__all__ = ["response_of", "unmarshal_operation"]

T = TypeVar("T")
U = TypeVar("U")
M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)


def unmarshal_operation(
    operation: operations_pb2.Operation,
    response: type[T] | M | None = None,
    metadata: type[U] | N | None = None,
) -> tuple[T | M | None, U | N | None]:
    """Unpack response and metadata of a finished operation.

    Args:
        operation: The operation.
        response: Type of the response: a protobuf message class, an instance to fill, or any type that pydantic can
            validate, for data. None skips it.
        metadata: As ``response``, for the metadata.

    Returns:
        ``(response, metadata)``; None for a part that was not asked for, and for metadata that is not set.

    Raises:
        OperationNotDoneError: It has not ended.
        OperationFailedError: It ended with an error.
        OperationCancelledError: It was cancelled.
        TypeError: It holds something else.
    """
    result = _part(response_of(operation), response)
    return result, _part(operation.metadata, metadata) if operation.HasField("metadata") else None


def response_of(operation: operations_pb2.Operation) -> any_pb2.Any:
    """The packed response of an operation that succeeded.

    Raises:
        OperationNotDoneError: It has not ended.
        OperationFailedError: It ended with an error.
        OperationCancelledError: It was cancelled.
    """
    if not operation.done:
        raise OperationNotDoneError(operation.name)
    error = error_of(operation)
    if error is not None:
        raise error
    return operation.response


def _part(packed: any_pb2.Any, kind: Any) -> Any:
    if kind is None:
        return None
    return unpack(packed, kind) if isinstance(kind, Message) or is_message(kind) else decode(packed, kind)
