"""What all who want the same share: made once a second at most, and not at all while nobody asks.

Looks at the store, and the pages that are made of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lro_aio.ports import Clock

__all__ = ["FRESH", "Look", "Shared"]

T = TypeVar("T")

FRESH = 1.0
"""Seconds for which what was made is as good as new."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen."""

    data: dict[str, Any]
    """For pages and for the JSON API."""
    tag: str
    """The same while nothing has changed."""


@dataclass(frozen=True, slots=True)
class _Known(Generic[T]):
    begun: float
    task: asyncio.Task[T]

    def serves(self, now: float) -> bool:
        """Whether it is given to who asks now: a store that is slow is not asked twice at a time."""
        if self.task.get_loop() is not asyncio.get_running_loop():  # of an earlier life of the client
            return False
        return not self.task.done() or now - self.begun < FRESH


class Shared(Generic[T]):
    """Things of one kind that one dashboard makes.

    Args:
        clock: Says how old they are.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[Hashable, _Known[T]] = {}

    async def at(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The one that a key stands for: of the last second, or a new one. A failure is shared as well.

        Who stops waiting does not stop its making: others may wait for it too.
        """
        now = self._clock.monotonic()
        known = self._known.get(key)
        if known is None or not known.serves(now):
            self._drop_old(now)
            known = self._known[key] = _Known(now, asyncio.create_task(_made(make), name="lro-aio-dashboard-look"))
            known.task.add_done_callback(_retrieved)
        return await asyncio.shield(known.task)

    def _drop_old(self, now: float) -> None:
        """One may hold megabytes, and nobody is given an old one."""
        for key in [key for key, known in self._known.items() if not known.serves(now)]:
            del self._known[key]

    def forget(self) -> None:
        """Make anew whatever comes next: something was done."""
        self._known.clear()


async def _made(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Whoever asked may be gone: asyncio need not report the failure."""
    if not task.cancelled():
        task.exception()
