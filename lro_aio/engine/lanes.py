"""Writer threads, and which of them a change goes to.

A store with one lane has one thread for everything. Where there are several, a row's changes stay in one lane for as
long as one of them is under way, and claims and renewals have a lane each: a slow batch, or a claim that waits for the
lock of a dead process, never costs a lease.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import queue
import sys
import threading
import time
from collections.abc import Callable

from lro_aio.core.change import Change, Outcome
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record
from lro_aio.engine.life import ClosedError

__all__ = ["MAX_ROWS", "Answered", "Item", "Lanes", "Newest", "Promise"]

MAX_ROWS = 1000
MAX_BYTES = 4 * 1024 * 1024
"""Caps of one transaction (rule 16)."""
SLOW = 0.25
"""Seconds after which a transaction counts as slow, and changes of other rows take another lane."""
MANY = 128
"""Rows under way from which one more transaction is better than a larger one: the store works on it while this
process makes the next."""

MOST_TOLD = 4096
"""Rows whose last revision is kept: more than can be on their way to the event loop."""

Promise = asyncio.Future[Record | None] | concurrent.futures.Future[Outcome]
Answered = Callable[[Outcome], object]
Item = tuple[Change, Promise | None, Answered | None]


class Lanes:
    """The writer threads of one store.

    Args:
        commit: Called on a writer thread with each batch.
        poll: Called on the writer thread of the first lane now and then, between batches.
    """

    def __init__(self, commit: Callable[[list[Item]], None], poll: Callable[[], None]) -> None:
        self._commit = commit
        self._poll = poll
        self._lanes: list[_Lane] = []
        self._claims: _Lane | None = None
        self._renewals: _Lane | None = None
        self.berths: dict[str, _Berth] = {}
        """By name: rows whose changes are under way. Empty where there is one lane."""

    def open(self, count: int, interval: float | None) -> None:
        """Start the threads: ``count`` of them, and two more where that is more than one.

        Args:
            count: Of the store's lanes.
            interval: Seconds between two polls; None for a store that cannot tell of other processes.
        """
        self._lanes = [self._lane(index, interval if index == 0 else None) for index in range(max(1, count))]
        if count > 1:
            self._claims = self._lane(count, None)
            self._renewals = self._lane(count + 1, None)

    def close(self) -> Callable[[], None]:
        """Take no more changes; returns a function that blocks until the queued ones are committed."""
        lanes = [*self._lanes, *(lane for lane in (self._claims, self._renewals) if lane is not None)]
        # Before the stop: a change that got behind it would wait for ever.
        self._lanes, self._claims, self._renewals = [], None, None
        for lane in lanes:
            lane.stop()

        def join() -> None:
            for lane in lanes:
                lane.join()

        return join

    def put(self, item: Item) -> None:
        """Queue a change.

        Raises:
            ClosedError: The client is closed.
        """
        self._choose(item[0]).queue.put(item)

    def put_renewal(self, item: Item) -> None:
        """Queue the renewal of a lease. From any thread.

        Raises:
            ClosedError: The client is closed.
        """
        (self._renewals or self._choose(item[0])).queue.put(item)

    def answered(self, change: Change) -> None:
        """The change is no longer under way: its row may take another lane."""
        berth = self.berths.get(change.name)
        if berth is not None and not change.claims:
            berth.changes -= 1
            if not berth.changes:
                del self.berths[change.name]

    def _choose(self, change: Change) -> _Lane:
        if not self._lanes:
            raise ClosedError
        if change.claims and self._claims is not None:
            return self._claims
        if len(self._lanes) == 1:
            return self._lanes[0]
        berth = self.berths.get(change.name)
        if berth is None:
            berth = self.berths[change.name] = _Berth(self._free())
        berth.changes += 1
        return berth.lane

    def _free(self) -> _Lane:
        """The first lane that is neither slow nor full, so that what can be one transaction becomes one.

        Where many rows are under way: the first that is idle, or the one whose transaction is the oldest.
        """
        now = time.monotonic()
        lanes = self._lanes
        if len(self.berths) >= MANY:
            lanes = sorted(lanes, key=lambda lane: (lane.began < now, lane.began))
        for lane in lanes:
            if now - lane.began < SLOW and lane.queue.qsize() < MAX_ROWS:
                return lane
        return min(self._lanes, key=lambda lane: lane.queue.qsize())

    def _lane(self, index: int, interval: float | None) -> _Lane:
        return _Lane(f"lro-aio-writer-{index}", self._commit, self._poll, interval)


class Newest:
    """The rows as they were last told of: with several threads, an older one may be told of after a newer one.

    A renewal is committed, then the end; the answer to the end comes first. Whoever believed the last word would take
    the operation for one that runs.
    """

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, int]] = {}
        """By name: uid and revision, the row that was told of last at the end."""

    def outdated(self, name: str, record: Record | None) -> bool:
        """Whether a newer one was told of; if not, this is the newest now. None: it was removed."""
        uid, revision = self._told.pop(name, ("", -1))
        outdated = record is not None and bool(uid) and record.uid == uid and record.revision < revision
        if record is not None and not outdated:
            uid, revision = record.uid, record.revision
        self._told[name] = (uid, sys.maxsize if record is None else revision)
        if len(self._told) > MOST_TOLD:
            del self._told[next(iter(self._told))]
        return outdated


@dataclass(slots=True)
class _Berth:
    """The lane of a row, as long as one of its changes is under way: no row is in two transactions at a time."""

    lane: _Lane
    changes: int = 0


class _Lane:
    """A writer thread and its queue."""

    def __init__(
        self, name: str, commit: Callable[[list[Item]], None], poll: Callable[[], None], interval: float | None
    ) -> None:
        self.queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self.began = math.inf
        """When the transaction under way began (``time.monotonic``); in the future while there is none."""
        self._commit = commit
        self._poll = poll
        self._interval = interval
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.queue.put(None)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        polled = time.monotonic()
        stopping = False
        while not stopping:
            batch, stopping = self._next_batch()
            if batch:
                self.began = time.monotonic()
                self._commit(batch)
                self.began = math.inf
            if self._interval is not None and not stopping and time.monotonic() - polled >= self._interval * 0.9:
                self._poll()
                polled = time.monotonic()

    def _next_batch(self) -> tuple[list[Item], bool]:
        """Whatever is queued, up to the caps; empty when it is time to poll."""
        batch: list[Item] = []
        size = 0
        try:
            item = self.queue.get(timeout=self._interval)
            while item is not None:
                batch.append(item)
                size += item[0].size
                if item[0].appends:
                    size += sum(entry.size for entry in item[0].appends)
                if len(batch) >= MAX_ROWS or size >= MAX_BYTES:
                    return batch, False
                item = self.queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True
