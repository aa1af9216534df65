"""Cancels: the request, and what a commit of it asks for, once."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from lro_aio.core import bookkeeping, names, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import LroError, OperationNotFoundError
from lro_aio.core.logs import about
from lro_aio.core.record import Record
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.rows import Rows
from lro_aio.ports import Clock, ListQuery

__all__ = ["Canceller", "check_reason"]

logger = logging.getLogger("lro_aio")

PAGE = 500
"""Children that one scan gives."""


def check_reason(reason: str) -> None:
    """Refuse what is no text. One that is too long for a history is cut there."""
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a text, not {type(reason).__name__}")


class Canceller:
    """Cancels operations, and passes a cancel on to the children that they started.

    A cancel reaches the children that were there when it was requested: from then on, only a clean-up may start any,
    and a clean-up begins once the cancel was passed on. So it is passed on once, by whoever requested it; a sweep does
    it where that process died.

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
        self._passing: dict[str, asyncio.Future[None]] = {}
        """By uid: the cancels that are being passed on here."""

    async def cancel(self, name: str, *, cancel_children: bool = True, reason: str = "") -> None:
        """See ``Client.cancel_operation``."""
        names.parse(name)
        check_reason(reason)
        token = names.new_id()
        before: list[Record] = []

        def request(record: Record) -> Record | None:
            before[:] = [record]  # of the last attempt, which is the one that was committed
            return transitions.request_cancel(
                record,
                now=self._clock.time(),
                retention=self._retention,
                token=token,
                cancel_children=cancel_children,
                reason=reason,
            )

        record = await self._rows.submit(Change(name, request))
        if before[0].schedule_handle:
            await self._dispatcher.forget_wait(before[0])
        if record is not None and (record.cancel_children or record.revision != before[0].revision):
            await self.go_on(record)

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
                return  # a clean-up must not begin before
        await self._dispatcher.go_on(record)

    async def pass_on(self, record: Record) -> None:
        """Cancel the operations that this one started, then note that it was done; or wait for whoever does so here.

        Raises:
            LroError: A child could not be cancelled, or the children could not be read.
        """
        known = self._passing.get(record.uid)
        if known is not None:
            await asyncio.shield(known)
            return
        mine = self._passing[record.uid] = asyncio.get_running_loop().create_future()
        try:
            await self._cancel_children(record)
            await self._rows.submit(Change(record.name, partial(bookkeeping.cascaded, now=self._clock.time())))
        finally:
            del self._passing[record.uid]
            mine.set_result(None)

    async def _cancel_children(self, record: Record) -> None:
        after: tuple[float, str] | None = None
        while True:
            query = ListQuery(
                now=self._clock.time(),
                limit=PAGE,
                parent_operation=record.name,
                done=False,
                after=after,
                outline=True,
            )
            children = await self._rows.call(partial(self._rows.store.list, query))
            cancels = (self.cancel(child.name, reason=f"with {record.name}") for child in children)
            for result in await asyncio.gather(*cancels, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, OperationNotFoundError):
                    raise result
            if len(children) < query.limit:
                return
            after = (children[-1].create_time, children[-1].name)
