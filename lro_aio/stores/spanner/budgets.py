"""The time that one call of the store may take."""

from __future__ import annotations

import math
import random
import threading
import time

from lro_aio.stores.spanner.errors import unavailable
from lro_aio.stores.spanner.location import Location

__all__ = ["FIRST_PAUSE", "LEAST_ATTEMPT", "ROLLBACK_TIMEOUT", "Budget"]

FIRST_PAUSE = 0.02
MAX_PAUSE = 1.0
"""Seconds between two attempts: the pause grows from the first to the second, jittered."""
LEAST_ATTEMPT = 0.05
"""Seconds that every attempt has, except the last one."""
ROLLBACK_TIMEOUT = 2.0
"""Seconds. The server drops an idle transaction by itself after about ten."""


class Budget:
    """The time that one call of the store may take, and the pauses between its attempts.

    Args:
        location: Of the store, with its timeout.
        closing: Set when the store closes.
        most: Seconds, where it is less than the store's timeout.
    """

    def __init__(self, location: Location, closing: threading.Event, most: float = math.inf) -> None:
        self._location = location
        self._closing = closing
        self._whole = min(location.timeout, most)
        self._end = time.monotonic() + self._whole
        self._pauses = 0

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    @property
    def for_rollback(self) -> float:
        """Seconds."""
        return min(ROLLBACK_TIMEOUT, max(LEAST_ATTEMPT, self.left))

    def attempt(self, because: Exception | None, *, share: float = 1.0) -> float:
        """Seconds for one attempt: at most half of the whole budget, so that a call that hangs is tried again.

        Args:
            because: Why the previous attempt failed, if there was one.
            share: The share of the remaining time that this attempt may take.

        Raises:
            StoreUnavailableError: No time is left, or the store is closing.
        """
        left = self.left
        if left <= 0 or self._closing.is_set():
            raise unavailable(self._location, because) from because
        return min(left, max(LEAST_ATTEMPT, left * share), self._whole / 2)

    def pause(self, asked: float | None, because: Exception) -> None:
        """Wait before the next attempt: as long as the server asks, if it does, and longer each time, with jitter.

        Raises:
            StoreUnavailableError: There is no time left for it, or the store is closing.
        """
        # Where many want the same row, the server asks all of them for the same short pause.
        first, factor = (FIRST_PAUSE, 2.0) if asked is None else (asked, 1.5)
        delay = min(max(MAX_PAUSE, first), first * factor ** min(self._pauses, 20)) * random.uniform(0.8, 1.2)  # noqa: S311
        if asked is not None:
            delay = max(delay, asked)
        self._pauses += 1
        if delay >= self.left or self._closing.wait(delay):
            raise unavailable(self._location, because) from because
