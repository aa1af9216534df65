"""Lets requests begin one after the other: few at a time where answers come quickly, more where they do not.

An httpx client looks at each of its connections, and at each request that waits for one, whenever a request begins or
ends. To a service that answers at once, two connections carry as much as twenty do, for half of the CPU time.
"""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Turns"]

FEW = 2
"""Requests at a time, as long as each is answered soon."""
PATIENCE = 0.01
"""Seconds after which a request that has no answer does not hold up the next. So however long the answers take,
``FEW / PATIENCE`` requests a second can begin, until there are as many as may be under way."""
LATE, LATE_TIMES = 0.005, 5
"""Seconds by which a timer is late where it is this process that is slow, and not the service: more requests would make
it slower still. How often in a row that may be so before the next begin all the same."""


class Turns:
    """Turns of requests, first come first served.

    Args:
        most: Requests under way at a time.
        loop: The event loop on which they are made.
    """

    def __init__(self, most: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._most = most
        self._queue: deque[asyncio.Future[int]] = deque()
        self._given = 0
        self._under_way = 0
        self._young: dict[int, float] = {}
        """When those began that may still be answered soon, the oldest first."""
        self._timer: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._late = 0

    async def begin(self) -> int:
        """Wait for a turn, and have it: a number, which ``end`` takes."""
        if not self._queue and self._under_way < self._most and len(self._young) < FEW:
            return self._give()
        turn: asyncio.Future[int] = self.loop.create_future()
        self._queue.append(turn)
        self._next()
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given in the same moment
                self.end(turn.result())
            raise

    def end(self, turn: int) -> None:
        """Give a turn back."""
        self._under_way -= 1
        self._young.pop(turn, None)
        self._next()

    def _next(self) -> None:
        """Give out the turns that there are."""
        while self._queue and self._under_way < self._most:
            if self._queue[0].done():  # cancelled while it waited
                self._queue.popleft()
                continue
            if len(self._young) >= FEW:
                self._look_later()
                return
            self._queue.popleft().set_result(self._give())

    def _give(self) -> int:
        self._given += 1
        self._under_way += 1
        self._young[self._given] = self.loop.time()
        return self._given

    def _look_later(self) -> None:
        if self._timer is None:
            moment = max(next(iter(self._young.values())), self._looked) + PATIENCE
            self._timer = self.loop.call_at(moment, self._look, moment)

    def _look(self, moment: float) -> None:
        """Those that have had no answer for long are not young any more."""
        self._timer = None
        self._looked = now = self.loop.time()
        self._late = self._late + 1 if now - moment > LATE else 0
        if self._late % LATE_TIMES == 0:
            self._young = {turn: begun for turn, begun in self._young.items() if begun > now - PATIENCE}
        self._next()
