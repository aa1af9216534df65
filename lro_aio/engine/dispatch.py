"""Who runs what, and when: resuming, handing over to the scheduler, passing a cancel on to children."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import (
    InvalidOperationNameError,
    InvalidTokenError,
    InvalidTransitionError,
    LroError,
    OperationBusyError,
    OperationDoneError,
    OperationNotFoundError,
    StoreUnavailableError,
    WorkerUnavailableError,
)
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason
from lro_aio.engine.handlers import Handler
from lro_aio.engine.run import Run
from lro_aio.engine.timing import timeout_at, wait_event
from lro_aio.ports import Clock, ListQuery

if TYPE_CHECKING:
    from lro_aio.engine.engine import Engine

__all__ = ["Dispatcher"]

logger = logging.getLogger("lro_aio")

OUTAGE_PAUSE = 1.0
"""Real seconds before a claim that the store did not answer is repeated."""
CLOCK_SLACK = 5.0
"""Seconds by which a wake-up may come early and is kept waiting, not sent back."""
RETRY_AFTER = 1.0
"""Seconds after which a foreign service that did not answer is asked again."""
HANDOVER_RETRY = 5.0
"""Seconds after which a wait that a scheduler did not take is handed over again; doubled up to a minute."""


class Dispatcher:
    """Moves rows between the store, the scheduler and the worker of one engine (``ports.SchedulerHost``)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for the claims that are under way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

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
        self._engine.check_open()
        try:
            names.parse(name)
        except InvalidOperationNameError:
            return None
        record = await self._engine.gateway.read(name)
        if record is None or record.done or record.wait is None or record.wait.token != token:
            return None
        handler = self._engine.handlers.find(record.handler)
        if not self._engine.settings.worker or handler is None or not handler.runs(record.resume_point):
            raise WorkerUnavailableError(f"handler {record.handler!r} does not run here")
        now = self.clock.time()
        if record.lease_live(now):
            raise OperationBusyError(name, max(0.0, (record.lease_expire_time or 0.0) - now))
        if record.state is State.RUNNING and (self._engine.worker.holds(record.uid) or now < self._engine.grace_until):
            # Rule 4: a lease of our own is renewed, not claimed; after an outage everybody gets time to renew first.
            raise OperationBusyError(name, max(1.0, self._engine.grace_until - now))
        if self._engine.worker.free <= 0:
            raise WorkerUnavailableError("it is shutting down" if self._engine.draining else "it is full")
        if record.state is State.SUSPENDED and (reason is None or not early):
            await self._sit_out(record.wait)
            if reason is None or record.wait.sleep_until > self.clock.time():
                reason, pending = await self._look(record.wait)
            if reason is None:
                if visit is not None and record.handover <= visit:
                    raise WorkerUnavailableError("its hand-over is not noted yet", retry_after=RETRY_AFTER)
                # Whoever brought it is about to end, although the scheduler may still count it as alive.
                await self.hand_over(record.evolve(schedule_handle=""))
                return None
        wake = Wake(
            reason=reason or WakeReason.ELAPSED,
            children=record.wait.children,
            service=record.wait.service,
            pending=tuple(pending),
            error=error,
        )
        try:
            return await self._engine.worker.claim(record, handler, token=token, wake=wake)
        except OperationBusyError:
            raise
        except (InvalidTokenError, InvalidTransitionError, OperationDoneError, OperationNotFoundError):
            return None

    async def _sit_out(self, wait: Wait) -> None:
        """Stay for the rest of a sleep that is all but over: the scheduler's clock is a little ahead of ours."""
        if 0 < wait.sleep_until - self.clock.time() <= CLOCK_SLACK:
            await wait_event(self.clock, asyncio.Event(), wait.sleep_until)

    async def _look(self, wait: Wait) -> tuple[WakeReason | None, Sequence[str]]:
        """Why a suspended row may run now, and which children are pending; no reason: it may not."""
        if wait.sleep_until > self.clock.time():
            return None, ()
        if not wait.children:
            return WakeReason.ELAPSED, ()
        try:
            pending = await self.pending(wait)
        except (WorkerUnavailableError, StoreUnavailableError):
            if not wait.over(self.clock.time()):
                raise
            pending = list(wait.children)  # the timeout bounds the wait also where nobody can tell
        if not pending:
            return WakeReason.CHILDREN_DONE, ()
        return (WakeReason.CHILDREN_TIMEOUT if wait.over(self.clock.time()) else None), pending

    async def pending(self, wait: Wait, among: Sequence[str] | None = None) -> list[str]:
        """The children of a wait that have not ended, in their order; None of ``among``: all of them.

        Raises:
            WorkerUnavailableError: The service that has them is not known here.
            StoreUnavailableError: They cannot be read now.
        """
        asked = None if among is None else set(among)
        children = [name for name in wait.children if asked is None or name in asked]
        if not wait.service:
            unfinished = await self.unfinished(children)
            return [name for name in children if name in unfinished]
        if not self.has_service(wait.service):
            raise WorkerUnavailableError(f"service {wait.service!r} is not known here")
        try:
            read = await self.poll(wait.service, children)
        except LroError:
            raise
        except Exception as exc:  # a foreign stub raises what it likes
            problem = f"service {wait.service!r} does not give its operations"
            raise StoreUnavailableError(problem, retry_after=RETRY_AFTER) from exc
        return [name for name, child in zip(children, read, strict=True) if not child.done]

    def freed(self) -> None:
        """A run has ended or a claim was refused: start what waits for a place."""
        if self._engine.worker.waiting:
            for record, wake in self._engine.worker.take_ready():
                self._spawn(self._claim_queued(record, wake))
        self._engine.sweeper.freed(self._engine.worker.waiting)

    async def after_run(self, record: Record) -> None:
        """Do what a commit asks for next: hand a wait over, run a clean-up, pass a cancel on.

        Nothing here may fail its caller: the commit stands, and the sweep repairs what is left undone.
        """
        try:
            if record.cancel_children and record.cancel_requested:
                await self.cascade(record)
            if record.state is State.SUSPENDED:
                await self.hand_over(record)
            elif record.state is State.PENDING and not self._engine.draining and self._is_due(record):
                await self.run_or_hand_over(record)
        except (LroError, RuntimeError) as exc:
            logger.warning("%s is left to the sweep: %s", record.name, exc)

    def _is_due(self, record: Record) -> bool:
        """Whether a pending row may run; a claimed one with a later time was left to a process of a newer release."""
        return not record.claim or (record.check_time or 0.0) <= self.clock.time()

    async def offer(self, record: Record) -> None:
        """Hand a wait over that was just committed; what fails is left to the sweep."""
        try:
            await self.hand_over(record)
        except LroError as exc:
            logger.warning("%s is left to the sweep: %s", record.name, exc)

    async def hand_over(self, record: Record) -> None:
        """Give a wait to the scheduler and note that it has it."""
        wait = record.wait
        if wait is None:
            return
        now = self.clock.time()
        handle: str | None
        try:
            handle = await self._engine.scheduler.schedule(record)
        except StoreUnavailableError:
            raise
        except Exception as exc:  # noqa: BLE001 (whatever the scheduler raised, the row is safe and comes again)
            delay = min(60.0, HANDOVER_RETRY * 2 ** min(record.handover, 8))
            logger.warning("%s could not be handed over and is again in %.0f s: %s", record.name, delay, exc)
            await self._note_handover(record, wait, now + delay, "")
            return
        if handle is not None:
            looks = [now + self._engine.scheduler.horizon, wait.sleep_until, wait.deadline or 0.0]
            await self._note_handover(record, wait, min(look for look in looks if look > now), handle)

    async def run_or_hand_over(self, record: Record) -> None:
        """Run a row that is ready: here, or through the scheduler where runs belong into its requests."""
        if record.wait is not None and self._engine.settings.dispatch == "scheduler":
            await self.hand_over(record)
            return
        handler = self._engine.handlers.find(record.handler)
        if not self._engine.settings.worker or handler is None or not handler.runs(record.resume_point):
            return
        if self._engine.worker.free <= 0:
            self._engine.sweeper.saturated = True
            if not self._engine.draining:
                self._engine.worker.queue(record, None)
            return
        await self._claim_due(record, handler)

    async def cascade(self, record: Record) -> None:
        """Pass a cancel on to the operations that this one started; then note that it was."""
        after: tuple[float, str] | None = None
        while True:
            query = ListQuery(now=self.clock.time(), limit=500, parent_operation=record.name, done=False, after=after)
            children = await self._engine.gateway.call(partial(self._engine.gateway.store.list, query))
            cancels = (self._engine.cancel(child.name) for child in children)
            results = await asyncio.gather(*cancels, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, OperationNotFoundError):
                    raise result
            if len(children) < query.limit:
                break
            after = (children[-1].create_time, children[-1].name)
        if record.done:
            await self._engine.apply(Change(record.name, partial(transitions.cascaded, now=self.clock.time())))

    @property
    def clock(self) -> Clock:
        """Engine time."""
        return self._engine.clock

    @property
    def lease(self) -> float:
        """Seconds that a claim lasts without renewal; longer where no other process could take a wait over."""
        return max(self._engine.lease_policy.duration, self._engine.gateway.store.foreign_poll_interval or 0.0)

    @property
    def notices(self) -> bool:
        """Whether the store tells of other processes' commits."""
        return self._engine.gateway.store.foreign_poll_interval is not None

    async def wake(self, record: Record, reason: WakeReason, *, pending: Sequence[str] = ()) -> None:
        """Claim a suspended row and run it here, now or as soon as there is a free place."""
        wait = record.wait
        if wait is None:
            return
        wake = Wake(reason=reason, children=wait.children, service=wait.service, pending=tuple(pending))
        if self._engine.worker.free <= 0:
            self._engine.sweeper.saturated = True
            if self._engine.draining:
                await self.hand_back([record])
            else:
                self._engine.worker.queue(record, wake)
            return
        await self._claim_woken(record, wake)

    def wants_place(self, record: Record, now: float) -> bool:
        """Whether a due row only wants a place here, and nothing else before."""
        engine, handler = self._engine, self._engine.handlers.find(record.handler)
        if not engine.settings.worker or engine.draining or handler is None or not handler.runs(record.resume_point):
            return False
        wait = record.wait
        if record.state is State.PENDING:
            return wait is None or engine.settings.dispatch != "scheduler"
        if record.state is not State.SUSPENDED or wait is None:
            return False
        return engine.scheduler.local and not wait.children and wait.sleep_until <= now

    def put_off(self, record: Record) -> None:
        """Keep a row that only wants a place until there is one."""
        self._engine.sweeper.saturated = True
        wake = Wake(reason=WakeReason.ELAPSED) if record.state is State.SUSPENDED else None
        self._engine.worker.queue(record, wake)

    async def hand_back(self, records: Sequence[Record]) -> None:
        """Make these waits due at once, so that another process watches them; best effort."""
        now = self.clock.time()
        notes = (self._note_handover(record, record.wait, now, "") for record in records if record.wait is not None)
        for failure in await asyncio.gather(*notes, return_exceptions=True):
            if isinstance(failure, Exception):
                logger.warning("a wait is found by another process only within a lease's time: %s", failure)

    async def unfinished(self, names: Sequence[str]) -> set[str]:
        """Those of the client's own operations that have not ended."""
        return await self._engine.gateway.call(self._engine.gateway.store.unfinished, names)

    def has_service(self, name: str) -> bool:
        """Whether this process has the foreign service of this name."""
        return name in self._engine.services

    async def poll(
        self, service: str, names: Sequence[str], *, until: float | None = None
    ) -> list[operations_pb2.Operation]:
        """Operations of a foreign service."""
        async with timeout_at(self.clock, until):
            return await self._engine.children.read_foreign(names, self._engine.resolve_service(service))

    def listen(self, commit: Callable[[str, Record | None], None], elsewhere: Callable[[], None]) -> Callable[[], None]:
        """Hear of every row that this process commits, and that another process committed something."""
        return self._engine.notices.listen(commit, elsewhere)

    async def _note_handover(self, record: Record, wait: Wait, check_time: float, handle: str) -> None:
        event = partial(
            transitions.handed_over,
            token=wait.token,
            check_time=check_time,
            handle=handle,
            revision=record.revision,
        )
        try:
            await self._engine.apply(Change(record.name, event))
        except (InvalidTokenError, OperationNotFoundError) as exc:
            logger.debug("%s was woken meanwhile: %s", record.name, exc)

    async def _claim_woken(self, record: Record, wake: Wake) -> None:
        handler = self._engine.handlers.find(record.handler)
        if handler is None or not handler.runs(record.resume_point) or record.wait is None:
            return
        await self._claim_due(record, handler, token=record.wait.token, wake=wake)

    async def _claim_due(
        self, record: Record, handler: Handler, *, token: str | None = None, wake: Wake | None = None
    ) -> None:
        try:
            await self._engine.worker.claim(record, handler, token=token, wake=wake)
        except StoreUnavailableError:
            raise
        except LroError as exc:
            logger.debug("%s was not claimed: %s", record.name, exc)  # another process was first

    async def _claim_queued(self, record: Record, wake: Wake | None) -> None:
        """Claim what waited for a place; a claim that the store did not answer is repeated."""
        self._engine.worker.claim_reserved(record.name)
        try:
            if wake is None:
                await self.run_or_hand_over(record)
            else:
                await self._claim_woken(record, wake)
        except StoreUnavailableError as exc:
            logger.warning("%s could not be claimed and is again: %s", record.name, exc)
            self._engine.worker.queue(record, wake)
            self._engine.loop.call_later(OUTAGE_PAUSE, self.freed)

    async def forget_wait(self, record: Record) -> None:
        """Tell the scheduler that nobody waits any more, best effort."""
        try:
            await self._engine.scheduler.cancel(record)
        except Exception as exc:  # noqa: BLE001 (best effort: a wake-up that comes all the same has nothing to do)
            logger.warning("the scheduler still has the wait of %s: %s", record.name, exc)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._engine.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
