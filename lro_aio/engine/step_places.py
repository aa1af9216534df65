"""The place of one step in a queue: taken before each try, and waited for durably."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from lro_aio.core import straight
from lro_aio.core.change import Change
from lro_aio.core.errors import LroError
from lro_aio.core.logs import event
from lro_aio.core.queueing import Rest
from lro_aio.core.queues import Queue
from lro_aio.core.step_places import Take
from lro_aio.core.transitions import Holder
from lro_aio.engine.lines import Lines
from lro_aio.engine.rows import Rows
from lro_aio.engine.waits import Waits
from lro_aio.ports import Clock

__all__ = ["StepPlace"]

logger = logging.getLogger("lro_aio")

ASK_AGAIN = 300.0
"""Seconds after which a step that waits in line asks again, although nobody has called it."""


class StepPlace:
    """Where a step waits, and what it has.

    Args:
        queue: Its queue.
        key: Its key there; "" for none.
        step: Its identity in the journal.
        name: The operation's.
        holder: The run.
        rows: The store.
        lines: The queues here.
        clock: Engine time.
        in_line: The steps of the run that wait in line.
    """

    def __init__(
        self,
        queue: Queue,
        key: str,
        step: str,
        *,
        name: str,
        holder: Holder,
        rows: Rows,
        lines: Lines,
        clock: Clock,
        in_line: set[str],
    ) -> None:
        self.step = step
        self._queue = queue
        self._key = key
        self._name = name
        self._holder = holder
        self._rows = rows
        self._lines = lines
        self._clock = clock
        self._in_line = in_line
        self._held = False

    async def take(self, waits: Waits) -> None:
        """Return once it has a place. Raises what a store raises, and what refuses a run that is another's."""
        if self._held:
            return
        await self._lines.use(self._queue)
        loop = asyncio.get_running_loop()
        while not self._held:
            over: asyncio.Future[None] = loop.create_future()
            with self._lines.expecting(self._holder.uid, self.step, over):  # before it asks: no call is missed
                self._held = await self._ask()
                if self._held:
                    return
                self._in_line.add(self.step)
                try:
                    await waits.wait(until=self._clock.time() + ASK_AGAIN, over=over, queue=self._queue.name)
                finally:
                    self._in_line.discard(self.step)

    async def _ask(self) -> bool:
        take = Take(step=self.step, queue=self._queue.name, key=self._key, moment=self._clock.time())
        wants = partial(straight.wants_place, holder=self._holder, now=self._clock.time())
        await self._rows.submit(Change(self._name, wants, takes=take))
        return take.granted

    async def give_back(self) -> None:
        """It has failed: others may go. Best effort: the end of the run gives it back."""
        if not self._held:
            return
        self._held = False
        await self._tell(gives=(self.step,))

    async def rest(self, until: float) -> None:
        """Put its key to rest; it stands in line where it was."""
        self._held = False
        await self._tell(stands=(self.step,), rests=(Rest(self._queue.name, self._key, until),))

    async def _tell(
        self, *, gives: tuple[str, ...] = (), stands: tuple[str, ...] = (), rests: tuple[Rest, ...] = ()
    ) -> None:
        now = self._clock.time()
        tells = partial(straight.appended, holder=self._holder, now=now, progress=False, gives=True)
        try:
            await self._rows.submit(Change(self._name, tells, gives=gives, stands=stands, rests=rests))
        except LroError as exc:
            logger.info(
                "the place of a step of %s comes back with its run: %s",
                self._name,
                exc,
                extra=event("place_not_given_back", operation=self._name),
            )
