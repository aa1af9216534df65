"""Operations that service methods drive by hand, although a handler could: the Go package's way to resume.

There, a workflow calls the method again that made the operation. Here, the method takes the claim that a worker would
take, under a lease. What becomes of the row if the method does not come to an end is the registered handler's part.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import InvalidTransitionError, OperationBusyError, OperationDoneError, WorkerUnavailableError
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason
from lro_aio.core.transitions import Claimant, Holder
from lro_aio.engine.operation import Operation, S
from lro_aio.engine.suspension import Suspended

if TYPE_CHECKING:
    from lro_aio.engine.engine import Engine
    from lro_aio.engine.handlers import Handler

__all__ = ["MethodOperation", "claim_suspended", "start_by_hand"]

RETRY_AFTER = 5.0
"""Seconds after which a row that a worker is about to run may wait again, or have ended."""


class MethodOperation(Operation[S]):
    """An operation in the hands of a service method, under a lease, with the claim of a run.

    As in a handler, ``state``, ``resume_point``, ``children`` and ``wake_reason`` say where to go on. The method ends
    it with ``done`` or ``fail``, or has it wait: ``await op.commit(op.suspend(resume_at=..., sleep=...))``. If the
    process dies first, or releases its leases at shutdown, a worker goes on with the row's handler.
    """

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
        if suspended is not self._suspended or self._handler is None:
            raise ValueError("commit() takes what suspend() of the same operation returned last")
        changes = {**self.state_changes(), **self.last_changes()}
        token, on_cancel = names.new_id(), self._handler.on_cancel

        def event(record: Record, *, holder: Holder, now: float) -> Record | None:
            return transitions.suspend(
                record,
                holder=holder,
                now=now,
                retention=self._engine.retention.duration,
                wait=suspended.wait(now=now, token=token, on_cancel=on_cancel),
                resume_point=suspended.resume_at,
                changes=changes,
            )

        made = partial(event, holder=self._holder, now=self._engine.clock.time())
        record = await self._engine.apply(Change(self.name, made, size=512 + len(changes.get("state_data", b""))))
        self.retire()
        self._engine.worker.let_go(self._holder)
        if record is not None:
            self._record = record
            await self._engine.dispatcher.after_run(record)

    def give_children(self, children: list[operations_pb2.Operation]) -> None:
        """What it waited for, as it is now. For the engine."""
        self._children = children


async def start_by_hand(engine: Engine, handler: str) -> MethodOperation[Any]:
    """Make an operation of a handler, for a service method to drive from its start.

    Raises:
        UnknownHandlerError: It is not registered here: nobody could go on with the operation.
        WorkerUnavailableError: The process shuts down.
        StoreUnavailableError: Nothing is known of the start.
    """
    engine.check_open()
    known = engine.handlers.get(handler)
    if engine.draining:
        raise WorkerUnavailableError("it is shutting down")
    now = engine.clock.time()
    data, tag = known.codec.encode(known.codec.default())
    record = Record(
        name=f"operations/{engine.new_id(now)}",
        uid=names.new_id(),
        state=State.PENDING,
        create_time=now,
        update_time=now,
        check_time=now,
        handler=known.name,
        state_data=data,
        state_codec=tag,
    )
    claimed = transitions.claim(record, now=now, by=_claimant(engine, known))
    assert claimed is not None
    event = partial(transitions.create, record=claimed, now=now)
    created = await asyncio.shield(engine.gateway.submit(Change(record.name, event, creates=True, size=record.size)))
    assert created is not None
    return _taken(engine, created, known)


async def claim_suspended(engine: Engine, name: str, *, handler: str = "") -> MethodOperation[Any]:
    """Take a SUSPENDED row for a service method that goes on with it, without a resume token.

    Nothing but the row's state tells whether the caller is late, early or comes twice: of any number of calls at a time
    one gets it, and a call that comes after the operation has suspended anew ends that wait, whatever it waits for.

    Args:
        engine: Open.
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
    record = await engine.record(name)
    if record.done:
        raise OperationDoneError(name, record.state)
    if not record.handler or handler not in ("", record.handler):
        raise InvalidTransitionError(name, record.state, "claim by this method")
    now = engine.clock.time()
    if record.state is not State.SUSPENDED or record.wait is None:
        live = record.lease_live(now) and record.lease_expire_time is not None
        raise OperationBusyError(name, (record.lease_expire_time or now) - now if live else RETRY_AFTER)
    if engine.draining:
        raise WorkerUnavailableError("it is shutting down")
    known = engine.handlers.find(record.handler)
    wake = await _wake(engine, record.wait)
    # Before the claim: a read that fails must not leave a row that is held and that nobody drives.
    children = await _children(engine, wake if not record.wait.rerun else record.wake)
    event = partial(_claimed, now=engine.clock.time(), by=_claimant(engine, known), token=record.wait.token, wake=wake)
    # Shielded: others' changes are in the same batch. A caller that goes away leaves a lease that runs out.
    claimed = await asyncio.shield(engine.gateway.submit(Change(name, event, claims=True)))
    if claimed is None or claimed.done:
        raise OperationDoneError(name, State.CANCELLED if claimed is None else claimed.state)
    operation = _taken(engine, claimed, known)
    operation.give_children(children)
    return operation


def _claimed(record: Record, *, now: float, by: Claimant, token: str, wake: Wake) -> Record | None:
    waits = record.state is State.SUSPENDED and record.wait is not None and record.wait.token == token
    if not waits and not record.done:
        raise OperationBusyError(record.name, RETRY_AFTER)  # somebody was first
    return transitions.claim(record, now=now, by=by, token=token, wake=wake)


async def _children(engine: Engine, wake: Wake | None) -> list[operations_pb2.Operation]:
    if wake is None or not wake.children:
        return []
    if not wake.service:
        return await engine.children.read(wake.children)
    return await engine.children.read_foreign(wake.children, engine.resolve_service(wake.service), lenient=True)


async def _wake(engine: Engine, wait: Wait) -> Wake:
    """Why it wakes: what is true of its children, whatever the caller thinks."""
    pending = await engine.dispatcher.pending(wait) if wait.children else []
    reason = WakeReason.ELAPSED
    if wait.children:
        reason = WakeReason.CHILDREN_TIMEOUT if pending else WakeReason.CHILDREN_DONE
    return Wake(reason=reason, children=wait.children, service=wait.service, pending=tuple(pending))


def _claimant(engine: Engine, handler: Handler | None) -> Claimant:
    """As a worker claims; a handler that is not known here has no clean-up that it could run."""
    if handler is not None:
        return engine.claimant(handler)
    settings = engine.settings
    return Claimant(
        owner=settings.owner,
        lease=engine.lease_policy.duration,
        max_attempts=settings.max_attempts,
        retention=engine.retention.duration,
    )


def _taken(engine: Engine, record: Record, handler: Handler | None) -> MethodOperation[Any]:
    holder = Holder(record.uid, record.claim)
    operation: MethodOperation[Any] = MethodOperation(
        engine, record, handler=handler, holder=holder, in_handler=handler is not None
    )
    engine.worker.hold(record)
    engine.worker.drive(operation)
    return operation
