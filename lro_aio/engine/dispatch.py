"""Who goes on with a row: this process now, this process once it has a slot, the scheduler, or another process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import bookkeeping, failing, names, straight
from lro_aio.core import trials as core_trials
from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import (
    InvalidOperationNameError,
    InvalidTokenError,
    InvalidTransitionError,
    LroError,
    OperationBusyError,
    OperationDoneError,
    OperationNotFoundError,
    StoreRefusedError,
    StoreSchemaError,
    StoreUnavailableError,
    WorkerUnavailableError,
)
from lro_aio.core.logs import about, event
from lro_aio.core.policies import grown
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason
from lro_aio.engine.changes import Feed
from lro_aio.engine.children import RETRY_AFTER, Children
from lro_aio.engine.evidence import Evidence
from lro_aio.engine.handlers import Handler, Runnable
from lro_aio.engine.keeping import Keeper
from lro_aio.engine.life import Life
from lro_aio.engine.rows import Rows
from lro_aio.engine.run import Run
from lro_aio.engine.settings import Settings
from lro_aio.engine.slots import Slots
from lro_aio.engine.standstill import Standstill
from lro_aio.engine.tasks import Tasks
from lro_aio.engine.timing import sleep_for, timeout_at
from lro_aio.engine.trials import Trials
from lro_aio.engine.worker import Told, Worker
from lro_aio.ports import Clock, Scheduler

__all__ = ["HANDOVER_RETRY", "Dispatcher"]

logger = logging.getLogger("lro_aio")

OUTAGE_PAUSE = 1.0
"""Real seconds before a claim that the store did not answer is repeated."""
CLOCK_SLACK = 5.0
"""Seconds by which a wake-up may come early and is kept waiting, not sent back."""
HANDOVER_RETRY = 5.0
"""Seconds after which a wait that a scheduler did not take is handed over again; doubled each time."""
HANDOVER_RETRY_MOST = 60.0
"""Seconds up to which that delay grows."""
CLOSE_WAIT = 5.0
"""Real seconds for claims that are under way when the client closes."""


class Dispatcher:
    """Moves rows between the store, the scheduler and the worker of one engine (``ports.SchedulerHost``)."""

    def __init__(
        self,
        worker: Worker,
        scheduler: Scheduler,
        *,
        rows: Rows,
        slots: Slots,
        trials: Trials,
        evidence: Evidence,
        runnable: Runnable,
        children: Children,
        keeper: Keeper,
        standstill: Standstill,
        feed: Feed,
        settings: Settings,
        clock: Clock,
        life: Life,
    ) -> None:
        self.clock = clock
        self._worker = worker
        self._scheduler = scheduler
        self._rows = rows
        self._slots = slots
        self._trials = trials
        self._evidence = evidence
        self._runnable = runnable
        self._children = children
        self._keeper = keeper
        self._standstill = standstill
        self._feed = feed
        self._settings = settings
        self._life = life
        self._tasks = Tasks()
        self._alarms: dict[str, Callable[[], None]] = {}
        """By name, for rows that need no slot: the undo of the timer that wakes them."""
        self._resting = False
        """The store did not answer a claim a moment ago: nothing that waits for a slot is claimed now."""
        # A scheduler of somebody else's may be older than the question.
        self._watches: Callable[[str], bool] = getattr(scheduler, "watches", lambda _: False)

    async def close(self) -> None:
        """Wait for the claims that are under way."""
        for cancel in self._alarms.values():
            cancel()
        await self._tasks.wait(CLOSE_WAIT)

    async def resume(
        self,
        name: str,
        token: str,
        *,
        reason: WakeReason | None,
        pending: Sequence[str] = (),
        error: str = "",
        early: bool = True,
        visit: int | None = None,
    ) -> Run | None:
        """Claim a suspended row and run it here; None for "nothing to do" (rule 7).

        Args:
            name: Resource name.
            token: The wait's.
            reason: Why it wakes. None: whoever calls gave up its watch; what is true is looked for here, and a wait
                that goes on is handed over again.
            pending: Children that have not ended.
            error: What the scheduler could not do.
            early: Wake it even if its sleep is not over. False hands it over again: a scheduler that reaches less far
                than the wait comes before its end.
            visit: The row's ``handover`` when the scheduler took the wait, if it says so. A wait that goes on is handed
                over again only once that is noted: the new hand-over would pass for the old one.

        Raises:
            OperationBusyError: A live run holds the row.
            WorkerUnavailableError: It cannot run here now.
            StoreUnavailableError: The store did not answer.
        """
        found = await self._find_waiting(name, token)
        if found is None:
            return None
        record, wait, handler = found
        late = failing.expired(record, self.clock.time())  # the claim fails it
        if record.state is State.SUSPENDED and (reason is None or not early) and not late:
            await self._sit_out(wait)
            if reason is None or wait.doubts(reason, self.clock.time()):
                reason, pending = await self._children.reason(wait)
            if reason is None:
                if visit is not None and record.handover <= visit:
                    raise WorkerUnavailableError("its hand-over is not noted yet", retry_after=RETRY_AFTER)
                # Whoever brought it is about to end, although the scheduler may still count it as alive.
                await self.hand_over(record.evolve(schedule_handle=""))
                return None
        waited = set(wait.children)  # whoever calls says which, and could say anything
        pending = [child for child in pending if child in waited]
        wake = wait.wake(reason or WakeReason.ELAPSED, pending, error)
        try:
            return await self._claim(record, handler, token, wake)
        except OperationBusyError:
            raise
        except (InvalidTokenError, InvalidTransitionError, OperationDoneError, OperationNotFoundError):
            return None

    async def _find_waiting(self, name: str, token: str) -> tuple[Record, Wait, Handler] | None:
        """A row that nobody holds, with the wait of this token; None where there is none. Raises as ``resume``.

        Where runs belong into the scheduler's requests, so does the watch over a lease that is over: between them the
        process may stand still, and the next request may come to another one.
        """
        try:
            names.parse(name)
        except InvalidOperationNameError:
            return None
        while True:
            record = await self._rows.find(name)
            if record is None or record.done or record.wait is None or record.wait.token != token:
                return None
            if record.paused and record.state is not State.RUNNING:
                return None
            handler = await self._free_for(record)
            if handler is not None:
                return record, record.wait, handler
            await sleep_for(self.clock, self._evidence.step)

    async def _free_for(self, record: Record) -> Handler | None:
        """The handler of a row that nobody holds, and for which there is a slot here. Raises as ``resume``.

        None where that is still to be seen, and whoever asks stays for so long.
        """
        handler = self._runnable.find(record)
        if handler is None:
            raise WorkerUnavailableError(f"handler {record.handler!r} does not run here")
        now = self.clock.time()
        if not self._evidence.is_over(record, now):
            raise OperationBusyError(record.name, max(0.0, (record.lease_expire_time or 0.0) - now))
        proven = record.state is not State.RUNNING or self.may_take_over(record)
        if not proven:
            await self.try_store(record)
            if self._settings.dispatch != "scheduler":
                raise OperationBusyError(record.name, self._evidence.interval)
        if not self._slots.has_room(light=handler.light):
            raise WorkerUnavailableError("it is shutting down" if self._life.draining else "it is full")
        return handler if proven else None

    def may_take_over(self, record: Record) -> bool:
        """Whether a row whose lease is over may be taken (rule 4): our own is renewed, another's needs evidence."""
        return not self._worker.holds(record.uid) and self._evidence.proves_dead(record)

    async def try_store(self, record: Record) -> None:
        """See whether the store takes writes, by one to this row, whose lease is over: else it proves nothing."""
        if not self._worker.holds(record.uid) and self._evidence.wants_trial():
            asked = self.clock.monotonic()
            try:
                await self._rows.submit(Change(record.name, partial(bookkeeping.touch, found=record)))
            except (StoreRefusedError, StoreSchemaError):
                self._evidence.clear()
                raise
            finally:
                self._evidence.answered(asked)

    async def _sit_out(self, wait: Wait) -> None:
        """Stay for the rest of a sleep that is all but over: the scheduler's clock is a little ahead of ours."""
        left = wait.ends - self.clock.time()
        if 0 < left <= CLOCK_SLACK:
            await sleep_for(self.clock, left)

    def fill_slots(self) -> None:
        """Slots may be free: claim what waits for one."""
        if self._resting:
            return
        for record, wake in self._slots.take_waiting():
            self._slots.give_up(record.name)
            handler = self._runnable.find(record)
            if handler is not None and not self._waits_for_trial(record, handler, wake):
                told = partial(self._told_of_queued, record, wake)
                self._worker.begin_claim(record, handler, token=_token(record, wake), wake=wake, told=told)

    async def go_on(self, record: Record) -> None:
        """Do what a commit asks for next: hand a wait over, or run a clean-up.

        Nothing here may fail its caller: the commit stands, and the sweep repairs what is left undone.
        """
        try:
            if record.state is State.SUSPENDED:
                await self.hand_over(record)
            elif record.state is State.PENDING and not self._life.draining and self._is_due(record):
                await self.run_or_hand_over(record)
        except (LroError, RuntimeError) as exc:
            logger.warning("%s is left to the sweep: %s", record.name, exc, extra=about(record, "left_to_sweep"))

    def _is_due(self, record: Record) -> bool:
        """Whether a pending row may run: not while it stands in line for a place.

        A claimed one with a later time was left to a process of a newer release.
        """
        if record.check_time is None or record.in_line:
            return False
        return not record.claim or record.check_time <= self.clock.time()

    async def offer(self, record: Record) -> None:
        """Hand a wait over that was just committed; what fails is left to the sweep."""
        try:
            await self.hand_over(record)
        except LroError as exc:
            logger.warning("%s is left to the sweep: %s", record.name, exc, extra=about(record, "left_to_sweep"))

    async def hand_over(self, record: Record) -> None:
        """Give a wait to the scheduler and note that it has it."""
        wait = record.wait
        if wait is None or record.paused:
            return
        now = self.clock.time()
        handle: str | None
        try:
            handle = await self._scheduler.schedule(record.evolve(wait=wait.bounded()))
        except StoreUnavailableError:
            raise
        except Exception as exc:  # noqa: BLE001 (whatever the scheduler raised, the row is safe and comes again)
            delay = grown(HANDOVER_RETRY, 2, record.handover, HANDOVER_RETRY_MOST)
            logger.warning(
                "the scheduler did not take %s; the next attempt is in %.0f s: %s",
                record.name,
                delay,
                exc,
                extra=about(record, "handover_failed"),
            )
            await self._note_handover(record, wait, now + delay, "")
            return
        self._standstill.note(record)
        if self._scheduler.local:
            self._set_alarm(record, wait.ends - now)
        await self._keeper.waited_for(record, self._scheduler.horizon)
        if handle is not None:
            checks = [now + self._scheduler.horizon, wait.ends, wait.deadline or 0.0, wait.news or 0.0]
            await self._note_handover(record, wait, min(check for check in checks if check > now), handle)

    def _set_alarm(self, record: Record, delay: float) -> None:
        """Wake a row that needs no slot: where there is none left, the sweep does not look for what is due."""
        handler = self._runnable.find(record)
        if handler is None or not handler.light:
            return

        def ring() -> None:
            del self._alarms[record.name]
            self.push(record)

        self._alarms.pop(record.name, lambda: None)()
        if delay > 0:
            self._alarms[record.name] = self.clock.call_later(delay, ring)

    async def run_or_hand_over(self, record: Record) -> None:
        """Run a row that is ready: here, or through the scheduler where runs belong into its requests."""
        if record.wait is not None and self._settings.dispatch == "scheduler":
            await self.hand_over(record)
            return
        handler = self._runnable.find(record)
        if handler is not None:
            await self._claim_or_wait(record, handler, None)

    def watches(self, name: str) -> bool:
        """Whether this process hears by itself when what a suspended operation waits for has ended."""
        return self._watches(name)

    def push(self, record: Record) -> None:
        """Wake a suspended operation whose wait was found to be over, in the background.

        It is run here; handed to a remote scheduler at once, without the polls that its wait had; or made due for the
        processes that can run it.
        """
        self._tasks.spawn(self._push(record))

    async def _push(self, record: Record) -> None:
        wait = record.wait
        if wait is None or record.paused or self._life.draining:
            return
        try:
            reason, pending = await self._children.reason(wait)
            if not self._scheduler.local:
                if reason is not None or wait.news is not None:
                    over = wait.told(self.clock.time())  # nothing is left to poll
                    await self.hand_over(record.evolve(schedule_handle="", wait=over))
            elif reason is not None and self._runnable.find(record) is not None:
                await self.wake(record, reason, pending=pending)
            elif reason is not None:
                ripened = partial(straight.ripened, token=wait.token, now=self.clock.time())
                await self._rows.submit(Change(record.name, ripened))
        except (LroError, RuntimeError) as exc:
            logger.info("%s is left to the sweep: %s", record.name, exc, extra=about(record, "left_to_sweep"))

    @property
    def lease(self) -> float:
        """Seconds that a claim lasts without renewal; longer where no other process could take a wait over."""
        return max(self._settings.lease.duration, self._rows.store.foreign_poll_interval or 0.0)

    @property
    def notices(self) -> bool:
        """Whether the store tells of other processes' commits."""
        return self._rows.has_notices

    async def wake(self, record: Record, reason: WakeReason, *, pending: Sequence[str] = ()) -> None:
        """Claim a suspended row and run it here, now or as soon as there is a free slot."""
        handler = self._runnable.find(record)
        if record.wait is not None and handler is not None:
            await self._claim_or_wait(record, handler, record.wait.wake(reason, pending))

    def wants_slot(self, record: Record, now: float) -> Handler | None:
        """The handler of a due row that wants nothing but a slot here; None for any other row."""
        handler = self._runnable.find(record)
        if handler is None or self._slots.closed or (record.cancel_requested and record.cancel_children):
            return None
        wait = record.wait
        if record.state is State.PENDING:
            return handler if wait is None or self._settings.dispatch != "scheduler" else None
        if record.state is not State.SUSPENDED or wait is None or not self._scheduler.local:
            return None
        return handler if wait.ripe(now) else None

    def claim_due(self, record: Record, handler: Handler, told: Told) -> bool:
        """Claim a row that wants nothing but a slot, and run it; False where it waits for one, or for its turn.

        Args:
            record: The row.
            handler: Its handler.
            told: Called with what became of the claim.
        """
        wait = record.wait if record.state is State.SUSPENDED else None
        wake = None if wait is None else wait.wake(wait.reason(self.clock.time(), ()) or WakeReason.ELAPSED)
        if self._waits_for_trial(record, handler, wake):
            return False
        if not _ends_by_claim(record, handler) and not self._slots.has_free(light=handler.light):
            self._slots.wait(record, wake, light=handler.light)
            return False
        self._worker.begin_claim(record, handler, token=_token(record, wake), wake=wake, told=told)
        return True

    async def hand_back(self, records: Sequence[Record]) -> None:
        """Make these waits due at once, so that another process watches them; best effort."""
        now = self.clock.time()
        notes = (self._note_handover(record, record.wait, now, "") for record in records if record.wait is not None)
        for failure in await asyncio.gather(*notes, return_exceptions=True):
            if isinstance(failure, Exception):
                logger.warning(
                    "another process finds a wait only within a lease's time: %s",
                    failure,
                    extra=event("not_handed_back"),
                )

    async def unfinished(self, names: Sequence[str]) -> set[str]:
        """Those of the client's own operations that have not ended."""
        return await self._rows.unfinished(list(names))

    def has_service(self, name: str) -> bool:
        """Whether this process has the foreign service of this name."""
        return name in self._children.services

    async def poll(
        self, service: str, names: Sequence[str], *, until: float | None = None
    ) -> list[operations_pb2.Operation]:
        """Operations of a foreign service."""
        bound = None if until is None else self.clock.monotonic() + until - self.clock.time()
        async with timeout_at(self.clock, bound):
            return await self._children.read_foreign(names, self._children.service(service))

    def listen(self, commit: Callable[[str, Record | None], None], elsewhere: Callable[[], None]) -> Callable[[], None]:
        """Hear of every row that this process commits, and that another process committed something."""
        return self._feed.listen(commit, elsewhere)

    async def _note_handover(self, record: Record, wait: Wait, check_time: float, handle: str) -> None:
        noted = partial(
            bookkeeping.handed_over,
            now=self.clock.time(),
            token=wait.token,
            check_time=check_time,
            handle=handle,
            revision=record.revision,
        )
        try:
            await self._rows.submit(Change(record.name, noted))
        except (InvalidTokenError, OperationNotFoundError) as exc:
            logger.debug("%s was woken meanwhile: %s", record.name, exc, extra=about(record, "woken_meanwhile"))
            found = await self._rows.find(record.name) if handle else record
            if found is None or found.done:  # it has ended: nobody else would tell the scheduler
                await self.forget_wait(record.evolve(schedule_handle=handle))

    async def _claim_or_wait(self, record: Record, handler: Handler, wake: Wake | None) -> None:
        """Claim a row now, or once there is a slot for it.

        Args:
            record: The row.
            handler: Its handler.
            wake: Why it wakes; None for a row that waits for nothing.
        """
        if self._waits_for_trial(record, handler, wake):
            return
        if not _ends_by_claim(record, handler) and not self._slots.has_free(light=handler.light):
            if not self._life.draining:
                self._slots.wait(record, wake, light=handler.light)
            elif wake is not None:
                await self.hand_back([record])
            return
        try:
            await self._worker.claim(record, handler, token=_token(record, wake), wake=wake)
        except StoreUnavailableError:
            raise
        except LroError as exc:
            _log_not_claimed(record, exc)

    def observe(self, name: str, record: Record | None) -> None:
        """A row was committed, or found: where it waits for a trial that it needs no more, it waits no longer."""
        if name not in self._trials.waiting:
            return
        handler = None if record is None or record.done else self._runnable.find(record)
        if record is None or handler is None or not self._trial(record, handler):
            self._trials.leave(name)

    def _trial(self, record: Record, handler: Handler) -> float:
        """Seconds for which the next run of a row is on trial here; 0 for none, also where it will not run."""
        if _ends_by_claim(record, handler):
            return 0.0
        return core_trials.length(record, self._settings.lease.duration)

    def _waits_for_trial(self, record: Record, handler: Handler, wake: Wake | None) -> bool:
        """Whether a row is a suspect; then it is claimed once it is its turn."""
        if not self._trial(record, handler):
            return False
        self._tasks.spawn(self._claim_suspect(record, handler, wake))
        return True

    async def _claim(self, record: Record, handler: Handler, token: str | None, wake: Wake | None) -> Run | None:
        """Claim a row and run it: now, or for a suspect when it is its turn."""
        length = self._trial(record, handler)
        if not length:
            return await self._worker.claim(record, handler, token=token, wake=wake)
        company = await self._trials.turn(record.name, length=length, most=core_trials.company(record))
        run = None
        try:
            run = await self._worker.claim(record, handler, token=token, wake=wake, company=company)
        finally:
            if run is None:
                self._trials.over(record.name)
            else:
                self._tasks.spawn(self._end_trial(run, length))
        return run

    async def _claim_suspect(self, record: Record, handler: Handler, wake: Wake | None) -> None:
        """Claim a suspect when it is its turn; what fails is left to the sweep."""
        try:
            await self._claim(record, handler, _token(record, wake), wake)
        except LroError as exc:
            _log_not_claimed(record, exc)

    async def _end_trial(self, run: Run, length: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with timeout_at(self.clock, self.clock.monotonic() + length):
                await run.ended()
        self._trials.over(run.record.name)

    def _told_of_queued(self, record: Record, wake: Wake | None, outcome: Outcome, run: Run | None) -> None:
        """What became of the claim of what waited for a slot; one that the store did not answer is repeated."""
        if run is not None or outcome is None:
            return
        if isinstance(outcome, Record):  # the claim ended it: a cancel may have to be passed on
            self._tasks.spawn(self._worker.after(outcome))
        elif isinstance(outcome, StoreUnavailableError):
            logger.warning(
                "the claim of %s failed and is repeated: %s", record.name, outcome, extra=about(record, "claim_failed")
            )
            handler = self._runnable.find(record)
            self._slots.wait(record, wake, light=handler is not None and handler.light)
            if not self._resting:  # the others that wait must not be tried in turn meanwhile, again and again
                self._resting = True
                self._life.loop.call_later(OUTAGE_PAUSE, self._rested)
        elif isinstance(outcome, LroError):
            _log_not_claimed(record, outcome)
        else:  # the sweep finds it again
            logger.error("%s could not be claimed", record.name, exc_info=outcome, extra=about(record, "claim_refused"))

    def _rested(self) -> None:
        self._resting = False
        self._slots.tell_free()

    async def forget_wait(self, record: Record) -> None:
        """Tell the scheduler that nobody waits any more, best effort."""
        try:
            await self._scheduler.cancel(record)
        except Exception as exc:  # noqa: BLE001 (best effort: a wake-up that comes all the same has nothing to do)
            logger.warning(
                "the scheduler still has the wait of %s: %s",
                record.name,
                exc,
                extra=about(record, "wait_not_forgotten"),
            )


def _ends_by_claim(record: Record, handler: Handler) -> bool:
    """Whether nothing of a row will run any more: its claim ends it, since it was cancelled and has no clean-up."""
    return record.cancel_requested and not record.cleaning and not handler.on_cancel


def _token(record: Record, wake: Wake | None) -> str | None:
    """The resume token that a claim needs; None for a row that nothing has to wake."""
    return record.wait.token if wake is not None and record.wait is not None else None


def _log_not_claimed(record: Record, exc: LroError) -> None:
    """Another process was first."""
    logger.debug("%s was not claimed: %s", record.name, exc, extra=about(record, "not_claimed"))
