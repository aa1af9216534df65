"""One run of a handler: from the claimed row to what has to be committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf import empty_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_aio.core import names, transitions
from lro_aio.core.codec import NewerStateError, pack
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    LeaseLostError,
    LroError,
    PayloadTooLargeError,
    SchedulerUnavailableError,
    StateCodecError,
    StoreUnavailableError,
)
from lro_aio.core.record import Record, Wait, Wake, WakeReason
from lro_aio.core.status import make_status, to_status
from lro_aio.core.transitions import Holder
from lro_aio.engine.handlers import Handler, RetryLater
from lro_aio.engine.operation import CancelReason, Operation
from lro_aio.engine.suspension import Suspended

if TYPE_CHECKING:
    from lro_aio.engine.engine import Engine

__all__ = ["Outcome", "Run", "execute", "refused"]

logger = logging.getLogger("lro_aio")

NEWER_STATE_DELAY = 30.0
"""Seconds for which a row with a newer release's state is left to a process of that release."""

STRAY_DELAY = 1.0
"""Seconds before a run that was cancelled without a reason of ours may run again, so that it does not at once here."""

Event = Callable[..., Record | None]


class Outcome(NamedTuple):
    """What a run has to commit: a transition that still wants ``holder`` and ``now``."""

    event: Event
    size: int = 512


@dataclass(eq=False, slots=True)
class Run:
    """A claimed row and the task that works on it."""

    record: Record
    handler: Handler
    task: asyncio.Task[None] | None = None
    operation: Operation[Any] | None = None
    cancel_reason: CancelReason | None = None
    reasons: set[CancelReason] = field(default_factory=set)
    in_handler: bool = False
    """Only then does a cancel reach the task: a commit is never torn."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    holder: Holder = field(init=False)
    """What the run's writes name."""

    def __post_init__(self) -> None:
        self.holder = Holder(self.record.uid, self.record.claim)

    def cancel(self, reason: CancelReason) -> None:
        """Stop the handler; one that has not started yet is stopped at its start.

        A handler that still runs after one reason (it cleans up, or swallows the cancellation) is stopped again by
        another; the first stays the run's, unless the lease is lost. A cancel that comes second changes nothing.
        """
        first = self.cancel_reason is None
        if reason in self.reasons or (not first and reason is CancelReason.CANCEL_REQUESTED):
            return
        self.reasons.add(reason)
        if first or reason is CancelReason.LEASE_LOST:
            self.cancel_reason = reason
            if self.operation is not None:
                self.operation._cancel_reason = reason  # noqa: SLF001 (the run owns its operation)
        if self.in_handler and self.task is not None:
            self.task.cancel()

    def forget_cancellation(self) -> None:
        """Clear the mark that ``cancel`` left on the task: the reason is known, and a commit comes next."""
        while self.cancel_reason is not None and self.task is not None and self.task.cancelling():
            self.task.uncancel()


async def execute(engine: Engine, run: Run) -> Outcome | None:
    """Run the handler once; returns what to commit, None where there is nothing to.

    Raises:
        BaseException: Only what must end the process (KeyboardInterrupt, SystemExit).
    """
    handler = run.handler
    operation: Operation[Any] = Operation(engine, run.record, handler=handler, holder=run.holder, in_handler=True)
    run.operation = operation
    operation._cancel_reason = run.cancel_reason  # noqa: SLF001 (as in Run.cancel)
    try:
        operation.decode()  # before the handler's own code runs: what cannot be read fails here, with the bytes kept
        if run.record.wake is not None and run.record.wake.children:
            await _prepare_children(engine, run, run.record.wake, operation)
        returned = await _call(engine, run, operation)
        return _returned(engine, run, operation, returned)
    except asyncio.CancelledError:
        return _cancelled(engine, run, operation)
    except NewerStateError as exc:
        logger.warning("%s: %s; left for a process of the newer release", run.record.name, exc)
        return Outcome(partial(transitions.release, check_time=engine.clock.time() + NEWER_STATE_DELAY))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:  # noqa: BLE001 (whatever a handler raises becomes a status: rule 10)
        return _raised(engine, run, operation, exc)


async def _prepare_children(engine: Engine, run: Run, wake: Wake, operation: Operation[Any]) -> None:
    """Read the children that it waited for."""
    run.in_handler = True  # a read may be cut like a handler: nothing is torn by it
    try:
        await _read_children(engine, wake, operation)
    finally:
        run.in_handler = False
        run.forget_cancellation()


async def _read_children(engine: Engine, wake: Wake, operation: Operation[Any]) -> None:
    if not wake.service:
        operation._children = await engine.children.read(wake.children)  # noqa: SLF001
        return
    # The wait is over in any case: a service that is down must not make it longer than its timeout.
    lenient = wake.reason in (WakeReason.CHILDREN_TIMEOUT, WakeReason.POLL_FAILED)
    try:
        service = engine.resolve_service(wake.service)
        operation._children = await engine.children.read_foreign(wake.children, service, lenient=lenient)  # noqa: SLF001
    except Exception as exc:
        raise SchedulerUnavailableError(f"service {wake.service!r} does not give its operations: {exc}") from exc


async def _call(engine: Engine, run: Run, operation: Operation[Any]) -> Any:
    """Call the user's function. A cancel that it swallows leaves no mark on the task."""
    stop_timer: Callable[[], None] | None = None
    if run.handler.run_timeout is not None:
        due = engine.clock.time() + run.handler.run_timeout
        stop_timer = engine.clock.call_at(due, lambda: run.cancel(CancelReason.RUN_TIMEOUT))
    if run.cancel_reason is not None:
        raise asyncio.CancelledError
    run.in_handler = True
    try:
        return await run.handler.function(operation)
    finally:
        run.in_handler = False
        if stop_timer is not None:
            stop_timer()
        run.forget_cancellation()


def _returned(engine: Engine, run: Run, operation: Operation[Any], returned: object) -> Outcome | None:
    if operation.ended:  # the handler called op.done() or op.fail()
        if returned is not None:
            logger.warning("handler %r returned a value after it had ended %s", run.handler.name, operation.name)
        return None
    planned = operation._suspended  # noqa: SLF001
    if isinstance(returned, Suspended) and returned is planned:
        return _suspend(engine, run, operation, returned)
    if planned is not None or isinstance(returned, Suspended):
        return _fail(
            engine,
            operation,
            make_status(
                Code.INTERNAL,
                f"handler {run.handler.name!r} called suspend() and did not return its result",
                reason="SUSPEND_NOT_RETURNED",
                metadata={"handler": run.handler.name},
            ),
        )
    if returned is not None and not isinstance(returned, Message):
        return _fail(
            engine,
            operation,
            make_status(
                Code.INTERNAL,
                f"handler {run.handler.name!r} returned {type(returned).__name__}, not a protobuf message",
                reason="HANDLER_RETURN_TYPE",
                metadata={"handler": run.handler.name, "type": type(returned).__name__},
            ),
        )
    response = pack(returned if returned is not None else empty_pb2.Empty())
    if len(response) > engine.limits.response:
        raise PayloadTooLargeError("response", len(response), engine.limits.response)
    return _finish(engine, operation, response=response)


def _finish(
    engine: Engine, operation: Operation[Any], *, response: bytes = b"", error: status_pb2.Status | None = None
) -> Outcome:
    changes = operation.last_changes()
    if error is None:
        changes.update(operation.state_changes())
    event = partial(
        transitions.finish,
        retention=engine.retention.duration,
        response=response,
        error=error,
        changes=changes,
    )
    return Outcome(event, 512 + len(response))


def _fail(engine: Engine, operation: Operation[Any], status: status_pb2.Status) -> Outcome:
    logger.error("operation %s failed: %s", operation.name, status.message)
    return _finish(engine, operation, error=status)


def _suspend(engine: Engine, run: Run, operation: Operation[Any], planned: Suspended) -> Outcome:
    changes = {**operation.state_changes(), **operation.last_changes()}
    token = names.new_id()

    def event(record: Record, *, holder: Holder, now: float) -> Record | None:
        return transitions.suspend(
            record,
            holder=holder,
            now=now,
            retention=engine.retention.duration,
            wait=planned.wait(now=now, token=token, on_cancel=run.handler.on_cancel),
            resume_point=planned.resume_at,
            changes=changes,
        )

    return Outcome(event, 512 + len(changes.get("state_data", b"")))


def _retry(engine: Engine, run: Run, operation: Operation[Any], *, after: float, counts: bool) -> Outcome:
    changes = operation.last_changes()  # the state stays as the segment found it, or as save() left it
    token = names.new_id()
    store = engine.gateway.store
    if store.max_wait is not None and after > store.max_wait:  # early is harmless, too late is a row that is gone
        logger.warning("%s runs again after %g s already: %s", operation.name, store.max_wait, store.max_wait_reason)
        after = store.max_wait

    def event(record: Record, *, holder: Holder, now: float) -> Record | None:
        return transitions.retry(
            record,
            holder=holder,
            now=now,
            retention=engine.retention.duration,
            wait=Wait(token=token, sleep_until=now + after, on_cancel=run.handler.on_cancel, rerun=True),
            counts=counts,
            changes=changes,
        )

    return Outcome(event)


def _cancelled(engine: Engine, run: Run, operation: Operation[Any]) -> Outcome | None:
    """The handler let a cancellation pass; why it was cancelled decides (rules 5 and 6)."""
    reason = run.cancel_reason
    not_before: float | None = None
    task = asyncio.current_task()
    if reason is None and task is not None and task.cancelling():
        # Whoever ends the event loop cancels every task in it: a shutdown without a close.
        reason = CancelReason.SHUTDOWN
        not_before = engine.clock.time() + STRAY_DELAY
        while task.cancelling():
            task.uncancel()
    if operation.ended or reason is CancelReason.LEASE_LOST:
        return None
    if reason is CancelReason.RUN_TIMEOUT:
        return _raised(engine, run, operation, TimeoutError(f"the run took longer than {run.handler.run_timeout:g} s"))
    if reason is CancelReason.CANCEL_REQUESTED:
        if run.handler.on_cancel:
            return Outcome(partial(transitions.begin_cleanup, on_cancel=run.handler.on_cancel))
        status = make_status(Code.CANCELLED, "the operation was cancelled", reason="CANCELLED")
        return _finish(engine, operation, error=status)
    if reason is CancelReason.SHUTDOWN:
        return _release(engine, run, operation, not_before, stray=not_before is not None)
    # Nobody asked for it: the handler awaited something that was cancelled by other code of its own.
    status = make_status(Code.ABORTED, "the handler was cancelled by its own code", reason="HANDLER_CANCELLED")
    return _fail(engine, operation, status)


def _release(engine: Engine, run: Run, operation: Operation[Any], not_before: float | None, *, stray: bool) -> Outcome:
    wait = Wait(token=names.new_id(), sleep_until=engine.clock.time(), on_cancel=run.handler.on_cancel)
    event = partial(
        transitions.release,
        check_time=not_before,
        wait=wait if wait.on_cancel else None,
        changes=operation.last_changes(),
        counts=stray,  # a handler that cancels its own task looks the same, and must come to an end
    )
    return Outcome(event)


def _raised(engine: Engine, run: Run, operation: Operation[Any], exc: BaseException) -> Outcome | None:
    policy = run.handler.retry
    own = isinstance(exc, LroError)
    if operation.ended:
        logger.error("handler %r raised after it had ended %s", run.handler.name, operation.name, exc_info=exc)
        return None
    if isinstance(exc, LeaseLostError) and (exc.name, exc.claim) == (operation.name, operation.claim):
        return None  # what this run would commit would be refused as well
    if isinstance(exc, StoreUnavailableError | SchedulerUnavailableError):
        delay = max(exc.retry_after or 0.0, policy.delay(0))
        logger.warning("%s runs again in %.1f s: %s", operation.name, delay, exc)
        return _retry(engine, run, operation, after=delay, counts=False)
    hopeless = isinstance(exc, PayloadTooLargeError) and exc.field == "response"  # rule 9: it would be as large again
    if isinstance(exc, (RetryLater, *policy.on)) and not hopeless and run.record.retries + 1 < policy.max_attempts:
        asked = exc.after if isinstance(exc, RetryLater) else None
        delay = policy.delay(run.record.retries) if asked is None else asked
        logger.warning("%s runs again in %.1f s: %r", operation.name, delay, exc)
        return _retry(engine, run, operation, after=delay, counts=True)
    status = _status_of(exc, expose=engine.expose_errors, timed_out=run.cancel_reason is CancelReason.RUN_TIMEOUT)
    logger.error("operation %s failed in handler %r", operation.name, run.handler.name, exc_info=None if own else exc)
    return _finish(engine, operation, error=status)


def refused(engine: Engine, exc: Exception) -> Outcome:
    """What to commit where the database refuses for good what a run left (rule 16): the operation fails, alone."""
    status = make_status(
        Code.INTERNAL,
        "the store refuses what the operation has to write",
        reason="NOT_STORABLE",
        metadata={"exception": type(exc).__name__},
    )
    return Outcome(partial(transitions.finish, retention=engine.retention.duration, error=status))


def _status_of(exc: BaseException, *, expose: bool, timed_out: bool) -> status_pb2.Status:
    if timed_out and isinstance(exc, TimeoutError):
        return make_status(Code.DEADLINE_EXCEEDED, str(exc), reason="RUN_TIMEOUT")
    if isinstance(exc, PayloadTooLargeError) and exc.field == "response":
        return make_status(exc.code, str(exc), reason="RESPONSE_TOO_LARGE", metadata=exc.metadata)
    if isinstance(exc, StateCodecError):
        return make_status(exc.code, str(exc), reason="STATE_UNREADABLE", metadata=exc.metadata)
    if isinstance(exc, RetryLater):
        return make_status(Code.ABORTED, str(exc), reason="RETRIES_EXHAUSTED")
    return to_status(exc, expose=expose)
