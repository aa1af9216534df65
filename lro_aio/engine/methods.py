"""Operations that service methods drive by hand, although a handler could: the Go package's way to resume.

There, a workflow calls the method again that made the operation. Here, the method takes the claim that a worker would
take, under a lease. What becomes of the row if the method does not come to an end is the registered handler's part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, cast

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import InvalidTransitionError, OperationBusyError, OperationDoneError, WorkerUnavailableError
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason
from lro_aio.core.tracing import CALLER
from lro_aio.core.transitions import Claimant, Holder
from lro_aio.engine.cancelling import Canceller
from lro_aio.engine.handlers import Handler, Runnable
from lro_aio.engine.holding import Holding, OperationHost
from lro_aio.engine.leases import Leases
from lro_aio.engine.operation import Operation, S
from lro_aio.engine.settings import check_kept
from lro_aio.engine.suspension import Suspended

__all__ = ["MethodOperation", "Methods"]

RETRY_AFTER = 5.0
"""Seconds after which a row that a worker is about to run may wait again, or have ended."""


class MethodOperation(Operation[S, Any]):
    """An operation in the hands of a service method, under a lease, with the claim of a run.

    As in a handler, ``state``, ``resume_point``, ``children`` and ``wake_reason`` say where to go on. The method ends
    it with ``done`` or ``fail``, or has it wait: ``await op.commit(op.suspend(resume_at=..., sleep=...))``. If the
    process dies first, or releases its leases at shutdown, a worker goes on with the row's handler.

    Made by a server, never by hand.
    """

    def __init__(self, holding: Holding, canceller: Canceller) -> None:
        super().__init__(holding)
        self._canceller = canceller

    async def commit(self, suspended: Suspended) -> None:
        """Commit state, wait and wake-up in one transaction, and give the operation away.

        Args:
            suspended: What ``suspend`` of this operation returned last.

        Raises:
            ValueError: It is another operation's, or not the last one.
            StateCodecError: The state cannot be encoded; names the field.
            PayloadTooLargeError: State over ``Limits.state``.
            OperationDoneError: It has ended.
            LeaseLostError: This object does not hold the operation, or no longer.
            StoreUnavailableError: Nothing is known; ask again. LeaseLostError may then mean that it was committed.
        """
        hold = self._hold
        if suspended is not hold.suspended or hold.handler is None:
            raise ValueError("commit() takes what suspend() of the same operation returned last")
        event, size, _ = hold.suspend_change(suspended)  # a journal is of runs
        made = partial(event, holder=hold.holder, now=hold.host.clock.time())
        record = await hold.host.rows.submit(Change(self.name, made, size=size))
        hold.retire()
        hold.host.let_go(hold.holder)
        if record is not None:
            hold.record = record
            await self._canceller.go_on(record)


class Methods:
    """Operations in the hands of service methods.

    Args:
        host: Of the operations.
        canceller: Goes on with what a method leaves.
        leases: Of the operations that methods hold.
        runnable: What can run here.
    """

    def __init__(self, host: OperationHost, canceller: Canceller, *, leases: Leases, runnable: Runnable) -> None:
        self._host = host
        self._canceller = canceller
        self._leases = leases
        self._handlers = runnable.handlers
        self._rows = host.rows
        self._children = host.children
        self._clock = host.clock
        self._settings = host.settings

    async def start(self, handler: str) -> MethodOperation[Any]:
        """Make an operation of a handler, for a service method to drive from its start.

        Raises:
            UnknownHandlerError: It is not registered here: nobody could go on with the operation.
            StoreSchemaError: The handler has a deadline, and the store's table is from before there were any.
            WorkerUnavailableError: The process shuts down.
            StoreUnavailableError: Nothing is known of the start.
        """
        self._rows.check_open()
        known = self._handlers.get(handler)
        if self._host.draining:
            raise WorkerUnavailableError("it is shutting down")
        if known.deadline is not None:
            check_kept(self._rows.store, "deadlines")
        now = self._clock.time()
        data, tag = known.codec.encode_start(None)
        record = Record(
            name=f"operations/{names.id_at(now, ordered=self._rows.store.ordered_names)}",
            uid=names.new_id(),
            state=State.PENDING,
            create_time=now,
            update_time=now,
            check_time=now,
            handler=known.name,
            state_data=data,
            state_codec=tag,
            deadline=None if known.deadline is None else now + known.deadline,
            traceparent=CALLER.get(),
        )
        claimed = transitions.claim(record, now=now, by=self._settings.claimant(known, self._rows.store))
        assert claimed is not None

        def write(row: Record) -> Awaitable[Record]:
            event = partial(transitions.create, record=row, now=now)
            created = self._rows.submit(Change(row.name, event, creates=True, size=row.size))
            return cast("asyncio.Future[Record]", asyncio.shield(created))  # to create is not to remove

        observing = self._host.observing
        made = write(claimed) if observing is None else observing.start(claimed, explicit=False, make=write)
        return self._take(await made, known)

    async def claim_suspended(self, name: str, *, handler: str = "") -> MethodOperation[Any]:
        """Take a SUSPENDED row for a service method that goes on with it, without a resume token.

        Nothing but the row's state tells whether the caller is late, early or comes twice: of any number of calls at a
        time one gets it, and a call that comes after the operation has suspended anew ends that wait, whatever it waits
        for.

        Args:
            name: Resource name.
            handler: Whose rows only; "" for any.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never made, deleted or expired.
            OperationDoneError: It has ended, or ended as it was claimed.
            OperationBusyError: Somebody runs it, or is about to.
            InvalidTransitionError: It belongs to another handler, or to whoever made it with ``create``.
            WorkerUnavailableError: The process shuts down, or does not have the service that has the children.
            StoreUnavailableError: The store did not answer.
        """
        record = await self._rows.record(name)
        if record.done:
            raise OperationDoneError(name, record.state)
        if record.paused:
            raise InvalidTransitionError(name, f"{record.state} and paused", "claim by this method")
        if not record.handler or handler not in ("", record.handler):
            raise InvalidTransitionError(name, record.state, "claim by this method")
        now = self._clock.time()
        if record.state is not State.SUSPENDED or record.wait is None:
            live = record.lease_live(now) and record.lease_expire_time is not None
            raise OperationBusyError(name, (record.lease_expire_time or now) - now if live else RETRY_AFTER)
        if self._host.draining:
            raise WorkerUnavailableError("it is shutting down")
        known = self._handlers.find(record.handler)
        wake = await self._wake(record.wait)
        told = wake if not record.wait.rerun else record.wake
        # Before the claim: a read that fails must not leave a row that is held and that nobody drives.
        children = [] if told is None else await self._children.woken(told, lenient=True)
        # A handler that is not known here has no clean-up that it could run.
        by = self._settings.claimant(known, self._rows.store)
        event = partial(_claimed, now=self._clock.time(), by=by, token=record.wait.token, wake=wake)
        # Shielded: others' changes are in the same batch. A caller that goes away leaves a lease that runs out.
        claimed = await asyncio.shield(self._rows.submit(Change(name, event, claims=True)))
        if claimed is None or claimed.done:
            raise OperationDoneError(name, State.CANCELLED if claimed is None else claimed.state)
        if claimed.state is not State.RUNNING:  # it was paused meanwhile, or its deadline had come
            await self._canceller.go_on(claimed)
            raise OperationBusyError(name, RETRY_AFTER)
        return self._take(claimed, known, children)

    async def _wake(self, wait: Wait) -> Wake:
        """Why it wakes: what is true of its children, whatever the caller thinks."""
        pending = await self._children.pending(wait) if wait.children else []
        reason = WakeReason.ELAPSED
        if wait.children:
            reason = WakeReason.CHILDREN_TIMEOUT if pending else WakeReason.CHILDREN_DONE
        return wait.wake(reason, pending)

    def _take(
        self, record: Record, handler: Handler | None, children: Sequence[operations_pb2.Operation] = ()
    ) -> MethodOperation[Any]:
        holder = Holder(record.uid, record.claim)
        holding = Holding(self._host, record, handler=handler, holder=holder, in_handler=handler is not None)
        holding.children = list(children)
        self._leases.drive(record.name, holder, holding)
        return MethodOperation(holding, self._canceller)


def _claimed(record: Record, *, now: float, by: Claimant, token: str, wake: Wake) -> Record | None:
    waits = record.state is State.SUSPENDED and record.wait is not None and record.wait.token == token
    if not waits and not record.done:
        raise OperationBusyError(record.name, RETRY_AFTER)  # somebody was first
    return transitions.claim(record, now=now, by=by, token=token, wake=wake)
