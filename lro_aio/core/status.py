"""The one table that maps exceptions to ``google.rpc.Status`` and back.

Every error that leaves the process goes through ``to_status``; every error that comes in, through ``from_status``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence

from google.longrunning import operations_proto_pb2 as operations_pb2  # the half without grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError, OperationFailedError
from lro_aio.core.failures import BY_CODE
from lro_aio.core.packed import detail_of, packed

__all__ = [
    "DOMAIN",
    "HIDDEN_MESSAGE",
    "cancelled",
    "clipped",
    "described",
    "error_of",
    "fitted",
    "from_status",
    "make_status",
    "reason_of",
    "relabelled",
    "retry_delay",
    "to_status",
    "untold",
    "utf8",
]

DOMAIN = "lro-aio"
"""``ErrorInfo.domain`` of the errors that this package words."""

MAX_MESSAGE = 16_384
"""Characters. A row must be able to hold its error, and a client to receive it."""

HIDDEN_MESSAGE = "the operation failed for a reason that the service does not disclose"
"""What clients see in place of an exception that was not meant for them."""


def make_status(
    code: int,
    message: str,
    *,
    reason: str,
    metadata: Mapping[str, str] | None = None,
    retry_after: float | None = None,
    details: Sequence[any_pb2.Any] = (),
) -> status_pb2.Status:
    """A status with ``ErrorInfo``, as AIP-193 requires of every error.

    Args:
        code: Canonical code.
        message: For developers, in English.
        reason: UPPER_SNAKE_CASE, at most 63 characters.
        metadata: The variable parts of the message.
        retry_after: Seconds after which a repeated call may succeed; becomes ``RetryInfo``.
        details: Further packed details. A type that is among them is not added again.
    """
    message = _cut(message)
    status = status_pb2.Status(code=int(code), message=utf8(message), details=details)
    present = {detail.type_url for detail in details}
    variables = {key: utf8(value) for key, value in (metadata or {}).items()}
    extra: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=variables)]
    if retry_after is not None and math.isfinite(retry_after):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(max(0.0, retry_after) * 1e9))
        extra.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in map(packed, extra):
        if detail.type_url not in present:
            status.details.append(detail)
    return status


def _cut(message: str, most: int = MAX_MESSAGE) -> str:
    return message if len(message) <= most else message[: max(0, most - 3)] + "..."


def utf8(text: str) -> str:
    """The text as a protobuf string can hold it: file names and JSON may have lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def fitted(status: status_pb2.Status, most: int) -> status_pb2.Status:
    """The status in at most ``most`` bytes, or few more: without the details that are too large, its message clipped.

    Its ``ErrorInfo`` loses its metadata before it is left out: callers tell errors apart by its reason.
    """
    if status.ByteSize() <= most:
        return status
    kept = status_pb2.Status(code=status.code, message=clipped(status.message, most // 2))
    for detail in status.details:
        info = detail_of([detail], error_details_pb2.ErrorInfo)
        if info is not None and detail.ByteSize() > most // 4:
            detail = packed(error_details_pb2.ErrorInfo(reason=info.reason[:63], domain=info.domain[:255]))
        if info is not None or kept.ByteSize() + detail.ByteSize() <= most:
            kept.details.append(detail)
    return kept


def clipped(text: str, most: int) -> str:
    """At most ``most`` bytes of UTF-8, cut between characters."""
    data = text.encode()
    return text if len(data) <= most else data[: max(0, most - 3)].decode(errors="ignore") + "..."


def cancelled() -> status_pb2.Status:
    """How a cancelled operation ends."""
    return make_status(Code.CANCELLED, "the operation was cancelled", reason="CANCELLED")


def relabelled(error: status_pb2.Status, code: Code) -> status_pb2.Status:
    """The status with another code."""
    copy = status_pb2.Status()
    copy.CopyFrom(error)
    copy.code = code
    return copy


def retry_delay(details: Iterable[any_pb2.Any]) -> float | None:
    """Seconds of the first readable ``RetryInfo`` among the details of a status; None without one."""
    info = detail_of(details, error_details_pb2.RetryInfo)
    return None if info is None else max(0.0, info.retry_delay.seconds + info.retry_delay.nanos / 1e9)


def reason_of(status: status_pb2.Status) -> str:
    """The reason of the status' ``ErrorInfo`` (AIP-193); "" without a readable one."""
    info = detail_of(status.details, error_details_pb2.ErrorInfo)
    return "" if info is None else info.reason


def to_status(exc: BaseException, *, expose: bool = False) -> status_pb2.Status:
    """The status of an exception (rule 10).

    Errors of this package carry their ``message``. Others keep their code where they have a canonical one, and
    their text only with ``expose``, which also shows what a ``message`` withholds. An exception that cannot be
    described, because its attributes are missing or of wrong types, is INTERNAL.
    """
    try:
        return _to_status(exc, expose=expose)
    except Exception:  # noqa: BLE001 (a subclass that never called super().__init__(), say: the operation must end all the same)
        return untold(exc)


def untold(exc: BaseException) -> status_pb2.Status:
    """What stands for an exception that cannot be described."""
    message = f"the operation failed, and its {type(exc).__name__} could not be told"
    return make_status(Code.INTERNAL, message, reason="ERROR_NOT_TOLD")


def _to_status(exc: BaseException, *, expose: bool) -> status_pb2.Status:
    if isinstance(exc, OperationFailedError):
        return make_status(exc.code, exc.message, reason=exc.reason, metadata=exc.metadata, details=exc.packed_details)
    if isinstance(exc, LroError):
        text = str(exc) if expose else exc.message
        return make_status(exc.code, text, reason=exc.reason, metadata=exc.metadata, retry_after=exc.retry_after)
    code = _carried_code(exc)
    name = type(exc).__name__
    if expose:
        return make_status(code, described(exc), reason="HANDLER_ERROR", metadata={"exception": name})
    return make_status(code, HIDDEN_MESSAGE, reason="HANDLER_ERROR")


def from_status(status: status_pb2.Status, *, name: str = "") -> OperationFailedError:
    """The exception of a failed operation: the class for its code in ``failures``."""
    kind = BY_CODE[Code.of(status.code) or Code.UNKNOWN]
    return kind(status.message, name=name, details=status.details)


def error_of(operation: operations_pb2.Operation) -> OperationFailedError | None:
    """The exception of an operation that ended with an error; None for any other."""
    if operation.WhichOneof("result") != "error":
        return None
    return from_status(operation.error, name=operation.name)


def described(exc: BaseException) -> str:
    """The class and the text of an exception, in full: for operators, not for clients."""
    return f"{type(exc).__name__}: {_text(exc)}"


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 (a broken __str__ must not keep an operation from ending)
        return "(its text cannot be shown)"


def _carried_code(exc: BaseException) -> Code:
    """The canonical code that an exception of another library carries, without importing that library."""
    if isinstance(exc, asyncio.CancelledError):
        return Code.CANCELLED
    if isinstance(exc, TimeoutError):
        return Code.DEADLINE_EXCEEDED
    try:
        carried = getattr(exc, "grpc_status_code", None)  # google.api_core.exceptions.GoogleAPICallError
        if carried is None:
            code = getattr(exc, "code", None)  # grpc.RpcError has it as a method
            carried = code() if callable(code) else None
        number = getattr(carried, "value", None)
    except Exception:  # noqa: BLE001 (another library's `code`: what it raises must not hide the failure itself)
        return Code.UNKNOWN
    if isinstance(number, tuple) and number and isinstance(number[0], int) and number[0] != Code.OK:
        return Code.of(number[0])
    return Code.UNKNOWN
