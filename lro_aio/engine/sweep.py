"""The repair pass: finds by ``check_time`` what a lost hint or a dead process left behind, and what is simply due.

A pass is one round trip where nothing is due (and one more where expired rows are the engine's to remove). With a
local scheduler it is also the timer: it runs at the least ``check_time`` of the store. A suspended
operation then costs no task and no memory here, and a restart needs nothing but the rows.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from lro_aio.core import transitions
from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import LroError, StoreRefusedError, StoreUnavailableError
from lro_aio.core.logs import about, event
from lro_aio.core.policies import spread
from lro_aio.core.record import Record, State
from lro_aio.engine.cancelling import Canceller
from lro_aio.engine.deadlines import Deadlines
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.evidence import Evidence
from lro_aio.engine.handlers import Runnable
from lro_aio.engine.keeping import Keeper
from lro_aio.engine.leases import Leases
from lro_aio.engine.lines import Lines
from lro_aio.engine.observing import Observing
from lro_aio.engine.paced import Paced
from lro_aio.engine.readers import Work
from lro_aio.engine.repeats import Repeats
from lro_aio.engine.rows import Rows
from lro_aio.engine.run import Run
from lro_aio.engine.settings import Settings
from lro_aio.engine.slots import Slots
from lro_aio.engine.standstill import Standstill
from lro_aio.engine.timing import SteadyTime, clock_skew, wait_event
from lro_aio.ports import Clock, Look, Route

__all__ = ["Sweeper"]

logger = logging.getLogger("lro_aio")

STUCK_DELAY = 1.0
"""Seconds before another pass over rows of which the last one could change nothing."""
NEWS_LEAST, NEWS_MOST = 0.004, 0.05
"""Real seconds between two passes that are made because other processes commit: at least; and at most, where one pass
after the other finds nothing due."""
STEP = 1.0
"""Seconds by which a clock must be set back to be noticed."""
PURGE_ROUNDS = 20
"""Transactions that one pass spends on expired rows at most."""
UNKNOWN_ROUNDS = 20
"""Looks that one pass spends on naming the routes that nobody here runs."""


class Sweeper:
    """Owns the sweep of one engine."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        canceller: Canceller,
        deadlines: Deadlines,
        keeper: Keeper,
        standstill: Standstill,
        lines: Lines,
        *,
        rows: Rows,
        slots: Slots,
        leases: Leases,
        evidence: Evidence,
        runnable: Runnable,
        settings: Settings,
        clock: Clock,
        steady: SteadyTime,
        precise: bool,
        observing: Observing | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._canceller = canceller
        self._deadlines = deadlines
        self._keeper = keeper
        self._standstill = standstill
        self._lines = lines
        self._rows = rows
        self._slots = slots
        self._leases = leases
        self._evidence = evidence
        self._runnable = runnable
        self._clock = clock
        self._steady = steady
        self._owner, self._policy = settings.owner, settings.sweep
        self._lease, self._retention = settings.lease, settings.retention.duration
        self._precise = precise
        self._observing = observing
        self._nudged = asyncio.Event()
        self._news = Paced(self._nudged.set, lambda: min(NEWS_MOST, NEWS_LEAST * 2 ** min(self._vain, 9)))
        self._vain = 0
        """Passes since the last one that found something due."""
        self._next = math.inf
        """Epoch seconds: least ``check_time`` that is known, since the last look began."""
        self._looking = False
        self._limit = 0
        self._changed: dict[str, Record | None] | None = None
        """What this process has committed since the look began, by name; None while there is none."""
        self._passed_over = False
        """The last look left out rows whose claims were under way: these may be refused."""
        self._seen: frozenset[tuple[str, int, int]] = frozenset()
        self._stuck = False
        self._set_back = False
        """The clock was set back, and has not caught up yet."""
        self._doubt_at: float | None = None
        """Epoch seconds at which rows of our own that nobody here holds are looked for."""
        self._full_at = -math.inf
        """Monotonic seconds at which the next full pass is due."""
        self._found: set[str] = set()
        """Names of the rows that this pass found due."""
        self._left = False
        """The last scan found rows that nobody has changed since: they are due still."""
        self._behind = False
        """The last look was cut: more rows are due."""
        self._task: asyncio.Task[None] | None = None
        self._passing = asyncio.Lock()
        self._reported: set[Route] = set()
        self._repeats = Repeats()

    def start(self) -> None:
        """Run passes until ``stop``."""
        self._task = asyncio.get_running_loop().create_task(self._loop(), name="lro-aio-sweep")

    async def stop(self) -> None:
        """End the loop; a pass that is under way is cut, and nothing is lost by it."""
        self._news.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def nudge(self) -> None:
        """Something may be due now."""
        self._nudged.set()

    def catch_up(self) -> None:
        """Time may have moved without passing: begin a pass that is due by now."""
        if self._task is not None and self._clock.monotonic() >= self._full_at:
            self._nudged.set()

    def note_free(self) -> None:
        """A slot is free. Another scan before few rows of the last one wait would find those again and little else."""
        waiting = self._slots.waiting
        if not waiting or (self._behind and waiting <= self._policy.batch // 4):
            self._nudged.set()

    def observe(self, name: str, record: Record | None) -> None:
        """A row was committed: it may be due before what the loop waits for."""
        if self._changed is not None:
            self._changed[name] = record
        if (record is None or record.seat is not None) and self._lines.concerns(record) and not self._tried(record):
            self._nudged.set()  # a place may have been given back
        if not self._precise or record is None or record.check_time is None:
            return
        others = record.state is State.RUNNING and record.owner and not record.cancel_requested
        if others or record.owner == self._owner:
            return  # a lease of our own is renewed long before it ends; of another's, the evidence says when to look
        if record.check_time < self._next:
            self._next = record.check_time
            if not self._looking:  # else the loop sees it when it sets its timer
                self._nudged.set()

    def _tried(self, record: Record | None) -> bool:
        """Whether the last pass has tried this row as it is, in vain."""
        return record is not None and (record.name, record.revision, record.handover) in self._seen

    def elsewhere(self) -> None:
        """Another process committed something."""
        if self._precise or self._lines.any:
            self._news()

    async def run_pass(self, *, full: bool = True, own: bool = False) -> float | None:
        """One pass over what is due.

        Args:
            full: Look also for rows that this process owns and nobody here holds any more (a run that a defect ended)
                and for routes that nobody runs, for waits that cannot end, and remove what has expired.
            own: Of all that, look only for such rows.

        Returns:
            Epoch seconds at which the next pass has something to do; None where only a commit or the end of a run can
            bring something.

        Raises:
            StoreUnavailableError: The store did not answer.
        """
        async with self._passing:
            self._found.clear()
            own = own or full
            overdue = self._clock.time() - self._policy.interval if full else None
            look = await self._scan(own=own, overdue=overdue)
            unknown = look.unknown
            while self._more():
                look = await self._scan(own=own)
            await self._scan_set_back()
            self._vain = 0 if self._found else self._vain + 1
            if own and not self._behind:
                self._evidence.keep(self._found)
            if overdue is not None:
                await self._report_unknown(unknown, overdue)
                await self._standstill.look()
                await self._purge()
            return self._next_pass(look)

    async def _scan_set_back(self) -> None:
        """Handle what would be due if the clock had not been set back: rows that were written before it was.

        What was written since, and what was written long before, is due at the time of day that it names.
        """
        now, wall = self._steady.time(), self._clock.time()
        self._set_back = now - wall > STEP
        if not self._set_back:
            return
        look = await self._ask(now=now, routes=self._runnable.routes(), limit=self._policy.batch, own=False)
        due = [record for record in look.due if self._written(record) > wall]
        self._found.update(record.name for record in due)
        await self._handle([record for record in due if not self._slots.expects(record.name)], now)

    def _written(self, record: Record) -> float:
        """When the ``check_time`` of a row was written, by the clock of whoever did. A renewal is no update."""
        lease = record.lease_expire_time
        renewed = record.update_time if lease is None else lease - self._lease.duration
        return max(record.update_time, renewed)

    def doubt(self) -> None:
        """A claim may have been committed although its answer was lost: look for it once its lease is over."""
        self._doubt_at = self._clock.time() + self._lease.duration

    async def _loop(self) -> None:
        while True:
            self._nudged.clear()
            # Only longer than the policy says, so that workers do not march and an idle one asks once per interval.
            interval = spread(self._policy.interval, longer=0.2)
            until: float | None = None
            now = self._clock.monotonic()
            self._next, self._looking = math.inf, True  # what is committed from here on may have been missed
            try:
                doubtful = self._doubt_at is not None and self._clock.time() >= self._doubt_at
                if doubtful:
                    self._doubt_at = None
                # What a full pass found may be a row of our own, which no other pass looks at.
                full = doubtful or now >= self._full_at
                until = await self.run_pass(full=full, own=self._evidence.wait() is not None)
                if now >= self._full_at:
                    self._full_at = now + interval
                    self._watch_clock()
            except StoreUnavailableError as exc:
                logger.warning("the sweep is repeated: %s", exc, extra=event("sweep_unavailable"))
                interval = min(interval, max(STUCK_DELAY, exc.retry_after or 0.0))
                self._nudged.clear()  # reads that answer while writes do not would make the loop spin
            except Exception as exc:  # the loop must outlive a defect: it is what repairs everything else
                if self._repeats.first(repr(exc)):
                    logger.exception("the sweep failed and is repeated", extra=event("sweep_failed"))
            finally:
                self._looking = False
            await wait_event(self._clock, self._nudged, self._timer(until), at_most=interval)

    def _timer(self, until: float | None) -> float | None:
        """When the loop goes on without being nudged: at the end of the pass, or for what was committed during it."""
        if self._slots.starved:
            self._next = -math.inf  # nothing is more urgent than what waits for a free place
            return until
        for moment in (until, self._doubt_at):
            if moment is not None:
                self._next = min(self._next, moment)
        return self._next if math.isfinite(self._next) else None

    def _next_pass(self, look: Look) -> float | None:
        now = self._clock.time()
        proof = self._evidence.wait()
        if proof is not None:
            proof = proof or self._evidence.step  # this pass did not find it: it stands behind others
        if self._slots.starved:
            return None if proof is None else now + proof
        moments = [now + STUCK_DELAY] if self._passed_over or self._set_back else []
        if proof is not None:
            moments.append(now + proof)
        if self._precise:
            # Rows that stay due must not spin the loop, and the scan that comes next looks behind them.
            if self._stuck:
                return now + min(STUCK_DELAY, proof or STUCK_DELAY)
            if self._left:
                return now
        if look.next_check is not None and (self._precise or self._lines.any):
            moments.append(look.next_check)  # `observe` knows what the commits of this pass made due
        return min(moments, default=None)

    async def _scan(self, *, own: bool, overdue: float | None = None) -> Look:
        """Scan for what is due, and handle it."""
        self._slots.starved = False
        now = self._clock.time()
        # What cannot be handled here now must not hide what stands behind it.
        unhandled = len(self._seen) if self._stuck else 0
        unhandled += self._slots.coming + (self._leases.held if own else 0)
        unhandled += 2 * self._evidence.watched  # a dead process leaves many: each look reads twice as many as the last
        self._limit = self._policy.batch + unhandled
        self._changed = {}
        try:
            look = await self._ask(now=now, routes=self._runnable.routes(), limit=self._limit, own=own, overdue=overdue)
            self._evidence.bury(look.dead)
            self._behind = len(look.due) >= self._limit
            look = _with_line(look, await self._next_in_line(now))
            if self._observing is not None:
                self._observing.swept(look.due, now)
            self._found.update(record.name for record in look.due)
            due = self._to_handle(look.due, now)
            await self._handle(due, now)
            left = (record.name for record in due if record.name not in self._changed)
            self._left = not all(self._evidence.watches(name) for name in left)
        finally:
            self._changed = None
        return look

    async def _next_in_line(self, now: float) -> Look:
        """Who is next in line. Where that cannot be told it is asked again, and what is due is handled all the same."""
        again = STUCK_DELAY
        try:
            line = await self._lines.look(now, self._limit)
            await self._lines.call(line.called)
        except StoreUnavailableError as exc:
            logger.warning("the queues are looked at again: %s", exc, extra=event("queues_unavailable"))
            again = max(again, exc.retry_after or 0.0)
        except Exception as exc:  # sleeps, retries and takeovers need no queue
            if self._repeats.first(repr(exc)):
                logger.exception("the queues are looked at again", extra=event("queues_failed"))
        else:
            return line
        return Look([], now + again)

    def _to_handle(self, due: list[Record], now: float) -> list[Record]:
        """Those of the due rows that are still due, and that this process does not handle already."""
        latest = (self._latest(record, now) for record in due)
        found = [record for record in latest if record is not None]
        for record in found:
            self._dispatcher.observe(record.name, record)
        # To try these again would make them a sign of a want of slots.
        # But what is too late is not to wait for a slot any longer.
        late = {record.name for record in found if self._deadlines.passed(record, now)}
        left = [record for record in found if record.name in late or not self._slots.expects(record.name)]
        waiting = sum(self._slots.waits(record.name) for record in found) if len(left) < len(found) else 0
        self._slots.starved = self._slots.starved or waiting > 0
        self._passed_over = len(left) + waiting < len(found)
        return left

    async def _handle(self, due: list[Record], now: float) -> None:
        claims = _Claims()
        repairs = []
        for record in due:
            late = self._deadlines.passed(record, now)  # even where there is no slot
            handler = None if late else self._dispatcher.wants_slot(record, now)
            if handler is None:
                repairs.append(self._repair(record, now))
            elif self._dispatcher.claim_due(record, handler, partial(claims.told, record.name)):
                claims.sent += 1
        failures = await asyncio.gather(*repairs, return_exceptions=True) if repairs else []
        unclaimed = await claims.answered()
        tried = (record for record in due if not self._evidence.watches(record.name))
        seen = frozenset((record.name, record.revision, record.handover) for record in tried)
        self._stuck = bool(seen & self._seen)
        for name, outcome in unclaimed.items():
            await self._not_claimed(name, outcome)
        for failure in failures:
            if isinstance(failure, BaseException):
                raise failure
        # Rows that only found no free slot were not tried: they are no sign of anything.
        self._seen = frozenset() if self._slots.starved else seen

    async def _not_claimed(self, name: str, outcome: Outcome) -> None:
        """Of the claim of a due row something else came than a run."""
        if isinstance(outcome, StoreUnavailableError):
            raise outcome
        if isinstance(outcome, LroError) and not isinstance(outcome, StoreRefusedError):  # another process was first
            logger.debug("%s was not claimed: %s", name, outcome, extra=event("not_claimed", operation=name))
        elif isinstance(outcome, Exception):  # one poisonous row must never stop a sweep (rule 3)
            logger.error(
                "the sweep could not claim %s", name, exc_info=outcome, extra=event("repair_failed", operation=name)
            )
        elif outcome is not None:
            await self._canceller.go_on(outcome)  # the claim ended it: a cancel may have to be passed on; or a clean-up

    def _latest(self, record: Record, now: float) -> Record | None:
        """A row that was found due as it is by now; None where it no longer is: it was claimed here, or has ended.

        Such a one would find no place, stand among those that wait for one, and so keep others waiting.
        """
        if self._changed is None or record.name not in self._changed:
            return record
        latest = self._changed[record.name]
        if latest is None:
            return None
        if latest.revision < record.revision:  # another process was later
            return record
        ours = latest.owner == self._owner
        later = latest.check_time is None or latest.check_time > now
        return None if ours or (later and not self._evidence.is_dead(latest)) else latest

    def _more(self) -> bool:
        return self._behind and not self._slots.starved and not self._stuck

    def _ask(self, **arguments: Any) -> asyncio.Future[Look]:
        return self._rows.call(partial(self._rows.store.look, owner=self._owner, **arguments), Work.SWEEP)

    async def _repair(self, record: Record, now: float) -> None:
        try:
            if record.cancel_requested and record.cancel_children and not record.done:
                await self._canceller.pass_on(record)  # before its clean-up may begin
            if record.done:
                await self._settle(record)
            elif self._deadlines.passed(record, now):
                await self._deadlines.fail(record)
            elif record.state is State.SUSPENDED:
                await self._dispatcher.hand_over(record)
            elif record.state is State.PENDING:
                await self._dispatcher.run_or_hand_over(record)
            elif self._evidence.is_over(record, now):
                if self._dispatcher.may_take_over(record):
                    await self._take_over(record, now)
                else:
                    await self._dispatcher.try_store(record)
        except StoreUnavailableError:
            raise
        except StoreRefusedError:
            logger.exception("the sweep could not repair %s", record.name, extra=about(record, "repair_failed"))
        except LroError as exc:
            # Another process was first.
            logger.debug("%s needs no repair any more: %s", record.name, exc, extra=about(record, "repaired_elsewhere"))
        except Exception:  # one poisonous row must never stop a sweep (rule 3)
            logger.exception("the sweep could not repair %s", record.name, extra=about(record, "repair_failed"))

    async def _take_over(self, record: Record, now: float) -> None:
        dead = self._evidence.is_dead(record)
        if record.handler:
            logger.warning(
                "%s runs again: %s (owner %s)",
                record.name,
                "its process is dead" if dead else "its lease is over",
                record.owner,
                extra=about(record, "lease_expired"),
            )
            await self._dispatcher.run_or_hand_over(record)
            return
        lost = partial(transitions.lose_creator, now=now, retention=self._retention, found=record, dead=dead)
        asked = self._clock.monotonic()
        try:
            await self._rows.submit(Change(record.name, lost if dead else self._evidence.in_time(lost)))
        finally:
            self._evidence.answered(asked)

    async def _settle(self, record: Record) -> None:
        """Finish the bookkeeping of a row that has ended.

        One that another program ended has no expiry; the cancel of one has still to be passed on; one may be kept for
        a parent that lives.
        """
        settled: Record | None = record
        if record.expire_time is None:
            change = partial(transitions.settle, now=self._clock.time(), retention=self._retention)
            settled = await self._rows.submit(Change(record.name, change))
        if settled is not None and settled.cancel_children:
            await self._canceller.pass_on(settled)
        elif record.expire_time is not None and record.parent_operation:
            await self._keeper.child(record)

    async def _report_unknown(self, route: Route | None, overdue: float) -> None:
        """Say once of each route that no handler here runs, and that rows wait for (rule 14)."""
        for _ in range(UNKNOWN_ROUNDS):
            if route is None:
                return
            if route not in self._reported:
                self._reported.add(route)
                logger.warning(
                    "operations wait for handler %r at %r, which is not registered here",
                    *route,
                    extra=event("handler_not_registered", handler=route[0]),
                )
            routes = [*self._runnable.routes(), *self._reported]  # the store names one: behind it there may be others
            look = await self._ask(now=self._clock.time(), routes=routes, limit=0, overdue=overdue)
            route = look.unknown

    async def _purge(self) -> None:
        store = self._rows.store
        if store.expires_rows:
            return
        purge: Callable[[], int] = partial(store.purge, now=self._clock.time(), limit=self._policy.purge_batch)
        for _ in range(PURGE_ROUNDS):
            if await self._rows.call(purge, Work.SWEEP) < self._policy.purge_batch:
                return

    def _watch_clock(self) -> None:
        skew = clock_skew(self._rows.store, self._lease)
        if skew is not None:
            logger.warning("leases may be taken for lost: %s", skew, extra=event("clock_skew"))


class _Claims:
    """The claims that one scan sends: of those that become runs, nothing is kept."""

    def __init__(self) -> None:
        self.sent = 0
        self._left: dict[str, Outcome] = {}
        self._told = 0
        self._all = asyncio.Event()

    def told(self, name: str, outcome: Outcome, run: Run | None) -> None:
        """A claim was answered."""
        if run is None:
            self._left[name] = outcome
        self._told += 1
        if self._told == self.sent:  # the answers come in later turns of the event loop than the claims are sent in
            self._all.set()

    async def answered(self) -> dict[str, Outcome]:
        """By name, what became of those that are no runs, once all are answered."""
        if self._told < self.sent:
            await self._all.wait()
        return self._left


def _with_line(look: Look, line: Look) -> Look:
    """What is due, and who is next in line."""
    if not line.due and line.next_check is None:
        return look
    names = {record.name for record in look.due}
    moments = [moment for moment in (look.next_check, line.next_check) if moment is not None]
    due = [*look.due, *(record for record in line.due if record.name not in names)]
    return replace(look, due=due, next_check=min(moments, default=None))
