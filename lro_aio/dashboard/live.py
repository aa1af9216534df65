"""News of a page as server-sent events: not what has changed, only that something has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio

from lro_aio.client import Client
from lro_aio.servers.events import HEADERS, KEEP_ALIVE
from lro_aio.servers.hangups import hung_up, stop
from lro_aio.servers.http import Receive, Scope, Send

__all__ = ["NewsStream"]

EVERY = 1.0
"""Seconds of the client's clock between two looks."""
LIFE = 300.0
"""Real seconds after which a stream ends: the browser connects again, and is asked again who it is."""
RETRY = "retry: 3000\n\n"
"""Milliseconds after which it does."""


class NewsStream:
    """An ASGI application that answers one request with an event whenever a page's look has another word.

    It ends when the client drains, when its caller hangs up, and after ``LIFE`` seconds.

    Args:
        client: Whose clock and drain count.
        word: The present event: its name and data. The same while nothing has changed.
    """

    def __init__(self, client: Client, word: Callable[[], Awaitable[tuple[str, str]]]) -> None:
        self._client = client
        self._word = word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        """Answer the request."""
        gone = asyncio.create_task(hung_up(receive), name="lro-aio-dashboard-disconnect")
        step: asyncio.Task[bool] | None = None
        loop = asyncio.get_running_loop()
        ends, silent, last = loop.time() + LIFE, loop.time(), None
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await _send(send, RETRY)
            while not gone.done() and loop.time() < ends:
                word = await self._word()
                if word != last:
                    await _send(send, f"event: {word[0]}\ndata: {word[1]}\n\n")
                    last, silent = word, loop.time()
                elif loop.time() - silent >= KEEP_ALIVE:
                    await _send(send, ": keep-alive\n\n")
                    silent = loop.time()
                step = asyncio.create_task(self._pause(), name="lro-aio-dashboard-pause")
                await asyncio.wait({step, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() or not step.result():
                    break
            if not gone.done():
                await _send(send, "", more=False)
        finally:
            with anyio.CancelScope(shield=True):  # a cancelled request leaves no task behind
                await stop(gone, step)

    async def _pause(self) -> bool:
        """Let a second pass; False where the client takes no more work."""
        if not self._client.is_open:
            return False
        return await self._client.server_host.pause(self._client.clock, EVERY)


async def _send(send: Send, text: str, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})
