"""The endpoints that a remote scheduler calls: resume, poll and sweep, as a plain ASGI application.

====================  =====================================================  ==================================
request               body (lowerCamelCase or snake_case)                    answer
====================  =====================================================  ==================================
POST /lro/resume      operation, resumeToken, reason, pending, error, visit  200 ``{"resumed": true | false}``
POST /lro/poll        operation, resumeToken, operations                     200 ``{"pending": [names]}``
POST /lro/sweep       none                                                   200 ``{}``
====================  =====================================================  ==================================

A resume answers when the run that it started has suspended, ended, or been given up.

- 200 with false: the caller has nothing to do, now or later. The token is old, or the wait goes on and was handed to
  the scheduler again. The latter answers ``STEP_BUDGET`` (the scheduler cannot watch any longer, and asks for a check)
  and, with a remote scheduler, every call that comes before the operation's sleep is over.
- 425 with ``Retry-After``: a live run has the operation; try again, in case it dies.
- 503 with ``Retry-After``: this process cannot run it now, or was stopped while it did.

``visit`` is the row's hand-over number, where the scheduler sends it. A wait that goes on is handed over again only
once the row has that number (503 before).

A poll of an operation that does not wait with this token answers with nothing pending: the resume that follows then has
nothing to do. A poll without ``operations`` is about all that the row waits for. The answer names at most 500 that are
pending, and no more than 32 KiB of names.

400 is a malformed body, 401 and 403 are the verifier's, 413 is a body over 1 MiB. Errors have AIP-193 bodies.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from lro_aio.client import Client
from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationBusyError, WorkerUnavailableError
from lro_aio.core.record import WakeReason
from lro_aio.core.status import make_status
from lro_aio.servers.errors import cut_off, invalid
from lro_aio.servers.http import Receive, Reply, Scope, Send, error_reply, http_error, parse_object, read_body
from lro_aio.servers.verifying import UnauthenticatedError, Verifier, allow_unverified, check_verifier, verified

if TYPE_CHECKING:
    from lro_aio.servers.oidc import OidcVerifier

__all__ = [
    "MAX_BODY",
    "Endpoints",
    "OidcVerifier",
    "ResumeApp",
    "UnauthenticatedError",
    "Verifier",
    "allow_unverified",
    "check_verifier",
    "verified",
]

MAX_BODY = 1024 * 1024
"""Most bytes of a request's body."""
MAX_ERROR = 2000
"""Characters of a scheduler's error that are kept."""
RETRY_AFTER = 1.0
"""Seconds after which another process may take up a run that was given up."""
TOO_EARLY = 425
"""HTTP status (RFC 8470) for "a live run has it". The code's own, 503, would blame this process."""

MAX_PENDING = 500
"""Names in the answer to a poll. Whoever polls needs to know only whether there are any."""
MAX_PENDING_BYTES = 32 * 1024
"""Bytes of these names, as JSON: an execution of Cloud Workflows holds 512 KB in all, and each name more than once."""

OWN = (WakeReason.CANCEL_REQUESTED, WakeReason.FAILED, WakeReason.MESSAGE)
"""Reasons that only the engine knows: of clean-ups, and of messages."""

REASONS: dict[str, WakeReason | None] = {
    **{reason.value: reason for reason in WakeReason if reason not in OWN},
    "STEP_BUDGET": None,
}
"""The reasons that a scheduler may send. None asks the engine to check the wait."""


class ResumeApp:
    """The endpoints as an ASGI application, to be served or mounted.

    It neither opens nor closes the client: run the server inside ``async with client:``.

    Args:
        client: A worker.
        verifier: Required; see ``Verifier``.
        prefix: Path before the endpoints' own names.

    Raises:
        TypeError: ``verifier`` is not callable. There is no default that accepts everyone.
    """

    def __init__(self, client: Client, verifier: Verifier, *, prefix: str = "/lro") -> None:
        self._endpoints = Endpoints(client, verifier)
        self._prefix = prefix.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await (await self._reply(scope, receive)).send(send)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(f"{root}/"):  # where the application is mounted
            path = path[len(root) :]
        prefix, _, verb = path.rpartition("/")
        if prefix != self._prefix or verb not in Endpoints.VERBS:
            return http_error(make_status(Code.NOT_FOUND, "no such endpoint", reason="NO_SUCH_ENDPOINT"))
        if scope["method"] != "POST":
            status = make_status(Code.UNIMPLEMENTED, "this endpoint accepts POST only", reason="METHOD_NOT_ALLOWED")
            reply = http_error(status, 405)
            return Reply(reply.status, reply.body, {"Allow": "POST"})
        headers: dict[str, str] = {}
        for key, value in scope["headers"]:
            name, text = key.decode("latin-1").lower(), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        return await self._endpoints.answer(verb, headers, receive)


class Endpoints:
    """What the three endpoints do, in any server."""

    VERBS = ("resume", "poll", "sweep")

    def __init__(self, client: Client, verifier: Verifier) -> None:
        self._client = client
        self._verifier = check_verifier(verifier)
        self._tasks: set[asyncio.Task[Reply]] = set()

    async def answer(self, verb: str, headers: Mapping[str, str], receive: Receive) -> Reply:
        """Answer one request.

        Args:
            verb: One of ``VERBS``.
            headers: With lower-case names.
            receive: The ASGI callable. The body is read from it once the caller is verified.
        """
        work: dict[str, Callable[[dict[str, Any]], Coroutine[Any, Any, Reply]]]
        work = {"resume": self._resume, "poll": self._poll, "sweep": self._sweep}
        try:
            await verified(self._verifier, headers)
            body = parse_object(await read_body(receive, headers, MAX_BODY))
        except Exception as exc:  # noqa: BLE001 (a verifier may raise anything; each has its answer)
            return error_reply(exc, self._client)
        # A scheduler that hangs up must not stop a claim half way: the row would wait until its lease expires.
        task = asyncio.create_task(self._answered(work[verb](body)), name=f"lro-aio-{verb}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            stopped = cut_off(self._client)
            if stopped is None:
                raise
            return error_reply(stopped, self._client)

    async def _answered(self, work: Coroutine[Any, Any, Reply]) -> Reply:
        try:
            return await work
        except OperationBusyError as exc:
            return error_reply(exc, http=TOO_EARLY)
        except Exception as exc:  # noqa: BLE001 (whatever it is, the scheduler gets an answer)
            return error_reply(exc, self._client)

    async def _resume(self, body: dict[str, Any]) -> Reply:
        operation, token = _text(body, "operation"), _text(body, "resumeToken")
        said = _text(body, "reason", WakeReason.ELAPSED.value)
        if said not in REASONS:
            raise invalid("reason", f"must be one of {', '.join(sorted(REASONS))}")
        pending = _texts(body, "pending")
        error = _text(body, "error", "")[:MAX_ERROR]
        # A remote scheduler calls early where a wait is longer than it can hold. Next to a local one, an early call is
        # meant.
        early = self._client.scheduler.local
        run = await self._client.server_host.resume(
            operation,
            token,
            reason=REASONS[said],
            pending=pending or (),
            error=error,
            early=early,
            visit=_number(body, "visit"),
        )
        if run is not None:
            if run.task is not None:
                await asyncio.wait({run.task})  # with what follows the commit: the hand-over of the next wait
            await run.ended()
            if await self._client.server_host.waiting(operation, token) is not None:
                raise WorkerUnavailableError("the run was given up before its end", retry_after=RETRY_AFTER)
        return Reply(200, {"resumed": run is not None})

    async def _poll(self, body: dict[str, Any]) -> Reply:
        operation, token = _text(body, "operation"), _text(body, "resumeToken")
        asked = _texts(body, "operations")
        record = await self._client.server_host.waiting(operation, token)
        if record is None or record.wait is None:
            return Reply(200, {"pending": []})
        pending = await self._client.server_host.pending(record, asked)
        return Reply(200, {"pending": _first(pending)})

    async def _sweep(self, body: dict[str, Any]) -> Reply:  # noqa: ARG002 (the endpoints have one form)
        await self._client.sweep()
        return Reply(200, {})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _first(names: list[str]) -> list[str]:
    """As many of the names as an answer takes; one at least."""
    taken = 0
    for count, name in enumerate(names):
        taken += len(json.dumps(name)) + 1  # and a comma
        if count and (count >= MAX_PENDING or taken > MAX_PENDING_BYTES):
            return names[:count]
    return names


def _member(body: dict[str, Any], name: str) -> object:
    """A member under its lowerCamelCase or snake_case name."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return body.get(name, body.get(snake))


def _text(body: dict[str, Any], name: str, default: str | None = None) -> str:
    value = _member(body, name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (default is None and not value):
        raise invalid(name, "must be a non-empty string" if default is None else "must be a string")
    return _checked(name, value)


def _number(body: dict[str, Any], name: str) -> int | None:
    value = _member(body, name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise invalid(name, "must be a whole number")
    return value


def _texts(body: dict[str, Any], name: str) -> list[str] | None:
    values = _member(body, name)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise invalid(name, "must be a list of strings")
    return [_checked(name, value) for value in values]


def _checked(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as exc:  # JSON can spell half of a surrogate pair; no store can hold it
        raise invalid(name, "is not Unicode text") from exc
    return value


def __getattr__(name: str) -> Any:
    if name == "OidcVerifier":  # it needs packages that the base installation does not have
        from lro_aio.servers.oidc import OidcVerifier

        return OidcVerifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
