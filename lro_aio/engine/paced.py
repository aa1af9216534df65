"""A call that many ask for: made at once after a pause, and else so seldom that it costs little."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

__all__ = ["Paced"]


class Paced:
    """Makes a call at once, and again after a gap at the earliest. Whoever asks within the gap gets one at its end.

    Belongs to one event loop.

    Args:
        call: What to call.
        gap: Gives the real seconds between two calls.
    """

    def __init__(self, call: Callable[[], None], gap: Callable[[], float]) -> None:
        self._call = call
        self._gap = gap
        self._called = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        """Make the call, now or at the end of the gap."""
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        left = self._called + self._gap() - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._go)
        else:
            self._go()

    def cancel(self) -> None:
        """Make no call that is still to come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go(self) -> None:
        self._timer = None
        self._called = asyncio.get_running_loop().time()
        self._call()
