"""The engine: one life of a client. Builds the collaborators bottom up, opens, drains and closes them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lro_aio.core.codec import StateCodec
from lro_aio.core.data import ResponseType
from lro_aio.core.moments import LeaseLost
from lro_aio.core.record import Record
from lro_aio.core.transitions import Holder
from lro_aio.core.webhooks import Webhook
from lro_aio.engine.batching import Batcher
from lro_aio.engine.cancelling import Canceller
from lro_aio.engine.causes import Causes
from lro_aio.engine.changes import Feed
from lro_aio.engine.children import Children, Service
from lro_aio.engine.deadlines import Deadlines
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.evidence import Evidence
from lro_aio.engine.handlers import HandlerFunction, Handlers, Runnable
from lro_aio.engine.holding import Holding
from lro_aio.engine.joining import Joiner
from lro_aio.engine.keeping import Keeper
from lro_aio.engine.leases import Leases
from lro_aio.engine.life import Life
from lro_aio.engine.lines import Lines, check_queues
from lro_aio.engine.messages import Messenger
from lro_aio.engine.observing import Observing
from lro_aio.engine.operation import Operation
from lro_aio.engine.paced import Paced
from lro_aio.engine.pausing import Pauser
from lro_aio.engine.rows import Rows
from lro_aio.engine.run import Runner
from lro_aio.engine.settings import Settings
from lro_aio.engine.slots import Slots
from lro_aio.engine.standstill import Standstill
from lro_aio.engine.starting import Starter
from lro_aio.engine.sweep import Sweeper
from lro_aio.engine.tasks import Tasks
from lro_aio.engine.timing import SteadyTime, clock_skew
from lro_aio.engine.trials import Trials
from lro_aio.engine.waits import Waits
from lro_aio.engine.worker import Worker
from lro_aio.ports import Clock, Scheduler, Store

if TYPE_CHECKING:
    from lro_aio.engine.overview import Overview
    from lro_aio.engine.queues import Queues
    from lro_aio.engine.rerunning import Rerunner
    from lro_aio.engine.serving import ServerHost
    from lro_aio.engine.webhooks import WebhookReplayer

__all__ = ["Engine"]

RUNG_LEAST, RUNG_EACH, RUNG_MOST = 0.004, 0.00005, 0.05
"""Real seconds between two looks at what others say that they have committed: at least, more for each who waits and
would read again, and at most."""
RECOVERED = 0.25
"""Real seconds between two looks because the store answers again: it may answer one call and not the next, for long."""
POLL_AGAIN = 10.0
"""Real seconds after which everybody who waits reads again, although no notice asked for it."""


class Engine:
    """Everything that a ``Client`` does. Belongs to the event loop that opened it.

    Not safe for use from other threads, nor after a fork.
    """

    def __init__(
        self,
        client: Any,
        store: Store,
        scheduler: Scheduler,
        handlers: Handlers,
        clock: Clock,
        settings: Settings,
        services: Mapping[str, Service],
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._scheduler = scheduler
        self._handlers = handlers
        life = self.life = Life()
        observing = self.observing = Observing(settings.observers, clock) if settings.observers else None
        feed = self.feed = Feed(clock.monotonic)
        self._answers_again = Paced(self._look_again, lambda: RECOVERED)
        self._rung = Paced(feed.elsewhere, lambda: min(RUNG_MOST, RUNG_LEAST + RUNG_EACH * feed.waiting))
        self.slots = Slots(settings.max_running if settings.worker else 0, clock.monotonic)
        self.batcher = Batcher(
            store,
            life,
            owner=settings.owner,
            committed=feed.publish,
            elsewhere=self._rung,
            away=self._note_away,
            recovered=self._recovered,
            made=self._made,
            observing=observing,
        )
        rows = self.rows = Rows(self.batcher, feed, clock, life, settings.owner)
        leases = self.leases = Leases(self.batcher, clock, life, settings.lease, self._lost)
        children = self.children = Children(rows, feed, clock, services)
        self.host = _Host(client, clock, settings, rows, children, leases, life, self.slots, dev_mode=scheduler.local)
        self.host.observing = observing
        runnable = self._runnable = Runnable(handlers, worker=settings.worker)
        self.lines = Lines(rows, runnable, settings=settings, clock=clock)
        self.host.lines = self.lines
        self._make_workers(runnable, SteadyTime(clock))
        self.starter = Starter(
            self.host, self.worker, self.dispatcher, slots=self.slots, leases=leases, runnable=runnable
        )
        self.host.bind(self.starter, self.canceller)
        self.joiner = Joiner(rows, children, self.dispatcher, self.host.tasks)
        self.messenger = Messenger(rows, self.dispatcher, settings, clock, observing)
        self._closing: asyncio.Task[None] | None = None
        self._undo: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._away_since = -math.inf
        """Monotonic seconds: when the store last began to be away."""
        self._runs_end = math.inf
        """Of the event loop's time: when handlers that still run are stopped, once a drain has begun."""

    def _make_workers(self, runnable: Runnable, steady: SteadyTime) -> None:
        """What runs handlers, and finds what is to run."""
        settings, clock, rows, slots = self.settings, self.clock, self.rows, self.slots
        self.evidence = Evidence(clock, settings.lease)
        self.worker = Worker(
            Runner(self.host),
            rows=rows,
            slots=slots,
            leases=self.leases,
            evidence=self.evidence,
            settings=settings,
            clock=clock,
            steady=steady,
            life=self.life,
            after=self._after,
            observing=self.observing,
        )
        self.trials = Trials(slots, clock)
        keeper = Keeper(rows, clock, settings.retention.duration)
        standstill = Standstill(
            self.feed, rows, slots, self.worker, runnable, clock=clock, interval=settings.sweep.interval
        )
        self.dispatcher = Dispatcher(
            self.worker,
            self._scheduler,
            rows=rows,
            slots=slots,
            trials=self.trials,
            evidence=self.evidence,
            runnable=runnable,
            children=self.children,
            keeper=keeper,
            standstill=standstill,
            feed=self.feed,
            settings=settings,
            clock=clock,
            life=self.life,
        )
        self.canceller = Canceller(rows, self.dispatcher, clock=clock, retention=settings.retention.duration)
        self.pauser = Pauser(rows, self.dispatcher, self.canceller, clock=clock)
        self.sweeper = Sweeper(
            self.dispatcher,
            self.canceller,
            Deadlines(rows, self.dispatcher, self.canceller, runnable=runnable, settings=settings, clock=clock),
            keeper,
            standstill,
            self.lines,
            rows=rows,
            slots=slots,
            leases=self.leases,
            evidence=self.evidence,
            runnable=runnable,
            settings=settings,
            clock=clock,
            steady=steady,
            precise=self._scheduler.local,
            observing=self.observing,
        )

    # What few processes ask for is imported and made when it is asked for: ``import lro_aio`` is the lighter for it.

    @cached_property
    def server_host(self) -> ServerHost:
        """Answers for servers."""
        from lro_aio.engine.methods import Methods
        from lro_aio.engine.serving import ServerHost

        methods = Methods(self.host, self.canceller, leases=self.leases, runnable=self._runnable)
        return ServerHost(
            rows=self.rows,
            children=self.children,
            dispatcher=self.dispatcher,
            methods=methods,
            overview=lambda: self.overview,
            limits=self.settings.limits,
            clock=self.clock,
        )

    @cached_property
    def rerunner(self) -> Rerunner:
        """Runs operations again."""
        from lro_aio.engine.rerunning import Rerunner

        return Rerunner(self.host, self.canceller, self.pauser, runnable=self._runnable)

    @cached_property
    def webhooks(self) -> WebhookReplayer:
        """Sends webhooks again."""
        from lro_aio.engine.webhooks import WebhookReplayer

        return WebhookReplayer(self.rows, self.dispatcher, clock=self.clock)

    @cached_property
    def queues(self) -> Queues:
        """Tells of queues, and changes them."""
        from lro_aio.engine.queues import Queues

        return Queues(self.rows, clock=self.clock, changed=self.sweeper.nudge)

    @cached_property
    def overview(self) -> Overview:
        """Tells how it goes."""
        from lro_aio.engine.overview import Overview

        return Overview(self.rows, self._runnable, clock=self.clock, patience=self.settings.sweep.interval)

    async def open(self) -> None:
        """Open the store, then start scheduler and sweep.

        Raises:
            StoreSchemaError: The store is not one that can be used.
            StoreUnavailableError: It does not answer.
            ClockSkewError: Its clock and this machine's are too far apart for the lease.
        """
        opening = asyncio.create_task(self.batcher.open(), name="lro-aio-open")
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:  # what is half open cannot be closed
            self._closing = asyncio.create_task(self._undo_open(opening), name="lro-aio-close")
            await asyncio.shield(self._closing)
            raise
        skew = clock_skew(self.rows.store, self.settings.lease)
        if skew is not None:
            await asyncio.shield(self._undo_open(opening))
            raise skew
        self.life.begin()
        try:
            await self._begin()
        except BaseException:
            await self.close()
            raise

    async def _undo_open(self, opening: asyncio.Task[None]) -> None:
        await asyncio.wait([opening])
        if opening.exception() is None:
            await self.batcher.close()
        self._closing = None

    async def _begin(self) -> None:
        self.slots.on_free(self.dispatcher.fill_slots, self.sweeper.note_free, self.trials.look)
        self.slots.on_want(self.host.hurry)
        self._undo = [
            self.rows.listen(),
            self.feed.listen(self.worker.observe, lambda: None),
            self.feed.listen(self.dispatcher.observe, lambda: None),
            self.feed.listen(self.sweeper.observe, self.sweeper.elsewhere),
            self.feed.listen(self.joiner.observe, lambda: None),
            self.clock.attach(self._settle),
        ]
        self._poll_again()
        check_queues(self._runnable, self.rows.store)
        await self.lines.begin()
        if self._schedules:
            await self._scheduler.open(self.dispatcher)
        if self.settings.worker:
            self.sweeper.start()

    async def _settle(self) -> None:
        """For a clock that is moved by hand: return once everything that is due by now is done."""
        self.sweeper.catch_up()
        await self.batcher.settle()

    async def drain(self, timeout: float | None = None) -> None:
        """Stop claiming and let the runs end, or release them for other processes (rule 5).

        Of several drains, also those that ``close`` does, the one whose time is up first stops the runs.
        """
        await self._drain(self.settings.drain_timeout if timeout is None else timeout)

    async def _drain(self, timeout: float, *, closing: bool = False) -> None:
        self.life.check_open()
        self.life.drain()
        self._runs_end = min(self._runs_end, self.life.loop.time() + timeout)
        self.slots.close()
        self.trials.close()
        self.host.hurry()
        self.feed.elsewhere()  # whoever waits gets the latest state now, while there is time to answer
        await self.sweeper.stop()
        await self._stop_runs(max(0.0, self._runs_end - self.life.loop.time()), closing=closing)

    async def _stop_runs(self, timeout: float, *, closing: bool) -> None:
        """Let the runs end; then release what is left.

        Args:
            timeout: Real seconds that handlers get.
            closing: Nobody uses the client any more: from the release on, the store has only a moment.
        """
        try:
            await self.dispatcher.hand_back(self.slots.give_back())
            await self.worker.drain(timeout)
        finally:  # also when whoever closes is cancelled: other processes must not wait for the leases to end
            self.worker.stop()
            self.worker.give_up()
            if closing:
                self.batcher.hurry()
            await self.leases.release()

    async def close(self) -> None:
        """Drain, then close what was opened."""
        if self.life.closed or not self.life.begun or self.life.forked:
            return
        self.life.check_open()  # on another event loop, nothing could be closed in order
        cut = True
        try:
            await self._drain(self.settings.drain_timeout, closing=True)
            cut = False
        finally:  # also when whoever closes is cancelled: the rest is quick, and nothing may be left behind
            if self._closing is None:
                self._closing = self.life.loop.create_task(self._close(cut=cut), name="lro-aio-close")
            await asyncio.shield(self._closing)

    async def _close(self, *, cut: bool) -> None:
        try:
            if cut:
                await self._stop_runs(0, closing=True)
            if self._schedules:
                await self._scheduler.close()
            await self.dispatcher.close()
            await self.lines.end()
        finally:
            self.life.closed = True
            self.host.tasks.cancel()
            await asyncio.to_thread(self.worker.close)
            if self._timer is not None:
                self._timer.cancel()
            for undo in self._undo:
                undo()
            await self.batcher.close()
            self._rung.cancel()  # only now can nobody ring any more
            self._answers_again.cancel()
            self.feed.elsewhere()  # whoever still waits finds the client closed

    async def operation(self, name: str, *, state: Any = None, response: Any = None) -> Operation[Any, Any]:
        """See ``Client.operation``."""
        record = await self.rows.record(name)
        handler = self._handlers.find(record.handler) if record.handler else None
        codec = StateCodec(state) if state is not None else None
        kind = ResponseType(response) if response is not None else None
        return Operation(Holding(self.host, record, handler=handler, codec=codec, response=kind))

    async def sweep(self) -> None:
        """One repair pass."""
        self.life.check_open()
        await self.sweeper.run_pass()
        self.sweeper.nudge()  # what the loop waits for was known before this pass

    @property
    def _schedules(self) -> bool:
        """Whether this process needs its scheduler: a front end does only for one that works elsewhere."""
        return self.settings.worker or not self._scheduler.local

    def _lost(self, name: str, holder: Holder) -> None:
        if self.observing is not None and holder.uid not in self.worker.running:  # who drives it by hand is not told
            self.observing.tell(LeaseLost(name=name, handler=""))
        self.worker.lose(holder)

    async def _after(self, record: Record) -> None:
        await self.canceller.go_on(record)

    def _made(self, record: Record) -> None:
        if not self.life.draining:
            self.host.tasks.spawn(self.dispatcher.go_on(record))

    def _poll_again(self) -> None:
        self.feed.look_again()
        self._timer = self.life.loop.call_later(POLL_AGAIN, self._poll_again)

    def _note_away(self) -> None:
        self._away_since = self.clock.monotonic()

    def _recovered(self) -> None:
        self.evidence.answered(self._away_since)
        self.sweeper.doubt()
        self._answers_again()

    def _look_again(self) -> None:
        self.feed.elsewhere()  # a write whose answer was lost gave no notice
        self.sweeper.nudge()


class _Host:
    """``OperationHost``: what operations may ask of the engine."""

    def __init__(
        self,
        client: Any,
        clock: Clock,
        settings: Settings,
        rows: Rows,
        children: Children,
        leases: Leases,
        life: Life,
        slots: Slots,
        *,
        dev_mode: bool,
    ) -> None:
        self.client = client
        self.clock = clock
        self.settings = settings
        self.rows = rows
        self.children = children
        self.causes = Causes()
        self.tasks = Tasks()
        self.observing: Observing | None = None
        self.dev_mode = dev_mode
        self.lingering: set[Waits] = set()
        self.lines: Lines
        self._leases = leases
        self._life = life
        self._slots = slots

    def bind(self, starter: Starter, canceller: Canceller) -> None:
        """Name those who make operations, and so cannot be made before this."""
        self._starter = starter
        self._canceller = canceller

    @property
    def draining(self) -> bool:
        return self._life.draining

    @property
    def hurried(self) -> bool:
        return self._life.draining or self._slots.wanted

    def hurry(self) -> None:
        """Let no run hold its slot for a durable wait."""
        for waits in list(self.lingering):
            waits.hurry()

    def let_go(self, holder: Holder) -> None:
        self._leases.let_go(holder)

    async def start_child(
        self, by: Holding, handler: str | HandlerFunction, state: Any, *, key: str, webhook: Webhook | None = None
    ) -> Holding:
        return await self._starter.start_child(by, handler, state, key=key, webhook=webhook)

    async def cancel(self, name: str, *, cancel_children: bool = True) -> None:
        await self._canceller.cancel(name, cancel_children=cancel_children)

    async def delete(self, name: str) -> None:
        await self.rows.delete(name)
