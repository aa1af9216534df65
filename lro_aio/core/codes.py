"""Canonical status codes and their HTTP equivalents, with no dependency on grpc."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

__all__ = ["HTTP_STATUS", "Code"]


class Code(enum.IntEnum):
    """The canonical codes of ``google/rpc/code.proto``.

    The numbers are those of ``google.rpc.Status.code``, not HTTP's.
    """

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def of(cls, number: int) -> Code:
        """The code with this number; a number that no code has is UNKNOWN."""
        try:
            return cls(number)
        except ValueError:
            return cls.UNKNOWN

    @property
    def http(self) -> int:
        """The HTTP status that ``google/rpc/code.proto`` names for this code."""
        return HTTP_STATUS[self]

    @property
    def grpc_code(self) -> grpc.StatusCode:
        """The same code as a ``grpc.StatusCode``. Imports grpc, which nothing else here does."""
        import grpc

        return grpc.StatusCode[self.name]


HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
