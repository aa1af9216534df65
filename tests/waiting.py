"""Bounded waits for a condition. Nothing here hopes that some time is enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import lro_aio as lro
from lro_aio.core.record import Record
from lro_aio.testing import ManualClock

PATIENCE = 30.0
"""Seconds after which a wait has failed. Long, because the machine may be busy; nothing waits so long to succeed."""


TURNS = 10
"""Turns of the event loop: more than anything of asyncio's own takes."""


async def until(condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
    """Let the event loop run until something is true.

    Raises:
        TimeoutError: It was not within ``timeout`` seconds.
    """
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.001)


def block_until(condition: Callable[[], Any]) -> None:
    """Wait for what a thread or another process does, where there is no event loop.

    Raises:
        TimeoutError: It was not true within ``PATIENCE``.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.001)


async def reached(client: lro.Client, name: str, *states: str) -> Record:
    """The row of an operation once it is in one of these states.

    Raises:
        TimeoutError: It is not within ``PATIENCE``.
    """
    async with asyncio.timeout(PATIENCE):
        while (record := await client.server_host.record(name)).state not in states:
            await asyncio.sleep(0.001)
    return record


async def durably_suspended(client: lro.Client, name: str, clock: ManualClock) -> Record:
    """The row of an operation whose handler waits durably, once it has lingered and is suspended.

    Raises:
        TimeoutError: It is not within ``PATIENCE``.
    """
    await until(lambda: client.engine.host.lingering or not client.engine.worker.running)
    await clock.advance(1)
    return await reached(client, name, "SUSPENDED")


async def accepted() -> None:
    """Let what asyncio has accepted become a connection, which takes some turns of the event loop.

    Not until nothing is ready: other tasks of the test may keep the loop busy for as long as it runs.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def all_blocked() -> None:
    """Let the event loop run until nothing is ready to run: every other task waits for a thread, a socket or a timer.

    What a task hands to a held store is then in the queue of its writer, and what a cancel sets off has been set off.

    Raises:
        TimeoutError: Something was always ready.
    """
    loop: Any = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        await asyncio.sleep(0)
        while loop._ready:
            await asyncio.sleep(0)
