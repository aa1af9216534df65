"""A clock that a test moves by hand: a month of engine time takes milliseconds."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable

import anyio.to_thread

from lro_aio.core.policies import Duration, seconds

__all__ = ["ManualClock"]


class ManualClock:
    """Engine time that stands still until ``advance`` moves it (``lro_aio.ports.Clock``).

    It drives what the engine waits for: sleeps, deadlines, retries, timeouts, polls of remote services. It never
    touches ``asyncio.sleep``, and it cannot see what a handler awaits outside the engine (a socket, a thread): such a
    handler counts as idle. The leases of a live process do not expire under it: they are renewed at every step.

    Args:
        start: Epoch seconds at which it begins.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = float(start)
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._ticks: dict[int, Callable[[], None]] = {}
        self._settles: dict[int, Callable[[], Awaitable[None]]] = {}

    def time(self) -> float:
        """Now, in epoch seconds."""
        return self._now

    def monotonic(self) -> float:
        """As ``time``: this clock is never set back."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` once the clock has moved by ``delay`` seconds; returns its undo."""
        return self.call_at(self._now + delay, callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` once the clock reaches ``when``; returns its undo."""
        if when <= self._now:
            return asyncio.get_running_loop().call_soon(callback).cancel
        number = next(self._order)
        heapq.heappush(self._timers, (when, number, callback))
        return lambda: self._cancelled.add(number)

    def every(self, interval: float, tick: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002 (each step ticks)
        """Call ``tick`` at every step, however short, so that no lease expires between two steps."""
        number = next(self._order)
        self._ticks[number] = tick
        return lambda: self._ticks.pop(number, None) and None

    def attach(self, settle: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Wait for this engine to be idle after every step; returns the undo."""
        number = next(self._order)
        self._settles[number] = settle
        return lambda: self._settles.pop(number, None) and None

    async def advance(self, duration: Duration) -> None:
        """Move time from deadline to deadline; returns once the engine is idle at the end.

        Args:
            duration: Seconds or a timedelta.
        """
        target = self._now + seconds(duration, "duration")
        await self.settle()
        while (when := self._next()) is not None and when <= target:
            await self._step(when)
        await self._step(target)

    async def settle(self) -> None:
        """Return once the engine has nothing left to do until time moves."""
        # Twice, since the second of two engines may have woken the first.
        for settle in (*self._settles.values(), *self._settles.values()):
            await settle()

    def _next(self) -> float | None:
        while self._timers and self._timers[0][1] in self._cancelled:
            self._cancelled.discard(heapq.heappop(self._timers)[1])
        return self._timers[0][0] if self._timers else None

    async def _step(self, when: float) -> None:
        self._now = max(self._now, when)
        for tick in list(self._ticks.values()):
            await anyio.to_thread.run_sync(tick)
        while (due := self._next()) is not None and due <= self._now:
            heapq.heappop(self._timers)[2]()
        await self.settle()
