"""The slots of one process: who runs, who is about to, and who waits.

``max_running`` bounds the handlers that run at a time. A slot is taken before the claim that fills it is sent, so that
no answer can find the process full. What is due and finds no free slot waits here, in the order in which it came.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from lro_aio.core.record import Record, Wake

__all__ = ["Slots"]

_Claim = tuple[str, int]
"""Tells runs apart: the uid of the row, and the number of its claim."""


class Slots:
    """Counts slots. Belongs to one event loop.

    Args:
        most: How many there are. 0 for a front end, which runs nothing, even what it knows.
        now: Monotonic seconds.
    """

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self.most = most
        self._now = now
        self.closed = False
        """No slot is given any more: the process shuts down."""
        self.starved = False
        """Rows are due that found no free slot: the next one that is free is a reason to scan for them."""
        self.blocked = False
        """No slot is given now: a suspect is on trial, or waits for its turn (see ``Trials``)."""
        self.suspects: set[str] = set()
        """Names: rows that wait for their turn, or have it."""
        self._running: dict[_Claim, float] = {}
        """When the run began. Of one operation there may be two: the commit of the first is repeated still."""
        self._claiming: dict[str, int] = {}
        """How many claims are under way: by name, those of starts by uid."""
        self._light: set[str | _Claim] = set()
        """Of these two, those that need no slot (``Handler.light``)."""
        self._taken: set[str] = set()
        """Names: rows that have a slot and are about to be claimed."""
        self._waiting: dict[str, tuple[Record, Wake | None]] = {}
        """By name, in the order in which they get a slot."""
        self._waiting_light: set[str] = set()
        """Of those, the ones that need none: they wait for the end of a trial alone."""
        self._no_claims = asyncio.Event()
        self._no_claims.set()
        self._fill: Callable[[], None] = lambda: None
        self._rescan: Callable[[], None] = lambda: None
        self._changed: Callable[[], None] = lambda: None
        self._want: Callable[[], None] = lambda: None

    def on_free(self, fill: Callable[[], None], rescan: Callable[[], None], changed: Callable[[], None]) -> None:
        """Say who is told that a slot is free.

        Args:
            fill: Claims what waits; called where something does.
            rescan: Scans for more; called where rows are due that found no slot.
            changed: Called where a suspect waits for its turn, or has it.
        """
        self._fill, self._rescan, self._changed = fill, rescan, changed

    @property
    def free(self) -> int:
        """Runs that may start now."""
        taken = len(self._running) + len(self._claiming) + len(self._taken) - len(self._light)
        return 0 if self.closed or self.blocked else max(0, self.most - taken)

    @property
    def room(self) -> int:
        """Slots that no run has."""
        return self.most - sum(claim not in self._light for claim in self._running)

    @property
    def quiet(self) -> bool:
        """Whether there is a slot that is free, and nothing is about to be claimed."""
        return not self._claiming and not self._taken and self.room > 0

    def youngest(self) -> float:
        """Seconds for which every run has run at least; infinite where there is none."""
        return self._now() - max(self._running.values(), default=-math.inf)

    @property
    def waiting(self) -> int:
        """Rows that are due and wait for a free slot."""
        return len(self._waiting)

    @property
    def coming(self) -> int:
        """Rows that are about to be claimed, and that a scan of the store may still find due."""
        return len(self._waiting) + len(self._taken) + len(self._claiming) + len(self.suspects)

    def expects(self, name: str) -> bool:
        """Whether this row is one of them."""
        return name in self._waiting or name in self._taken or name in self._claiming or name in self.suspects

    def waits(self, name: str) -> bool:
        """Whether this row is one of them, and waits for a free slot or for its turn."""
        return name in self._waiting or name in self.suspects

    def has_free(self, *, light: bool = False) -> bool:
        """Whether a run may start now. Where not, the want of a slot is noted.

        Args:
            light: Whether it needs no slot.
        """
        if self.has_room(light=light):
            return True
        self._starve()
        return False

    def has_room(self, *, light: bool = False) -> bool:
        """As ``has_free``, and nothing is noted."""
        return self.free > 0 or (light and not self.closed and not self.blocked)

    def wait(self, record: Record, wake: Wake | None, *, light: bool = False) -> None:
        """Claim a row as soon as there is a free slot.

        Args:
            record: Nobody holds it yet: another process may well be first.
            wake: Why a suspended row wakes; None for one that waits for nothing.
            light: Whether it needs no slot.
        """
        self._starve()
        known = self._waiting.get(record.name)
        if known is None or known[0].revision < record.revision:
            self._waiting[record.name] = (record, wake)
            if light:
                self._waiting_light.add(record.name)
        self._tell_suspects()  # one that was about to be claimed is not any more: one may have waited for that

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a slot."""
        return self.starved or bool(self._waiting)

    def on_want(self, wanted: Callable[[], None]) -> None:
        """Say who is told when somebody begins to wait for a slot."""
        self._want = wanted

    def _starve(self) -> None:
        if not self.starved:
            self.starved = True
            self._want()

    def take_waiting(self) -> list[tuple[Record, Wake | None]]:
        """As many of the waiting rows as there are free slots, which are kept for them until their claim begins.

        And all that need none, for which none is kept.
        """
        taken: list[tuple[Record, Wake | None]] = []
        if self.has_room(light=True):
            taken += [self._waiting.pop(name) for name in self._waiting_light if name in self._waiting]
            self._waiting_light.clear()
        while self._waiting and self.free:
            name = next(iter(self._waiting))
            taken.append(self._waiting.pop(name))
            self._taken.add(name)
        return taken

    def give_up(self, name: str) -> None:
        """The slot that was taken for a waiting row is used by its claim, which comes now, or not at all."""
        self._taken.discard(name)

    def begin_claim(self, key: str, *, light: bool = False) -> None:
        """A claim is sent: it has a slot until it is answered, unless it is ``light``."""
        self._claiming[key] = self._claiming.get(key, 0) + 1
        if light:
            self._light.add(key)
        self._no_claims.clear()

    def end_claim(self, key: str, running: Record | None = None) -> None:
        """A claim was answered.

        Args:
            key: As it began.
            running: The row that runs here now, if it does: it keeps the slot.
        """
        left = self._claiming.pop(key) - 1
        light = key in self._light
        if left:
            self._claiming[key] = left
        else:
            self._light.discard(key)
        if not self._claiming:
            self._no_claims.set()
        if running is None:
            self.tell_free()
        else:
            self._waiting.pop(running.name, None)  # a scan that began before the claim may have found it due
            self._running[_claim(running)] = self._now()
            if light:
                self._light.add(_claim(running))
            self._tell_suspects()

    def claiming(self, key: str) -> bool:
        """Whether a claim of this row is under way."""
        return key in self._claiming

    async def claims_answered(self) -> None:
        """Return when no claim is under way."""
        await self._no_claims.wait()

    def clear(self, record: Record) -> None:
        """Its run has ended."""
        claim = _claim(record)
        self._running.pop(claim, None)
        self._light.discard(claim)
        self.tell_free()

    def tell_free(self) -> None:
        """A slot may be free: a run has ended, or a claim was answered."""
        if self._waiting:
            self._fill()
        if self.starved:
            self._rescan()
        self._tell_suspects()

    def _tell_suspects(self) -> None:
        if self.suspects or self.blocked:
            self._changed()

    def close(self) -> None:
        """Give no slot any more."""
        self.closed = True

    def give_back(self) -> list[Record]:
        """The rows that wait for a slot, and now no longer."""
        left = [record for record, _ in self._waiting.values()]
        self._waiting.clear()
        self._waiting_light.clear()
        return left


def _claim(record: Record) -> _Claim:
    return record.uid, record.claim
