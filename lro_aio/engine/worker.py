"""Claims operations, runs their handlers and commits what came out; stops them at shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from lro_aio.core import bookkeeping, transitions
from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import (
    LeaseLostError,
    LroError,
    OperationDoneError,
    OperationNotFoundError,
    PayloadTooLargeError,
    StoreRefusedError,
    StoreUnavailableError,
)
from lro_aio.core.logs import about, event
from lro_aio.core.record import Record, State, Wake
from lro_aio.core.straight import JournalMovedError
from lro_aio.core.transitions import Holder
from lro_aio.engine import run as runs
from lro_aio.engine.changes import RUNNING
from lro_aio.engine.evidence import Evidence
from lro_aio.engine.handlers import Handler
from lro_aio.engine.holding import CancelReason
from lro_aio.engine.leases import Leases
from lro_aio.engine.life import Life
from lro_aio.engine.lines import seated
from lro_aio.engine.observing import Observing
from lro_aio.engine.rows import Rows
from lro_aio.engine.run import Run, Runner
from lro_aio.engine.settings import COMMIT_RETRY, Settings
from lro_aio.engine.slots import Slots
from lro_aio.engine.timing import SteadyTime
from lro_aio.engine.watched_runs import WatchedRun
from lro_aio.ports import Clock

__all__ = ["Told", "Worker"]

logger = logging.getLogger("lro_aio")

Told = Callable[[Outcome, Run | None], None]
"""Told of a claim: what became of the row, and its run, where it is one."""

STOP_GRACE = 2.0
"""Seconds that a cancelled handler gets at shutdown before its lease is released over its head, and a result that the
store does not take before it is left to its lease."""
DRAIN_RETRY = 0.2
"""Real seconds at most between two tries of a commit during a drain."""


class Worker:
    """The runs of one process.

    Args:
        runner: Calls handlers.
        rows: The store.
        slots: Where the runs find room.
        leases: Renewed while a run lasts.
        evidence: For the claim of a lease that is over.
        settings: The claimant's terms.
        clock: Engine time.
        steady: The time of claims, which a clock that is set back does not hold up.
        life: Whether the client drains.
        after: Awaited with the row that a claim or a run has left, where something is to be done with it.
        observing: Told of the runs; None: nobody wants to know.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        rows: Rows,
        slots: Slots,
        leases: Leases,
        evidence: Evidence,
        settings: Settings,
        clock: Clock,
        steady: SteadyTime,
        life: Life,
        after: Callable[[Record], Coroutine[Any, Any, None]],
        observing: Observing | None = None,
    ) -> None:
        self._runner = runner
        self._rows = rows
        self._slots = slots
        self._leases = leases
        self._evidence = evidence
        self._settings = settings
        self._clock = clock
        self._steady = steady
        self._life = life
        self.after = after
        """To be awaited by whoever sent a claim with the row that it has ended."""
        self._observing = observing
        self.running: dict[str, Run] = {}
        """By uid: the last one of each operation. The commit of one before it may be repeated still, in vain."""
        self._runs: set[Run] = set()
        """All of them."""
        self._cancelled_early: dict[str, Record] = {}
        self._given_up = asyncio.Event()
        """The time of a drain is up: no commit is repeated any more."""

    def holds(self, uid: str) -> bool:
        """Whether this process runs or drives the operation with this uid."""
        return uid in self.running or self._leases.holds(uid)

    async def claim(
        self,
        record: Record,
        handler: Handler,
        *,
        token: str | None = None,
        wake: Wake | None = None,
        company: int = 1,
    ) -> Run | None:
        """Claim a row and run it; None where the claim itself ended the row.

        Raises:
            LroError: The refusal of ``transitions.claim``, or StoreUnavailableError.
        """
        answer: asyncio.Future[tuple[Outcome, Run | None]] = asyncio.get_running_loop().create_future()

        def told(outcome: Outcome, run: Run | None) -> None:
            if not answer.done():  # else whoever asked was cancelled
                answer.set_result((outcome, run))

        self.begin_claim(record, handler, token=token, wake=wake, company=company, told=told)
        outcome, run = await answer
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None and run is None:
            await self.after(outcome)  # the claim ended it: a cancel may have to be passed on
        return run

    def begin_claim(
        self,
        record: Record,
        handler: Handler,
        *,
        token: str | None,
        wake: Wake | None,
        told: Told,
        company: int = 1,
    ) -> None:
        """Send the claim of a row; it runs once that is answered.

        Args:
            record: The row.
            handler: Its handler.
            token: As ``claim``.
            wake: As ``claim``.
            told: Called with what became of it, and the run. What the claim itself ended is the caller's part.
            company: As ``claim``.
        """
        dead, asked = self._evidence.is_dead(record), self._clock.monotonic()
        taken_over = record.state is State.RUNNING
        by, now = self._settings.claimant(handler, self._rows.store), self._steady.time()
        claim: Callable[[Record], Record | None] = partial(
            transitions.claim,
            now=now,
            by=by,
            token=token,
            wake=wake,
            found=record,
            dead=dead,
            company=company,
        )
        claim = seated(handler, claim, now=now, by=by)
        if taken_over and not dead:
            claim = self._evidence.in_time(claim)

        def answered(outcome: Outcome) -> None:
            run: Run | None = None
            try:
                if taken_over:
                    self._evidence.answered(asked)
                run = self._answered(record.name, handler, "", outcome)
            finally:
                told(outcome, run)

        self._rows.post(Change(record.name, claim, claims=True), answered)
        self._slots.begin_claim(record.name, light=handler.light)

    def submit(self, change: Change, handler: Handler, *, uid: str) -> asyncio.Future[Record | None]:
        """Submit the claim of a row that it makes, keep one slot until it is answered, and launch it then.

        Not the caller's part: one that is cancelled meanwhile would leave a row that is claimed and that nobody runs.

        Args:
            change: The claim.
            handler: The row's handler.
            uid: Launch only this row.
        """
        future = self._rows.submit(change, partial(self._answered, uid, handler, uid))
        self._slots.begin_claim(uid, light=handler.light)
        return future

    def observe(self, name: str, record: Record | None) -> None:  # noqa: ARG002 (a listener of the feed)
        """A row was committed: stop its run where it is another's now, or was cancelled."""
        if record is None or record.state is not State.RUNNING:
            return
        run = self.running.get(record.uid)
        if run is None:
            if record.cancel_requested and record.handler and record.owner == self._settings.owner:
                self._cancelled_early[record.uid] = record  # committed with the claim that `_launch` is about to get
            self._leases.tell(record)
            return
        if record.claim > run.record.claim:
            run.cancel(CancelReason.LEASE_LOST)
        elif record.claim == run.record.claim:
            if run.cancel_reason is not None:
                self._insist(run, record)
            if record.cancel_requested and not record.cleaning:
                run.holding.learn(record)
                run.cancel(CancelReason.CANCEL_REQUESTED)

    def _insist(self, run: Run, record: Record) -> None:
        """A run that was told to stop is still there: tell it again with each renewal, and with the next request."""
        known = run.holding.record
        if record == known:  # a request that changed nothing
            run.cancel_again()
        elif record.revision == known.revision:  # else the handler itself wrote
            if record.lease_expire_time != known.lease_expire_time:
                run.cancel_again(after=self._settings.lease.renew_interval)
            run.holding.learn(record)

    def lose(self, holder: Holder) -> None:
        """There is evidence that the claim changed: stop the run that has it (rule 4)."""
        run = self.running.get(holder.uid)
        if run is not None and run.holder == holder:
            run.cancel(CancelReason.LEASE_LOST)

    async def drain(self, timeout: float) -> None:
        """Give the runs ``timeout`` real seconds, then stop them, for other processes to go on with (rule 5)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE):  # a claim that is answered later is released by its lease
                await self._slots.claims_answered()
        tasks = self._tasks()
        if tasks:
            logger.info(
                "%d handlers still run; they have %g s, then other processes go on",
                len(tasks),
                timeout,
                extra=event("draining"),
            )
        if tasks and timeout > 0:
            await asyncio.wait(tasks, timeout=timeout)
        self.stop()
        tasks = self._tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_GRACE)
        stuck = sorted(run.record.name for run in self.running.values() if not run.returned)
        if stuck:
            logger.error(
                "%d handlers ignore their cancellation; their leases are released: %s",
                len(stuck),
                stuck[:5],
                extra=event("cancellation_ignored"),
            )

    def close(self) -> None:
        """Renew nothing any more. Blocks until a renewal that is under way has ended."""
        self._leases.close()

    def stop(self) -> None:
        """Cancel every handler, for another process to go on."""
        for run in list(self.running.values()):
            run.cancel(CancelReason.SHUTDOWN)

    def give_up(self) -> None:
        """The time of a drain is up: what runs have left, and the store has not taken, is left to their leases.

        They are not given back: the commit may be on its way, and who went on at once would do the same again.
        """
        self._given_up.set()
        for run in self._runs:
            if run.returned:
                self._leases.let_go(run.holder)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [run.task for run in self._runs if run.task is not None]

    def _answered(self, key: str, handler: Handler, uid: str, outcome: Outcome) -> Run | None:
        """Launch what was claimed, if it is the row with this uid; "" for any."""
        if not isinstance(outcome, Record) or outcome.state is not State.RUNNING:
            self._slots.end_claim(key)
        elif uid in ("", outcome.uid):
            self._slots.end_claim(key, outcome)
            return self._launch(outcome, handler)
        elif self._orphaned(outcome, key):
            self._adopt(outcome, key, handler)
        else:
            self._slots.end_claim(key)
        return None

    def _adopt(self, row: Record, key: str, handler: Handler) -> None:
        """Renew the lease of a row that nobody has renewed since its claim, then run it, if it is still ours."""
        now, lease = self._clock.time(), self._settings.lease.duration
        renewed = partial(transitions.renew, holder=Holder(row.uid, row.claim), now=now, lease=lease)
        self._rows.post(Change(row.name, renewed), partial(self._adopted, key, handler))

    def _adopted(self, key: str, handler: Handler, outcome: Outcome) -> None:
        if isinstance(outcome, Record) and not self.holds(outcome.uid):
            self._slots.end_claim(key, outcome)
            self._launch(outcome, handler)
        else:  # it is another's, or a second start was first; what a lost answer leaves, a sweep finds
            self._slots.end_claim(key)

    def _orphaned(self, row: Record, key: str) -> bool:
        """Whether a repeated start found a row that this process claimed without ever hearing that it did."""
        mine = row.owner == self._settings.owner and not self.holds(row.uid)
        return mine and (key == row.name or not self._slots.claiming(row.name))

    def _launch(self, record: Record, handler: Handler) -> Run:
        """Run a row that this process has just claimed."""
        run = self._runner.run_of(record, handler)
        if self._observing is not None:
            run.found = self._observing.found
        self.running[record.uid] = run
        self._runs.add(run)
        self._leases.hold(record.name, run.holder)
        # Not in the context of whoever happened to bring the answer: a request, or another operation.
        name, context = f"lro-aio-run {record.name}", self._life.new_context()
        run.task = self._life.loop.create_task(self._run(run), name=name, context=context)
        early = self._cancelled_early.pop(record.uid, record)
        if early.cancel_requested and not record.cleaning:
            run.cancel(CancelReason.CANCEL_REQUESTED)
        if self._slots.closed:
            run.cancel(CancelReason.SHUTDOWN)
        return run

    async def _run(self, run: Run) -> None:
        after: Record | None = None
        RUNNING.set(run.record.name)
        watched = None if self._observing is None else WatchedRun(self._observing, run)
        try:
            outcome = await self._runner.execute(run)
            if outcome is not None:
                after = await self._commit(run, outcome)
        except Exception:  # a defect of ours must not take the worker down; the lease expires and the row is repaired
            logger.exception(
                "the run of %s ended without a result", run.record.name, extra=about(run.record, "no_result")
            )
        finally:
            self._leases.let_go(run.holder)
            if self.running.get(run.record.uid) is run:
                del self.running[run.record.uid]
            self._runs.discard(run)
            run.holding.retire()
            if watched is not None:
                watched.end(after)
            run.end()
            self._slots.clear(run.record)
        if after is not None and not after.done:
            await self.after(after)

    async def _commit(self, run: Run, outcome: runs.Outcome) -> Record | None:
        """Commit, however long the store is away; a commit whose answer was lost is recognized as ours."""
        record, holder = run.record, run.holder
        attempt = 0
        refused = False
        moved: int | None = None
        run.returned = True
        while True:
            try:
                if moved is not None:
                    outcome, moved = await self._runner.again(run, moved), None
                left = await self._rows.submit(self._change(run, outcome))
            except JournalMovedError as exc:
                moved = exc.entries
            except StoreUnavailableError as exc:
                if not await self._rest(COMMIT_RETRY.delay(attempt)):
                    logger.warning(
                        "%s is left to its lease: %s", record.name, exc, extra=about(record, "left_to_lease")
                    )
                    return None
                attempt += 1
            except (LeaseLostError, OperationDoneError, OperationNotFoundError) as exc:
                if attempt:
                    written = await self._rows.find(record.name)
                    if written is not None and (written.uid, written.claim) == (holder.uid, holder.claim):
                        return written
                run.lost = isinstance(exc, LeaseLostError)
                logger.info(
                    "the result of the run of %s is not written: %s",
                    record.name,
                    exc,
                    extra=about(record, "result_not_written"),
                )
                return None
            except Exception as exc:
                if isinstance(exc, LroError) and not isinstance(exc, StoreRefusedError | PayloadTooLargeError):
                    raise
                logger.exception(
                    "the store refuses the result of the run of %s", record.name, extra=about(record, "result_refused")
                )
                outcome = self._runner.refused(run, exc)
                if refused:
                    raise
                refused = True
            else:
                run.committed = True
                return left

    async def _rest(self, delay: float) -> bool:
        """Wait before a commit is repeated. False: there is no time left for that.

        The beginning of a drain ends the wait: from then on time is short, and the store may answer by now.
        """
        if self._given_up.is_set():
            return False
        if not self._life.draining:
            await self._rows.pause(self._clock, delay)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(delay, DRAIN_RETRY)):
                    await self._given_up.wait()
        return not self._given_up.is_set()

    def _change(self, run: Run, outcome: runs.Outcome) -> Change:
        """What commits the outcome of a run."""
        event: Callable[[Record], Record | None] = partial(outcome.event, holder=run.holder, now=self._clock.time())
        if run.traceparent:
            event = partial(bookkeeping.traced, event=event, traceparent=run.traceparent)
        return Change(
            run.record.name,
            event,
            size=outcome.size,
            appends=outcome.appends,
            rests=outcome.rests,
            stands=outcome.stands,
            most_entries=self._settings.limits.entries,
        )
