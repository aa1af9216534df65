"""The one table from Spanner's status codes to what a caller can do."""

from __future__ import annotations

import enum
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.rpc import error_details_pb2

from lro_aio.core.call_failures import TRANSIENT
from lro_aio.core.errors import LroError, StoreSchemaError, StoreUnavailableError
from lro_aio.stores.spanner.location import Location

__all__ = [
    "KINDS",
    "AbortedError",
    "Kind",
    "SessionLostError",
    "SlowError",
    "kind_of",
    "refused_at_open",
    "retry_delay",
    "unavailable",
]


class Kind(enum.Enum):
    """What a status code means for the caller."""

    TRANSIENT = "the same call may be repeated"
    ABORTED = "the transaction may be run again"
    SESSION = "the session is gone; the same call may be repeated in another one"
    SETUP = "at open, a mistake in the setup; later, an outage that may pass"
    REFUSED = "the request is wrong, and always will be"


KINDS: dict[grpc.StatusCode, Kind] = {
    **{code.grpc_code: Kind.TRANSIENT for code in TRANSIENT},
    grpc.StatusCode.INVALID_ARGUMENT: Kind.REFUSED,
    grpc.StatusCode.NOT_FOUND: Kind.SETUP,  # `kind_of` treats missing rows, sessions and transactions apart
    grpc.StatusCode.ALREADY_EXISTS: Kind.REFUSED,
    grpc.StatusCode.PERMISSION_DENIED: Kind.SETUP,
    grpc.StatusCode.UNAUTHENTICATED: Kind.SETUP,
    grpc.StatusCode.FAILED_PRECONDITION: Kind.REFUSED,
    grpc.StatusCode.ABORTED: Kind.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE: Kind.REFUSED,
    grpc.StatusCode.UNIMPLEMENTED: Kind.SETUP,
    grpc.StatusCode.DATA_LOSS: Kind.REFUSED,
}
"""Every code but OK; a test finds missing ones."""

_SESSION = "type.googleapis.com/google.spanner.v1.Session"


class AbortedError(Exception):
    """The transaction was aborted; nothing is stored. ``delay``: seconds that the server asks to wait, if it does."""

    def __init__(self, delay: float | None) -> None:
        super().__init__("the transaction was aborted")
        self.delay = delay


class SlowError(Exception):
    """A commit took too long, perhaps waiting for a lock, and was rolled back; nothing is stored."""


class SessionLostError(Exception):
    """The session is gone, and so are the transactions that began in it."""


def kind_of(exc: GoogleAPICallError) -> Kind:
    """What the caller can do about an error."""
    code = exc.grpc_status_code
    if code is grpc.StatusCode.NOT_FOUND:
        if _resource(exc) == _SESSION or str(exc.message).startswith("Session not found"):
            return Kind.SESSION
        if str(exc.message).startswith("Transaction not found"):
            return Kind.ABORTED
        if "Row " in str(exc.message):
            return Kind.REFUSED
    return KINDS.get(code, Kind.TRANSIENT) if code is not None else Kind.TRANSIENT


def retry_delay(exc: GoogleAPICallError) -> float | None:
    """Seconds that the server asks to wait (``google.rpc.RetryInfo``); None if it does not."""
    for detail in _details(exc):
        if isinstance(detail, error_details_pb2.RetryInfo):
            return max(0.0, detail.retry_delay.ToTimedelta().total_seconds())
    return None


def unavailable(location: Location, exc: Exception | None) -> StoreUnavailableError:
    """The error for a caller that may repeat the call."""
    problem = "no answer in time" if exc is None else _text(exc)
    return StoreUnavailableError(f"{location.url}: {problem}")


def refused_at_open(location: Location, exc: GoogleAPICallError) -> LroError:
    """The error at open: names what is missing, and the fix."""
    code = exc.grpc_status_code
    if code is grpc.StatusCode.NOT_FOUND:
        return StoreSchemaError(f"{_text(exc)}; {_missing(location, str(exc.message))}")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return StoreSchemaError(
            f"no permission to use {location.database_path}: {_text(exc)}; grant the role roles/spanner.databaseUser"
            " (or a database role with SELECT, INSERT, UPDATE and DELETE on the table) to this service's account"
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return StoreSchemaError(
            f"Spanner does not accept the credentials for {location.database_path}: {_text(exc)}; run"
            " `gcloud auth application-default login`, or let the service run as a service account"
        )
    if kind_of(exc) in (Kind.SETUP, Kind.REFUSED):
        return StoreSchemaError(f"{location.url}: {_text(exc)}")
    return unavailable(location, exc)


def _missing(location: Location, message: str) -> str:
    if "nstance" in message and "atabase" not in message.partition(":")[0]:
        return f"create the instance {location.instance!r} first, or correct the project and instance in {location.url}"
    return (
        f"create the database first: gcloud spanner databases create {location.database}"
        f" --instance={location.instance} --project={location.project}"
    )


def _text(exc: Exception) -> str:
    if isinstance(exc, GoogleAPICallError):
        code = exc.grpc_status_code
        return f"{exc.message} ({code.name})" if code is not None else str(exc.message)
    return str(exc)


def _resource(exc: GoogleAPICallError) -> str:
    for detail in _details(exc):
        if isinstance(detail, error_details_pb2.ResourceInfo):
            return detail.resource_type
    return ""


def _details(exc: GoogleAPICallError) -> list[Any]:
    return list(exc.details or ())
