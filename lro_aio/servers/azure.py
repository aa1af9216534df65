"""Operations and errors in the style of Azure's REST APIs: status monitors. No web framework here.

The rules are those of https://github.com/microsoft/api-guidelines, azure/Guidelines.md, "Long-Running Operations".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from google.protobuf import any_pb2, struct_pb2
from google.rpc import status_pb2

from lro_aio.client import Client
from lro_aio.core import names, progress_pb2
from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationAlreadyExistsError
from lro_aio.core.record import Record, State
from lro_aio.servers.errors import invalid, unimplemented
from lro_aio.servers.http import Reply, any_json, http_error, printed
from lro_aio.servers.http import error_reply as google_error_reply

__all__ = [
    "accepted_reply",
    "azure_error",
    "error_json",
    "error_reply",
    "monitor_reply",
    "operation_id",
    "operation_location",
    "page_json",
    "refuse_repeatability",
    "status_monitor",
]

STATUS = {
    State.PENDING: "NotStarted",
    State.RUNNING: "Running",
    State.SUSPENDED: "Running",
    State.SUCCEEDED: "Succeeded",
    State.FAILED: "Failed",
    State.CANCELLED: "Canceled",
}

MAX_RETRY_AFTER = 30
"""Seconds: what Azure's clients wait where the service does not say."""

PLAIN = {
    f"google.protobuf.{name}"
    for name in (
        "Struct", "Value", "ListValue", "Timestamp", "Duration", "FieldMask", "BoolValue", "BytesValue", "DoubleValue",
        "FloatValue", "Int32Value", "Int64Value", "StringValue", "UInt32Value", "UInt64Value",
    )
}  # fmt: skip
"""Messages whose JSON is not an object of their fields; in an ``Any``, it is wrapped in a member ``value``."""


def status_monitor(record: Record) -> dict[str, Any]:
    """The status monitor of a row.

    ``error`` is present where the operation failed, ``result`` where it succeeded with a response other than ``Empty``.
    Beyond the guidelines, it has ``name``, which includes the parent, unlike ``id``; ``metadata``; and
    ``percentComplete``, from 0 to 100, where the metadata is a ``Struct`` whose ``progress`` is from 0 to 1, or
    an ``lro.v1.Progress`` with a total.
    """
    operation = record.to_operation()
    monitor: dict[str, Any] = {"id": record.name.rpartition("/")[2], "name": record.name}
    monitor["kind"] = record.handler or None
    # An operation that a closing process handed back waits again, although it has been started.
    handed_back = record.state is State.PENDING and record.claim > 0
    monitor["status"] = STATUS[State.RUNNING if handed_back else record.state]
    metadata = _value(operation.metadata)
    monitor["percentComplete"] = _percent(operation.metadata, metadata)
    monitor["metadata"] = metadata
    if record.state is State.FAILED:
        monitor["error"] = error_json(operation.error)
    elif record.state is State.SUCCEEDED:
        monitor["result"] = _value(operation.response)
    return {key: value for key, value in monitor.items() if value is not None}


def monitor_reply(record: Record, now: float) -> Reply:
    """200 with the status monitor, and ``Retry-After`` while the operation is unfinished.

    That is a tenth of the operation's age, from 1 to ``MAX_RETRY_AFTER`` seconds. A client that keeps to it learns of
    the end at most a second late, or a tenth of the time that the operation took; old operations are not polled every
    second.
    """
    headers = {}
    if not record.done:
        headers["Retry-After"] = str(min(MAX_RETRY_AFTER, max(1, int((now - record.create_time) / 10))))
    return Reply(200, status_monitor(record), headers)


def accepted_reply(record: Record, now: float, location: str) -> Reply:
    """202 with the status monitor, for an operation in any state.

    Args:
        record: Of the operation.
        now: Epoch seconds.
        location: Absolute URL of the status monitor.
    """
    monitor = monitor_reply(record, now)
    headers = {"Operation-Id": monitor.body["id"], "Operation-Location": location, **monitor.headers}
    return Reply(202, monitor.body, headers)


def operation_location(base_url: str, prefix: str, name: str, api_version: str | None = None) -> str:
    """The absolute URL of a status monitor.

    Args:
        base_url: URL at which clients reach the application.
        prefix: Prefix of the router that serves the monitors.
        name: Resource name of the operation.
        api_version: As the client sent it; the URL repeats it.

    Raises:
        ValueError: ``base_url`` is not an absolute HTTP URL, or has a query.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"base_url must be like 'https://api.example.com' or 'https://example.com/jobs', not {base_url!r}"
        )
    query = f"?{urlencode({'api-version': api_version})}" if api_version is not None else ""
    return f"{base_url.rstrip('/')}{prefix}/{name}{query}"


def page_json(records: Iterable[Record], next_link: str | None) -> dict[str, Any]:
    """A page of status monitors; the last page has no ``nextLink``."""
    page: dict[str, Any] = {"value": [status_monitor(record) for record in records]}
    if next_link is not None:
        page["nextLink"] = next_link
    return page


def operation_id(headers: Mapping[str, str]) -> str | None:
    """The id that the caller wants for the operation, from ``Operation-Id``; None where it sent no such header.

    Args:
        headers: With lower-case names.

    Raises:
        RequestError: It is malformed (400), or the request relies on repeatability headers (501).
    """
    refuse_repeatability(headers)
    sent = headers.get("operation-id")
    try:
        return None if sent is None else names.check_id(sent)
    except ValueError as exc:
        raise invalid("Operation-Id", "must be 1 to 128 letters, digits or any of '._~-'") from exc


def refuse_repeatability(headers: Mapping[str, str]) -> None:
    """Refuse repeatability headers, which are not supported: ``Operation-Id`` is the way to repeat a request.

    Raises:
        RequestError: A repeatability header is present (501).
    """
    for name in ("Repeatability-Request-ID", "Repeatability-First-Sent"):
        if name.lower() in headers:
            raise unimplemented(name)


def error_json(status: status_pb2.Status) -> dict[str, Any]:
    """Azure's error object: a code such as ``NotFound``, and inside it the canonical code and all details."""
    code = Code.of(status.code)
    return {
        "code": code.name.replace("_", " ").title().replace(" ", ""),
        "message": status.message,
        "innererror": {"code": code.name, "details": [any_json(detail) for detail in status.details]},
    }


def azure_error(status: status_pb2.Status, http: int | None = None) -> Reply:
    """The error answer of a status, with the headers of ``http_error`` and ``x-ms-error-code``.

    Args:
        status: Not OK.
        http: The HTTP status, where it differs from the code's.
    """
    plain = http_error(status, http)
    error = error_json(status)
    return Reply(plain.status, {"error": error}, {**plain.headers, "x-ms-error-code": error["code"]})


def error_reply(exc: BaseException, client: Client | None = None) -> Reply:
    """The answer for an exception; 400 for an ``Operation-Id`` that stands for another request.

    Args:
        exc: The exception.
        client: The server's client, where it has one.
    """
    http = 400 if isinstance(exc, OperationAlreadyExistsError) else None
    return google_error_reply(exc, client, http=http, form=azure_error)


def _value(packed: any_pb2.Any) -> Any:
    """A message as JSON: with its ``@type``, or plain for a type in ``PLAIN``. None for no message or ``Empty``."""
    if packed.TypeName() in ("", "google.protobuf.Empty"):
        return None
    members = printed(packed) if packed.TypeName() in PLAIN else None
    return any_json(packed) if members is None else members["value"]


def _percent(packed: any_pb2.Any, metadata: Any) -> float | None:
    if packed.Is(struct_pb2.Struct.DESCRIPTOR):
        progress = metadata.get("progress")
    elif packed.TypeName() == progress_pb2.Progress.DESCRIPTOR.full_name:
        done, total = (int(metadata.get(name, 0)) for name in ("done", "total"))  # as int64 is in JSON
        progress = done / total if total > 0 else None
    else:
        return None
    if isinstance(progress, bool) or not isinstance(progress, int | float) or not 0 <= progress <= 1:
        return None
    percent = round(100 * progress, 2)
    return int(percent) if percent == int(percent) else percent
