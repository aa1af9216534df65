"""The repair pass: finds by ``check_time`` what a lost hint or a dead process left behind, and what is simply due.

With a local scheduler the pass is also the timer: it runs at the least ``check_time`` of the store. A suspended
operation then costs no task and no memory here, and a restart needs nothing but the rows.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lro_aio.core import transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import LroError, StoreUnavailableError
from lro_aio.core.policies import SweepPolicy
from lro_aio.core.record import Record, State
from lro_aio.engine.timing import wait_event
from lro_aio.ports import Route

if TYPE_CHECKING:
    from lro_aio.engine.engine import Engine

__all__ = ["Sweeper"]

logger = logging.getLogger("lro_aio")

STUCK_DELAY = 1.0
"""Seconds before another pass over rows of which the last one could change nothing."""
PURGE_ROUNDS = 20
"""Transactions that one pass spends on expired rows at most."""


class Sweeper:
    """Owns the sweep of one engine."""

    def __init__(self, engine: Engine, policy: SweepPolicy, *, precise: bool) -> None:
        self._engine = engine
        self._policy = policy
        self._precise = precise
        self._nudged = asyncio.Event()
        self._next: float | None = None
        self._seen: frozenset[tuple[str, int, int]] = frozenset()
        self._stuck = False
        self.saturated = False
        """Rows are due that found no free place."""
        self._task: asyncio.Task[None] | None = None
        self._passing = asyncio.Lock()
        self._reported: set[Route] = set()

    def start(self) -> None:
        """Run passes until ``stop``."""
        self._task = asyncio.get_running_loop().create_task(self._loop(), name="lro-aio-sweep")

    async def stop(self) -> None:
        """End the loop; a pass that is under way is cut, and nothing is lost by it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def nudge(self) -> None:
        """Something may be due now."""
        self._nudged.set()

    def freed(self) -> None:
        """A place is free."""
        if self.saturated:
            self._nudged.set()

    def observe(self, _name: str, record: Record | None) -> None:
        """A row was committed: it may be due before what the loop waits for."""
        if not self._precise or record is None or record.check_time is None:
            return
        if self._next is None or record.check_time < self._next:
            if record.owner == self._engine.settings.owner:
                return  # a lease of our own: renewed long before it ends
            self._nudged.set()

    def elsewhere(self) -> None:
        """Another process committed something."""
        if self._precise:
            self._nudged.set()

    async def run_pass(self, *, full: bool = True) -> None:
        """One pass over what is due.

        Args:
            full: Look also for rows that this process owns and nobody here holds any more (a run that a defect ended),
                and remove what has expired.

        Raises:
            StoreUnavailableError: The store did not answer.
        """
        async with self._passing:
            while await self._pass_batch(not_owner="" if full else self._engine.settings.owner):
                pass
            if full:
                await self._purge()
                await self._report_unknown()

    async def _loop(self) -> None:
        full_at = asyncio.get_running_loop().time()
        while True:
            self._nudged.clear()
            interval = self._policy.interval * random.uniform(0.8, 1.2)  # noqa: S311 (so that workers do not march)
            until: float | None = None
            now = asyncio.get_running_loop().time()
            try:
                await self.run_pass(full=now >= full_at)
                if now >= full_at:
                    full_at = now + interval
                until = await self._next_look()
            except StoreUnavailableError as exc:
                logger.warning("the sweep comes again: %s", exc)
                interval = min(interval, max(STUCK_DELAY, exc.retry_after or 0.0))
                self._nudged.clear()  # reads that answer while writes do not would make the loop spin
            except Exception:  # the loop must outlive a defect: it is what repairs everything else
                logger.exception("the sweep failed and comes again")
            await wait_event(self._engine.clock, self._nudged, until, at_most=interval)

    async def _next_look(self) -> float | None:
        if not self._precise:
            return None
        store = self._engine.gateway.store
        self._next = None  # whatever is committed while the store is asked may have been missed by it: `observe` nudges
        self._next = await self._engine.gateway.call(
            partial(store.next_check, routes=self._engine.routes(), not_owner=self._engine.settings.owner)
        )
        if self._next is None or self.saturated:
            return None
        # Rows that stay due (a lease under grace, a service that only another process has) must not spin the loop.
        return max(self._next, self._engine.clock.time() + STUCK_DELAY) if self._stuck else self._next

    async def _pass_batch(self, *, not_owner: str) -> bool:
        """Handle what is due; returns whether there is more."""
        engine = self._engine
        self.saturated = False
        now = engine.clock.time()
        # What cannot be handled here now must not hide what stands behind it.
        unhandled = len(self._seen) if self._stuck else 0
        limit = self._policy.batch + unhandled + (0 if not_owner else engine.worker.held)
        scan = partial(engine.gateway.store.due, now=now, routes=engine.routes(), limit=limit, not_owner=not_owner)
        due = await engine.gateway.call(scan)
        seen = frozenset((record.name, record.revision, record.handover) for record in due)
        self._stuck = bool(seen & self._seen)
        for failure in await asyncio.gather(*(self._repair(record, now) for record in due), return_exceptions=True):
            if failure is not None:
                raise failure
        # Rows that only found no free place were not tried: they are no sign of anything.
        self._seen = frozenset() if self.saturated else seen
        return len(due) == limit and not self.saturated and not self._stuck

    async def _repair(self, record: Record, now: float) -> None:
        try:
            if record.done:
                await self._engine.dispatcher.cascade(record)
            elif record.state is State.SUSPENDED:
                await self._engine.dispatcher.hand_over(record)
            elif record.state is State.PENDING:
                await self._engine.dispatcher.run_or_hand_over(record)
            elif not record.lease_live(now) and self._may_claim(record, now):
                await self._take_over(record, now)
        except StoreUnavailableError:
            raise
        except LroError as exc:
            logger.debug("%s needs no repair any more: %s", record.name, exc)  # another process was first
        except Exception:  # one poisonous row must never stop a sweep (rule 3)
            logger.exception("the sweep could not repair %s", record.name)

    def _may_claim(self, record: Record, now: float) -> bool:
        """Rule 4: our own leases are renewed, not claimed; after an outage everybody gets time to renew first."""
        return not self._engine.worker.holds(record.uid) and now >= self._engine.grace_until

    async def _take_over(self, record: Record, now: float) -> None:
        if record.handler:
            logger.warning("the lease of %s (owner %s) is over; it runs again", record.name, record.owner)
            await self._engine.dispatcher.run_or_hand_over(record)
            return
        event = partial(transitions.lose_creator, now=now, retention=self._engine.retention.duration)
        await self._engine.apply(Change(record.name, event))

    async def _report_unknown(self) -> None:
        """Say once of each route that no handler here runs, and that rows wait for (rule 14)."""
        engine = self._engine
        known = set(engine.routes())
        for route in await engine.gateway.call(engine.gateway.store.routes):
            if route in known or route in self._reported:
                continue
            due = await engine.gateway.call(partial(engine.gateway.store.next_check, routes=[route]))
            if due is not None and due <= engine.clock.time() - self._policy.interval:
                self._reported.add(route)
                logger.warning("operations wait for handler %r at %r, which is not registered here", *route)

    async def _purge(self) -> None:
        engine = self._engine
        purge: Callable[[], int] = partial(
            engine.gateway.store.purge, now=engine.clock.time(), limit=self._policy.purge_batch
        )
        for _ in range(PURGE_ROUNDS):
            if await engine.gateway.call(purge) < self._policy.purge_batch:
                return
