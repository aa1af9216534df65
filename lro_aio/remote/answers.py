"""Errors for HTTP answers that refuse, that do not come from the service, or that are not JSON."""

from __future__ import annotations

from typing import Any

import httpx
from google.rpc import status_pb2

from lro_aio.core.call_failures import REPEATED_STATUSES
from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationNotFoundError, RemoteCallError, RemoteProtocolError
from lro_aio.core.payloads import status_of_json
from lro_aio.core.status import retry_delay
from lro_aio.remote import retry_after
from lro_aio.remote.azure_errors import code_of, status_of_error
from lro_aio.remote.transport import NotTheServiceError

__all__ = ["call_failed", "check", "check_done", "json_of", "object_of", "refused"]

MISSING = (404, 410)
ANYBODY = (401, 403, 407, *REPEATED_STATUSES)
"""Statuses that a proxy may send on behalf of the service, in whatever form."""

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
"""For answers whose body names no code. Other statuses of 500 and more are UNAVAILABLE, the rest is UNKNOWN."""

EXCEPTIONS: dict[type, tuple[Code, bool]] = {
    httpx.TimeoutException: (Code.DEADLINE_EXCEEDED, True),
    httpx.NetworkError: (Code.UNAVAILABLE, True),
    httpx.ProxyError: (Code.UNAVAILABLE, True),
    httpx.RemoteProtocolError: (Code.UNAVAILABLE, True),  # also a connection that was closed in the middle of an answer
    httpx.DecodingError: (Code.UNAVAILABLE, True),  # an answer that was cut or altered on its way
    # The next request would meet these too: a header that HTTP cannot carry, redirects without end.
    httpx.LocalProtocolError: (Code.INTERNAL, False),
    httpx.UnsupportedProtocol: (Code.INTERNAL, False),
    httpx.TooManyRedirects: (Code.INTERNAL, False),
}
"""Exceptions of the httpx client: the code, and whether the same request may succeed later."""

HINT, MAX_PROBLEM = 80, 1000
"""Characters shown of a body that makes no sense, and of a message."""


def check(response: httpx.Response, name: str) -> None:
    """Refuse an answer that says that the request failed.

    Args:
        response: Of any status.
        name: Of the operation.

    Raises:
        OperationNotFoundError: 404 or 410, from the service itself.
        RemoteCallError: As ``refused``.
    """
    if response.status_code in MISSING and _is_service(response):
        raise OperationNotFoundError(name, _problem(response) if response.content else "")
    if not response.is_success:
        raise refused(response, name)


def check_done(response: httpx.Response, name: str) -> None:
    """Check the answer to a call without a result: it must be a success, with JSON or an empty body.

    Raises:
        RemoteProtocolError: The body is not JSON. It may be the page of a web site, which has done nothing.
        OperationNotFoundError: As ``check``.
        RemoteCallError: As ``check``.
    """
    check(response, name)
    if response.content.strip():
        json_of(response, name)


def refused(response: httpx.Response, name: str, code: Code | None = None) -> RemoteCallError:
    """The error for an answer whose status is not a success.

    Args:
        response: With a body in the form of Google's APIs, of a plain ``google.rpc.Status``, of Azure's, or any other.
        name: Of the operation.
        code: Instead of the answer's own.
    """
    number = response.status_code
    status = _status(response)
    after = retry_after.of_headers(response.headers)
    transient = number in REPEATED_STATUSES or (number >= 500 and number != 501)
    kind = RemoteCallError
    if number not in ANYBODY and (number < 500 or number == 501) and not _is_service(response):
        kind = NotTheServiceError
        if number in MISSING:  # an ingress without a route, as during a deploy
            transient, status.code = True, int(Code.UNAVAILABLE)
    return kind(
        name,
        _problem(response),
        code=code if code is not None else status.code,
        transient=transient,
        http_status=number,
        retry_after=after if after is not None else retry_delay(status.details),
        details=tuple(status.details),
    )


def call_failed(exc: httpx.RequestError, name: str) -> RemoteCallError:
    """The error for a request that got no answer, or only a part of one."""
    known = next((kind for kind in type(exc).__mro__ if kind in EXCEPTIONS), httpx.NetworkError)
    code, transient = EXCEPTIONS[known]
    return RemoteCallError(
        name, f"{type(exc).__name__}: {_clipped(str(exc), MAX_PROBLEM)}", code=code, transient=transient
    )


def json_of(response: httpx.Response, name: str) -> Any:
    """The body's JSON.

    Raises:
        RemoteProtocolError: The body is not JSON.
    """
    try:
        return response.json()
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError(name, f"not JSON, but {_hint(response)}") from exc


def object_of(response: httpx.Response) -> dict[str, Any]:
    """The body's JSON object; {} where it is anything else."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _status(response: httpx.Response) -> status_pb2.Status:
    """The status in the answer's body and headers, or else the one that its number stands for."""
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
        if code is Code.UNKNOWN and type(said) is int:  # no HTTP status is a canonical number
            code = Code.of(said)
    if code in (Code.OK, Code.UNKNOWN):
        code = CODES.get(response.status_code, Code.UNAVAILABLE if response.status_code >= 500 else Code.UNKNOWN)
    status.code = int(code)
    return status


def _is_service(response: httpx.Response) -> bool:
    """Whether a refusal may be the service's own: JSON in the form of an API, or an empty body.

    A redirect, a web page or plain text does not come from the service. Nor does JSON with nothing but a message, which
    is how API gateways say that they have no route.
    """
    if 300 <= response.status_code < 400:
        return False
    if not response.content.strip() or "x-ms-error-code" in response.headers:
        return True
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and not set(body) <= {"message", "request_id", "requestId"}


def _problem(response: httpx.Response) -> str:
    """The message of a refusal, on one line."""
    message = _status(response).message
    if message:
        return _clipped(message, MAX_PROBLEM)
    target = f" to {_clipped(response.headers['location'], HINT)!r}" if "location" in response.headers else ""
    return f"{response.reason_phrase}{target}; {_hint(response)}"


def _hint(response: httpx.Response) -> str:
    """The type and the beginning of a body that was not expected."""
    kind = response.headers.get("content-type", "nothing").partition(";")[0]
    return f"{kind}: {_clipped(response.text, HINT)!r}" if response.content else "an empty body"


def _clipped(text: str, most: int) -> str:
    text = " ".join(text[: 4 * most].split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
