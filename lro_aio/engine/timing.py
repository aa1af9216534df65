"""Engine time: the system's clock, and waiting on any clock."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from lro_aio.core.errors import ClockSkewError
from lro_aio.core.policies import LeasePolicy
from lro_aio.ports import Clock, Store

__all__ = ["SteadyTime", "SystemClock", "clock_skew", "sleep_for", "timeout_at", "wait_event"]


MAX_HOP = 5.0
"""Seconds. A timer for a time of day is re-armed in hops, so that a clock that is set forward is noticed within one."""


class SystemClock:
    """The machine's clocks (``lro_aio.ports.Clock``)."""

    def time(self) -> float:
        """Now, in epoch seconds, to the microsecond: what stores keep, so that times compare exactly everywhere."""
        return time.time_ns() // 1000 / 1_000_000  # as round(time.time(), 6), in a third of its time

    def monotonic(self) -> float:
        """The machine's monotonic clock, which stands still while the machine is suspended."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on the running loop at ``when``; returns a cancel."""
        loop = asyncio.get_running_loop()
        latest = self.monotonic() + when - self.time()
        armed: list[asyncio.TimerHandle] = []

        def left() -> float:
            return min(when - self.time(), latest - self.monotonic())

        def fire() -> None:
            if (remaining := left()) > 0:
                armed[0] = loop.call_later(min(remaining, MAX_HOP), fire)
            else:
                callback()

        def cancel() -> None:
            armed[0].cancel()

        armed.append(loop.call_later(max(0.0, min(left(), MAX_HOP)), fire))
        return cancel

    def call_later(self, delay: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on the running loop after ``delay`` seconds; returns a cancel."""
        return asyncio.get_running_loop().call_later(max(0.0, delay), callback).cancel

    def every(self, interval: float, tick: Callable[[], None]) -> Callable[[], None]:
        """Call ``tick`` from a thread of its own every ``interval`` seconds until stopped."""
        stopped = threading.Event()

        def loop() -> None:
            while not stopped.wait(interval):
                tick()

        # A daemon: a process that dies without closing its client must not hang in interpreter exit.
        thread = threading.Thread(target=loop, name="lro-aio-ticker", daemon=True)
        thread.start()

        def stop() -> None:
            stopped.set()
            thread.join()

        return stop

    def attach(self, settle: Callable[[], Awaitable[None]]) -> Callable[[], None]:  # noqa: ARG002 (nobody drives it)
        """Nothing to do: real time moves by itself."""
        return lambda: None


class SteadyTime:
    """The time of day as this process has known it: set forward with the clock, and never set back.

    What was stored before a clock was set back an hour is not due for an hour by the clock; by this time, it is due
    when it was meant to be.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = float("-inf")
        """Seconds by which the time of day was ahead of the monotonic clock, at most."""

    def time(self) -> float:
        """Now, in epoch seconds."""
        monotonic = self._clock.monotonic()
        self._ahead = max(self._ahead, self._clock.time() - monotonic)
        return monotonic + self._ahead


def clock_skew(store: Store, lease: LeasePolicy) -> ClockSkewError | None:
    """What to say where the store's clock, as last measured, is too far from this machine's; None where not.

    Leases are written with one machine's clock and read with another's. A quarter of a lease apart from the store's
    each, two machines still renew (at a third) before the other takes the lease for lost.
    """
    offset, limit = store.clock_offset, lease.duration / 4
    return ClockSkewError(offset, limit) if abs(offset) > limit else None


async def sleep_for(clock: Clock, delay: float) -> None:
    """Return after ``delay`` seconds of the clock's monotonic time."""
    if delay <= 0:
        await asyncio.sleep(0)
        return
    reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancel = clock.call_later(delay, lambda: None if reached.done() else reached.set_result(None))
    try:
        await reached
    finally:
        cancel()


@contextlib.asynccontextmanager
async def timeout_at(clock: Clock, when: float | None) -> AsyncIterator[None]:
    """As ``asyncio.timeout_at``, on this clock's monotonic time. A moment that has passed, and None, are no bound.

    Raises:
        TimeoutError: The clock reached ``when`` inside the block.
    """
    async with asyncio.timeout(None) as scope:
        left = 0.0 if when is None else when - clock.monotonic()
        cancel = clock.call_later(left, lambda: scope.reschedule(0)) if left > 0 else None
        try:
            yield
        finally:
            if cancel is not None:
                cancel()


async def wait_event(clock: Clock, event: asyncio.Event, until: float | None, *, at_most: float | None = None) -> None:
    """Return when the event is set, when the time of day has reached ``until``, or after ``at_most`` real seconds.

    ``at_most`` is for polls that only make up for something lost: a clock that is driven by hand has no step there.
    """
    if event.is_set() or (until is not None and clock.time() >= until):
        return
    if until is None and at_most is None:
        await event.wait()
        return
    cancel = clock.call_at(until, event.set) if until is not None else None
    try:
        async with asyncio.timeout(at_most):
            await event.wait()
    except TimeoutError:
        pass
    finally:
        if cancel is not None:
            cancel()
