"""Failures as exceptions of ``google.api_core``, for code that catches those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.rpc import error_details_pb2

from lro_aio.core.errors import OperationFailedError, RemoteCallError

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError

__all__ = ["to_api_core"]


def to_api_core(exc: OperationFailedError | RemoteCallError) -> GoogleAPICallError:
    """The exception of ``google.api_core`` with the same code, message and details.

    Use it as ``raise to_api_core(exc) from exc``: ``except google.api_core.exceptions.NotFound`` then works.

    Args:
        exc: A failed operation, or a failed call.

    Raises:
        ImportError: google-api-core is not installed; Google's own client libraries bring it.
    """
    try:
        from google.api_core import exceptions
    except ModuleNotFoundError as error:
        raise ImportError("to_api_core needs google-api-core: pip install google-api-core") from error

    message = exc.message if isinstance(exc, OperationFailedError) else exc.problem
    info = next((detail for detail in exc.details if isinstance(detail, error_details_pb2.ErrorInfo)), None)
    convert: Any = exceptions.from_grpc_status  # untyped
    made: GoogleAPICallError = convert(exc.code.grpc_code, message, details=list(exc.details), error_info=info)
    return made
