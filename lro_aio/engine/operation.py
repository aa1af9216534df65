"""``Operation[S]``: one long-running operation in the hands of its creator, its handler, or a visitor."""

from __future__ import annotations

import asyncio
import datetime
import enum
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.codec import StateCodec, pack, unpack
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    LeaseLostError,
    OperationDoneError,
    OperationNotFoundError,
    PayloadTooLargeError,
    UnknownResumePointError,
    WaitDeadlineExceededError,
    WorkerUnavailableError,
)
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.record import Record, State, WakeReason
from lro_aio.core.status import error_of, make_status, to_status
from lro_aio.core.transitions import Holder
from lro_aio.engine.children import Service, as_service
from lro_aio.engine.progress import Progress
from lro_aio.engine.suspension import Named, Suspended, check_children, check_reach, plan
from lro_aio.engine.timing import sleep_until

if TYPE_CHECKING:
    from lro_aio.engine.engine import Engine
    from lro_aio.engine.handlers import Handler, HandlerFunction

__all__ = ["CancelReason", "Operation"]

logger = logging.getLogger("lro_aio")

S = TypeVar("S")
M = TypeVar("M", bound=Message)

_UNREAD: Any = object()


class CancelReason(enum.StrEnum):
    """Why a handler's task is cancelled. Set before it is."""

    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    """Somebody cancelled the operation: clean up and let the cancellation pass."""
    LEASE_LOST = "LEASE_LOST"
    """Another process has the operation: stop, nothing you write is taken any more."""
    SHUTDOWN = "SHUTDOWN"
    """This process ends: stop, another one runs the segment again."""
    RUN_TIMEOUT = "RUN_TIMEOUT"
    """The handler's ``run_timeout`` ran out."""


class Operation(Generic[S]):
    """One operation. Made by a ``Client``, never by hand.

    In a handler, and for whoever made it with ``client.create()``, it holds a claim and may write. One that
    ``client.operation(name)`` or ``client.start(...)`` returned holds none: on an operation with a handler it may
    fetch, wait, cancel and delete; on one without, it may write as long as the operation is not done.

    Belongs to the client's event loop. Not safe for use from other threads.
    """

    def __init__(
        self,
        engine: Engine,
        record: Record,
        *,
        handler: Handler | None = None,
        holder: Holder | None = None,
        codec: StateCodec[Any] | None = None,
        in_handler: bool = False,
    ) -> None:
        self._engine = engine
        self._record = record
        self._holder = holder if holder is not None else Holder(record.uid, 0)
        self._handler = handler
        self._codec = codec if codec is not None else (handler.codec if handler is not None else None)
        self._in_handler = in_handler
        self._state: Any = _UNREAD
        self._used = False
        self._children: list[operations_pb2.Operation] = []
        self._cancel_reason: CancelReason | None = None
        self._suspended: Suspended | None = None
        self._writes: Progress | None = None

    @property
    def _progress(self) -> Progress:
        """Made when it is asked for: few operations tell of theirs."""
        if self._writes is None:
            self._writes = Progress(self._engine, self._record.metadata, self._write_metadata)
        return self._writes

    def __repr__(self) -> str:
        return f"<Operation {self.name} {self._record.state}>"

    @property
    def name(self) -> str:
        """Resource name."""
        return self._record.name

    @property
    def id(self) -> str:
        """The name's last segment: stable over every run, so a key for what the handler does elsewhere."""
        return self._record.name.rpartition("/")[2]

    @property
    def uid(self) -> str:
        """Random; tells this operation from a later one under the same name."""
        return self._record.uid

    @property
    def client(self) -> Any:
        """The ``Client`` that it came from."""
        return self._engine.client

    @property
    def proto(self) -> operations_pb2.Operation:
        """The public message as last known, without I/O. A copy."""
        return self._record.to_operation()

    @property
    def record(self) -> Record:
        """The row as last known, without I/O. For the engine."""
        return self._record

    @property
    def ended(self) -> bool:
        """Whether the operation was done when last seen, without I/O."""
        return self._record.done

    @property
    def state(self) -> S:
        """The handler's own state, decoded when first looked at. Changes are written by suspend and ``save``.

        Raises:
            StateCodecError: What is stored cannot be read.
        """
        self.decode()
        self._used = True  # it may be changed in place
        return cast("S", self._state)

    @state.setter
    def state(self, value: S) -> None:
        self._state = value
        self._used = True

    def decode(self) -> None:
        """Read the state, for whoever looks at it later. For the engine.

        Raises:
            StateCodecError: What is stored cannot be read.
        """
        if self._state is _UNREAD:
            codec = self._codec if self._codec is not None else StateCodec[Any](None)
            self._state = codec.decode(self._record.state_data, self._record.state_codec)

    @property
    def resume_point(self) -> str:
        """Where the handler goes on; "" is its start."""
        return self._record.resume_point

    @property
    def attempt(self) -> int:
        """Which attempt at this segment this is, from 1; more than 1 after a crash."""
        return self._record.attempt

    @property
    def retries(self) -> int:
        """How many runs of this segment have failed and were let run again; what the retry policy counts."""
        return self._record.retries

    @property
    def claim(self) -> int:
        """Fencing number of the claim that this object holds; only rises over an operation's runs. 0 for none."""
        return self._holder.claim

    @property
    def children(self) -> list[operations_pb2.Operation]:
        """The operations that the last suspend waited for, in its order, read again at the wake-up."""
        return list(self._children)

    @property
    def wake_reason(self) -> WakeReason | None:
        """Why this segment runs; None for the first."""
        return self._record.wake.reason if self._record.wake is not None else None

    @property
    def wake_error(self) -> str:
        """What the scheduler could not do, with ``WakeReason.POLL_FAILED``; else ""."""
        return self._record.wake.error if self._record.wake is not None else ""

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for a cancel, as last known (another process's arrives with a lease renewal)."""
        return self._record.cancel_requested

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why the handler's task is being cancelled; None while it is not."""
        return self._cancel_reason

    @property
    def dev_mode(self) -> bool:
        """Whether wake-ups happen in this process, and not through a remote scheduler."""
        return self._engine.scheduler.local

    async def fetch(self) -> operations_pb2.Operation:
        """Read the operation again; returns the public message.

        Raises:
            OperationNotFoundError: It was deleted or has expired.
            StoreUnavailableError: The store did not answer.
        """
        self._record = await self._engine.record(self.name)
        return self.proto

    async def set_metadata(self, metadata: Message) -> operations_pb2.Operation:
        """Write the metadata.

        Args:
            metadata: What clients see while the operation runs.

        Raises:
            PayloadTooLargeError: Over ``Limits.metadata``.
            OperationDoneError: It has ended.
            LeaseLostError: This object does not hold the operation, or no longer.
            StoreUnavailableError: The store did not answer.
        """
        packed = pack(metadata)
        _check_size("metadata", packed, self._engine.limits.metadata)
        self._progress.replace(packed)
        await self._write_metadata(packed)
        return self.proto

    async def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Merge ``progress`` and ``message`` into the metadata.

        Written at most once a second, the last one wins; what is not yet written is, before the operation ends or
        suspends.

        Args:
            fraction: From 0 to 1.
            message: For people.

        Raises:
            TypeError: The metadata is something else than a ``google.protobuf.Struct``.
            ValueError: ``fraction`` is out of range.
            PayloadTooLargeError: Over ``Limits.metadata``.
            OperationDoneError: It has ended.
            LeaseLostError: This object does not hold the operation, or no longer. This one and the next only where the
                call writes at once.
            StoreUnavailableError: The store did not answer.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be from 0 to 1, not {fraction!r}")
        if self._record.done:
            raise OperationDoneError(self.name, self._record.state)
        packed = self._progress.merged(fraction, message)
        _check_size("metadata", packed, self._engine.limits.metadata)
        await self._progress.put(packed)

    async def save(self) -> None:
        """Write ``state`` now. A run after a crash starts the segment with it.

        Raises:
            StateCodecError: The state cannot be encoded; names the field.
            PayloadTooLargeError: Over ``Limits.state``.
            OperationDoneError: It has ended.
            LeaseLostError: This object does not hold the operation, or no longer.
            StoreUnavailableError: The store did not answer.
        """
        changes = self.state_changes()
        if changes:
            await self._write(transitions.save, changes=changes)

    async def done(self, response: Message | None = None) -> operations_pb2.Operation:
        """End the operation with a response; None is ``google.protobuf.Empty``.

        Raises:
            PayloadTooLargeError: Over ``Limits.response``; the operation goes on.
            OperationDoneError: It has ended already.
            LeaseLostError: This object does not hold the operation, or no longer.
            StoreUnavailableError: Nothing is known; ask again.
        """
        packed = pack(response if response is not None else empty_pb2.Empty())
        _check_size("response", packed, self._engine.limits.response)
        await self._finish(response=packed)
        return self.proto

    async def fail(self, error: BaseException | status_pb2.Status | str) -> operations_pb2.Operation:
        """End the operation with an error.

        Args:
            error: A text or a status is shown to clients as it is; of an exception, what the status table says.

        Raises:
            ValueError: A status with code OK.
            TypeError: Something else.
            OperationDoneError: It has ended already.
            LeaseLostError: This object does not hold the operation, or no longer.
            StoreUnavailableError: Nothing is known; ask again.
        """
        if isinstance(error, str):
            status = make_status(Code.UNKNOWN, error, reason="OPERATION_FAILED")
        elif isinstance(error, status_pb2.Status):
            if error.code == Code.OK:
                raise ValueError("a status with code OK is no failure")
            status = error
        elif not isinstance(error, BaseException):
            raise TypeError(f"the error must be an exception, a Status or a text, not {type(error).__name__}")
        else:
            status = to_status(error, expose=self._engine.expose_errors)
        await self._finish(error=status)
        return self.proto

    async def cancel(self, *, cancel_children: bool = True) -> None:
        """Ask for a cancel, as the RPC does. Of a finished operation: nothing happens.

        For whoever drives an operation made with ``client.create()``, it is the end: CANCELLED.

        Args:
            cancel_children: Whether the operations that it started with ``start_child`` are cancelled too.

        Raises:
            OperationNotFoundError: It was deleted or has expired.
            StoreUnavailableError: The store did not answer.
        """
        if not self._record.handler and self._holder.claim and not self._record.done:
            await self._finish(error=make_status(Code.CANCELLED, "the operation was cancelled", reason="CANCELLED"))
        else:
            await self._engine.cancel(self.name, cancel_children=cancel_children)

    async def delete(self) -> None:
        """Forget the operation. The work goes on to its end, unseen.

        Raises:
            OperationNotFoundError: It was deleted already or has expired.
            StoreUnavailableError: The store did not answer.
        """
        await self._engine.delete(self.name)

    async def result(self, response_type: type[M] | None = None, timeout: Duration | None = None) -> M | Message:
        """Wait for the end and return the response.

        Args:
            response_type: The message class; None finds it by the type URL.
            timeout: Seconds or a timedelta; None waits for as long as it takes.

        Raises:
            OperationFailedError: It ended with an error.
            OperationCancelledError: It was cancelled.
            WaitDeadlineExceededError: The time is up; the work goes on.
            WorkerUnavailableError: The client is closing; the work goes on.
            OperationNotFoundError: It was deleted or has expired.
            StoreUnavailableError: The store did not answer; the work goes on.
            TypeError: The response is another message.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        record = await self._engine.wait(self.name, limit)
        if record.state is State.SUCCEEDED:
            return unpack(any_pb2.Any.FromString(record.response), response_type)
        operation = record.to_operation()
        error = error_of(operation)
        if error is not None:
            raise error
        if limit is None or self._engine.draining:
            raise WorkerUnavailableError("the client is closing; the operation goes on")
        raise WaitDeadlineExceededError(limit, (self.name,), operation=operation)

    async def start_child(self, handler: str | HandlerFunction, state: Any = None, *, key: str) -> Operation[Any]:
        """Start an operation that belongs to this one.

        The child's id comes from this operation and ``key``: when the segment runs again after a crash, the same call
        finds the same child, also one that was deleted before it ended: waiting for it gives NOT_FOUND. Cancelling this
        operation cancels its children.

        Args:
            handler: Name or decorated function.
            state: Initial state.
            key: Names the child among its siblings; the same in every run.

        Raises:
            OperationAlreadyExistsError: The key stands for a child with another handler or initial state.
            UnknownHandlerError: It is not registered.
            StateCodecError: The state cannot be encoded.
            StoreUnavailableError: The store did not answer; a repeat finds what was started.
        """
        return await self._engine.starter.start(
            handler,
            state,
            # A row that another program made has no uid; its name stands for it.
            operation_id=names.child_id(self._record.uid or self.name, key),
            parent=names.parse(self.name).parent,
            parent_operation=self.name,
        )

    async def wait(
        self,
        *,
        sleep: Duration = 0,
        children: Sequence[str | Named] = (),
        timeout: Duration | None = 420,
        poll_interval: Duration = 3,
        service: str | Service | None = None,
    ) -> list[operations_pb2.Operation]:
        """Wait in this process: first the sleep, then the children. For long waits, ``suspend`` holds no process.

        Args:
            sleep: Seconds or a timedelta.
            children: Operations or their names. Whether this operation itself is done plays no part.
            timeout: Bounds the children part, from the end of the sleep. None: no bound.
            poll_interval: Between looks at a foreign service; the client's own operations are not polled but noticed.
            service: Who has the children: a name in ``Client(services=...)`` or an object. None: this client.

        Returns:
            The children in the order given. One that failed is handed back, not raised; a missing one is done with
            NOT_FOUND.

        Raises:
            ValueError: Nothing to wait for, a negative duration, an unknown service, or itself among the children.
            InvalidOperationNameError: A child's name is malformed.
            WaitDeadlineExceededError: The timeout ran out; carries the pending and the finished.
            StoreUnavailableError: The client's own children could not be read.
        """
        slept = seconds(sleep, "sleep")
        limit = None if timeout is None else seconds(timeout, "timeout")
        interval = seconds(poll_interval, "poll_interval", positive=True)
        foreign = self._engine.resolve_service(service) if isinstance(service, str) else service
        wanted = check_children(self.name, children, foreign=foreign is not None)
        if not slept and not wanted:
            raise ValueError("nothing to wait for: give sleep or children")
        clock = self._engine.clock
        end = clock.time() + slept
        if slept:
            await sleep_until(clock, end)
        if not wanted:
            return []
        deadline = None if limit is None else end + limit
        if foreign is not None:
            return await self._engine.children.wait_foreign(
                wanted, as_service(foreign), deadline=deadline, timeout=limit or 0.0, poll_interval=interval
            )
        return await self._engine.children.wait(wanted, deadline=deadline, timeout=limit or 0.0, poll_interval=interval)

    def suspend(
        self,
        *,
        resume_at: str,
        sleep: Duration = 0,
        until: datetime.datetime | float | None = None,
        children: Sequence[str | Named] = (),
        timeout: Duration | None = None,
        poll_interval: Duration = 3,
        max_poll_interval: Duration | None = None,
        service: str | None = None,
        poll_endpoint: str | None = None,
    ) -> Suspended:
        """Wait without holding a process. Not async and without I/O: return the result from the handler.

        State, wait and wake-up are then committed in one transaction, and the handler is called again with
        ``op.resume_point == resume_at`` when the sleep is over and all children have ended.

        Args:
            resume_at: A resume point that the handler declares; "" is its start.
            sleep: Seconds or a timedelta, from the commit.
            until: Instead of ``sleep``: an aware datetime or epoch seconds. In the past: at once.
            children: Operations, or their names, to wait for after the sleep; read again at the wake-up as
                ``op.children``.
            timeout: Bounds the children part, from the end of the sleep; then ``wake_reason`` is CHILDREN_TIMEOUT.
            poll_interval: Between looks at children that give no notice.
            max_poll_interval: Up to which a remote scheduler may let the interval grow.
            service: Name of the foreign service that has the children, from ``Client(services=...)``.
            poll_endpoint: URL at which a remote scheduler polls the children of ``service``, which is needed all the
                same: they are read from it at the wake-up.

        Raises:
            RuntimeError: Not called from the operation's handler.
            TypeError: ``resume_at`` is not a text, or ``children`` is one.
            UnknownResumePointError: ``resume_at`` is not declared.
            ValueError: Nothing to wait for, a negative duration, an unknown service, ``poll_endpoint`` without one,
                itself among the children, or a sleep or deadline so far away that the store's retention policy might
                remove the row before it.
            InvalidOperationNameError: A child's name is malformed.
        """
        if not isinstance(resume_at, str):
            raise TypeError(f"resume_at must be the name of a resume point, not {type(resume_at).__name__}")
        if not self._in_handler or self._handler is None:
            raise RuntimeError("suspend() works inside the operation's handler; elsewhere, await op.wait(...)")
        if not self._handler.runs(resume_at):
            raise UnknownResumePointError(self._handler.name, resume_at, tuple(self._handler.resume_points))
        planned = plan(
            own_name=self.name,
            resume_at=resume_at,
            sleep=sleep,
            until=until,
            children=children,
            timeout=timeout,
            poll_interval=poll_interval,
            max_poll_interval=max_poll_interval,
            service=service,
            services=self._engine.services,
            poll_endpoint=poll_endpoint,
        )
        store = self._engine.gateway.store
        check_reach(planned, now=self._engine.clock.time(), most=store.max_wait, reason=store.max_wait_reason)
        self._suspended = planned
        return planned

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Fail the operation with the exception that leaves the block; a clean exit leaves it open."""
        if exc is None or self._record.done:
            return
        error: BaseException | status_pb2.Status = exc
        if isinstance(exc, asyncio.CancelledError) and not self.cancel_requested:
            # The creator's task was stopped, by a shutdown say: nobody cancelled the operation.
            error = make_status(Code.ABORTED, "the task that drove the operation was stopped", reason="CREATOR_STOPPED")
        try:
            await asyncio.shield(self.fail(error))
        except (OperationDoneError, OperationNotFoundError, LeaseLostError) as refused:
            # Somebody else ended it. What leaves the block is the caller's own exception all the same.
            logger.warning("%s was not failed: %s", self.name, refused)

    def learn(self, record: Record) -> None:
        """Take over what another writer left in the row. For the engine."""
        self._record = record

    def state_changes(self) -> dict[str, Any]:
        """The state as columns to write; empty where nobody looked at it or set it. For the engine."""
        if not self._used:
            return {}
        codec = self._codec
        if codec is None:
            codec = StateCodec(None if self._state is None else type(self._state))
        data, tag = codec.encode(self._state)
        _check_size("state", data, self._engine.limits.state)
        return {"state_data": data, "state_codec": tag}

    def retire(self) -> None:
        """The run is over: no progress is written and no suspend taken any more. For the engine."""
        self.last_changes()
        self._in_handler = False

    def last_changes(self) -> dict[str, Any]:
        """Progress that is not yet written, to go with the operation's next write. For the engine."""
        metadata = self._writes.take() if self._writes is not None else None
        return {"metadata": metadata} if metadata else {}

    async def _finish(self, *, response: bytes = b"", error: status_pb2.Status | None = None) -> None:
        await self._write(
            transitions.finish,
            retention=self._engine.retention.duration,
            response=response,
            error=error,
            changes={**self.state_changes(), **self.last_changes()},
        )
        self._engine.worker.let_go(self._holder)

    async def _write(self, event: Any, **arguments: Any) -> None:
        now = self._engine.clock.time()
        change = Change(
            self.name,
            partial(event, holder=self._holder, now=now, **arguments),
            size=512 + len(arguments.get("response", b"")),
        )
        record = await self._engine.apply(change)
        if record is None:  # a deleted row is removed as it ends: this object alone still knows how
            record = change.apply(replace(self._record, deleted=False, cancel_children=False))
        assert record is not None
        if record.revision >= self._record.revision:  # else `learn` has a later one, with a cancel say
            self._record = record

    async def _write_metadata(self, metadata: bytes) -> None:
        await self._write(transitions.save, changes={"metadata": metadata})


def _check_size(field: str, data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise PayloadTooLargeError(field, len(data), limit)
