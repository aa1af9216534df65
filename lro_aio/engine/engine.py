"""The engine: what a client's calls do, over a store, a scheduler and the worker of this process."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.codec import StateCodec
from lro_aio.core.errors import ClockSkewError, OperationNotFoundError
from lro_aio.core.policies import LeasePolicy, Limits, RetentionPolicy, SweepPolicy
from lro_aio.core.record import Record
from lro_aio.core.transitions import Claimant
from lro_aio.engine.children import Children, Service
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.gateway import ClosedError, Gateway
from lro_aio.engine.handlers import Handler, Handlers
from lro_aio.engine.listing import Page, list_page
from lro_aio.engine.notices import Notices, Subscription
from lro_aio.engine.operation import Operation
from lro_aio.engine.starting import Starter
from lro_aio.engine.sweep import Sweeper
from lro_aio.engine.worker import Worker
from lro_aio.ports import Clock, Route, Scheduler, Store

__all__ = ["Engine", "Settings"]

logger = logging.getLogger("lro_aio")

SETTLE_ROUNDS = 20
"""Turns of the event loop without a request to the store, after which a driven clock takes the engine for idle."""
LOOK_AGAIN = 10.0
"""Real seconds between looks of everybody who waits, that no notice asked for: a belt beside the braces."""
NOTICE = 1.0
"""Seconds in which a notice of another process's commit has certainly come, on a store that gives any."""
WATCH_POLL = 1.0
"""Engine seconds between reads of a watched row on a store that gives no notice of other processes."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a client was configured with."""

    worker: bool
    dispatch: str
    services: Mapping[str, Service]
    max_running: int
    lease: LeasePolicy
    sweep: SweepPolicy
    retention: RetentionPolicy
    limits: Limits
    max_attempts: int
    drain_timeout: float
    expose_errors: bool
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")


class Engine:
    """Everything that a ``Client`` does. Belongs to the event loop that opened it.

    Not safe for use from other threads, nor after a fork.
    """

    def __init__(
        self, client: Any, store: Store, scheduler: Scheduler, handlers: Handlers, clock: Clock, settings: Settings
    ) -> None:
        self.client = client
        self.scheduler = scheduler
        self.handlers = handlers
        self.clock = clock
        self.settings = settings
        self.services = settings.services
        self.limits = settings.limits
        self.lease_policy = settings.lease
        self.retention = settings.retention
        self.expose_errors = settings.expose_errors
        self.grace_until = float("-inf")
        """Epoch seconds; no expired lease is claimed before (rule 4)."""
        self.notices = Notices()
        self.gateway = Gateway(
            store,
            committed=self.notices.publish,
            elsewhere=self.notices.elsewhere,
            failed=lambda: None,
            recovered=self._recovered,
        )
        self._claimants: dict[str, Claimant] = {}
        """By clean-up."""
        self.children = Children(self.gateway, self.notices, clock)
        places = settings.max_running if settings.worker else 0  # a front end runs nothing, even what it knows
        self.worker = Worker(self, owner=settings.owner, max_running=places)
        self.starter = Starter(self)
        self.dispatcher = Dispatcher(self)
        self.sweeper = Sweeper(self, settings.sweep, precise=scheduler.local)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self.flushes: set[asyncio.Task[None]] = set()
        """Tasks of operations whose progress is written in a moment."""
        self._undo: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    # Life cycle

    async def open(self) -> None:
        """Open the store, then start scheduler and sweep.

        Raises:
            RuntimeError: It was opened before.
            StoreSchemaError: The store is not one that can be used.
            StoreUnavailableError: It does not answer.
            ClockSkewError: Its clock and this machine's are too far apart for the lease.
        """
        if self._loop is not None:
            raise RuntimeError("a client is opened once; make a new one")
        opening = asyncio.create_task(self.gateway.open(), name="lro-aio-open")
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:  # what is half open cannot be closed
            self._closing = asyncio.create_task(self._undo_open(opening), name="lro-aio-close")
            await asyncio.shield(self._closing)
            raise
        skew = self.clock_skew()
        if skew is not None:
            await asyncio.shield(self._undo_open(opening))
            raise skew
        self._loop = asyncio.get_running_loop()
        try:
            await self._begin()
        except BaseException:
            await self.close()
            raise

    async def _undo_open(self, opening: asyncio.Task[None]) -> None:
        await asyncio.wait([opening])
        if opening.exception() is None:
            await self.gateway.close()
        self._closing = None

    async def _begin(self) -> None:
        self._undo = [
            self.notices.listen(self.worker.observe, self.worker.elsewhere),
            self.notices.listen(self.sweeper.observe, self.sweeper.elsewhere),
            self.clock.attach(self._settle),
        ]
        self._look_again()
        if self._schedules:
            await self.scheduler.open(self.dispatcher)
        if self.settings.worker:
            self.sweeper.start()

    async def drain(self, timeout: float | None = None) -> None:
        """Stop claiming and let the runs end, or release them for other processes (rule 5)."""
        await self._drain(self.settings.drain_timeout if timeout is None else timeout)

    async def _drain(self, timeout: float, *, closing: bool = False) -> None:
        self.check_open()
        self.worker.draining = True
        self.notices.elsewhere()  # whoever waits gets the latest state now, while there is time to answer
        await self.sweeper.stop()
        await self.worker.drain(timeout, closing=closing)

    async def close(self) -> None:
        """Drain, then close what was opened."""
        if self._closed or self._loop is None:
            return
        self.check_open()  # on another event loop, nothing could be closed in order
        cut = True
        try:
            await self._drain(self.settings.drain_timeout, closing=True)
            cut = False
        finally:  # also when whoever closes is cancelled: the rest is quick, and nothing may be left behind
            if self._closing is None:
                self._closing = self.loop.create_task(self._close(cut=cut), name="lro-aio-close")
            await asyncio.shield(self._closing)

    async def _close(self, *, cut: bool) -> None:
        try:
            if cut:
                await self.worker.drain(0, closing=True)
            if self._schedules:
                await self.scheduler.close()
            await self.dispatcher.close()
        finally:
            self._closed = True
            for flush in self.flushes:
                flush.cancel()
            await asyncio.to_thread(self.worker.close)
            if self._timer is not None:
                self._timer.cancel()
            for undo in self._undo:
                undo()
            await self.gateway.close()
            self.notices.elsewhere()  # whoever still waits finds the client closed

    def check_open(self) -> None:
        """Refuse use before ``async with``, after it, and on another event loop.

        Raises:
            RuntimeError: With a sentence that says what to do.
        """
        if self._loop is None:
            raise ClosedError("the client is not open: use it inside 'async with client:'")
        if self._closed:
            raise ClosedError("the client is closed: its 'async with' block has ended")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("the client belongs to the event loop that opened it; make one client per loop")

    def clock_skew(self) -> ClockSkewError | None:
        """What to say where the store's clock, as last measured, is too far from this machine's; None where not.

        Leases are written with one machine's clock and read with another's. A quarter of a lease apart from the store's
        each, two machines still renew (at a third) before the other takes the lease for lost.
        """
        offset, limit = self.gateway.store.clock_offset, self.lease_policy.duration / 4
        return ClockSkewError(offset, limit) if abs(offset) > limit else None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that opened the engine."""
        assert self._loop is not None
        return self._loop

    @property
    def draining(self) -> bool:
        """Whether this process takes no more work."""
        return self.worker.draining or self._closed

    # What a client calls

    async def operation(self, name: str, *, state: type[Any] | None = None) -> Operation[Any]:
        """See ``Client.operation``."""
        record = await self.record(name)
        handler = self.handlers.find(record.handler) if record.handler else None
        return Operation(self, record, handler=handler, codec=StateCodec(state) if state is not None else None)

    async def record(self, name: str) -> Record:
        """The row of a visible operation.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never made, deleted or expired.
            StoreUnavailableError: The store did not answer.
        """
        self.check_open()
        names.parse(name)
        record = await self.gateway.read(name)
        if record is None:
            raise OperationNotFoundError(name)
        return record.check_visible(self.clock.time())

    async def list_page(
        self,
        *,
        filter: str = "",  # noqa: A002 (the field's name in the RPC)
        page_size: int = 0,
        page_token: str = "",
        parent: str = "",
    ) -> Page:
        """See ``Client.list_operations``."""
        self.check_open()
        return await list_page(
            self.gateway,
            self.limits,
            now=self.clock.time(),
            filter=filter,
            page_size=page_size,
            page_token=page_token,
            parent=parent,
        )

    async def wait(self, name: str, timeout: float | None) -> Record:
        """Wait until the operation has ended, or until the time is up; returns it as last seen."""
        deadline = None if timeout is None else self.clock.time() + timeout
        with self.notices.subscribe((name,)) as changes:
            record = self._running_here(name, timeout)
            if record is None:
                record = await self.record(name)  # under the subscription: nothing falls between the two
            while not record.done and (later := await self._later(record, changes, deadline)) is not None:
                record = later
        return record

    def _running_here(self, name: str, timeout: float | None) -> Record | None:
        """What a wait begins with, without a read: its row if it runs here and nobody else has changed anything.

        Where the store gives notice of other processes, a change of theirs that this misses is told to the subscription
        in a moment; a wait that ends before that must read.
        """
        self.check_open()
        if self.gateway.store.foreign_poll_interval is None or (timeout is not None and timeout < NOTICE):
            return None
        record = self.worker.latest(name)
        return None if record is None else record.check_visible(self.clock.time())

    async def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        """Yield the operation now and whenever it has changed; ends with the terminal one."""
        with self.notices.subscribe((name,)) as changes:
            record = await self.record(name)
            yield record.to_operation()
            while (later := await self._later(record, changes, None)) is not None:
                record = later
                yield record.to_operation()

    async def cancel(self, name: str, *, cancel_children: bool = True) -> None:
        """See ``Client.cancel_operation``."""
        self.check_open()
        names.parse(name)
        event = partial(
            transitions.request_cancel,
            now=self.clock.time(),
            retention=self.retention.duration,
            token=names.new_id(),
            cancel_children=cancel_children,
        )
        before = await self.record(name)
        record = await self.apply(Change(name, event))
        if before.schedule_handle:
            await self.dispatcher.forget_wait(before)
        if record is None:
            return
        if record.revision != before.revision:
            await self.dispatcher.after_run(record)
        elif record.cancel_children:  # a repeat: the first one may not have reached all children
            await self.dispatcher.cascade(record)

    async def delete(self, name: str) -> None:
        """See ``Client.delete_operation``."""
        self.check_open()
        names.parse(name)
        await self.apply(Change(name, partial(transitions.delete, now=self.clock.time())))

    async def sweep(self) -> None:
        """One repair pass."""
        self.check_open()
        await self.sweeper.run_pass()
        self.sweeper.nudge()  # what the loop waits for was known before this pass

    # What worker, sweep and operations call

    async def apply(self, change: Change) -> Record | None:
        """Commit a change; see ``Gateway.submit``."""
        self.check_open()
        return await self.gateway.submit(change)

    def new_id(self, now: float) -> str:
        """The id of an operation that is made now, as its store likes it."""
        return names.ordered_id(now) if self.gateway.store.ordered_names else names.new_id()

    def claimant(self, handler: Handler) -> Claimant:
        """The terms on which this process claims rows of a handler."""
        known = self._claimants.get(handler.on_cancel)
        if known is None:
            known = self._claimants[handler.on_cancel] = Claimant(
                owner=self.settings.owner,
                lease=self.lease_policy.duration,
                max_attempts=self.settings.max_attempts,
                retention=self.retention.duration,
                on_cancel=handler.on_cancel,
            )
        return known

    def routes(self) -> list[Route]:
        """What a sweep of this process may touch: rows that it can run, and those that their creators drive."""
        return [("", ""), *self.handlers.routes()]

    def resolve_service(self, name: str) -> Service:
        """The foreign service of this name.

        Raises:
            ValueError: ``Client(services=...)`` does not name it.
        """
        service = self.services.get(name)
        if service is None:
            listed = ", ".join(sorted(self.services)) or "none"
            raise ValueError(f"no service {name!r} in Client(services=...); known: {listed}")
        return service

    async def _later(self, record: Record, changes: Subscription, deadline: float | None) -> Record | None:
        """The row once it has changed; None where it has ended, at the deadline, and when the client drains."""
        while not record.done and not self.draining and (deadline is None or self.clock.time() < deadline):
            until = deadline
            if self.gateway.store.foreign_poll_interval is None:  # no notice comes from other processes
                poll = self.clock.time() + WATCH_POLL
                until = poll if deadline is None else min(deadline, poll)
            await changes.wait(self.clock, until)
            changed, stale = changes.take()
            latest = changed.get(record.name)
            if stale or record.name not in changed:
                latest = await self.record(record.name)
            if latest is None or _is_another(latest, record):  # removed, or a later one under its name
                raise OperationNotFoundError(record.name)
            if _is_news(latest.check_visible(self.clock.time()), record):
                return latest
        return None

    @property
    def _schedules(self) -> bool:
        """Whether this process needs its scheduler: a front end does only for one that works elsewhere."""
        return self.settings.worker or not self.scheduler.local

    def _look_again(self) -> None:
        self.notices.look_again()
        self._timer = self.loop.call_later(LOOK_AGAIN, self._look_again)

    def _recovered(self) -> None:
        self.grace_until = self.clock.time() + self.lease_policy.duration
        self.notices.elsewhere()  # a write whose answer was lost gave no notice
        self.sweeper.nudge()

    async def _settle(self) -> None:
        """Return when nothing is left to do without time moving."""
        quiet = 0
        seen = -1
        while quiet < SETTLE_ROUNDS:
            await self.gateway.idle()
            await asyncio.sleep(0)
            if self.gateway.activity == seen and self.gateway.is_idle:
                quiet += 1
            else:
                quiet, seen = 0, self.gateway.activity


def _is_another(latest: Record, record: Record) -> bool:
    """Whether a row is a later one under the same name. One that another program wrote over or took back is not."""
    return bool(latest.uid and record.uid) and latest.uid != record.uid


def _is_news(latest: Record, record: Record) -> bool:
    """Whether a reader must be told. Another program writes the public message alone: no revision tells of it."""
    if latest.revision != record.revision:
        return latest.revision > record.revision
    return (latest.done, latest.metadata, latest.response, latest.error) != (
        record.done,
        record.metadata,
        record.response,
        record.error,
    )
