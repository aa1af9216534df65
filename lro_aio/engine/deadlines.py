"""Deadlines of operations that nobody runs: the sweep finds them by their ``check_time``. A run bounds itself."""

from __future__ import annotations

from functools import partial

from lro_aio.core import failing
from lro_aio.core.change import Change
from lro_aio.core.record import Record, State
from lro_aio.engine.cancelling import Canceller
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.handlers import Runnable
from lro_aio.engine.rows import Rows
from lro_aio.engine.settings import Settings
from lro_aio.ports import Clock

__all__ = ["Deadlines"]


class Deadlines:
    """Fails operations that wait, or are paused, when their deadline has come.

    Args:
        rows: The store.
        dispatcher: Has what waits here.
        canceller: Goes on with a clean-up.
        runnable: Knows the clean-ups.
        settings: Of the client.
        clock: Engine time.
    """

    def __init__(
        self,
        rows: Rows,
        dispatcher: Dispatcher,
        canceller: Canceller,
        *,
        runnable: Runnable,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._rows = rows
        self._dispatcher = dispatcher
        self._canceller = canceller
        self._runnable = runnable
        self._settings = settings
        self._clock = clock

    def passed(self, record: Record, now: float) -> bool:
        """Whether a row that a sweep found waits for longer than its operation may take."""
        wait = record.wait
        waits = wait is not None and wait.expires is not None and wait.expires <= now
        return waits and record.state in (State.PENDING, State.SUSPENDED)

    async def fail(self, record: Record) -> None:
        """Fail it, and go on with its clean-up. Raises what a store raises."""
        then = self._settings.on_failure(self._runnable.find(record), self._rows.store)
        retention = self._settings.retention.duration
        event = partial(failing.overdue, now=self._clock.time(), retention=retention, then=then)
        failed = await self._rows.submit(Change(record.name, event))
        await self._dispatcher.forget_wait(record)
        if failed is not None:
            await self._canceller.go_on(failed)
