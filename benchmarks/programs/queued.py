"""Operations that wait in the line of a queue: what all sides of ``bench_queues`` share. The standard library alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.programs.common import Figures, Meter

PLACES = 10
"""How many may run at a time."""
PATIENCE = 900.0
"""Seconds for all of them."""
LOOK = 0.001
"""Seconds between two looks, of which there are few: nobody is told of anything."""


class Line:
    """Keeps all places of a queue until everybody stands in its line, and notes when the turn of each has come.

    Its operations call ``hold`` and ``note`` in their handlers, which may run on an event loop of another thread: so
    nothing here belongs to a loop.
    """

    def __init__(self) -> None:
        self._held = 0
        self._left = 0
        self._last = 0.0

    async def hold(self) -> None:
        """Have a place until the line is opened."""
        self._held += 1
        while self._held:
            await asyncio.sleep(LOOK)

    def note(self) -> None:
        """It is this operation's turn."""
        self._last = time.perf_counter()
        self._left -= 1

    async def measure(
        self,
        waiting: int,
        *,
        hold: Callable[[], Awaitable[object]],
        join: Callable[[int], Awaitable[object]],
        commits: Callable[[], int],
    ) -> Figures:
        """From the moment at which the line is opened until the turn of the last one has come.

        Args:
            waiting: How many stand in the line.
            hold: Starts operations that take all places.
            join: Starts so many that wait.
            commits: How many transactions there were so far.
        """
        self._left = waiting
        await hold()
        await _until(lambda: self._held == PLACES)
        await join(waiting)
        before, meter, began = commits(), Meter(), time.perf_counter()
        self._held = 0
        await _until(lambda: self._left == 0)
        cpu, longest = meter.cpu, self._last - began
        return {
            "rate": waiting / longest,
            "longest": longest,
            "cpu": cpu / waiting * 1e6,
            "commits": (commits() - before) / waiting,
        }


async def _until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > end:
            raise RuntimeError("the line does not move")
        await asyncio.sleep(LOOK)
