"""Runs operations again that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from lro_aio.core import names, pausing, rerunning, transitions
from lro_aio.core.change import Change
from lro_aio.core.codec import fingerprint
from lro_aio.core.journal import Entry
from lro_aio.core.record import Record, Wait
from lro_aio.engine.cancelling import Canceller, check_reason
from lro_aio.engine.dispatch import HANDOVER_RETRY
from lro_aio.engine.handlers import Runnable
from lro_aio.engine.holding import Holding, OperationHost
from lro_aio.engine.pausing import Pauser
from lro_aio.engine.settings import check_kept

__all__ = ["Rerunner"]

COPIES = "the steps of the operation that it runs again are being copied"
"""Why a rerun is paused at first, where the steps do not fit into the transaction that makes it."""


class Rerunner:
    """``rerun_operation`` of one engine.

    A rerun and its steps are made in one transaction, if they fit into it. Else it is paused until they are all there:
    if this process dies before, it stays so, and says why; the same request goes on with it.

    Args:
        host: Of the operations that are made.
        canceller: Goes on with what may run.
        pauser: Lets what is complete run.
        runnable: What can run here.
    """

    def __init__(self, host: OperationHost, canceller: Canceller, pauser: Pauser, *, runnable: Runnable) -> None:
        self._host = host
        self._rows = host.rows
        self._clock = host.clock
        self._settings = host.settings
        self._canceller = canceller
        self._pauser = pauser
        self._runnable = runnable

    async def rerun(self, name: str, request_id: str | None, *, reason: str = "", anywhere: bool = False) -> Holding:
        """See ``Client.rerun_operation``.

        Args:
            name: Of the operation that has ended.
            request_id: Of the request.
            reason: For the histories of both.
            anywhere: Whether another process may have the handler.
        """
        check_reason(reason)
        check_kept(self._rows.store, "reruns")
        source = await self._rows.record(name)
        record = self._again(source, request_id, reason)
        known = self._runnable.handlers.find(source.handler)
        if known is None and self._settings.worker and not anywhere:
            self._runnable.handlers.get(source.handler)  # raises UnknownHandlerError, which lists the known ones
        write, observing = partial(self._create, steps=await self._steps(source)), self._host.observing
        made = write(record) if observing is None else observing.start(record, explicit=False, make=write)
        created = await made
        note = partial(rerunning.linked, now=self._clock.time(), to=created.name, reason=reason)
        await self._rows.submit(Change(name, note))
        return Holding(self._host, created, handler=known)

    def _again(self, source: Record, request_id: str | None, reason: str) -> Record:
        now = self._clock.time()
        collection = names.parse(source.name).parent
        if request_id:  # in a space of its own: the start may have had the same id
            identifier = names.request_id(collection, f"{source.handler}\nagain\n{source.uid}", request_id)
        else:
            identifier = names.id_at(now, ordered=self._rows.store.ordered_names)
        return rerunning.again(
            source,
            name=names.make(collection, identifier),
            uid=names.new_id(),
            now=now,
            fingerprint=fingerprint(source.handler, None, f"again {source.uid}"),
            reason=reason,
        )

    async def _steps(self, source: Record) -> list[Entry]:
        if not source.entries:
            return []
        journal = await self._rows.call(partial(self._rows.store.journal, [source.name]))
        return rerunning.steps_of(entry for entry in journal.get(source.name, ()) if entry.uid == source.uid)

    async def _create(self, record: Record, steps: Sequence[Entry]) -> Record:
        first, *others = rerunning.portions(steps)
        if others:
            record = cast("Record", pausing.pause(record, now=record.create_time, reason=COPIES))
        elif self._settings.dispatch == "scheduler":
            wait = Wait(token=names.new_id(), sleep_until=record.create_time, expires=record.deadline, rerun=True)
            record = record.evolve(wait=wait, check_time=record.create_time + HANDOVER_RETRY)
        made = partial(transitions.create, record=record, now=record.create_time)
        created = await self._submit(record.name, made, first, size=record.size, creates=True)
        if created.paused and not created.claim and created.entries < len(steps):
            for part in others:
                created = await self._submit(record.name, lambda row: row, part)
            await self._pauser.unpause(record.name)
        elif created.uid == record.uid:
            await self._canceller.go_on(created)
        return created

    def _submit(
        self,
        name: str,
        event: Callable[[Record], Record],
        entries: tuple[Entry, ...],
        *,
        size: int = 512,
        creates: bool = False,
    ) -> asyncio.Future[Record]:
        most = self._settings.limits.entries
        change = Change(name, event, creates=creates, size=size, appends=entries, most_entries=most)
        return cast("asyncio.Future[Record]", self._rows.submit(change))  # neither event removes a row
