"""Looks at the store that all who want the same share: at most one a second, and none while nobody asks."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from lro_aio.ports import Clock

__all__ = ["FRESH", "Look", "Looks"]

FRESH = 1.0
"""Seconds for which a look is as good as a new one."""
MOST = 256
"""Different looks that are remembered."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen."""

    data: dict[str, Any]
    """For pages and for the JSON API."""
    tag: str
    """The same while nothing has changed."""


@dataclass(slots=True)
class _Known:
    begun: float
    task: asyncio.Task[Look]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)


class Looks:
    """The looks of one dashboard.

    Args:
        clock: Says how old a look is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[Hashable, _Known] = OrderedDict()

    async def at(self, key: Hashable, make: Callable[[], Awaitable[Look]]) -> Look:
        """The look that a key stands for: of the last second, or a new one. A failure is shared as well.

        Who stops waiting does not stop the look: others may wait for it too.
        """
        now = self._clock.monotonic()
        known = self._known.get(key)
        if known is None or now - known.begun >= FRESH or known.loop is not asyncio.get_running_loop():
            known = self._known[key] = _Known(now, asyncio.create_task(_made(make), name="lro-aio-dashboard-look"))
            known.task.add_done_callback(_retrieved)
        self._known.move_to_end(key)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return await asyncio.shield(known.task)

    def forget(self) -> None:
        """Look anew whatever comes next: something was done."""
        self._known.clear()


async def _made(make: Callable[[], Awaitable[Look]]) -> Look:
    return await make()


def _retrieved(task: asyncio.Task[Look]) -> None:
    """Whoever asked may be gone: asyncio need not report the failure."""
    if not task.cancelled():
        task.exception()
