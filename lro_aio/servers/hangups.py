"""Callers that hang up: what is done for them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from lro_aio.core.codes import Code
from lro_aio.core.status import make_status
from lro_aio.servers.errors import RequestError
from lro_aio.servers.http import Receive

__all__ = ["hung_up", "stop", "unless_hung_up"]

T = TypeVar("T")


async def unless_hung_up(receive: Receive, call: Coroutine[Any, Any, T]) -> T:
    """The result of a call that is cancelled when its caller hangs up.

    Args:
        receive: The ASGI callable of a request whose body has been read.
        call: Made here.

    Raises:
        RequestError: The caller hung up (499). Nobody reads it.
    """
    task = asyncio.create_task(call, name="lro-aio-call")
    gone = asyncio.create_task(hung_up(receive), name="lro-aio-disconnect")
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        gone.result()
    finally:
        with anyio.CancelScope(shield=True):  # a cancelled request leaves no task behind either
            await stop(task, gone)
    raise RequestError(make_status(Code.CANCELLED, "the caller hung up", reason="CALLER_HUNG_UP"))


async def hung_up(receive: Receive) -> None:
    """Return when the caller of a request is gone, or has its whole answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def stop(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait for their ends, whatever those are."""
    started = [task for task in tasks if task is not None]
    for task in started:
        task.cancel()
    await asyncio.wait(started)
    for task in started:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it: the request is over
