"""What a server answers for an exception: the one table, and the few refusals that only a server knows."""

from __future__ import annotations

import logging

from google.rpc import error_details_pb2, status_pb2

from lro_aio.client import Client
from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError
from lro_aio.core.logs import event
from lro_aio.core.names import MAX_NAME, MalformedIdError
from lro_aio.core.status import make_status, to_status
from lro_aio.engine.life import ClosedError, NeverOpenedError

__all__ = ["RequestError", "cut_off", "invalid", "permission_denied", "status_of", "unimplemented"]

logger = logging.getLogger("lro_aio")

CLOSED_RETRY = 1.0
"""Seconds after which a caller may reach another process that serves."""


class RequestError(Exception):
    """The server refuses the request itself.

    Attributes:
        status: The answer.
        http: The HTTP status, where it differs from the code's.
    """

    def __init__(self, status: status_pb2.Status, *, http: int | None = None) -> None:
        self.status = status
        self.http = http
        super().__init__(status.message)


def cut_off(client: Client) -> ClosedError | None:
    """The error for a call that the server has cancelled because its patience is over; None where it has not stopped.

    Unless such a call is answered, a web server writes a bare 500.
    """
    if client.is_open and not client.server_host.draining:
        return None
    return ClosedError("the server ended the call")


def invalid(field: str, problem: str) -> RequestError:
    """The error for a field of the request that no call could accept.

    Args:
        field: As the proto spells it.
        problem: The rest of the sentence that the field begins.
    """
    metadata = {"field": field, "problem": problem}
    status = make_status(Code.INVALID_ARGUMENT, f"{field} {problem}", reason="INVALID_REQUEST", metadata=metadata)
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return RequestError(status)


def permission_denied(name: str) -> RequestError:
    """The one answer for "not allowed" and "does not exist" (AIP-211): it does not reveal which names exist."""
    name = name[:MAX_NAME]
    sentence = f"permission denied, or it might not exist: {name!r}"
    return RequestError(
        make_status(Code.PERMISSION_DENIED, sentence, reason="PERMISSION_DENIED", metadata={"name": name})
    )


def unimplemented(field: str) -> RequestError:
    """The error for a field of the request that this service does not support."""
    return RequestError(
        make_status(
            Code.UNIMPLEMENTED, f"{field} is not supported", reason="UNSUPPORTED_FIELD", metadata={"field": field}
        )
    )


def status_of(exc: BaseException, *, client: Client | None = None, expose: bool = False) -> status_pb2.Status:
    """The status of any exception that a call raised.

    An exception that is neither this package's nor a refusal is logged with its traceback. So is, without one, what an
    error of this package keeps from callers.

    Args:
        exc: The exception.
        client: The server's client, where it has one: while it closes, any ``RuntimeError`` means that it does.
        expose: Whether callers see all of every text.
    """
    if isinstance(exc, RequestError):
        return exc.status
    if isinstance(exc, LroError):
        if exc.withholds:
            logger.warning("a server call failed: %s", exc, extra=event("call_failed"))
        return to_status(exc, expose=expose)
    if isinstance(exc, MalformedIdError):
        return invalid(*exc.args).status
    if isinstance(exc, NeverOpenedError):
        logger.error(
            "a call came, and the client was never opened: use it inside 'async with client:', or put lifespan(client)"
            " into the outermost application (the lifespan of a mounted application does not run)",
            extra=event("client_never_opened"),
        )
        sentence = (
            "this process does not serve operations: its client was never opened (the lifespan of a mounted application"
            " does not run)"
        )
        return make_status(Code.UNAVAILABLE, sentence, reason="CLIENT_CLOSED", retry_after=CLOSED_RETRY)
    if isinstance(exc, ClosedError) or (isinstance(exc, RuntimeError) and client is not None and not client.is_open):
        sentence = "this process does not serve operations now: it is starting or shutting down"
        return make_status(Code.UNAVAILABLE, sentence, reason="CLIENT_CLOSED", retry_after=CLOSED_RETRY)
    logger.error("a server call failed", exc_info=exc, extra=event("call_failed"))
    return to_status(exc, expose=expose)
