"""What an HTTP answer says when it is no good: the error of this package that stands for it."""

from __future__ import annotations

from typing import Any

import httpx
from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationNotFoundError, RemoteCallError, RemoteProtocolError
from lro_aio.remote import retry_after
from lro_aio.remote.azure_errors import code_of, status_of_error
from lro_aio.remote.payloads import status_of_json

__all__ = ["call_failed", "check", "json_of", "object_of", "refused"]

MISSING = (404, 410)

CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    410: Code.NOT_FOUND,
    412: Code.FAILED_PRECONDITION,
    416: Code.OUT_OF_RANGE,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
"""Where the body does not name the code. Other statuses of 500 and more are UNAVAILABLE, what is left is UNKNOWN."""

EXCEPTIONS: dict[type, tuple[Code, bool]] = {
    httpx.TimeoutException: (Code.DEADLINE_EXCEEDED, True),
    httpx.NetworkError: (Code.UNAVAILABLE, True),
    httpx.ProxyError: (Code.UNAVAILABLE, True),
    httpx.RemoteProtocolError: (Code.UNAVAILABLE, True),  # hung up in the middle of an answer, too
    httpx.DecodingError: (Code.UNAVAILABLE, True),  # an answer that was cut or altered on its way
    # What the next request would meet too: a header that HTTP cannot carry, a redirect that leads nowhere.
    httpx.LocalProtocolError: (Code.INTERNAL, False),
    httpx.UnsupportedProtocol: (Code.INTERNAL, False),
    httpx.TooManyRedirects: (Code.INTERNAL, False),
}
"""Exceptions of the httpx client: the code, and whether the same request has a chance later."""

HINT, MAX_PROBLEM = 80, 1000
"""Characters shown of a body that makes no sense, and of a sentence."""


def check(response: httpx.Response, name: str) -> None:
    """Refuse an answer that says that the request failed.

    Args:
        response: Of any status.
        name: Of the operation.

    Raises:
        OperationNotFoundError: 404 or 410.
        RemoteCallError: As ``refused``.
    """
    if response.status_code in MISSING:
        raise OperationNotFoundError(name)
    if not response.is_success:
        raise refused(response, name)


def refused(response: httpx.Response, name: str, code: Code | None = None) -> RemoteCallError:
    """The error that an answer stands for, whose status is not one of success.

    Args:
        response: With a body in the form of Google's APIs, of a plain ``google.rpc.Status``, of Azure's, or any other.
        name: Of the operation.
        code: Where it is another than the answer's own.
    """
    number = response.status_code
    status = _status(response)
    after = retry_after.of_headers(response.headers)
    return RemoteCallError(
        name,
        _clipped(status.message, MAX_PROBLEM) if status.message else f"{response.reason_phrase}; {_hint(response)}",
        code=code if code is not None else status.code,
        transient=number in (408, 429) or (number >= 500 and number != 501),
        http_status=number,
        retry_after=after if after is not None else retry_after.of_details(status.details),
        details=tuple(status.details),
    )


def call_failed(exc: httpx.RequestError, name: str) -> RemoteCallError:
    """The error for a request that got no whole answer."""
    known = next((kind for kind in type(exc).__mro__ if kind in EXCEPTIONS), httpx.NetworkError)
    code, transient = EXCEPTIONS[known]
    return RemoteCallError(
        name, f"{type(exc).__name__}: {_clipped(str(exc), MAX_PROBLEM)}", code=code, transient=transient
    )


def json_of(response: httpx.Response, name: str) -> Any:
    """The body's JSON.

    Raises:
        RemoteProtocolError: It is none.
    """
    try:
        return response.json()
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError(name, f"no JSON, but {_hint(response)}") from exc


def object_of(response: httpx.Response) -> dict[str, Any]:
    """The body's JSON object; {} where it is anything else."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _status(response: httpx.Response) -> status_pb2.Status:
    """What the answer says by its body, its headers and at least its number."""
    body = object_of(response)
    error = body.get("error", body)
    error = dict(error) if isinstance(error, dict) else {}
    if "x-ms-error-code" in response.headers:
        error.setdefault("code", response.headers["x-ms-error-code"])
    said = error.get("code")
    if isinstance(said, str):
        status = status_of_error(error)
        code = Code.of(status.code)
    else:
        status = status_of_json(error)
        code = code_of(error.get("status"))
        if code is Code.UNKNOWN and type(said) is int:  # HTTP's own number is none of the canonical ones
            code = Code.of(said)
    if code in (Code.OK, Code.UNKNOWN):
        code = CODES.get(response.status_code, Code.UNAVAILABLE if response.status_code >= 500 else Code.UNKNOWN)
    status.code = int(code)
    return status


def _hint(response: httpx.Response) -> str:
    """A little of what came instead."""
    kind = response.headers.get("content-type", "nothing").partition(";")[0]
    return f"{kind}: {_clipped(response.text, HINT)!r}" if response.content else "an empty body"


def _clipped(text: str, most: int) -> str:
    text = " ".join(text[: 4 * most].split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
