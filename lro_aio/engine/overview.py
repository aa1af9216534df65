"""How it goes with operations, one or all, as this process and its store know it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from lro_aio.core.description import Description, described
from lro_aio.core.errors import StoreSchemaError
from lro_aio.core.queues import MOST_COUNTED, InLine
from lro_aio.core.record import Record, State
from lro_aio.core.stats import Count, DueRoute, QueueCount, Stats
from lro_aio.engine.handlers import Runnable
from lro_aio.engine.readers import Work
from lro_aio.engine.rows import Rows
from lro_aio.ports import Clock, ListQuery, StatsQuery

__all__ = ["Overview"]

MOST_CHILDREN = 1000
"""Children of one operation that are counted."""


class Overview:
    """``stats`` and ``describe`` of one engine.

    Args:
        rows: The store.
        runnable: What can run here.
        clock: Engine time.
        patience: Seconds after which what is due should have been taken: those between two sweeps.
    """

    def __init__(self, rows: Rows, runnable: Runnable, *, clock: Clock, patience: float) -> None:
        self._rows = rows
        self._runnable = runnable
        self._clock = clock
        self._patience = patience

    async def stats(self) -> Stats:
        """See ``Client.stats``."""
        self._rows.check_open()
        store = self._rows.store
        found = await self._rows.call(partial(store.stats, StatsQuery(now=self._clock.time())), Work.LIST)
        if found is None:
            raise StoreSchemaError(f"{store.url} cannot tell how many operations there are")
        running = {cell.handler for cell in found.counts if cell.state is State.RUNNING}
        unserved = tuple(due for due in found.due if self._unserved(due, found.time, running))
        return replace(found, unserved=unserved, queues=await self._queues())

    async def _queues(self) -> tuple[QueueCount, ...]:
        """Those in which anybody is."""
        store = self._rows.store
        if store.no_queues_reason:
            return ()
        found = await self._rows.call(partial(store.queues, now=self._clock.time()), Work.LIST)
        busy = [
            QueueCount(queue=status.name, waiting=_count(status.waiting), running=_count(status.running))
            for status in found
            if status.waiting or status.running
        ]
        return tuple(sorted(busy, key=lambda one: (-one.waiting.number, -one.running.number, one.queue)))

    async def describe(self, name: str) -> tuple[Record, Description]:
        """The row, and what ``Client.describe`` tells of it.

        One read, one scan for the children, and one more each for journal and queues.
        """
        record = await self._rows.record(name)
        store = self._rows.store
        journal = await self._rows.call(partial(store.journal, [name])) if record.entries else {}
        now = self._clock.time()
        query = ListQuery(now=now, limit=MOST_CHILDREN + 1, parent_operation=name, outline=True)
        children = await self._rows.call(partial(store.list, query), Work.LIST)
        more = len(children) > MOST_CHILDREN
        counted = Counter(child.state for child in children[:MOST_CHILDREN])
        states = {state: Count(counted[state], more=more) for state in State if counted[state]}
        queues: Sequence[InLine] = ()
        if record.seat is not None and not record.done:
            queues = await self._rows.call(partial(store.in_line, name, record.uid, now=now), Work.LIST)
        return record, described(record, journal.get(name, ()), states, now, queues=queues)

    def _unserved(self, due: DueRoute, now: float, running: set[str]) -> bool:
        """Whether nobody seems to run it. Who is only busy runs others of its kind."""
        if not due.handler or due.since > now - self._patience or due.handler in running:
            return False
        known = self._runnable.handlers.find(due.handler) if self._runnable.worker else None
        return known is None or not known.runs(due.resume_point)


def _count(found: int) -> Count:
    """A number of a queue, which is counted up to a bound."""
    return Count(found, more=found >= MOST_COUNTED)
