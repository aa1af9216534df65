"""The errors that Spanner answers with, as one exception, and their status on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

__all__ = ["SpannerError", "aborted", "invalid", "missing_resource", "not_found", "precondition", "unsupported"]

ADMIN = "type.googleapis.com/google.spanner.admin"
SESSION = "type.googleapis.com/google.spanner.v1.Session"


class SpannerError(Exception):
    """An RPC is refused.

    Args:
        code: The status.
        message: For people, as Spanner words it.
        details: Messages of ``google.rpc`` that go with it.
    """

    def __init__(self, code: grpc.StatusCode, message: str, details: Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)

    def to_status(self) -> status_pb2.Status:
        """The error as a ``google.rpc.Status``."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status

    def abort(self, context: grpc.ServicerContext) -> NoReturn:
        """End the RPC with this error."""
        packed: Any = rpc_status.to_status(self.to_status())
        # RetryInfo and ResourceInfo also travel in trailers of their own, where Google's clients look for them.
        own = [(f"{detail.DESCRIPTOR.full_name.lower()}-bin", detail.SerializeToString()) for detail in self.details]
        context.set_trailing_metadata((*packed.trailing_metadata, *own))
        context.abort(self.code, self.message)


def invalid(message: str) -> SpannerError:
    """INVALID_ARGUMENT."""
    return SpannerError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> SpannerError:
    """NOT_FOUND."""
    return SpannerError(grpc.StatusCode.NOT_FOUND, message)


def precondition(message: str) -> SpannerError:
    """FAILED_PRECONDITION."""
    return SpannerError(grpc.StatusCode.FAILED_PRECONDITION, message)


def unsupported(message: str) -> SpannerError:
    """UNIMPLEMENTED: Spanner can, this fake cannot."""
    return SpannerError(grpc.StatusCode.UNIMPLEMENTED, f"the fake Spanner does not do this: {message}")


def missing_resource(kind: str, name: str) -> SpannerError:
    """NOT_FOUND of an "Instance", a "Database" or a "Session", with the detail by which clients tell them apart."""
    types = {
        "Instance": f"{ADMIN}.instance.v1.Instance",
        "Database": f"{ADMIN}.database.v1.Database",
        "Session": SESSION,
    }
    detail = error_details_pb2.ResourceInfo(
        resource_type=types[kind], resource_name=name, description=f"{kind} does not exist."
    )
    return SpannerError(grpc.StatusCode.NOT_FOUND, f"{kind} not found: {name}", [detail])


def aborted(message: str, delay: float) -> SpannerError:
    """ABORTED; ``delay`` in seconds is what the client is asked to wait."""
    detail = error_details_pb2.RetryInfo()
    detail.retry_delay.FromNanoseconds(round(delay * 1e9))
    return SpannerError(grpc.StatusCode.ABORTED, message, [detail])
