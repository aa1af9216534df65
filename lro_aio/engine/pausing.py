"""Pauses by hand."""

from __future__ import annotations

from functools import partial

from lro_aio.core import names, pausing
from lro_aio.core.change import Change
from lro_aio.core.record import Record
from lro_aio.engine.cancelling import Canceller, check_reason
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.rows import Rows
from lro_aio.engine.settings import check_kept
from lro_aio.ports import Clock

__all__ = ["Pauser"]


class Pauser:
    """Pauses operations, and lets them run again.

    Args:
        rows: The store.
        dispatcher: Has what waits here.
        canceller: Goes on with what may run again.
        clock: Engine time.
    """

    def __init__(self, rows: Rows, dispatcher: Dispatcher, canceller: Canceller, *, clock: Clock) -> None:
        self._rows = rows
        self._dispatcher = dispatcher
        self._canceller = canceller
        self._clock = clock

    async def pause(self, name: str, reason: str) -> None:
        """See ``Client.pause_operation``."""
        names.parse(name)
        check_reason(reason)
        before: list[Record] = []

        def event(record: Record) -> Record | None:
            before[:] = [record]  # of the last attempt, which is the one that was committed
            return pausing.pause(record, now=self._clock.time(), reason=reason)

        self._rows.check_open()
        check_kept(self._rows.store, "pauses")
        await self._rows.submit(Change(name, event))
        if before[0].wait is not None and not before[0].paused:
            await self._dispatcher.forget_wait(before[0])

    async def unpause(self, name: str, reason: str = "") -> None:
        """See ``Client.unpause_operation``."""
        names.parse(name)
        check_reason(reason)
        self._rows.check_open()
        check_kept(self._rows.store, "pauses")
        record = await self._rows.submit(Change(name, partial(pausing.unpause, now=self._clock.time(), reason=reason)))
        if record is not None:
            await self._canceller.go_on(record)
