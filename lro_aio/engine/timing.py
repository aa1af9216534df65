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

__all__ = ["SystemClock", "clock_skew", "sleep_until", "timeout_at", "wait_event"]


MAX_HOP = 60.0
"""Seconds. A long timer is re-armed in hops, so that a wall clock that is set is noticed within one."""


class SystemClock:
    """The machine's wall clock (``lro_aio.ports.Clock``)."""

    def time(self) -> float:
        """Now, in epoch seconds, to the microsecond: what stores keep, so that times compare exactly everywhere."""
        return time.time_ns() // 1000 / 1_000_000  # as round(time.time(), 6), in a third of its time

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on the running loop at ``when``; returns a cancel."""
        loop = asyncio.get_running_loop()
        armed: list[asyncio.TimerHandle] = []

        def arm() -> None:
            armed[:] = [loop.call_later(max(0.0, min(when - self.time(), MAX_HOP)), fire)]

        def fire() -> None:
            if self.time() < when:
                arm()
            else:
                callback()

        def cancel() -> None:
            armed[0].cancel()

        arm()
        return cancel

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


def clock_skew(store: Store, lease: LeasePolicy) -> ClockSkewError | None:
    """What to say where the store's clock, as last measured, is too far from this machine's; None where not.

    Leases are written with one machine's clock and read with another's. A quarter of a lease apart from the store's
    each, two machines still renew (at a third) before the other takes the lease for lost.
    """
    offset, limit = store.clock_offset, lease.duration / 4
    return ClockSkewError(offset, limit) if abs(offset) > limit else None


async def sleep_until(clock: Clock, when: float) -> None:
    """Return when the clock has reached ``when``."""
    if clock.time() >= when:
        await asyncio.sleep(0)
        return
    reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancel = clock.call_at(when, lambda: None if reached.done() else reached.set_result(None))
    try:
        await reached
    finally:
        cancel()


@contextlib.asynccontextmanager
async def timeout_at(clock: Clock, when: float | None) -> AsyncIterator[None]:
    """As ``asyncio.timeout_at``, on this clock. A moment that has passed, and None, are no bound.

    Raises:
        TimeoutError: The clock reached ``when`` inside the block.
    """
    async with asyncio.timeout(None) as scope:
        bounded = when is not None and clock.time() < when
        cancel = clock.call_at(when, lambda: scope.reschedule(0)) if bounded and when is not None else None
        try:
            yield
        finally:
            if cancel is not None:
                cancel()


async def wait_event(clock: Clock, event: asyncio.Event, until: float | None, *, at_most: float | None = None) -> None:
    """Return when the event is set, when the clock has reached ``until``, or after ``at_most`` real seconds.

    ``at_most`` is for looks that only make up for something lost: a clock that is driven by hand has no step there.
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
