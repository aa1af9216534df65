"""Making operations: checked arguments, one row, and who runs it first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.message import Message

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.codec import StateCodec, pack
from lro_aio.core.codec import fingerprint as fingerprint_of
from lro_aio.core.errors import PayloadTooLargeError
from lro_aio.core.record import Record, State, Wait
from lro_aio.engine.dispatch import HANDOVER_RETRY
from lro_aio.engine.handlers import Handler, HandlerFunction
from lro_aio.engine.operation import Operation

if TYPE_CHECKING:
    from lro_aio.engine.engine import Engine

__all__ = ["Starter"]


class Starter:
    """``start`` and ``create`` of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def start(
        self,
        handler: str | HandlerFunction,
        state: Any = None,
        *,
        metadata: Message | None = None,
        request_id: str | None = None,
        operation_id: str | None = None,
        parent: str = "",
        fingerprint: str | bytes | Message | None = None,
        parent_operation: str = "",
        traceparent: str = "",
    ) -> Operation[Any]:
        """See ``Client.start``."""
        self._engine.check_open()
        known = self._engine.handlers.find(handler)
        if known is None and (self._engine.settings.worker or not isinstance(handler, str)):
            self._engine.handlers.get(handler)  # raises UnknownHandlerError, which lists the known ones
        handler_name = known.name if known is not None else str(handler)
        codec = known.codec if known is not None else StateCodec[Any](None if state is None else type(state))
        if state is None:
            state = codec.default()
        data, tag = codec.encode(state)
        _check_size("state", len(data), self._engine.limits.state)
        here = self._has_place_for(known)
        record = self._new_record(
            parent,
            handler_name,
            metadata,
            request_id=request_id,
            operation_id=operation_id,
            fingerprint=lambda: fingerprint_of(handler_name, state, fingerprint),
            claimed_by=self._engine.claimant(known) if known is not None and here else None,
            state_data=data,
            state_codec=tag,
            parent_operation=parent_operation,
            traceparent=traceparent,
        )
        if self._engine.settings.dispatch == "scheduler":
            return await self._start_elsewhere(record, known)
        created = await self._create(record, known if here else None)
        return Operation(self._engine, created, handler=known)

    async def create(
        self,
        *,
        metadata: Message | None = None,
        lease: bool = True,
        request_id: str | None = None,
        operation_id: str | None = None,
        parent: str = "",
        fingerprint: str | bytes | Message | None = None,
        state: type[Any] | None = None,
    ) -> Operation[Any]:
        """See ``Client.create``."""
        self._engine.check_open()
        now = self._engine.clock.time()
        record = self._new_record(
            parent,
            "",
            metadata,
            request_id=request_id,
            operation_id=operation_id,
            fingerprint=lambda: fingerprint_of("", None, fingerprint),
            state=State.RUNNING,
            claim=1 if lease else 0,
            owner=self._engine.settings.owner if lease else "",
            lease_expire_time=now + self._engine.lease_policy.duration if lease else None,
            check_time=now + self._engine.lease_policy.duration if lease else None,
        )
        created = await self._create(record)
        mine = created.uid == record.uid
        holder = transitions.Holder(created.uid, created.claim) if mine else None
        operation: Operation[Any] = Operation(
            self._engine, created, holder=holder, codec=StateCodec(state) if state is not None else None
        )
        if mine and lease:
            self._engine.worker.hold(created)
            self._engine.worker.drive(operation)
        return operation

    def _new_record(
        self,
        parent: str,
        handler: str,
        metadata: Message | None,
        *,
        request_id: str | None,
        operation_id: str | None,
        fingerprint: Callable[[], str],
        claimed_by: transitions.Claimant | None = None,
        **columns: Any,
    ) -> Record:
        now = self._engine.clock.time()
        collection = names.parse_parent(parent)
        if request_id and operation_id is not None:
            raise ValueError("give request_id or operation_id, not both")
        if request_id:
            identifier = names.request_id(collection, handler, request_id)
        else:
            identifier = self._engine.new_id(now) if operation_id is None else names.check_id(operation_id)
        packed = pack(metadata) if metadata is not None else b""
        _check_size("metadata", len(packed), self._engine.limits.metadata)
        columns.setdefault("check_time", now)
        if claimed_by is not None:
            columns.update(transitions.first_claim(now=now, by=claimed_by))
        return _BLANK.evolve(
            name=names.make(collection, identifier),
            uid=names.new_id(),
            create_time=now,
            update_time=now,
            handler=handler,
            metadata=packed,
            # Only a request that may come twice has something to be compared with.
            fingerprint=fingerprint() if request_id or operation_id is not None else "",
            **columns,
        )

    def _has_place_for(self, handler: Handler | None) -> bool:
        """Whether the row is claimed in the write that makes it; else it waits for a place, or for another process."""
        settings = self._engine.settings
        if settings.dispatch == "scheduler":
            return False
        if handler is not None and settings.worker and self._engine.worker.free > 0:
            return True
        self._engine.sweeper.saturated = True
        return False

    def _create(self, record: Record, claimed_for: Handler | None = None) -> asyncio.Future[Record]:
        event = partial(transitions.create, record=record, now=record.create_time)
        change = Change(record.name, event, creates=True, size=record.size)
        if claimed_for is None:
            created = self._engine.gateway.submit(change)
        else:
            created = self._engine.worker.submit(change, claimed_for, uid=record.uid)
        return cast("asyncio.Future[Record]", created)  # to create is not to remove

    async def _start_elsewhere(self, record: Record, handler: Handler | None) -> Operation[Any]:
        """Commit the first run as a wait of zero and hand it over (dispatch="scheduler")."""
        wait = Wait(token=names.new_id(), sleep_until=record.create_time, rerun=True)
        # Not due yet: a sweep that passes by must not hand it over a second time.
        later = record.create_time + HANDOVER_RETRY
        created = await self._create(record.evolve(wait=wait, check_time=later))
        if created.uid == record.uid:
            await self._engine.dispatcher.offer(created)
        return Operation(self._engine, created, handler=handler)


_BLANK = Record(name="", uid="", state=State.PENDING, create_time=0.0, update_time=0.0)
"""What new rows begin as: to change a row takes a fifth of the time that it takes to make one."""


def _check_size(field: str, size: int, limit: int) -> None:
    if size > limit:
        raise PayloadTooLargeError(field, size, limit)
