"""One run of a handler: from the claimed row to what has to be committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from google.rpc import status_pb2

from lro_aio.core import failing, names, trail, transitions
from lro_aio.core.codec import NewerStateError, pack
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    LeaseLostError,
    LroError,
    PayloadTooLargeError,
    SchedulerUnavailableError,
    StoreRefusedError,
    StoreUnavailableError,
    WorkerUnavailableError,
)
from lro_aio.core.logs import about
from lro_aio.core.queueing import Rest
from lro_aio.core.queues import RateLimited
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, Wait, Wake, WakeReason
from lro_aio.core.status import cancelled, described, make_status, reason_of, to_status, untold
from lro_aio.core.transitions import Holder
from lro_aio.engine.failing import hopeless, leaves, on_purpose, status_of
from lro_aio.engine.handlers import Handler, RetryLater
from lro_aio.engine.holding import CancelReason, Holding, OperationHost
from lro_aio.engine.observing import Found
from lro_aio.engine.operation import Operation
from lro_aio.engine.outcome import Outcome
from lro_aio.engine.straight import Straight
from lro_aio.engine.suspension import Suspended

__all__ = ["Outcome", "Run", "Runner"]

logger = logging.getLogger("lro_aio")

T = TypeVar("T")

NEWER_STATE_DELAY = 30.0
"""Seconds for which a row with a newer release's state is left to a process of that release."""
UNAVAILABLE = (StoreUnavailableError, SchedulerUnavailableError)
"""Errors that say nothing of the operation: it runs again, and no retry is counted."""
STRAY_DELAY = 1.0
"""Seconds before a run that was cancelled without a reason of ours may run again, so that it does not at once here."""


@dataclass(eq=False, slots=True)
class Run:
    """A claimed row and the task that works on it."""

    record: Record
    handler: Handler
    holding: Holding
    holder: Holder
    """What the run's writes name."""
    now: Callable[[], float]
    """Monotonic seconds."""
    task: asyncio.Task[None] | None = None
    cancel_reason: CancelReason | None = None
    reasons: tuple[CancelReason, ...] = ()
    straight: Straight | None = None
    """Steps and durable waits, where the handler uses any, or the journal has entries."""
    stopped: float = 0.0
    """When the handler was last told to stop."""
    in_handler: bool = False
    """Only then does a cancel reach the task: a commit is never torn."""
    returned: bool = False
    """What it leaves is known, and is being committed."""
    over: bool = False
    """Its last write was answered, or given up."""
    _ended: asyncio.Event | None = None
    found: Found = Found()
    """How its claim found the row, where somebody observes."""
    traceparent: str = ""
    """Trace context that the next run of the operation is to know."""
    error: str = ""
    """Type of the exception that left the handler, or the reason of the failure."""
    lost: bool = False
    """Another process has the operation: what the run left was refused."""
    committed: bool = False
    """What the run left is in the store."""

    def cancel(self, reason: CancelReason) -> None:
        """Stop the handler; one that has not started yet is stopped at its start.

        A handler that still runs after one reason (it cleans up, or swallows the cancellation) is stopped again by
        another; the first stays the run's, unless the lease is lost.
        """
        first = self.cancel_reason is None
        if reason in self.reasons or (not first and reason is CancelReason.CANCEL_REQUESTED):
            return
        self.reasons += (reason,)
        if first or reason is CancelReason.LEASE_LOST:
            self.cancel_reason = self.holding.cancel_reason = reason
        self._stop()

    async def ended(self) -> None:
        """Return when it is over."""
        if self._ended is None:
            self._ended = asyncio.Event()
        if not self.over:
            await self._ended.wait()

    def end(self) -> None:
        """It is over."""
        self.over = True
        self.straight = None  # as in `Holding.retire`
        if self._ended is not None:
            self._ended.set()

    def begin_straight(self) -> Straight:
        """Make ``straight``. For ``Holding``."""
        self.straight = Straight(self.holding, lambda: self.task, partial(self.cancel, CancelReason.SUSPENDED))
        return self.straight

    def cancel_again(self, after: float = 0.0) -> None:
        """Stop a handler again that goes on although it was told to stop: a library may have swallowed that.

        Args:
            after: Seconds since it was told last, in which it may clean up.
        """
        if self.cancel_reason is not None and self.now() - self.stopped >= after:
            self._stop()

    def _stop(self) -> None:
        self.stopped = self.now()
        if self.straight is not None:
            self.straight.stop()
        if self.in_handler and self.task is not None:
            self.task.cancel()

    def forget_cancellation(self) -> None:
        """Clear the mark that ``cancel`` left on the task: the reason is known, and a commit comes next."""
        while self.cancel_reason is not None and self.task is not None and self.task.cancelling():
            self.task.uncancel()


class Runner:
    """Runs handlers, and says what to commit.

    Args:
        host: Of the operations that handlers get.
    """

    def __init__(self, host: OperationHost) -> None:
        self._host = host
        self._clock = host.clock
        self._now = host.clock.monotonic
        self._children = host.children
        self._limits = host.settings.limits
        self._retention = host.settings.retention.duration
        self._expose = host.settings.expose_errors

    def run_of(self, record: Record, handler: Handler) -> Run:
        """The run of a row that this process has just claimed."""
        holder = Holder(record.uid, record.claim)
        if record.failure:
            self._host.causes.carry(record)
        holding = Holding(self._host, record, handler=handler, holder=holder, in_handler=True)
        run = Run(record, handler, holding, holder, self._now)
        holding.begin_straight = run.begin_straight
        return run

    async def execute(self, run: Run) -> Outcome | None:
        """Run the handler once; returns what to commit, None where there is nothing to.

        Raises:
            KeyboardInterrupt: Alone of what a handler may raise; it ends the process.
        """
        try:
            return await self._attempt(run)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001 (whatever a handler raises becomes a status: rule 10)
            try:
                if run.cancel_reason is CancelReason.SUSPENDED and not run.holding.record.done:
                    return await self._parked(run, exc)
                return self._raised(run, exc)
            except Exception as defect:  # noqa: BLE001 (an error that cannot be told must not run the operation again)
                return self._untold(run, exc, defect)
        finally:
            if run.straight is not None:
                await run.straight.close()

    async def _parked(self, run: Run, exc: BaseException | None = None) -> Outcome:
        """Suspend straight code until one of its waits is over. What it raised when it was stopped decides nothing."""
        if exc is not None and not isinstance(leaves(exc)[0], asyncio.CancelledError):
            self._log_ignored(run, exc, "handler %r raised while %s was being suspended", "raised_while_stopped")
        assert run.straight is not None
        try:
            event, appends = await run.straight.parked()
        except StoreUnavailableError:  # in a drain
            return self._release(run)
        return Outcome(event, 512 + sum(entry.size for entry in appends), appends, stands=run.straight.standing)

    async def again(self, run: Run, entries: int) -> Outcome:
        """What to commit now that the journal has entries that the run did not know: a message may end its wait.

        Raises:
            StoreUnavailableError: They cannot be read.
        """
        assert run.straight is not None
        run.straight.journal.saw(entries)
        planned = run.holding.suspended
        if planned is None:
            return await self._parked(run)
        await run.straight.journal.catch_up()
        return self._suspend(run, planned)

    async def _attempt(self, run: Run) -> Outcome | None:
        record, holding = run.record, run.holding
        try:
            if not record.failure:  # which may be that the state cannot be read
                holding.decode()  # before the handler's own code runs: what cannot be read fails here, the bytes kept
            if record.entries:
                await self._read(run, self._load(run, record.wake))
            if record.wake is not None and record.wake.children:
                await self._read_children(run, record.wake)
                if record.wake.reason is WakeReason.CHILDREN_DONE and not all(child.done for child in holding.children):
                    return self._wait_on(run, record.wake)
            return self._returned(run, await self._call(run, Operation(holding)))
        except NewerStateError as exc:
            logger.warning(
                "%s: %s; left for a process of the newer release", record.name, exc, extra=about(record, "newer_state")
            )
            return Outcome(partial(transitions.release, check_time=self._clock.time() + NEWER_STATE_DELAY))

    async def _load(self, run: Run, wake: Wake | None) -> None:
        """Read what earlier runs have stored."""
        straight = run.begin_straight()
        run.holding.known_straight = straight
        await straight.load(wake)

    async def _read_children(self, run: Run, wake: Wake) -> None:
        """Read the children that it waited for."""
        run.holding.children = await self._read(run, self._children.woken(wake, lenient=bool(run.record.failure)))

    async def _read(self, run: Run, read: Awaitable[T]) -> T:
        """Read something for the handler. It may be cut like a handler: nothing is torn by it."""
        run.in_handler = True
        try:
            return await read
        finally:
            run.in_handler = False
            run.forget_cancellation()

    def _wait_on(self, run: Run, wake: Wake) -> Outcome:
        """Suspend again: a scheduler said that the children have ended, and one has not."""
        record = run.record
        logger.warning("%s was woken before its children had ended", record.name, extra=about(record, "woken_early"))
        wait = record.wait
        if wait is None or wait.rerun:  # between two runs of the segment, the wait itself is gone
            wait = Wait(
                token="",
                sleep_until=0.0,
                children=wake.children,
                service=wake.service,
                on_cancel=run.handler.on_cancel,
            )
        suspended = partial(
            transitions.suspend,
            retention=self._retention,
            wait=wait.again(names.new_id(), self._clock.time()),
            resume_point=record.resume_point,
        )
        return Outcome(suspended)

    async def _call(self, run: Run, operation: Operation[Any]) -> Any:
        """Call the user's function. A cancel that it swallows leaves no mark on the task."""
        if run.cancel_reason is not None:
            raise asyncio.CancelledError
        timers: list[Callable[[], None]] = []
        deadline, timeout = run.record.deadline, run.handler.run_timeout
        if deadline is not None and not run.record.cleaning:  # a clean-up is not bound by it
            timers.append(self._clock.call_at(deadline, lambda: run.cancel(CancelReason.DEADLINE_EXCEEDED)))
        if timeout is not None:
            timers.append(self._clock.call_later(timeout, lambda: run.cancel(CancelReason.RUN_TIMEOUT)))
        run.in_handler = True
        try:
            return await run.handler.at(run.record.resume_point)(operation)
        finally:
            run.in_handler = False
            for stop_timer in timers:
                stop_timer()
            run.forget_cancellation()
            if run.straight is not None:
                run.holding.in_handler = False  # nothing begins any more; what is under way ends first
                await run.straight.settle(self._host.settings.drain_timeout)

    def _returned(self, run: Run, returned: object) -> Outcome | None:
        record = run.holding.record
        if record.done:  # the handler called op.done() or op.fail()
            if returned is not None:
                logger.warning(
                    "handler %r returned a value after it had ended %s",
                    run.handler.name,
                    record.name,
                    extra=about(record, "value_after_end"),
                )
            return None
        planned = run.holding.suspended
        if isinstance(returned, Suspended) and returned is planned:
            return self._suspend(run, returned)
        if planned is not None or isinstance(returned, Suspended):
            return self._misused(
                run,
                f"handler {run.handler.name!r} called suspend() and did not return its result",
                "SUSPEND_NOT_RETURNED",
            )
        if record.cleaning:  # it ends CANCELLED, whatever the clean-up returns
            return self._finish(run)
        try:
            response = pack(run.handler.response.message(returned))
        except TypeError as exc:
            kind = type(returned).__name__
            return self._misused(
                run, f"handler {run.handler.name!r} returned {kind}: {exc}", "HANDLER_RETURN_TYPE", type=kind
            )
        self._limits.check("response", len(response))
        return self._finish(run, response=response)

    def _finish(self, run: Run, *, response: bytes = b"", error: status_pb2.Status | None = None) -> Outcome:
        changes = run.holding.last_changes()
        if error is None:
            changes.update(run.holding.state_changes())
        event = partial(
            transitions.finish,
            retention=self._retention,
            response=response,
            error=error,
            changes=changes,
        )
        return Outcome(event, 512 + len(response) + (0 if error is None else error.ByteSize()))

    def _failed(
        self, run: Run, error: status_pb2.Status, *, told: str = "", ends: bool = False, changes: dict[str, Any]
    ) -> Outcome:
        """Pause the operation, or clean up, or end it, as its handler wants.

        Args:
            run: See above.
            error: What clients see.
            told: What operators see; "": the same.
            ends: Whether the handler failed on purpose, so that it is not paused.
            changes: Columns to write with it.
        """
        then = self._host.settings.on_failure(run.handler, self._host.rows.store)
        event = partial(
            failing.fail,
            retention=self._retention,
            error=error,
            then=replace(then, pause=False) if ends else then,
            told=told,
            changes=changes,
        )
        return Outcome(event, 512 + error.ByteSize())

    def _misused(self, run: Run, message: str, reason: str, **metadata: str) -> Outcome:
        """The handler broke a rule of handlers: the operation fails, and says which."""
        metadata["handler"] = run.handler.name
        return self._fail(run, make_status(Code.INTERNAL, message, reason=reason, metadata=metadata))

    def _fail(
        self,
        run: Run,
        status: status_pb2.Status,
        exc: BaseException | None = None,
        *,
        found: Sequence[BaseException] = (),
    ) -> Outcome:
        """Let the run fail with an error, and say so.

        Args:
            run: See above.
            status: What clients see.
            exc: An exception whose traceback belongs into the log.
            found: The exceptions that are the cause.
        """
        self._log_failed(run, status, exc)
        run.error = type(found[0]).__name__ if found else reason_of(status)
        return self._failed(
            run,
            run.holding.fitted(status),
            told="; ".join(map(described, found)),
            ends=on_purpose(found, run.record.name),
            changes=run.holding.last_changes(),
        )

    def _log_failed(self, run: Run, status: status_pb2.Status, exc: BaseException | None = None) -> None:
        record = run.holding.record
        logger.error(
            "operation %s failed in handler %r: %s %s: %s",
            record.name,
            run.handler.name,
            Code.of(status.code).name,
            reason_of(status),
            status.message,
            exc_info=exc,
            extra=about(record, "failed"),
        )

    def _suspend(self, run: Run, planned: Suspended) -> Outcome:
        return Outcome(*run.holding.suspend_change(planned))

    def _retry(self, run: Run, *, after: float, counts: bool, error: str) -> Outcome:
        changes = run.holding.last_changes()  # the state stays as the segment found it, or as save() left it
        token = names.new_id()
        store = self._host.rows.store
        if store.max_wait is not None and after > store.max_wait:  # early is harmless, too late is a row that is gone
            logger.warning(
                "%s runs again after %g s already: %s",
                run.record.name,
                store.max_wait,
                store.max_wait_reason,
                extra=about(run.record, "retry_capped"),
            )
            after = store.max_wait

        def event(record: Record, *, holder: Holder, now: float) -> Record | None:
            return transitions.retry(
                record,
                holder=holder,
                now=now,
                retention=self._retention,
                wait=Wait(token=token, sleep_until=now + after, on_cancel=run.handler.on_cancel, rerun=True),
                counts=counts,
                error=error,
                changes=changes,
            )

        return Outcome(event, appends=run.holding.unsaved)

    def _stopped(self, run: Run, reason: CancelReason) -> Outcome | None:
        """The handler was stopped: why decides, and not what it raised on its way out (rules 5 and 6)."""
        if reason is CancelReason.LEASE_LOST:
            return None
        if reason is CancelReason.SHUTDOWN:
            return self._release(run)
        if reason is CancelReason.DEADLINE_EXCEEDED:
            return self._fail(run, failing.overdue_status())
        if run.handler.on_cancel:
            return Outcome(partial(transitions.begin_cleanup, on_cancel=run.handler.on_cancel))
        return self._finish(run, error=cancelled())

    def _stray(self, run: Run) -> Outcome:
        """A cancellation left the handler, and nobody here asked for it."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # Whoever ends the event loop cancels every task in it: a shutdown without a close.
            while task.cancelling():
                task.uncancel()
            return self._release(run, not_before=self._clock.time() + STRAY_DELAY)
        # The handler awaited something that was cancelled by other code of its own.
        status = make_status(Code.ABORTED, "the handler was cancelled by its own code", reason="HANDLER_CANCELLED")
        return self._fail(run, status)

    def _release(self, run: Run, not_before: float | None = None) -> Outcome:
        """Give the row back.

        Args:
            run: See above.
            not_before: Epoch seconds before which nobody goes on with it, for a run that ended for no reason of ours. A
                handler that cancels its own task looks the same, and must come to an end: so that attempt counts.
        """
        wait = Wait(token=names.new_id(), sleep_until=self._clock.time(), on_cancel=run.handler.on_cancel)
        event = partial(
            transitions.release,
            check_time=not_before,
            wait=wait if wait.on_cancel else None,
            changes=run.holding.last_changes(),
            counts=not_before is not None,
        )
        return Outcome(event, appends=run.holding.unsaved)

    def _raised(self, run: Run, exc: BaseException) -> Outcome | None:
        """What to commit for an exception that left the handler."""
        record, policy, reason = run.holding.record, run.handler.retry, run.cancel_reason
        found = leaves(exc)
        only_cancelled = isinstance(found[0], asyncio.CancelledError)
        if record.done:
            if not only_cancelled:
                self._log_ignored(run, exc, "handler %r raised after it had ended %s", "raised_after_end")
            return None
        if reason is not None and not only_cancelled and reason is not CancelReason.RUN_TIMEOUT:
            self._log_ignored(run, exc, "handler %r raised while %s was being stopped", "raised_while_stopped")
        if reason is CancelReason.RUN_TIMEOUT:
            found = [TimeoutError(f"the run took longer than {run.handler.run_timeout:g} s")]
        elif reason is not None:
            return self._stopped(run, reason)
        elif only_cancelled:
            return self._stray(run)
        if any(_lost(leaf, run) for leaf in found):
            run.lost = True
            return None  # what this run would commit would be refused as well
        if self._host.draining and all(isinstance(leaf, WorkerUnavailableError) for leaf in found):
            return self._release(run)  # it waited for another operation, and the drain ended that wait (rule 5)
        if all(isinstance(leaf, UNAVAILABLE) for leaf in found):
            return self._again(run, exc, found, policy.delay(0), counts=False)
        if any(isinstance(leaf, RateLimited) for leaf in found) and all(map(_comes_again, found)):
            return self._rate_limited(run, found)
        retriable = (RetryLater, *UNAVAILABLE, *policy.on)
        worth = isinstance(exc, policy.on) or all(isinstance(leaf, retriable) for leaf in found)
        if worth and not any(map(hopeless, found)) and run.record.retries + 1 < policy.max_attempts:
            return self._again(run, exc, found, policy.delay(run.record.retries), counts=True)
        status = status_of(found, expose=self._expose, timed_out=reason is CancelReason.RUN_TIMEOUT)
        told = all(isinstance(leaf, LroError) and not leaf.withholds for leaf in found)
        if not run.record.failure:  # else it ends with that one
            self._host.causes.keep(record, found[0] if reason is CancelReason.RUN_TIMEOUT else exc)
        return self._fail(run, status, None if told else exc, found=found)

    def _rate_limited(self, run: Run, found: list[BaseException]) -> Outcome:
        """Put the queue's key to rest, and let the segment run again after that: no attempt and no retry is counted."""
        now = self._clock.time()
        until = max(leaf.ends(now) for leaf in found if isinstance(leaf, RateLimited))
        error = "; ".join(map(described, found))
        run.error = RateLimited.__name__
        logger.info(
            "%s runs again in %.1f s: %s",
            run.record.name,
            max(0.0, until - now),
            error,
            extra=about(run.record, "rate_limited"),
        )
        seat = run.holding.record.seat
        rests = (Rest(seat.queue, seat.key, until),) if seat is not None and seat.queue else ()
        if seat is None or seat.whole or not rests:  # it has its place still, or needs none
            return self._retry(run, after=max(0.0, until - now), counts=False, error=error)._replace(rests=rests)
        given_back = self._release(run)

        def event(record: Record, *, holder: Holder, now: float) -> Record | None:
            told = record.evolve(trail=trail.noted(record.trail, now, trail.RETRIED, error))
            return given_back.event(told, holder=holder, now=now)

        return given_back._replace(event=event, rests=rests)

    def _untold(self, run: Run, exc: BaseException, defect: Exception) -> Outcome | None:
        """End the operation where its error cannot be made into a status: to run it again would do it again."""
        logger.error(
            "the %s of handler %r cannot be told",
            type(exc).__name__,
            run.handler.name,
            exc_info=defect,
            extra=about(run.record, "error_not_told"),
        )
        self._host.causes.keep(run.record, exc)
        run.error = type(exc).__name__
        status = untold(exc)
        self._log_failed(run, status)
        return self._failed(run, status, changes={})

    def _log_ignored(self, run: Run, exc: BaseException, sentence: str, key: str) -> None:
        logger.error(sentence, run.handler.name, run.record.name, exc_info=exc, extra=about(run.holding.record, key))

    def _longest(self, found: list[BaseException], delay: float) -> float:
        """Seconds before the next run: what the exceptions ask for, or ``delay`` where none asks."""
        asked = [leaf.after for leaf in found if isinstance(leaf, RetryLater) and leaf.after is not None]
        away = [max(leaf.retry_after or 0.0, delay) for leaf in found if isinstance(leaf, UNAVAILABLE)]
        return max(asked + away, default=delay)

    def _again(
        self, run: Run, exc: BaseException, found: list[BaseException], delay: float, *, counts: bool
    ) -> Outcome:
        """Run the segment again after ``delay`` seconds, or when the exceptions ask for it, and say why."""
        delay = self._longest(found, delay)
        run.error = type(found[0]).__name__
        logger.warning(
            "%s runs again in %.1f s: %r", run.record.name, delay, exc, extra=about(run.record, "runs_again")
        )
        return self._retry(run, after=delay, counts=counts, error="; ".join(map(described, found)))

    def refused(self, run: Run, exc: Exception) -> Outcome:
        """What to commit where the database refuses for good what a run left (rule 16): the operation fails, alone."""
        if isinstance(exc, PayloadTooLargeError):  # of the journal
            return Outcome(partial(transitions.finish, retention=self._retention, error=to_status(exc)))
        status = make_status(
            Code.INTERNAL,
            "the store refuses what the operation has to write",
            reason=StoreRefusedError.reason,
            metadata={"exception": exc.exception if isinstance(exc, StoreRefusedError) else type(exc).__name__},
        )
        return self._failed(run, status, changes={})


def _lost(exc: BaseException, run: Run) -> bool:
    """Whether a write of this run was refused because another process has the operation."""
    return isinstance(exc, LeaseLostError) and (exc.name, exc.claim) == (run.record.name, run.holder.claim)


def _comes_again(exc: BaseException) -> bool:
    """Whether an exception asks for another run, and for nothing else."""
    return isinstance(exc, (RateLimited, RetryLater, *UNAVAILABLE))
