"""Server-sent events: an operation's snapshots as they come, as a plain ASGI application."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.servers.hangups import hung_up, stop
from lro_aio.servers.http import Receive, Reply, Scope, Send, operation_json

__all__ = ["KEEP_ALIVE", "EventStream", "event_id"]

KEEP_ALIVE = 15.0
"""Real seconds without an event after which a comment is sent: proxies cut silent connections."""

RETRY = "retry: 2000\n\n"
"""Milliseconds after which a browser connects again: while a server drains, streams end at once."""

LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""No line breaks for JSON and for server-sent events, but for many readers of lines."""

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # otherwise nginx holds the events back
]


class EventStream:
    """An ASGI application that answers one request with an operation's snapshots.

    Each snapshot is one ``data:`` line of proto3 JSON, with an ``id:``; the terminal one comes last. The stream also
    ends when the server drains: a client that has seen no terminal snapshot connects again. An error on the way is sent
    as an event named ``error`` with an AIP-193 body. A client that hangs up ends the watch.

    Browsers connect again after every end, with the last id in ``Last-Event-ID``. Whoever makes a stream answers 204
    where that is the ``event_id`` of the terminal snapshot, which stops them.

    Args:
        snapshots: From ``Client.watch``; closed here.
        first: The first snapshot. It has been read already, so that an error could still be answered with a status.
        on_error: Makes the last event from an exception.
        keep_alive: Real seconds of silence after which a comment is sent.
    """

    def __init__(
        self,
        snapshots: AsyncGenerator[operations_pb2.Operation, None],
        first: operations_pb2.Operation,
        on_error: Callable[[BaseException], Reply],
        *,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._snapshots = snapshots
        self._first = first
        self._on_error = on_error
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        """Answer the request."""
        gone = asyncio.create_task(hung_up(receive), name="lro-aio-sse-disconnect")
        step: asyncio.Task[operations_pb2.Operation | None] | None = None
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await _send_text(send, RETRY + _snapshot(self._first))
            while True:
                if step is None:
                    step = asyncio.create_task(self._next(), name="lro-aio-sse-watch")
                await asyncio.wait({step, gone}, timeout=self._keep_alive, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                if not step.done():
                    await _send_text(send, ": keep-alive\n\n")
                    continue
                text, last = self._text_of(step)
                step = None
                await _send_text(send, text, more=not last)
                if last:
                    return
        finally:
            with anyio.CancelScope(shield=True):  # a cancelled request leaves no task and no subscription either
                await stop(gone, step)
                await self._snapshots.aclose()

    async def _next(self) -> operations_pb2.Operation | None:
        return await anext(self._snapshots, None)

    def _text_of(self, step: asyncio.Task[operations_pb2.Operation | None]) -> tuple[str, bool]:
        """What to send for a finished step, and whether it is the last."""
        exc = step.exception()
        if exc is not None:
            return "event: error\n" + _event(self._on_error(exc).body), True
        snapshot = step.result()
        return ("", True) if snapshot is None else (_snapshot(snapshot), False)


def event_id(operation: operations_pb2.Operation) -> str:
    """The id of a snapshot's event: the same in every process, for as long as the operation does not change."""
    return hashlib.blake2b(operation.SerializeToString(deterministic=True), digest_size=12).hexdigest()


def _snapshot(operation: operations_pb2.Operation) -> str:
    return f"id: {event_id(operation)}\n{_event(operation_json(operation))}"


def _event(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text.translate(LINE_BREAKS)}\n\n"


async def _send_text(send: Send, text: str, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})
