"""Claims operations, runs their handlers, renews the leases, commits what came out; drains on shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from lro_aio.core import transitions
from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import (
    LeaseLostError,
    LroError,
    OperationDoneError,
    OperationNotFoundError,
    StoreUnavailableError,
)
from lro_aio.core.policies import PollPolicy
from lro_aio.core.record import Record, State, Wake
from lro_aio.core.transitions import Holder
from lro_aio.engine import run as runs
from lro_aio.engine.handlers import Handler
from lro_aio.engine.operation import CancelReason, Operation
from lro_aio.engine.run import Run
from lro_aio.engine.timing import sleep_until

if TYPE_CHECKING:
    from lro_aio.engine.engine import Engine

__all__ = ["Worker"]

logger = logging.getLogger("lro_aio")

COMMIT_RETRY = PollPolicy(interval=0.2, multiplier=2, max_interval=5.0)
"""A result is worth waiting for: while the store is down, the commit is repeated until the lease is lost."""
STOP_GRACE = 2.0
"""Seconds that a cancelled handler gets at shutdown before its lease is released over its head."""


class Worker:
    """The runs of one process, and the leases that it holds."""

    def __init__(self, engine: Engine, *, owner: str, max_running: int) -> None:
        self._engine = engine
        self.owner = owner
        self.max_running = max_running
        self.running: dict[str, Run] = {}
        """By uid."""
        self._held: dict[str, tuple[str, Holder]] = {}
        """Leases to renew, by uid: those of runs, and of operations that this process made and drives."""
        self._driven: weakref.WeakValueDictionary[str, Operation[Any]] = weakref.WeakValueDictionary()
        self._cancelled_early: dict[str, Record] = {}
        self._latest: dict[str, Record] = {}
        """By name: rows that run under this owner, as last committed, while no other process has committed anything."""
        self._claiming: dict[str, int] = {}
        """How many claims are under way: by name, those of starts by uid."""
        self._taken: set[str] = set()
        """Names: rows that have a place and are about to be claimed."""
        self._ready: dict[str, tuple[Record, Wake | None]] = {}
        """By name, in the order in which they get a place."""
        self._stop_ticker: Callable[[], None] | None = None
        self._alive = time.monotonic()
        self.draining = False
        self._closed = False
        self._no_claims = asyncio.Event()
        """No claim is under way."""
        self._no_claims.set()

    @property
    def free(self) -> int:
        """Runs that may start now."""
        taken = len(self.running) + len(self._claiming) + len(self._taken)
        return 0 if self.draining else max(0, self.max_running - taken)

    @property
    def waiting(self) -> int:
        """Rows that are due and wait for a free place."""
        return len(self._ready)

    @property
    def coming(self) -> int:
        """Rows that are about to be claimed, and that a look at the store may still find due."""
        return len(self._ready) + len(self._taken) + len(self._claiming)

    def expects(self, name: str) -> bool:
        """Whether it is one of them."""
        return name in self._ready or name in self._taken or name in self._claiming

    def queued(self, name: str) -> bool:
        """Whether it is one of them, and waits for a free place."""
        return name in self._ready

    def launch(self, record: Record, handler: Handler) -> Run:
        """Run a row that this process has just claimed."""
        run = Run(record, handler)
        self._ready.pop(record.name, None)  # a look that began before the claim may have found it due
        self.running[record.uid] = run
        self._hold(record.name, run.holder)
        run.task = asyncio.get_running_loop().create_task(self._run(run), name=f"lro-aio-run {record.name}")
        early = self._cancelled_early.pop(record.uid, record)
        if early.cancel_requested and not record.cleaning:
            run.cancel(CancelReason.CANCEL_REQUESTED)
        if self.draining:
            run.cancel(CancelReason.SHUTDOWN)
        return run

    async def claim(
        self, record: Record, handler: Handler, *, token: str | None = None, wake: Wake | None = None
    ) -> Run | None:
        """Claim a row and run it; None where the claim itself ended the row.

        Raises:
            LroError: The refusal of ``transitions.claim``, or StoreUnavailableError.
        """
        self._engine.check_open()
        now = self._engine.clock.time()
        event = partial(transitions.claim, now=now, by=self._engine.claimant(handler), token=token, wake=wake)
        launched: list[Run] = []
        claimed = await self.submit(Change(record.name, event, claims=True), handler, launched=launched)
        if claimed is not None and not launched:
            await self._engine.dispatcher.after_run(claimed)  # the claim ended it: a cancel may have to be passed on
        return launched[0] if launched else None

    def submit(
        self, change: Change, handler: Handler, *, uid: str = "", launched: list[Run] | None = None
    ) -> asyncio.Future[Record | None]:
        """Submit a claim, keep one place until it is answered, and launch it then.

        Not the caller's part: one that is cancelled meanwhile would leave a row that is claimed and that nobody runs.

        Args:
            change: The claim.
            handler: The row's handler.
            uid: Launch only this row; "" for any.
            launched: Gets the run once it is launched.
        """
        key = uid or change.name
        future = self._engine.gateway.submit(change, partial(self._answered, key, handler, uid, launched))
        self._claiming[key] = self._claiming.get(key, 0) + 1
        self._no_claims.clear()
        return future

    def _answered(self, key: str, handler: Handler, uid: str, launched: list[Run] | None, outcome: Outcome) -> None:
        left = self._claiming.pop(key) - 1
        if left:
            self._claiming[key] = left
        if not self._claiming:
            self._no_claims.set()
        if (
            isinstance(outcome, Record)
            and outcome.state is State.RUNNING
            and (uid in ("", outcome.uid) or self._orphaned(outcome))
        ):
            run = self.launch(outcome, handler)
            if launched is not None:
                launched.append(run)
        self._engine.dispatcher.freed()

    def _orphaned(self, row: Record) -> bool:
        """Whether a repeated start found a row that this process claimed without ever hearing that it did."""
        return row.owner == self.owner and not self.holds(row.uid) and row.name not in self._claiming

    def queue(self, record: Record, wake: Wake | None) -> None:
        """Claim a row as soon as there is a free place.

        Args:
            record: Nobody holds it yet: another process may well be first.
            wake: Why a suspended row wakes; None for one that waits for nothing.
        """
        known = self._ready.get(record.name)
        if known is None or known[0].revision < record.revision:
            self._ready[record.name] = (record, wake)

    def take_ready(self) -> list[tuple[Record, Wake | None]]:
        """As many of the queued rows as there are free places, which are kept for them until ``claim_reserved``."""
        taken: list[tuple[Record, Wake | None]] = []
        while self._ready and self.free:
            name = next(iter(self._ready))
            taken.append(self._ready.pop(name))
            self._taken.add(name)
        return taken

    def claim_reserved(self, name: str) -> None:
        """The claim for which a place was kept is made now, or never."""
        self._taken.discard(name)

    def hold(self, record: Record) -> None:
        """Renew this row's lease from now on."""
        self._hold(record.name, Holder(record.uid, record.claim))

    def _hold(self, name: str, holder: Holder) -> None:
        self._alive = time.monotonic()  # the loop lives: while nothing was held, nobody asked it
        self._held[holder.uid] = (name, holder)
        if self._stop_ticker is None and not self._closed:
            self._stop_ticker = self._engine.clock.every(self._engine.lease_policy.renew_interval, self.renew)

    @property
    def held(self) -> int:
        """How many leases this process renews."""
        return len(self._held)

    def holds(self, uid: str) -> bool:
        """Whether this process runs or drives the operation with this uid."""
        return uid in self._held or uid in self.running

    def let_go(self, holder: Holder) -> None:
        """Renew it no longer."""
        held = self._held.get(holder.uid)
        if held is not None and held[1] == holder:
            del self._held[holder.uid]

    def drive(self, operation: Operation[Any]) -> None:
        """Tell the operation of a cancel, for as long as its creator keeps it."""
        self._driven[operation.uid] = operation

    def latest(self, name: str) -> Record | None:
        """The row of an operation that runs here, as it is in the store, without a look at it; None where unknown.

        Another process may have changed it so short a time ago that no notice of it has come yet: for who waits for
        such a notice anyhow.
        """
        return self._latest.get(name)

    def elsewhere(self) -> None:
        """Another process committed something: what was committed here before may no longer be what is stored."""
        self._latest.clear()

    def observe(self, name: str, record: Record | None) -> None:
        """A row was committed: stop its run where it is another's now, or was cancelled."""
        if record is None or record.state is not State.RUNNING:
            self._latest.pop(name, None)
            return
        if record.owner == self.owner:
            self._latest[name] = record
        else:
            self._latest.pop(name, None)
        driven = self._driven.get(record.uid)
        if driven is not None:
            driven.learn(record)
        run = self.running.get(record.uid)
        if run is None:
            if record.cancel_requested and record.handler and record.owner == self.owner:
                self._cancelled_early[record.uid] = record  # committed with the claim that `launch` is about to get
            return
        if record.claim > run.record.claim:
            run.cancel(CancelReason.LEASE_LOST)
        elif record.claim == run.record.claim and record.cancel_requested and not record.cleaning:
            if run.operation is not None:
                run.operation.learn(record)
            run.cancel(CancelReason.CANCEL_REQUESTED)

    def renew(self) -> None:
        """Renew every lease in one transaction. Called on the clock's ticker thread, never on the event loop."""
        held = list(self._held.copy().values())
        if not held:
            return
        loop = self._engine.loop
        try:
            loop.call_soon_threadsafe(self._note_alive)
        except RuntimeError:
            return  # the loop is closed: this process no longer runs anything
        policy = self._engine.lease_policy
        if time.monotonic() - self._alive > policy.max_stall:
            logger.critical(
                "the event loop has shown no sign of life for %.0f s; %d leases are no longer renewed",
                policy.max_stall,
                len(held),
            )
            return
        now = self._engine.clock.time()
        changes = [
            Change(name, partial(transitions.renew, holder=holder, now=now, lease=policy.duration))
            for name, holder in held
        ]
        try:
            outcomes = self._engine.gateway.apply_from_thread(changes)
        except RuntimeError:
            return  # closed meanwhile
        lost = [
            (holder, outcome)
            for (_, holder), outcome in zip(held, outcomes, strict=True)
            if isinstance(outcome, LroError)
        ]
        if lost:
            loop.call_soon_threadsafe(self._lost, lost)

    async def drain(self, timeout: float, *, closing: bool = False) -> None:
        """Stop claiming; give the runs ``timeout`` real seconds; then release them for other processes (rule 5).

        Args:
            timeout: See above.
            closing: Nobody uses the client any more: from the release on, the store has only a moment.
        """
        self.draining = True
        woken = [record for record, _ in self._ready.values()]
        self._ready.clear()
        try:
            await self._engine.dispatcher.hand_back(woken)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE):  # a claim that is answered later is released by its lease
                    await self._no_claims.wait()
            tasks = [run.task for run in self.running.values() if run.task is not None]
            if tasks:
                logger.info("%d handlers still run; they have %g s, then other processes go on", len(tasks), timeout)
            if tasks and timeout > 0:
                await asyncio.wait(tasks, timeout=timeout)
            for run in list(self.running.values()):
                run.cancel(CancelReason.SHUTDOWN)
            tasks = [run.task for run in self.running.values() if run.task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=STOP_GRACE)
            if self.running:
                stuck = sorted(run.record.name for run in self.running.values())
                logger.error("%d handlers ignore their cancellation; their leases go: %s", len(stuck), stuck[:5])
        finally:  # also when whoever closes is cancelled: other processes must not wait for the leases to end
            for run in list(self.running.values()):
                run.cancel(CancelReason.SHUTDOWN)
            if closing:
                self._engine.gateway.hurry()
            await self._release(list(self._held.values()))

    def close(self) -> None:
        """Stop renewing, for good. Blocks until a renewal that is under way has ended."""
        self._closed = True
        if self._stop_ticker is not None:
            self._stop_ticker()
            self._stop_ticker = None

    async def _release(self, held: list[tuple[str, Holder]]) -> None:
        now = self._engine.clock.time()
        changes = [Change(name, partial(transitions.release, holder=holder, now=now)) for name, holder in held]
        for outcome in await asyncio.gather(*map(self._engine.apply, changes), return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, LeaseLostError | OperationDoneError):
                logger.warning("a lease was not released and will expire by itself: %s", outcome)

    def _note_alive(self) -> None:
        self._alive = time.monotonic()

    def _lost(self, lost: list[tuple[Holder, LroError]]) -> None:
        """Evidence that a claim changed stops a run; an unreachable store is none (rule 4)."""
        for holder, outcome in lost:
            if isinstance(outcome, StoreUnavailableError):
                continue
            self.let_go(holder)
            run = self.running.get(holder.uid)
            if run is not None and run.holder == holder:
                run.cancel(CancelReason.LEASE_LOST)

    async def _run(self, run: Run) -> None:
        after: Record | None = None
        try:
            outcome = await runs.execute(self._engine, run)
            if outcome is not None:
                after = await self._commit(run, outcome)
        except Exception:  # a defect of ours must not take the worker down; the lease expires and the row is repaired
            logger.exception("the run of %s ended without a result", run.record.name)
        finally:
            self.let_go(run.holder)
            self.running.pop(run.record.uid, None)
            if run.operation is not None:
                run.operation.retire()
            run.ended.set()
            self._engine.dispatcher.freed()
        if after is not None and (not after.done or after.cancel_children):
            await self._engine.dispatcher.after_run(after)

    async def _commit(self, run: Run, outcome: runs.Outcome) -> Record | None:
        """Commit, however long the store is away; a commit whose answer was lost is recognized as ours."""
        holder = run.holder
        attempt = 0
        refused = False
        while True:
            event: Any = partial(outcome.event, holder=holder, now=self._engine.clock.time())
            try:
                return await self._engine.apply(Change(run.record.name, event, size=outcome.size))
            except StoreUnavailableError as exc:
                if self.draining:
                    logger.warning("%s is left to its lease: %s", run.record.name, exc)
                    return None
                await sleep_until(self._engine.clock, self._engine.clock.time() + COMMIT_RETRY.delay(attempt))
                attempt += 1
            except (LeaseLostError, OperationDoneError, OperationNotFoundError) as exc:
                if attempt:
                    written = await self._engine.gateway.read(run.record.name)
                    if written is not None and (written.uid, written.claim) == (holder.uid, holder.claim):
                        return written
                logger.info("what the run of %s left is not written: %s", run.record.name, exc)
                return None
            except LroError:
                raise
            except Exception as exc:
                logger.exception("the store refuses what the run of %s left", run.record.name)
                outcome = runs.refused(self._engine, exc)
                if refused:
                    raise
                refused = True
