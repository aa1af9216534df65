"""Suspects in their turn: runs on trial have the process to themselves (``core.trials`` says why, and for how long)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from lro_aio.core.errors import WorkerUnavailableError
from lro_aio.engine.slots import Slots
from lro_aio.ports import Clock

__all__ = ["Trials"]


class _Suspect(NamedTuple):
    length: float
    most: int
    turn: asyncio.Future[int]


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
        self.waiting: dict[str, _Suspect] = {}
        """By name: rows that wait for their turn."""
        self._cancel_timer: Callable[[], None] = lambda: None

    @property
    def _on_trial(self) -> set[str]:
        return self._slots.suspects - self.waiting.keys()

    async def turn(self, name: str, *, length: float, most: int) -> int:
        """Wait until this suspect may be claimed. ``over`` must be called once its trial is over.

        Args:
            name: The suspect.
            length: Seconds of its trial.
            most: How many suspects may share it. Who is to be alone comes first, and ends the sooner.

        Returns:
            How many share it.

        Raises:
            WorkerUnavailableError: It waits already, or the process shuts down.
        """
        if self._slots.expects(name) or self._slots.closed:
            raise WorkerUnavailableError("it is shutting down" if self._slots.closed else "it waits for its turn")
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting[name] = _Suspect(length, most, turn)
        self._slots.suspects.add(name)
        asyncio.get_running_loop().call_soon(self.look)  # others that were found with it may share its trial
        try:
            return await turn
        except BaseException:
            self.over(name)
            raise

    def over(self, name: str) -> None:
        """The trial of this suspect is over, or will not be: what waits comes first, then the next suspects."""
        was_on_trial = name in self._on_trial
        self.waiting.pop(name, None)
        self._slots.suspects.discard(name)
        if was_on_trial and not self._on_trial:
            self._slots.blocked = False
            self._slots.tell_free()
        self.look()

    def leave(self, name: str) -> None:
        """A row that waits for its turn needs none any more: it is as if it had never come."""
        suspect = self.waiting[name]
        if not suspect.turn.done():
            suspect.turn.set_exception(WorkerUnavailableError("it needs no trial any more"))
        self.over(name)
        self._slots.tell_free()  # what is due may have waited for it

    def close(self) -> None:
        """The process shuts down: nobody gets a turn any more."""
        for suspect in self.waiting.values():
            if not suspect.turn.done():
                suspect.turn.set_exception(WorkerUnavailableError("it is shutting down"))

    def look(self) -> None:
        """A run has begun or ended, or time has passed: see whether it is somebody's turn."""
        self._slots.blocked = bool(self._slots.suspects)
        if not self._slots.blocked:
            return
        self._cancel_timer()
        if self._on_trial or not self.waiting or not self._slots.quiet:
            return
        group = self._next_group()
        young = max(self.waiting[name].length for name in group) - self._slots.youngest()
        if young > 0:
            self._cancel_timer = self._clock.call_later(young, self.look)
            return
        for name in group:
            suspect = self.waiting.pop(name)
            if not suspect.turn.done():
                suspect.turn.set_result(len(group))

    def _next_group(self) -> list[str]:
        """Those who come next: as many as each of them may share a trial with, and as there are slots."""
        ordered = sorted(self.waiting, key=lambda name: self.waiting[name].most)
        size = min(self.waiting[ordered[0]].most, self._slots.room)
        return ordered[:size]
