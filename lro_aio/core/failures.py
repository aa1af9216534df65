"""One class for each code with which an operation can fail, so that callers can tell them apart with ``except``.

Asking for the result of an operation that ended with such a code raises its class::

    try:
        report = await handle
    except lro.failures.NotFoundError:  # the work found no such document; the operation itself exists
        ...

A handler may raise them too: the operation then ends with that code. CANCELLED is ``OperationCancelledError``.
"""

from __future__ import annotations

from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationCancelledError, OperationFailedError

__all__ = [
    "BY_CODE",
    "AbortedError",
    "AlreadyExistsError",
    "DataLossError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
]


class UnknownError(OperationFailedError):
    """The operation ended with UNKNOWN."""

    code = Code.UNKNOWN


class InvalidArgumentError(OperationFailedError):
    """The operation ended with INVALID_ARGUMENT."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceededError(OperationFailedError):
    """The operation ended with DEADLINE_EXCEEDED."""

    code = Code.DEADLINE_EXCEEDED


class NotFoundError(OperationFailedError):
    """The operation ended with NOT_FOUND."""

    code = Code.NOT_FOUND


class AlreadyExistsError(OperationFailedError):
    """The operation ended with ALREADY_EXISTS."""

    code = Code.ALREADY_EXISTS


class PermissionDeniedError(OperationFailedError):
    """The operation ended with PERMISSION_DENIED."""

    code = Code.PERMISSION_DENIED


class ResourceExhaustedError(OperationFailedError):
    """The operation ended with RESOURCE_EXHAUSTED."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPreconditionError(OperationFailedError):
    """The operation ended with FAILED_PRECONDITION."""

    code = Code.FAILED_PRECONDITION


class AbortedError(OperationFailedError):
    """The operation ended with ABORTED."""

    code = Code.ABORTED


class OutOfRangeError(OperationFailedError):
    """The operation ended with OUT_OF_RANGE."""

    code = Code.OUT_OF_RANGE


class UnimplementedError(OperationFailedError):
    """The operation ended with UNIMPLEMENTED."""

    code = Code.UNIMPLEMENTED


class InternalError(OperationFailedError):
    """The operation ended with INTERNAL."""

    code = Code.INTERNAL


class UnavailableError(OperationFailedError):
    """The operation ended with UNAVAILABLE."""

    code = Code.UNAVAILABLE


class DataLossError(OperationFailedError):
    """The operation ended with DATA_LOSS."""

    code = Code.DATA_LOSS


class UnauthenticatedError(OperationFailedError):
    """The operation ended with UNAUTHENTICATED."""

    code = Code.UNAUTHENTICATED


BY_CODE: dict[Code, type[OperationFailedError]] = {
    kind.code: kind
    for kind in (
        OperationCancelledError,
        UnknownError,
        InvalidArgumentError,
        DeadlineExceededError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        FailedPreconditionError,
        AbortedError,
        OutOfRangeError,
        UnimplementedError,
        InternalError,
        UnavailableError,
        DataLossError,
        UnauthenticatedError,
    )
}
"""Canonical code -> the exception of an operation that ended with it."""
