"""Results that somebody still waits for are kept (rule 11).

The retention of a child counts from the end of its parent, and that of any other operation from the end of whoever is
suspended on it. Nobody is told of the end of each: a parent that lives is looked for when half of its child's retention
is over, and who waits for long looks after what it waits for, four times in a retention.
"""

from __future__ import annotations

import asyncio
from functools import partial

from lro_aio.core import bookkeeping
from lro_aio.core.change import Change
from lro_aio.core.errors import OperationNotFoundError
from lro_aio.core.record import Record
from lro_aio.engine.rows import Rows
from lro_aio.ports import Clock

__all__ = ["Keeper"]


class Keeper:
    """Moves the expiry of results that are still wanted.

    Args:
        rows: The store.
        clock: Engine time.
        retention: Seconds.
    """

    def __init__(self, rows: Rows, clock: Clock, retention: float) -> None:
        self._rows = rows
        self._clock = clock
        self._retention = retention

    async def child(self, record: Record) -> None:
        """A child ended half a retention ago: keep it from the end of its parent on, or look again."""
        parent = await self._rows.find(record.parent_operation)
        kept = partial(bookkeeping.keep_for_parent, parent=parent, now=self._clock.time(), retention=self._retention)
        await self._rows.submit(Change(record.name, kept))

    async def waited_for(self, waiter: Record, horizon: float) -> None:
        """Keep what a suspended operation waits for, where it is time to do so.

        Args:
            waiter: The row, which a scheduler is about to get.
            horizon: Seconds for which it then has it.
        """
        wait, step = waiter.wait, self._retention / 4
        waited = max(0.0, self._clock.time() - waiter.update_time)
        if wait is None or wait.service or waited // step == max(0.0, waited - horizon) // step:
            return
        found = await self._rows.read_many(list(wait.children))
        kept = partial(bookkeeping.keep, until=self._clock.time() + self._retention)
        changes = (Change(name, kept) for name, record in found.items() if record.done)
        for outcome in await asyncio.gather(*map(self._rows.submit, changes), return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, OperationNotFoundError):
                raise outcome
