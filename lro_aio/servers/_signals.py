"""The signal that tells a server to stop, heard by the application too.

Servers tell an application of their end once its last connection has ended. Whoever holds connections open until then
must hear of it earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType

from lro_aio.client import Client
from lro_aio.core.logs import event
from lro_aio.engine.life import ClosedError

__all__ = ["drained_on_signal", "stop_signals"]

logger = logging.getLogger("lro_aio")

STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name))


@contextlib.asynccontextmanager
async def drained_on_signal(client: Client) -> AsyncIterator[None]:
    """While inside, the client drains as soon as the process is told to stop; the drain has ended when this is left.

    Args:
        client: It is open.
    """
    drains: list[asyncio.Task[None]] = []

    def drain() -> None:
        if not drains:
            drains.append(asyncio.create_task(_drain(client), name="lro-aio-drain"))

    try:
        with stop_signals(drain):
            yield
    finally:
        for task in drains:
            await task


async def _drain(client: Client) -> None:
    logger.info("the server was told to stop: the client drains", extra=event("drain_on_signal"))
    with contextlib.suppress(ClosedError):  # it is closed already, and closing drains
        await client.drain()


@contextlib.contextmanager
def stop_signals(heard: Callable[[], None]) -> Iterator[None]:
    """Call ``heard`` on the running event loop when a signal tells the process to stop.

    The handler that was there is called as before, and is there again at the end. A signal that nobody handles in
    Python keeps its meaning. Only the main thread can listen to signals: elsewhere, this does nothing.

    Args:
        heard: Called for each signal that comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as chained:
        for number in STOPS:
            chained.enter_context(_chained(number, loop, heard))
        yield


@contextlib.contextmanager
def _chained(number: int, loop: asyncio.AbstractEventLoop, heard: Callable[[], None]) -> Iterator[None]:
    before = signal.getsignal(number)
    if not callable(before):  # the default, ignored, or not Python's
        yield
        return
    server = before

    def handle(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to tell
            loop.call_soon_threadsafe(heard)
        server(number, frame)

    # A handler that the event loop calls (`loop.add_signal_handler`) is told over its wake-up socket, in any case.
    signal.signal(number, handle)
    try:
        yield
    finally:
        if signal.getsignal(number) is handle:  # else somebody came after us, and calls us or not
            signal.signal(number, before)
