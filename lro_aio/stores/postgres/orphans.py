"""The rows that dead processes of this machine held: found by a scan or two for each death, in between by their names.

A lock that is free proves that its process sends nothing more. What it has sent before, the server may still carry out,
and so commit after a scan. Nothing is done twice by that, as if it had come just before the death:

- What a transaction claims, renews or ends, it holds locked, or writes only where it is still what was read. A claim of
  ours waits for its end, and is decided by what it has left: an operation that has ended is not claimed, nor one whose
  claim is not the one that was found. One that did not get to its last half before the death has nobody to send that,
  and the server takes it back.
- What is made without such a lock, the starts, is made only where nothing of that name is there.

But a row that such a commit leaves with the dead owner is in no scan before it. So there is another scan when the
server must have given up whatever it had been sent, and more of them, ever further apart, as long as anything is found.
What comes later still, through a pooler without timeouts, say, is found when its lease is over.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psycopg

from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.logs import event
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record
from lro_aio.ports import Route
from lro_aio.stores.postgres import rows

__all__ = ["Orphans"]

logger = logging.getLogger("lro_aio")

SLACK = 2.0
"""Seconds beyond the time that the server has for a statement, until what a dead process has sent must have ended."""
RETRY, RETRY_MOST = 1.0, 600.0
"""Seconds after which a scan is made again that failed: at first, and at most."""

Read = Callable[[str, dict[str, Any]], Iterable[tuple[Any, ...]]]
"""Carries out a statement of this name, with these values."""


@dataclass(slots=True)
class _Scans:
    """When a dead owner is looked for again, in monotonic seconds, and how long that is after the last time."""

    again: float
    pause: float


class Orphans:
    """What is left of dead owners.

    Args:
        timeout: Seconds that the server may take for a statement.
    """

    def __init__(self, timeout: float) -> None:
        self._settled = timeout + SLACK
        self._lock = threading.Lock()
        self._scans: dict[str, _Scans] = {}
        """By owner: those who were scanned for."""
        self._left: dict[str, tuple[str, Route]] = {}
        """By name: owner and route of what was found, and may be held still."""
        self._retry, self._pause = -math.inf, RETRY
        """Monotonic seconds before which no scan is made, after one that failed."""
        self._next = math.inf
        """Monotonic seconds of the next scan; infinite once that was told."""

    def changed(self) -> bool:
        """Whether it is time for another scan. That is said once, until there was one."""
        if time.monotonic() < self._next:
            return False
        self._next = math.inf
        return True

    def look(
        self, read: Read, dead: frozenset[str], routes: Iterable[Route], limit: int
    ) -> tuple[list[Record], frozenset[str]]:
        """Their rows of these routes, without payloads; and the owners who have none left, of whatever route.

        One round trip, and another one where a scan is due, or where rows were taken over since.

        Args:
            read: See there.
            dead: The owners.
            routes: The (handler, resume point) pairs that are asked for.
            limit: Most rows to return.
        """
        asked = set(routes)
        with self._lock:
            gone = self._scan(read, dead)
            found: list[Record] = []
            lost: set[str] = set()
            mine = self._mine(asked)
            while names := list(itertools.islice(mine, limit - len(found))):
                held = [*map(rows.decode, read("orphans", {"names": names, "owners": list(dead)}))]
                found += held
                lost |= set(names) - {record.name for record in held}
            for name in lost:
                del self._left[name]
        return found, gone

    def _mine(self, routes: set[Route]) -> Iterator[str]:
        for name, (_, route) in self._left.items():
            if route in routes or (route[0], None) in routes:
                yield name

    def _scan(self, read: Read, dead: frozenset[str]) -> frozenset[str]:
        """Find what the owners hold for whom it is time; returns those who hold nothing any more."""
        now = time.monotonic()
        for owner in self._scans.keys() - dead:
            del self._scans[owner]
        wanted = [owner for owner in dead if owner not in self._scans or self._scans[owner].again <= now]
        gone: set[str] = set()
        if wanted and now >= self._retry:
            try:
                held = list(read("held_by", {"owners": wanted}))
            except (StoreUnavailableError, psycopg.Error) as exc:
                logger.debug("what dead processes held is looked for again: %s", exc, extra=event("orphans_unread"))
                self._retry, self._pause = time.monotonic() + self._pause, min(2 * self._pause, RETRY_MOST)
            else:
                self._pause = RETRY
                gone = self._found(wanted, held, now)
        later = (self._scans[owner].again if owner in self._scans else now for owner in dead - gone)
        self._next = max(min(later, default=math.inf), self._retry)
        return frozenset(gone)

    def _found(self, scanned: list[str], held: list[tuple[Any, ...]], now: float) -> set[str]:
        left = {name: (owner, route) for name, (owner, route) in self._left.items() if owner not in scanned}
        self._left = left | {name: (owner, (handler, point)) for owner, name, handler, point in held}
        holders = {owner for owner, *_ in held}
        gone: set[str] = set()
        for owner in scanned:
            known = self._scans.get(owner)
            if known is None:
                self._scans[owner] = _Scans(now + self._settled, self._settled)
            elif owner in holders:
                known.pause *= 2
                known.again = now + known.pause
            else:
                gone.add(owner)
                del self._scans[owner]
        return gone
