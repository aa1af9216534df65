"""Waits that cannot end: operations that wait for each other, and waits that hold the slots which their children need.

Looked for in each full pass of the sweep, among what it comes by anyhow: the waits that were handed to the scheduler
since the pass before the last one, and the handlers that wait in place. A few rows are read that a circle may go
through in another process, and those of which something is about to be said.
"""

from __future__ import annotations

import graphlib
import logging
import random
from collections.abc import Iterable, Iterator
from itertools import pairwise

from lro_aio.core.logs import about, event
from lro_aio.core.record import Record, State
from lro_aio.engine.changes import Feed
from lro_aio.engine.handlers import Runnable
from lro_aio.engine.rows import Rows
from lro_aio.engine.slots import Slots
from lro_aio.engine.worker import Worker
from lro_aio.ports import Clock

__all__ = ["Standstill", "circles"]

logger = logging.getLogger("lro_aio")

Graph = dict[str, tuple[str, ...]]
"""Who waits -> for whom."""

MOST_NAMES = 20_000
"""Names of children that are remembered between two passes."""
LOOKUPS = 16
"""Rows that a pass reads in search of the rest of a circle."""
CIRCLES = 10
"""Circles that a pass looks into."""
SHOWN = 10
"""Names in one log record."""
REMEMBERED = 1_000
"""What was said, and is not said again."""


class Standstill:
    """Says once of each such wait that it cannot end.

    Args:
        feed: Knows who waits in place.
        rows: Of this client.
        slots: Of this process.
        worker: Who runs here.
        runnable: What can run here.
        clock: Engine time.
        interval: Seconds for which waits must have gone on before they are taken for a sign of a want of slots.
    """

    def __init__(
        self, feed: Feed, rows: Rows, slots: Slots, worker: Worker, runnable: Runnable, *, clock: Clock, interval: float
    ) -> None:
        self._feed = feed
        self._rows = rows
        self._slots = slots
        self._worker = worker
        self._runnable = runnable
        self._clock = clock
        self._interval = interval
        self._noted: Graph = {}
        self._before: Graph = {}
        """What was noted before the last pass: a wait is handed over again about once in each."""
        self._names = 0
        self._said: set[frozenset[str]] = set()

    def note(self, record: Record) -> None:
        """A suspended operation waits on."""
        children = _suspended_on(record)
        if children and self._names < MOST_NAMES:
            self._names += len(children)
            self._noted[record.name] = children

    async def look(self) -> None:
        """Look for such waits.

        Raises:
            StoreUnavailableError: The store did not answer.
        """
        graph = {**self._before, **self._noted}
        self._before, self._noted, self._names = self._noted, {}, 0
        for wait in self._feed.waits():
            graph[wait.by] = (*graph.get(wait.by, ()), *wait.names)
        await self._follow(graph)
        for circle in circles(graph):
            await self._say_circle(circle)
        await self._say_slots()

    async def _follow(self, graph: Graph) -> None:
        """Add the waits of some whose children are waited for here, and who may be watched by another process."""
        asked: set[str] = set()
        while left := LOOKUPS - len(asked):
            unknown = {child for children in graph.values() for child in children} - graph.keys() - asked
            some = random.sample(sorted(unknown), min(len(unknown), left))
            if not some:
                return
            asked.update(some)
            found = await self._rows.read_many(some)
            graph.update((name, children) for name, row in found.items() if (children := _suspended_on(row)))

    async def _say_circle(self, circle: list[str]) -> None:
        key = frozenset(circle)
        if key in self._said:
            return
        rows = await self._rows.read_many(circle[:-1])  # what was noted may have ended since
        if all(name in rows and waited in self._waits_of(rows[name]) for name, waited in pairwise(circle)):
            self._remember(key)
            logger.warning(
                "operations wait for each other, so that none of them goes on: %s",
                _shown(circle, " -> "),
                extra=about(rows[circle[0]], "waits_in_a_circle"),
            )

    def _waits_of(self, record: Record) -> Iterable[str]:
        if record.done:
            return ()
        in_place = (wait.names for wait in self._feed.waits() if wait.by == record.name)
        return {*_suspended_on(record), *(name for names in in_place for name in names)}

    async def _say_slots(self) -> None:
        """Whether every slot is held by a handler that waits in place, and one of them for something without a slot."""
        since = self._clock.monotonic() - self._interval
        waits = [wait for wait in self._feed.waits() if wait.began <= since]
        running = {run.record.name for run in self._worker.running.values()}
        if len(running) < self._slots.most or not running <= {wait.by for wait in waits}:
            return
        key = frozenset(running)
        awaited = {name for wait in waits for name in wait.names} - running
        if key in self._said or not await self._lacks_slot(awaited):
            return
        self._remember(key)
        logger.warning(
            "all slots (max_running=%d) are held by operations that wait in place for others, which find none: %s;"
            " let them suspend instead, or raise max_running",
            self._slots.most,
            _shown(sorted(running), ", "),
            extra=event("slots_held_by_waits"),
        )

    async def _lacks_slot(self, names: set[str]) -> bool:
        if any(self._slots.waits(name) for name in names):
            return True
        found = await self._rows.read_many(random.sample(sorted(names), min(len(names), LOOKUPS)))
        return any(self._waits_for_slot(row) for row in found.values())

    def _waits_for_slot(self, row: Record) -> bool:
        due = row.check_time is not None and row.check_time <= self._clock.time()
        return row.state is State.PENDING and due and self._runnable.find(row) is not None

    def _remember(self, key: frozenset[str]) -> None:
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said.add(key)


def circles(graph: Graph) -> Iterator[list[str]]:
    """Some circles of a graph, of which no two share a name: each name waits for the next, the last is the first."""
    left = {name: known for name, children in graph.items() if (known := graph.keys() & children)}
    for _ in range(CIRCLES):
        try:
            graphlib.TopologicalSorter(left).prepare()
        except graphlib.CycleError as exc:
            circle = exc.args[1][:0:-1]  # it lists who is waited for first, and ends with what it begins with
            first = circle.index(min(circle))
            circle = [*circle[first:], *circle[: first + 1]]
            for name in circle[1:]:
                del left[name]
            yield circle
        else:
            return


def _suspended_on(record: Record) -> tuple[str, ...]:
    """What it cannot go on without: a message or a timer ends the wait of straight code too."""
    wait = record.wait
    if record.state is not State.SUSPENDED or wait is None or wait.service or wait.topics:
        return ()
    return () if wait.union and wait.timer is not None else wait.children


def _shown(names: list[str], between: str) -> str:
    more = len(names) - SHOWN
    return between.join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
