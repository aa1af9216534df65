"""``Operation[S, R]``: one long-running operation in the hands of its creator, its handler, or a visitor."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, cast, overload

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from typing_extensions import TypeVar

from lro_aio.core import transitions
from lro_aio.core.codec import pack
from lro_aio.core.codes import Code
from lro_aio.core.data import decode_response
from lro_aio.core.errors import (
    LeaseLostError,
    OperationDoneError,
    OperationFailedError,
    OperationNotDoneError,
    OperationNotFoundError,
    WaitDeadlineExceededError,
    WorkerUnavailableError,
)
from lro_aio.core.logs import about
from lro_aio.core.packed import unpacked
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.record import Record, State, WakeReason
from lro_aio.core.status import cancelled, error_of, from_status, make_status, to_status
from lro_aio.core.webhooks import Webhook
from lro_aio.engine.annotations import Stateful
from lro_aio.engine.children import Service, as_service
from lro_aio.engine.durable import Durable
from lro_aio.engine.handlers import HandlerFunction
from lro_aio.engine.holding import CancelReason, Holding, OperationHost
from lro_aio.engine.suspension import Named, Suspended, check_children, check_reach, plan
from lro_aio.engine.telling import Telling
from lro_aio.engine.timing import sleep_for

__all__ = ["CancelReason", "Operation"]

logger = logging.getLogger("lro_aio")

S = TypeVar("S")
R = TypeVar("R", default=Any)
"""The type of the result, which a handler's own annotation need not say: ``Operation[S]``."""
C = TypeVar("C")
"""The type of a child's state."""
T = TypeVar("T")


class Operation(Durable, Telling, Stateful, Generic[S, R]):
    """One operation, with state of type ``S`` and a result of type ``R``. Made by a ``Client``, never by hand.

    ``await op`` waits for the end and gives the result, as ``op.result()`` does.

    In a handler, and for whoever made it with ``client.create()``, it holds a claim and may write. One that
    ``client.operation(name)`` or ``client.start(...)`` returned holds none: it may fetch, wait, cancel and delete. It
    may write where nobody holds a claim, as long as the operation is not done: to one that was made with
    ``lease=False``, or by another program.

    Belongs to the client's event loop. Not safe for use from other threads.
    """

    def __init__(self, holding: Holding) -> None:
        self._hold = holding

    @property
    def _host(self) -> OperationHost:
        return self._hold.host

    def __repr__(self) -> str:
        return f"<Operation {self.name} {self._hold.record.state}>"

    @property
    def name(self) -> str:
        """Resource name."""
        return self._hold.record.name

    @property
    def id(self) -> str:
        """The name's last segment: stable over every run, so a key for what the handler does elsewhere."""
        return self._hold.record.name.rpartition("/")[2]

    @property
    def uid(self) -> str:
        """Random; tells this operation from a later one under the same name."""
        return self._hold.record.uid

    @property
    def client(self) -> Any:
        """The ``Client`` that it came from."""
        return self._host.client

    @property
    def proto(self) -> operations_pb2.Operation:
        """The public message as last known, without I/O. A copy."""
        return self._hold.record.to_operation()

    @property
    def record(self) -> Record:
        """The row as last known, without I/O."""
        return self._hold.record

    @property
    def is_done(self) -> bool:
        """Whether the operation had ended when last seen, in success or failure. No I/O."""
        return self._hold.record.done

    @property
    def ended(self) -> bool:
        """The same as ``is_done``."""
        return self.is_done

    @property
    def value(self) -> R:
        """The result of the ended operation, as last seen. No I/O.

        Raises:
            OperationNotDoneError: It had not ended when last seen.
            OperationFailedError: It ended with an error.
            OperationCancelledError: It was cancelled.
            TypeError: The response is of another type.
        """
        return cast("R", self._value(None))

    @property
    def metadata(self) -> Any:
        """What was last seen of the metadata, unpacked; None if there was none. No I/O.

        A message of a type that this process does not know stays an ``Any``.
        """
        packed = self._hold.record.metadata
        return unpacked(any_pb2.Any.FromString(packed)) if packed else None

    @property
    def state(self) -> S:
        """The handler's own state, decoded when first asked for. Changes are written by suspend and ``save``.

        Raises:
            StateCodecError: What is stored cannot be read.
        """
        return cast("S", self._hold.state)

    @state.setter
    def state(self, value: S) -> None:
        self._hold.state = value

    @property
    def resume_point(self) -> str:
        """Where the handler goes on; "" is its start."""
        return self._hold.record.resume_point

    @property
    def attempt(self) -> int:
        """Which attempt at this segment this is, from 1; more than 1 after a crash."""
        return self._hold.record.attempt

    @property
    def retries(self) -> int:
        """How many runs of this segment have failed and were let run again; what the retry policy counts."""
        return self._hold.record.retries

    @property
    def claim(self) -> int:
        """Fencing number of the claim that this object holds; only rises over an operation's runs. 0 for none."""
        return self._hold.holder.claim

    @property
    def children(self) -> list[operations_pb2.Operation]:
        """The operations that the last suspend waited for, in its order, read again at the wake-up."""
        return list(self._hold.children)

    @property
    def traceparent(self) -> str:
        """W3C trace context of the request that started it, as given to ``start``; a child has its parent's. "": none.

        The same in every segment and every process: each of them links its own span to it.
        """
        return self._hold.record.traceparent

    @property
    def wake_reason(self) -> WakeReason | None:
        """Why this segment runs; None for the first."""
        return self._hold.record.wake.reason if self._hold.record.wake is not None else None

    @property
    def wake_error(self) -> str:
        """What the scheduler could not do, with ``WakeReason.POLL_FAILED``; else ""."""
        return self._hold.record.wake.error if self._hold.record.wake is not None else ""

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for a cancel, as last known (another process's arrives with a lease renewal)."""
        return self._hold.record.cancel_requested

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why the handler's task is being cancelled; None while it is not."""
        return self._hold.cancel_reason

    @property
    def failure(self) -> OperationFailedError | None:
        """In the clean-up of ``on_failure``: the error with which the operation ends. Else None.

        Of an operation that was paused because of a failure: that one.
        """
        failure = self._hold.record.failure
        return from_status(status_pb2.Status.FromString(failure), name=self.name) if failure else None

    @property
    def dev_mode(self) -> bool:
        """Whether wake-ups happen in this process, and not through a remote scheduler."""
        return self._host.dev_mode

    async def fetch(self) -> operations_pb2.Operation:
        """Read the operation again; returns the public message.

        Raises:
            OperationNotFoundError: It was deleted or has expired.
            StoreUnavailableError: The store did not answer.
        """
        self._hold.record = await self._host.rows.record(self.name)
        return self.proto

    async def refresh(self) -> None:
        """Read the operation again: what the properties tell is then new. Raises as ``fetch``."""
        await self.fetch()

    async def set_metadata(self, metadata: Message) -> operations_pb2.Operation:
        """Write the metadata.

        In a handler, what a store that is away does not take is written later, as with ``progress``.

        Args:
            metadata: What clients see while the operation runs.

        Raises:
            PayloadTooLargeError: Over ``Limits.metadata``.
            OperationDoneError: It has ended.
            LeaseLostError: This object does not hold the operation, or no longer.
            StoreUnavailableError: The store did not answer. Not in a handler.
        """
        packed = pack(metadata)
        self._host.settings.limits.check("metadata", len(packed))
        await self._hold.progress.replace(packed, keep=self._hold.in_handler)
        return self.proto

    async def save(self) -> None:
        """Write ``state`` now. A run after a crash starts the segment with it.

        Raises:
            StateCodecError: The state cannot be encoded; names the field.
            PayloadTooLargeError: Over ``Limits.state``.
            OperationDoneError: It has ended.
            LeaseLostError: This object does not hold the operation, or no longer.
            StoreUnavailableError: The store did not answer.
        """
        changes = self._hold.state_changes()
        if changes:
            await self._hold.write(transitions.save, changes=changes)

    async def done(self, response: Any = None) -> operations_pb2.Operation:
        """End the operation with a response.

        Args:
            response: What a handler may return: a protobuf message, data that pydantic can serialize, or None, which is
                ``google.protobuf.Empty``.

        Raises:
            TypeError: pydantic cannot serialize it.
            ResponseDataError: It is not what the handler's ``response=`` declares, or has a number that JSON cannot
                hold exactly. It names the field. The operation goes on.
            PayloadTooLargeError: Over ``Limits.response``; the operation goes on.
            OperationDoneError: It has ended already.
            LeaseLostError: This object does not hold the operation, or no longer.
            StoreUnavailableError: Nothing is known; ask again.
        """
        packed = pack(self._hold.promised.message(response))
        self._host.settings.limits.check("response", len(packed))
        await self._hold.finish(response=packed)
        return self.proto

    async def fail(self, error: BaseException | status_pb2.Status | str) -> operations_pb2.Operation:
        """End the operation with an error.

        Args:
            error: A text or a status is shown to clients as it is; of an exception, what the status table says. What
                is over ``Limits.error`` is cut: details that do not fit, and the end of the message.

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
            status = to_status(error, expose=self._host.settings.expose_errors)
            self._host.causes.keep(self._hold.record, error)
        await self._hold.finish(error=status)
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
        if not self.record.handler and self.claim and not self.ended:
            await self._hold.finish(error=cancelled())
        else:
            await self._host.cancel(self.name, cancel_children=cancel_children)

    async def delete(self) -> None:
        """Forget the operation. The work goes on to its end, unseen.

        Raises:
            OperationNotFoundError: It was deleted already or has expired.
            StoreUnavailableError: The store did not answer.
        """
        await self._host.delete(self.name)

    @overload
    async def result(self, response_type: None = None, timeout: Duration | None = None) -> R: ...

    @overload
    async def result(self, response_type: type[T], timeout: Duration | None = None) -> T: ...

    async def result(self, response_type: type[T] | None = None, timeout: Duration | None = None) -> R | T:
        """Wait for the end and return the response.

        Args:
            response_type: A protobuf message class, or any type that pydantic can validate, for data. None: what the
                handler declares; if it declares nothing, the message that the type URL names.
            timeout: Seconds or a timedelta; None waits for as long as it takes.

        Raises:
            OperationFailedError: It ended with an error. What its handler raised, if that was in this process, is the
                ``__cause__``.
            OperationCancelledError: It was cancelled.
            WaitDeadlineExceededError: The time is up; the work goes on.
            RuntimeError: Called from the operation's own handler, which would wait for itself.
            WorkerUnavailableError: The client is closing; the work goes on.
            OperationNotFoundError: It was deleted or has expired.
            StoreUnavailableError: The store did not answer; the work goes on.
            TypeError: The response is of another type.
        """
        if self._hold.in_handler and not self.is_done:
            raise RuntimeError("a handler cannot wait for the end of its own operation")
        limit = None if timeout is None else seconds(timeout, "timeout")
        record = await self._host.rows.wait(self.name, limit)
        if record.uid == self.uid and record.revision >= self._hold.record.revision:
            self._hold.learn(record)
        if record.done:
            return cast("R | T", self._value(response_type, record))
        if limit is None or self._host.draining:
            raise WorkerUnavailableError("the client is closing; the operation goes on")
        raise WaitDeadlineExceededError(limit, (self.name,), operation=record.to_operation())

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    def _value(self, kind: Any, record: Record | None = None) -> Any:
        """The result of an ended row, by default of the one that was last seen."""
        record = record if record is not None else self._hold.record
        if record.state is State.SUCCEEDED:
            return decode_response(
                any_pb2.Any.FromString(record.response), kind if kind is not None else self._hold.response.kind
            )
        error = error_of(record.to_operation())
        if error is None:
            raise OperationNotDoneError(self.name)
        raise error from self._host.causes.of(record)

    @overload
    async def start_child(
        self,
        handler: Callable[[Operation[C]], Awaitable[T | Suspended]],
        state: C | None = None,
        *,
        key: str,
        webhook: Webhook | None = None,
    ) -> Operation[C, T]: ...

    @overload
    async def start_child(
        self, handler: str, state: Any = None, *, key: str, webhook: Webhook | None = None
    ) -> Operation[Any]: ...

    async def start_child(
        self, handler: str | HandlerFunction, state: Any = None, *, key: str, webhook: Webhook | None = None
    ) -> Operation[Any]:
        """Start an operation that belongs to this one.

        The child's id comes from this operation and ``key``: when the segment runs again after a crash, the same call
        finds the same child, whatever ``state`` is by then, and also one that was deleted before it ended: waiting for
        it gives NOT_FOUND. Cancelling this operation cancels its children.

        Args:
            handler: Name or decorated function.
            state: Initial state. A child that is there keeps its own; the log says so, once.
            key: Names the child among its siblings; the same in every run.
            webhook: Who is told of the child's end; without it, nobody is. A child that is there keeps its own.

        Raises:
            OperationAlreadyExistsError: The key stands for a child with another handler.
            UnknownHandlerError: It is not registered.
            StateCodecError: The state cannot be encoded.
            ValueError: ``Client(webhooks=...)`` does not allow the webhook.
            StoreUnavailableError: The store did not answer; a repeat finds what was started.
        """
        return Operation(await self._host.start_child(self._hold, handler, state, key=key, webhook=webhook))

    async def wait(
        self,
        *,
        sleep: Duration | None = None,
        children: Sequence[str | Named] | None = None,
        timeout: Duration | None = 420,
        poll_interval: Duration = 3,
        service: str | Service | None = None,
    ) -> list[operations_pb2.Operation]:
        """Wait in this process: first the sleep, then the children. For long waits, ``suspend`` holds no process.

        Args:
            sleep: Seconds or a timedelta; 0 is over at once.
            children: Operations or their names; none at all have ended. Whether this operation itself is done plays no
                part.
            timeout: Bounds the children part, from the end of the sleep. None: no bound.
            poll_interval: Between looks at a foreign service; the client's own operations are not polled but noticed.
            service: Who has the children: a name in ``Client(services=...)`` or an object. None: this client.

        Returns:
            The children in the order given. One that failed is handed back, not raised; a missing one is done with
            NOT_FOUND.

        Raises:
            ValueError: Nothing was given to wait for, a negative duration, an unknown service, or itself among the
                children.
            InvalidOperationNameError: A child's name is malformed.
            WaitDeadlineExceededError: The timeout ran out; carries the pending and the finished.
            WorkerUnavailableError: The client is closing, and the operation is in the hands of a visitor.
            StoreUnavailableError: The client's own children could not be read.
        """
        slept = 0.0 if sleep is None else seconds(sleep, "sleep")
        limit = None if timeout is None else seconds(timeout, "timeout")
        interval = seconds(poll_interval, "poll_interval", positive=True)
        remote = self._host.children.service(service) if isinstance(service, str) else service
        wanted = check_children(self.name, () if children is None else children, foreign=remote is not None)
        if sleep is None and children is None:
            raise ValueError("nothing to wait for: give sleep or children")
        clock = self._host.clock
        end = clock.monotonic() + slept
        if slept or not wanted:  # also for no time at all: a loop around it must not keep others from running
            await sleep_for(clock, slept)
        if not wanted:
            return []
        deadline = None if limit is None else end + limit
        if remote is not None:
            return await self._host.children.wait_foreign(
                wanted, as_service(remote), deadline=deadline, timeout=limit or 0.0, poll_interval=interval
            )
        return await self._host.children.wait(
            wanted,
            deadline=deadline,
            timeout=limit or 0.0,
            poll_interval=interval,
            through_drain=self.claim > 0,  # a handler has the time of the drain; a visitor holds a server up
        )

    def suspend(
        self,
        *,
        resume_at: str | HandlerFunction,
        sleep: Duration | None = None,
        until: datetime.datetime | float | None = None,
        children: Sequence[str | Named] | None = None,
        timeout: Duration | None = None,
        poll_interval: Duration = 3,
        max_poll_interval: Duration | None = None,
        service: str | None = None,
        poll_endpoint: str | None = None,
        messages: Sequence[str] = (),
    ) -> Suspended:
        """Wait without holding a process. Not async and without I/O: return the result from the handler.

        State, wait and wake-up are then committed in one transaction. When the sleep is over and all children have
        ended, the segment's function is called; for a name, the handler, with ``op.resume_point == resume_at``.

        Args:
            resume_at: The function of a segment of this handler, or a resume point by its name. The handler itself, or
                "", is its start.
            sleep: Seconds or a timedelta, from the commit. 0: at once.
            until: Instead of ``sleep``: an aware datetime or epoch seconds. In the past: at once.
            children: Operations, or names, to wait for after the sleep; read again at the wake-up as ``op.children``.
                An empty list: at once, with CHILDREN_DONE.
            timeout: Bounds the children part, from the end of the sleep; then ``wake_reason`` is CHILDREN_TIMEOUT.
            poll_interval: Between looks at children that give no notice.
            max_poll_interval: Up to which a remote scheduler may let the interval grow.
            service: The foreign service that has the children: a name in ``Client(services=...)``.
            poll_endpoint: URL at which a remote scheduler polls the children of ``service``, which is needed all the
                same: they are read from it at the wake-up.
            messages: Topics. A message of one of them that no segment before was told of ends the wait at once, with
                ``WakeReason.MESSAGE``; ``op.messages`` has it. Alone, it is a wait without an end.

        Raises:
            RuntimeError: Not called from the operation's handler.
            TypeError: ``resume_at`` is neither a function nor a text, or ``children`` or ``messages`` is a text.
            UnknownResumePointError: ``resume_at`` is not declared.
            ValueError: Nothing was given to wait for, a negative duration, an unknown service, ``poll_endpoint``
                without one, itself among the children, or a sleep or deadline so far away that the store's retention
                policy might remove the row before it.
            InvalidOperationNameError: A child's name is malformed.
            PayloadTooLargeError: The children's names are over ``Limits.children``.
        """
        handler = self._hold.handler
        if not self._hold.in_handler or handler is None:
            raise RuntimeError("suspend() works inside the operation's handler; elsewhere, await op.wait(...)")
        planned = plan(
            own_name=self.name,
            resume_at=handler.point(resume_at),
            sleep=sleep,
            until=until,
            children=children,
            timeout=timeout,
            poll_interval=poll_interval,
            max_poll_interval=max_poll_interval,
            service=service,
            services=self._host.children.services,
            poll_endpoint=poll_endpoint,
            messages=messages,
        )
        self._host.settings.limits.check("children", sum(len(name.encode()) + 3 for name in planned.children))
        store = self._host.rows.store
        check_reach(planned, now=self._host.clock.time(), most=store.max_wait, reason=store.max_wait_reason)
        if planned.topics:
            self._hold.straight.journal.check_kept()
        self._hold.suspended = planned
        return planned

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Fail the operation with the exception that leaves the block; a clean exit leaves it open."""
        if exc is None or self._hold.record.done:
            return
        error: BaseException | status_pb2.Status = exc
        if isinstance(exc, asyncio.CancelledError) and not self.cancel_requested:
            # The creator's task was stopped, by a shutdown say: nobody cancelled the operation.
            error = make_status(Code.ABORTED, "the task that drove the operation was stopped", reason="CREATOR_STOPPED")
        try:
            await asyncio.shield(self.fail(error))
        except (OperationDoneError, OperationNotFoundError, LeaseLostError) as refused:
            # Somebody else ended it. What leaves the block is the caller's own exception all the same.
            logger.warning("%s was not failed: %s", self.name, refused, extra=about(self.record, "not_failed"))
