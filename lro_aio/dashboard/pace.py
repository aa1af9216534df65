"""How many operations end in a minute, as far as whoever looks has seen it: no store is asked for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from lro_aio.core.record import State
from lro_aio.core.stats import Count, Stats

__all__ = ["Pace"]

WINDOW = 600.0
"""Seconds that count."""
STEP = 5.0
"""Seconds between two counts that are kept."""
LEAST = 10.0
"""Seconds that must have been seen before anything is told."""

Cell = tuple[str, State]


class _Seen(NamedTuple):
    at: float
    ended: Mapping[Cell, Count]


class Pace:
    """Compares the counts of ended operations that looks have found.

    What is removed in between is not seen, and nothing where a count stops at its bound: the pace is the least then.
    """

    def __init__(self) -> None:
        self._seen: deque[_Seen] = deque()

    def note(self, stats: Stats, now: float) -> dict[str, Any] | None:
        """Take a look's counts, and tell the pace: None while too little was seen.

        Args:
            stats: From the store.
            now: Monotonic seconds.
        """
        ended = {(cell.handler, cell.state): cell.count for cell in stats.counts if cell.state.terminal}
        while self._seen and self._seen[0].at < now - WINDOW:
            self._seen.popleft()
        looks = [*self._seen, _Seen(now, ended)]
        if not self._seen or now - self._seen[-1].at >= STEP:
            self._seen.append(looks[-1])
        over = now - looks[0].at
        if over < LEAST:
            return None
        ends = sum(_between(before.ended, after.ended) for before, after in pairwise(looks))
        more = any(count.more for count in ended.values())
        return {"perMinute": _rounded(ends * 60 / over), "minutes": max(1, round(over / 60)), "more": more}


def _between(before: Mapping[Cell, Count], after: Mapping[Cell, Count]) -> int:
    """What has ended from one look to the next."""
    return sum(max(0, count.number - before.get(cell, Count(0)).number) for cell, count in after.items())


def _rounded(rate: float) -> float:
    """To two figures: a page is fetched anew when a figure changes."""
    return float(f"{rate:.2g}")
