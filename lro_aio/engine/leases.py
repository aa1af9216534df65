"""The leases that this process holds: renewed all in one transaction, from a thread that no handler can block (rule 4).

Who holds a lease renews it at a third of its duration, and soon again where the store did not take that. Whether a
lease that is over may be taken is for ``evidence`` to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol

from lro_aio.core import transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import (
    LeaseLostError,
    LroError,
    OperationDoneError,
    StoreRefusedError,
    StoreSchemaError,
    StoreUnavailableError,
)
from lro_aio.core.logs import event
from lro_aio.core.policies import LeasePolicy
from lro_aio.core.record import Record
from lro_aio.core.transitions import Holder
from lro_aio.engine.batching import Batcher
from lro_aio.engine.life import ClosedError, Life
from lro_aio.ports import Clock

__all__ = ["Learner", "Leases"]

logger = logging.getLogger("lro_aio")


class Learner(Protocol):
    """Somebody who drives an operation by hand, and must hear of a cancel."""

    def learn(self, record: Record) -> None:
        """Take over what another writer left in the row."""
        ...


AGAIN = 1 / 4
"""Renew intervals after which a renewal that the store did not answer is repeated: well before others who have watched
the lease since may take it."""
_OF_THE_STORE = (StoreUnavailableError, StoreRefusedError, StoreSchemaError)
"""Errors that say nothing of who holds an operation."""


class Leases:
    """Renews and releases.

    Args:
        batcher: The store.
        clock: Engine time, and the ticker.
        life: The event loop whose signs of life the renewals want.
        policy: How long a lease lasts.
        lost: Called on the loop with a name and a holder when that claim is no longer the row's.
    """

    def __init__(
        self, batcher: Batcher, clock: Clock, life: Life, policy: LeasePolicy, lost: Callable[[str, Holder], None]
    ) -> None:
        self._batcher = batcher
        self._clock = clock
        self._life = life
        self._policy = policy
        self._lost = lost
        self._held: dict[str, tuple[str, Holder]] = {}
        """By uid: the leases of runs, and of operations that this process made and drives."""
        self._driven: weakref.WeakValueDictionary[str, Learner] = weakref.WeakValueDictionary()
        self._stop_tickers: list[Callable[[], None]] = []
        self._failed = False
        """The store did not answer the last renewal."""
        self._alive = time.monotonic()
        self._closed = False

    def hold(self, name: str, holder: Holder) -> None:
        """Renew this row's lease from now on."""
        self._alive = time.monotonic()  # the loop lives: while nothing was held, nobody asked it
        self._held[holder.uid] = (name, holder)
        if not self._stop_tickers and not self._closed:
            interval = self._policy.renew_interval
            self._stop_tickers = [
                self._clock.every(interval, self.renew),
                self._clock.every(interval * AGAIN, self.renew_again),
            ]

    def drive(self, name: str, holder: Holder, driver: Learner) -> None:
        """As ``hold``; and tell the driver of what others write.

        Nobody goes on with the operation once its driver is garbage: the lease is then given back.
        """
        self.hold(name, holder)
        self._driven[holder.uid] = driver
        weakref.finalize(driver, self._forgotten, name, holder).atexit = False

    def let_go(self, holder: Holder) -> None:
        """Renew it no longer."""
        held = self._held.get(holder.uid)
        if held is not None and held[1] == holder:
            del self._held[holder.uid]

    @property
    def held(self) -> int:
        """How many leases this process renews."""
        return len(self._held)

    def holds(self, uid: str) -> bool:
        """Whether this process renews the lease of the operation with this uid."""
        return uid in self._held

    def tell(self, record: Record) -> None:
        """A row that runs was committed: tell whoever drives it by hand."""
        driver = self._driven.get(record.uid)
        if driver is not None:
            driver.learn(record)

    def renew(self) -> None:
        """Renew every lease in one transaction. Called on the clock's ticker thread, never on the event loop."""
        held = list(self._held.copy().values())
        if not held:
            return
        loop = self._life.loop
        try:
            loop.call_soon_threadsafe(self._note_alive)
        except RuntimeError:
            return  # the loop is closed: this process no longer runs anything
        if time.monotonic() - self._alive > self._policy.max_stall:
            logger.critical(
                "the event loop has shown no sign of life for %.0f s; %d leases are no longer renewed",
                self._policy.max_stall,
                len(held),
                extra=event("loop_stalled"),
            )
            return
        now = self._clock.time()
        changes = [
            Change(name, partial(transitions.renew, holder=holder, now=now, lease=self._policy.duration))
            for name, holder in held
        ]
        try:
            outcomes = self._batcher.apply_from_thread(changes)
        except ClosedError:
            return
        self._failed = any(isinstance(outcome, StoreUnavailableError) for outcome in outcomes)
        # A store that is unreachable, or unable, is no evidence that a claim has changed.
        lost = [
            (name, holder)
            for (name, holder), outcome in zip(held, outcomes, strict=True)
            if isinstance(outcome, LroError) and not isinstance(outcome, _OF_THE_STORE)
        ]
        if lost:
            loop.call_soon_threadsafe(self._lose, lost)

    def renew_again(self) -> None:
        """Renew what the store did not take. Called as ``renew``."""
        if self._failed:
            self.renew()

    async def release(self) -> None:
        """Give every row back, for other processes to go on with at once."""
        now = self._clock.time()
        changes = [
            Change(name, partial(transitions.release, holder=holder, now=now)) for name, holder in self._held.values()
        ]
        releases = [self._batcher.submit(change) for change in changes]
        for release in releases:
            release.add_done_callback(_note_release)
        await asyncio.gather(*releases, return_exceptions=True)

    def close(self) -> None:
        """Stop renewing, for good. Blocks until a renewal that is under way has ended."""
        self._closed = True
        for stop in self._stop_tickers:
            stop()
        self._stop_tickers = []

    def _forgotten(self, name: str, holder: Holder) -> None:
        """A driver was collected, on whatever thread that was."""
        if self._held.get(holder.uid) == (name, holder):
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the leases with it
                self._life.loop.call_soon_threadsafe(self._give_back, name, holder)

    def _give_back(self, name: str, holder: Holder) -> None:
        if self._closed or self._held.get(holder.uid) != (name, holder):
            return
        logger.error(
            "%s was made here, and nobody keeps the object that could end it: its lease is given back",
            name,
            extra=event("driver_forgotten", operation=name),
        )
        self.let_go(holder)
        released = partial(transitions.release, holder=holder, now=self._clock.time())
        self._batcher.submit(Change(name, released)).add_done_callback(_note_release)

    def _note_alive(self) -> None:
        self._alive = time.monotonic()

    def _lose(self, lost: list[tuple[str, Holder]]) -> None:
        for name, holder in lost:
            self.let_go(holder)
            self._lost(name, holder)


def _note_release(released: asyncio.Future[Record | None]) -> None:
    if released.cancelled():
        return
    failure = released.exception()
    if failure is not None and not isinstance(failure, LeaseLostError | OperationDoneError):
        logger.warning(
            "a lease was not released and will expire by itself: %s", failure, extra=event("lease_not_released")
        )
