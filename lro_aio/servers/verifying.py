"""Verifiers, which decide who may wake operations, and how they are asked."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from typing import Protocol

from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.status import make_status
from lro_aio.servers.errors import RequestError

__all__ = ["UnauthenticatedError", "Verifier", "allow_unverified", "check_verifier", "verified"]


class UnauthenticatedError(PermissionError):
    """Raised by a verifier: the request does not prove who sent it. The answer is 401."""


class Verifier(Protocol):
    """Decides who may wake operations: an async callable from the request's headers to the caller's name.

    It raises ``UnauthenticatedError`` where the credentials are missing, malformed, expired or forged (401), and any
    other ``PermissionError`` where they are valid but not sufficient (403; 401 where the request has no
    ``Authorization`` header at all). Any other exception refuses the caller too: an ``LroError`` is answered as such,
    so ``StoreUnavailableError`` gives 503, and the rest is logged and gives 500. Schedulers try again after both.
    """

    def __call__(self, headers: Mapping[str, str], /) -> Awaitable[str]:
        """The caller's name, not empty.

        Args:
            headers: With lower-case names; the values of a repeated one are joined with ", ".
        """
        ...


async def allow_unverified(headers: Mapping[str, str], /) -> str:  # noqa: ARG001 (it checks nothing)
    """A verifier that accepts every caller, for local development: anybody who reaches the port can wake operations."""
    return "unverified"


def check_verifier(verifier: Verifier) -> Verifier:
    """Return the verifier.

    Raises:
        TypeError: It is not callable. There is no default that accepts everyone.
    """
    if not callable(verifier):
        raise TypeError(
            f"verifier must be an async callable from headers to the caller's name, not {verifier!r}: there is no"
            " default that accepts everyone (for local development, lro_aio.servers.resume.allow_unverified)"
        )
    return verifier


async def verified(verifier: Verifier, headers: Mapping[str, str]) -> str:
    """The caller's name.

    Args:
        verifier: The verifier to ask.
        headers: With lower-case names.

    Raises:
        RequestError: It refuses the caller: UNAUTHENTICATED or PERMISSION_DENIED.
        Exception: Anything else that the verifier raised.
    """
    try:
        principal = verifier(headers)
        if not inspect.isawaitable(principal):
            raise TypeError("the verifier is not async: its result is not trusted")
        name = await principal
    except PermissionError as exc:
        missing = isinstance(exc, UnauthenticatedError) or "authorization" not in headers
        raise RequestError(_refusal(unauthenticated=missing)) from exc
    if not isinstance(name, str) or not name:
        raise TypeError(f"the verifier returned {type(name).__name__}, not the caller's name")
    return name


def _refusal(*, unauthenticated: bool) -> status_pb2.Status:
    if unauthenticated:
        return make_status(Code.UNAUTHENTICATED, "the request has no valid credentials", reason="UNAUTHENTICATED")
    sentence = "the caller may not wake operations"
    return make_status(Code.PERMISSION_DENIED, sentence, reason="PERMISSION_DENIED")
