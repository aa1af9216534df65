"""Operations and errors over HTTP: proto3 JSON, AIP-193 bodies. No web framework here."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_aio.client import Client
from lro_aio.core import strict_json
from lro_aio.core.codes import Code
from lro_aio.core.proto_json import any_json, compact, list_json, operation_json, printed, status_json
from lro_aio.core.status import make_status, retry_delay
from lro_aio.servers.errors import RequestError, invalid, status_of

__all__ = [
    "Receive",
    "Reply",
    "Scope",
    "Send",
    "any_json",
    "error_reply",
    "http_error",
    "list_json",
    "operation_json",
    "parse_message",
    "parse_object",
    "printed",
    "read_body",
    "status_json",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer with a JSON body."""

    status: int
    body: Any
    """A value of JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """The body's bytes."""
        return compact(self.body).encode()

    async def send(self, send: Send) -> None:
        """Send it as an ASGI application does."""
        content = self.content()
        headers = {"content-type": "application/json", "content-length": str(len(content)), **self.headers}
        raw = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": content})


def http_error(status: status_pb2.Status, http: int | None = None) -> Reply:
    """The AIP-193 body of a status, with ``Retry-After`` where the status says when to try again.

    Args:
        status: Not OK.
        http: The HTTP status, where it differs from the code's.
    """
    code = Code.of(status.code)
    number = code.http if http is None else http
    members: dict[str, Any] = {"code": number, "message": status.message, "status": code.name}
    if status.details:
        members["details"] = [any_json(detail) for detail in status.details]
    headers: dict[str, str] = {}
    delay = retry_delay(status.details)
    if delay is not None:
        headers["Retry-After"] = str(max(1, math.ceil(delay)))
    if number == Code.UNAUTHENTICATED.http:
        headers["WWW-Authenticate"] = "Bearer"
    return Reply(number, {"error": members}, headers)


def error_reply(
    exc: BaseException,
    client: Client | None = None,
    *,
    http: int | None = None,
    form: Callable[[status_pb2.Status, int | None], Reply] = http_error,
) -> Reply:
    """The answer for an exception; see ``status_of``.

    Args:
        exc: The exception.
        client: The server's client, where it has one.
        http: The HTTP status, where it differs from the code's.
        form: Makes the answer from a status.
    """
    expose = client is not None and client.expose_errors
    if http is None and isinstance(exc, RequestError):
        http = exc.http
    return form(status_of(exc, client=client, expose=expose), http)


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int) -> bytes:
    """The request's body.

    Args:
        receive: The ASGI callable.
        headers: With lower-case names.
        limit: Most bytes.

    Raises:
        RequestError: It is longer than the limit (413), or the client hung up.
    """
    declared = headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise invalid("body", "is incomplete: the client hung up")
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object; an empty one is ``{}``.

    Raises:
        RequestError: It is not a JSON object, or one that others may read otherwise; see ``strict_json``.
    """
    if not body.strip():
        return {}
    try:
        value = strict_json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise invalid("body", "is not JSON") from exc
    if not isinstance(value, dict):
        raise invalid("body", "is not a JSON object")
    return value


def parse_message(body: bytes, message: M) -> M:
    """Merge a proto3 JSON body into a message; it may have lowerCamelCase or the proto's own field names.

    Raises:
        RequestError: It is not JSON, or not of the message's form.
    """
    members = parse_object(body)
    try:
        json_format.ParseDict(members, message)
    except (json_format.ParseError, ValueError, RecursionError) as exc:
        raise invalid("body", f"is not a {message.DESCRIPTOR.full_name}") from exc
    return message


def _too_large(limit: int) -> RequestError:
    sentence = f"the request's body is over {limit} bytes"
    metadata = {"limit": str(limit)}
    return RequestError(
        make_status(Code.INVALID_ARGUMENT, sentence, reason="BODY_TOO_LARGE", metadata=metadata), http=413
    )
