"""Cancels: the request, and what a commit of it asks for, once."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import LroError, OperationNotFoundError
from lro_aio.core.record import Record
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.logs import about
from lro_aio.engine.rows import Rows
from lro_aio.ports import Clock, ListQuery

__all__ = ["Canceller"]

logger = logging.getLogger("lro_aio")

PAGE = 500
"""Children that one scan gives."""


class Canceller:
    """Cancels operations, and passes a cancel on to the children that they started.

    Args:
        rows: The store.
        dispatcher: Goes on with rows that a cancel left ready to run.
        clock: Engine time.
        retention: Seconds for which an ended row is kept.
    """

    def __init__(self, rows: Rows, dispatcher: Dispatcher, *, clock: Clock, retention: float) -> None:
        self._rows = rows
        self._dispatcher = dispatcher
        self._clock = clock
        self._retention = retention
        self._passing: dict[str, bool] = {}
        """By uid: rows whose cancel is being passed on here, and whether that must be done once more."""

    async def cancel(self, name: str, *, cancel_children: bool = True) -> None:
        """See ``Client.cancel_operation``."""
        before = await self._rows.record(name)
        event = partial(
            transitions.request_cancel,
            now=self._clock.time(),
            retention=self._retention,
            token=names.new_id(),
            cancel_children=cancel_children,
        )
        record = await self._rows.submit(Change(name, event))
        if before.schedule_handle:
            await self._dispatcher.forget_wait(before)
        if record is None:
            return
        if record.revision != before.revision:
            await self.go_on(record)
        elif record.cancel_children:  # a repeat: the first one may not have reached all children
            await self.pass_on(record)

    async def go_on(self, record: Record) -> None:
        """Do what a commit asks for next: pass a cancel on, hand a wait over, run a clean-up.

        Nothing here may fail its caller: the commit stands, and the sweep repairs what is left undone.
        """
        if record.cancel_children and record.cancel_requested:
            try:
                await self.pass_on(record)
            except (LroError, RuntimeError) as exc:
                logger.warning(
                    "the sweep passes the cancel of %s on: %s", record.name, exc, extra=about(record, "left_to_sweep")
                )
        await self._dispatcher.go_on(record)

    async def pass_on(self, record: Record) -> None:
        """Cancel the operations that this one started; then note that it was done.

        Raises:
            LroError: A child could not be cancelled, or the children not be read.
        """
        if record.uid in self._passing:
            self._passing[record.uid] = record.done  # it started more children before it ended, maybe
            return
        done, again = record.done, True
        try:
            while again:
                self._passing[record.uid] = False
                await self._cancel_children(record)
                again = self._passing[record.uid]
                done = done or again
            if done:
                await self._rows.submit(Change(record.name, partial(transitions.cascaded, now=self._clock.time())))
        finally:
            del self._passing[record.uid]

    def is_passing_on(self, record: Record) -> bool:
        """Whether this process is at it: a sweep that finds such a row has nothing to do."""
        return record.uid in self._passing

    async def _cancel_children(self, record: Record) -> None:
        after: tuple[float, str] | None = None
        while True:
            query = ListQuery(now=self._clock.time(), limit=PAGE, parent_operation=record.name, done=False, after=after)
            children = await self._rows.scan(partial(self._rows.store.list, query))
            cancels = (self.cancel(child.name) for child in children)
            for result in await asyncio.gather(*cancels, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, OperationNotFoundError):
                    raise result
            if len(children) < query.limit:
                return
            after = (children[-1].create_time, children[-1].name)
