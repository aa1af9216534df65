"""The queues of one process: what its handlers declare of them, and who is next in their lines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from lro_aio.core import failing, names, straight
from lro_aio.core.change import Change
from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError, OperationNotFoundError, StoreSchemaError, StoreUnavailableError
from lro_aio.core.logs import event
from lro_aio.core.queues import LIVES, Bounds, Queue, QueueTerms
from lro_aio.core.record import Record, Seat, State
from lro_aio.core.status import make_status
from lro_aio.core.transitions import Claimant
from lro_aio.engine.handlers import Handler, Runnable
from lro_aio.engine.readers import Work
from lro_aio.engine.rows import Rows
from lro_aio.engine.settings import Settings
from lro_aio.ports import Clock, Look, Store

__all__ = ["Lines", "check_queues", "seated"]

logger = logging.getLogger("lro_aio")

RENEWED = LIVES / 3
"""Seconds after which a process says again what it declares."""

Event = Callable[[Record], Record | None]


class Lines:
    """What the handlers here wait for places in.

    Args:
        rows: The store.
        runnable: What can run here.
        settings: Of the client.
        clock: Engine time.
    """

    def __init__(self, rows: Rows, runnable: Runnable, *, settings: Settings, clock: Clock) -> None:
        self._rows = rows
        self._runnable = runnable
        self._owner = settings.owner
        self._clock = clock
        self._declared: dict[str, tuple[Bounds, float]] = {}
        """By name: what this process has declared, and when."""
        self._told: set[tuple[str, Bounds, Bounds]] = set()
        self._used: dict[str, Bounds] = {}
        """By name: the queues of steps that were reached here."""
        self._found = False
        """There are queues in the store."""
        self._expecting: dict[tuple[str, str], asyncio.Future[None]] = {}
        """By uid and step: what waits in line in this process."""

    @property
    def any(self) -> bool:
        """Whether somebody may wait in line for what runs here."""
        if not self._runnable.worker:
            return False
        return self._found or bool(self._used) or any(handler.queue is not None for handler in self._runnable.handlers)

    async def begin(self) -> None:
        """The client opens: say what the handlers declare, and see whether steps may wait.

        The store has just opened: what it does not answer now, the sweep asks again. Nobody has a place until then.
        """
        if not self._runnable.worker or self._rows.store.no_queues_reason:
            return
        self._found = True
        try:
            await self.declare()
            read = partial(self._rows.store.queues, now=self._clock.time())
            self._found = bool(await self._rows.call(read, Work.LIST))
        except StoreUnavailableError as exc:
            logger.warning("queues are declared when the store answers: %s", exc, extra=event("queues_not_declared"))

    async def use(self, queue: Queue) -> None:
        """A step is about to wait in a queue.

        Raises:
            ValueError: Another one in this process declares it with other limits.
            StoreSchemaError: The store has no queues. Says what to do.
            StoreUnavailableError: It does not answer.
        """
        if self._rows.store.no_queues_reason:
            raise no_queues(self._rows.store, queue.name)
        known = self._wanted().get(queue.name)
        if known is not None and known != queue.bounds:
            raise declared_twice(queue.name, known, queue.bounds)
        self._used[queue.name] = queue.bounds
        await self.declare()

    @contextmanager
    def expecting(self, uid: str, step: str, over: asyncio.Future[None]) -> Iterator[None]:
        """A step waits in line, or is about to: when it is called, ``over`` is done."""
        self._expecting[uid, step] = over
        try:
            yield
        finally:
            del self._expecting[uid, step]

    async def call(self, called: Sequence[tuple[Record, str]]) -> None:
        """Tell steps that they are next in line: those that wait here, and suspended operations, which run again.

        Raises:
            StoreUnavailableError: The store did not answer.
        """
        now = self._clock.time()
        wakes = []
        for record, step in called:
            over = self._expecting.get((record.uid, step))
            if over is not None and not over.done():
                over.set_result(None)
            elif record.wait is not None:
                woken = partial(straight.called, token=record.wait.token, now=now)
                if woken(record) is not record:  # else it was told before; to tell it again would be news to the sweep
                    wakes.append(self._rows.submit(Change(record.name, woken)))
        for outcome in await asyncio.gather(*wakes, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, OperationNotFoundError):
                raise outcome

    async def declare(self) -> None:
        """Say in the store what the handlers here declare, where that is new or was said long ago.

        Raises:
            StoreUnavailableError: It does not answer.
        """
        if self._rows.store.no_queues_reason:
            return
        now = self._clock.monotonic()
        for name, bounds in self._wanted().items():
            known = self._declared.get(name)
            if known is None or known[0] != bounds or now - known[1] >= RENEWED:
                await self._declare(name, bounds)
                self._declared[name] = bounds, now

    def _wanted(self) -> dict[str, Bounds]:
        """What the handlers here declare, by the queue's name. Of what contradicts itself, the strictest."""
        found = dict(self._used)
        for handler in self._runnable.handlers if self._runnable.worker else ():
            queue = handler.queue
            if queue is None:
                continue
            known = found.setdefault(queue.name, queue.bounds)
            if known != queue.bounds:  # registered after the client was opened, which would have refused
                found[queue.name] = Bounds.strictest([known, queue.bounds])
        return found

    async def _declare(self, name: str, bounds: Bounds) -> None:
        now = self._clock.time()
        change = partial(QueueTerms.declare, owner=self._owner, bounds=bounds, now=now)
        _, terms = await self._change(name, change)
        if terms.bounds == bounds or (name, bounds, terms.bounds) in self._told:
            return
        self._told.add((name, bounds, terms.bounds))
        if terms.override is not None:
            logger.info(
                "queue %r has other limits than its handlers here declare (%s): it was set to %s",
                name,
                bounds,
                terms.override,
                extra=event("queue_was_set"),
            )
            return
        others = [f"{owner} ({theirs})" for owner, theirs, _ in terms.declared if theirs != bounds]
        logger.warning(
            "queue %r is declared with other limits here (%s) than by %s: the strictest hold, %s",
            name,
            bounds,
            ", ".join(others[:3]),
            terms.bounds,
            extra=event("queue_differs"),
        )

    async def end(self) -> None:
        """Take back what was declared, so that another release's holds alone. Best effort."""
        for name in list(self._declared):
            try:
                await self._change(name, partial(QueueTerms.undeclare, owner=self._owner))
            except (LroError, RuntimeError) as exc:  # also of a store that was closed because it did not answer
                logger.info(
                    "what was declared of queue %r holds for some minutes more: %s",
                    name,
                    exc,
                    extra=event("queue_not_taken_back"),
                )
            except Exception:  # whatever it is, the client has to close
                logger.exception(
                    "what was declared of queue %r holds for some minutes more",
                    name,
                    extra=event("queue_not_taken_back"),
                )
        self._declared.clear()

    async def _change(self, name: str, change: Callable[[QueueTerms], QueueTerms]) -> tuple[QueueTerms, QueueTerms]:
        return await self._rows.call(partial(self._rows.store.change_queue, name, change), Work.LIST)

    async def look(self, now: float, limit: int) -> Look:
        """Who is next in line for the handlers here; nobody where none has a queue."""
        await self.declare()  # what was registered since, and what was said long ago
        if not self.any or limit <= 0 or self._rows.store.no_queues_reason:
            return Look([])
        routes = self._runnable.routes()
        return await self._rows.call(partial(self._rows.store.line, now=now, routes=routes, limit=limit), Work.SWEEP)

    def concerns(self, record: Record | None) -> bool:
        """Whether somebody here may have a place by a commit; a row that is None was removed."""
        if record is not None:
            seat = record.seat
            # A claim of what has a key may have let others of its key be READY.
            if seat is None or (record.state is State.RUNNING and not seat.steps and not seat.key):
                return False
        return self.any


def check_queues(runnable: Runnable, store: Store) -> None:
    """Check what the handlers here declare.

    Raises:
        ValueError: Two handlers declare one queue, and not the same of it.
        StoreSchemaError: There are some, and the store has no queues. Says what to do.
    """
    found: dict[str, Bounds] = {}
    for handler in runnable.handlers:
        queue = handler.queue
        if queue is None:
            continue
        if store.no_queues_reason:
            raise no_queues(store, queue.name)
        known = found.setdefault(queue.name, queue.bounds)
        if known != queue.bounds:
            raise declared_twice(queue.name, known, queue.bounds)


def no_queues(store: Store, queue: str) -> StoreSchemaError:
    """What is raised where a queue is needed and the store has none."""
    return StoreSchemaError(f"the queue {queue!r} cannot be kept: {store.url} has no queues: {store.no_queues_reason}")


def declared_twice(queue: str, one: Bounds, other: Bounds) -> ValueError:
    """What is raised where one process declares two sizes of one queue."""
    return ValueError(f"queue {queue!r} is declared twice: with {one}, and with {other}")


def seated(handler: Handler, claim: Event, *, now: float, by: Claimant) -> Event:
    """The claim of a row that may have been made by who did not know the handler's queue: it gets its seat now.

    Where the handler's ``queue_key`` cannot tell the key, the operation fails, as it would by its handler.
    """
    queue = handler.queue
    if queue is None:
        return claim

    def seating(record: Record) -> Record | None:
        if record.done or (record.seat is not None and record.seat.queue):
            return claim(record)
        asked = record.seat or Seat(queue="")
        whole = queue.scope == "operation"
        try:
            key = asked.key or handler.key_of(handler.codec.decode(record.state_data, record.state_codec))
        except names.MalformedIdError as exc:
            claim(record)  # whatever refuses the claim does so first
            error = make_status(Code.INVALID_ARGUMENT, str(exc), reason="QUEUE_KEY")
            return failing.failed(record, now=now, retention=by.retention, error=error, then=by.on_failure)
        except LroError:
            return claim(record)  # its run says that the state cannot be read
        return claim(record.evolve(seat=replace(asked, queue=queue.name, key=key, whole=whole)))

    return seating
