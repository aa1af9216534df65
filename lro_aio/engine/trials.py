"""One suspect at a time: runs on trial have the process to themselves (``core.trials`` says why, and for how long)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lro_aio.core.errors import WorkerUnavailableError
from lro_aio.engine.slots import Slots
from lro_aio.ports import Clock

__all__ = ["Trials"]


class Trials:
    """Gives suspects their turn.

    A turn comes when everything that runs here has run for as long as the trial will last. From when a suspect waits,
    nothing else is claimed; after each trial, what has waited meanwhile comes first.

    Args:
        slots: Where nothing is claimed meanwhile.
        clock: Engine time.
    """

    def __init__(self, slots: Slots, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock
        self._waiting: dict[str, tuple[int, float, asyncio.Future[None]]] = {}
        """By name: attempts, seconds of the trial, and who waits for the turn."""
        self._on_trial = ""
        self._cancel_timer: Callable[[], None] = lambda: None

    async def turn(self, name: str, *, attempt: int, length: float) -> None:
        """Wait until this suspect may be claimed. ``over`` must be called once its trial is over.

        Args:
            name: The suspect.
            attempt: Its attempts: who has the most comes first, and ends the sooner.
            length: Seconds of its trial.

        Raises:
            WorkerUnavailableError: It waits already, or the process shuts down.
        """
        if self._slots.expects(name) or self._slots.closed:
            raise WorkerUnavailableError("it is shutting down" if self._slots.closed else "it waits for its turn")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[name] = attempt, length, turn
        self._slots.suspects.add(name)
        self.look()
        try:
            await turn
        except BaseException:
            self._waiting.pop(name, None)
            self.over(name)
            raise

    def over(self, name: str) -> None:
        """The trial of this suspect is over, or will not be: what waits comes first, then the next suspect."""
        self._slots.suspects.discard(name)
        if self._on_trial == name:
            self._on_trial = ""
            self._slots.blocked = False
            self._slots.tell_free()
        self.look()

    def close(self) -> None:
        """The process shuts down: nobody gets a turn any more."""
        for _, _, turn in self._waiting.values():
            if not turn.done():
                turn.set_exception(WorkerUnavailableError("it is shutting down"))

    def look(self) -> None:
        """A run has begun or ended, or time has passed: see whether it is somebody's turn."""
        self._cancel_timer()
        self._slots.blocked = bool(self._on_trial or self._waiting)
        if self._on_trial or not self._waiting or not self._slots.quiet:
            return
        name, (_, length, turn) = max(self._waiting.items(), key=lambda item: item[1][0])
        young = length - self._slots.youngest()
        if young > 0:
            self._cancel_timer = self._clock.call_later(young, self.look)
            return
        del self._waiting[name]
        self._on_trial = name
        if not turn.done():
            turn.set_result(None)
