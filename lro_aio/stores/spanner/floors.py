"""Where a scan by time begins: behind the entries of an index that are gone.

Every row that was due leaves a removed entry behind, over which a scan from the beginning walks until Spanner has
compacted it away, for an hour at least. So a process notes how far there is nothing left for it, and begins there.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from lro_aio.core.record import Record
from lro_aio.ports import Route

__all__ = ["SLACK", "WHOLE_EVERY", "Floor", "Floors", "Rarely", "Seek"]

SLACK = 300.0
"""Seconds that the time in a row may lie behind, when another process writes it: its clock, and a commit that took
long."""
WHOLE_EVERY = 600.0
"""Seconds after which a scan begins at the beginning all the same, for a row that came later than that."""

Routes = frozenset[Route]


@dataclass(frozen=True, slots=True)
class Seek:
    """The beginning of one scan."""

    since: float
    """Epoch seconds; -inf for the beginning of all times."""
    writes: int


class Floor:
    """How far one index has nothing left for this process. Safe for threads.

    Args:
        monotonic: Seconds, for ``WHOLE_EVERY``.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._since = -math.inf
        self._seen: object = None
        self._until = -math.inf
        self._whole_at = -math.inf
        self._writes = 0

    def seek(self, until: float, covers: Callable[[object], bool] = lambda _: True) -> Seek:
        """Where a scan up to this moment begins.

        Args:
            until: Epoch seconds.
            covers: Whether what ``clear`` was told of allows to begin behind it.
        """
        with self._lock:
            self._until = max(self._until, until)
            if self._monotonic() >= self._whole_at or not covers(self._seen):
                return Seek(-math.inf, self._writes)
            return Seek(min(self._since, until - SLACK), self._writes)

    def clear(self, seek: Seek, until: float, seen: object = None) -> None:
        """A scan has found nothing before this moment.

        Args:
            seek: Its beginning.
            until: Epoch seconds.
            seen: What it looked at.
        """
        with self._lock:
            if seek.writes != self._writes:
                return  # it may have been too early for what was written meanwhile
            if seek.since == -math.inf:
                self._whole_at = self._monotonic() + WHOLE_EVERY
            self._since, self._seen = until - SLACK, seen

    def wrote(self, times: Iterable[float | None]) -> None:
        """This process has written, or may have, rows of these times."""
        least = min((moment for moment in times if moment is not None), default=math.inf)
        with self._lock:
            if least < self._until - SLACK:
                self._since = min(self._since, least)
                self._writes += 1


class Rarely:
    """When something is looked for that hardly ever happens: first after ``WHOLE_EVERY`` seconds. Safe for threads.

    Args:
        monotonic: Seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next = monotonic() + WHOLE_EVERY

    def due(self) -> bool:
        """Whether it is time; not again for as long then."""
        with self._lock:
            now = self._monotonic()
            if now < self._next:
                return False
            self._next = now + WHOLE_EVERY
            return True


class Floors:
    """Those of one store."""

    def __init__(self) -> None:
        self.due = Floor()
        """For rows of routes that this process runs."""
        self.unknown = Floor()
        """For rows of routes that it does not run."""
        self.counted = Floor()
        """For rows of any route."""
        self.expired = Floor()
        self.stale = Rarely()
        """For places in queues that a release without queues has left."""

    def wrote(self, records: Collection[Record]) -> None:
        """This process has written these rows, or may have."""
        checks = [record.check_time for record in records]
        for floor in (self.due, self.unknown, self.counted):
            floor.wrote(checks)
        self.expired.wrote(record.expire_time for record in records)

    def seek_due(self, until: float, owner: str, routes: Routes) -> Seek:
        """Where a scan for rows of these routes begins."""
        return self.due.seek(until, lambda seen: isinstance(seen, tuple) and seen[0] == owner and routes <= seen[1])

    def seek_unknown(self, until: float, owner: str, routes: Routes) -> Seek:
        """Where a scan for rows of all other routes begins."""
        return self.unknown.seek(until, lambda seen: isinstance(seen, tuple) and seen[0] == owner and routes >= seen[1])
