"""Batches reads and changes onto a store.

All reads that are asked for while one is under way become the next single read; all changes that arrive while a
transaction commits become the next one. A thousand callers cost a handful of round trips.

Reads and scans run on the threads of ``readers``, changes on the writer threads of ``lanes``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread

from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import LroError, StoreRefusedError, StoreSchemaError, StoreUnavailableError
from lro_aio.core.logs import event
from lro_aio.core.record import Record
from lro_aio.engine.lanes import Answered, Item, Lanes, Newest
from lro_aio.engine.life import Life
from lro_aio.engine.observing import Observing
from lro_aio.engine.readers import Readers, Work
from lro_aio.engine.repeats import Repeats
from lro_aio.ports import Store

__all__ = ["Batcher"]

logger = logging.getLogger("lro_aio")

T = TypeVar("T")

Wanted = tuple[Collection[str], asyncio.Future[dict[str, Record]]]
"""Rows that somebody waits for, by their names."""

CLOSE_GRACE = 2.0
"""Seconds for the last reads and changes of a client that closes; a store that is away must not hold it up."""
SETTLE_ROUNDS = 20
"""Turns of the event loop without a request to the store, after which a driven clock takes the engine for idle."""


class Batcher:
    """One store in the hands of one event loop.

    Args:
        store: Opened and closed here.
        life: Whether the client is open.
        owner: This process, in the rows that it holds.
        committed: Called on the loop for every row that a change left behind, in the order of commit.
        elsewhere: Called on the loop when another process has committed: at each commit, or nearly.
        away: Called on the loop when the store does not answer any more.
        recovered: Called on the loop when the store answers again after that.
        made: Called on the loop for each row that a change has made besides its own.
        observing: Told of what was committed; None: nobody wants to know.
    """

    def __init__(
        self,
        store: Store,
        life: Life,
        *,
        owner: str,
        committed: Callable[[str, Record | None], None],
        elsewhere: Callable[[], None],
        away: Callable[[], None],
        recovered: Callable[[], None],
        made: Callable[[Record], None],
        observing: Observing | None = None,
    ) -> None:
        self.store = store
        self._life = life
        self._owner = owner
        self._committed = committed
        self._repeats = Repeats()
        self._elsewhere = elsewhere
        self._heard = False
        """Something was heard that the loop has not been told of."""
        self._away = away
        self._recovered = recovered
        self._made = made
        self._observing = observing
        self._readers: Readers | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes = Lanes(self._commit, self._poll_elsewhere)
        self._newest = Newest() if store.lanes > 1 else None
        self._wanted: list[Wanted] = []
        self._no_reads = asyncio.Event()
        """Nobody waits for a row."""
        self._no_reads.set()
        self._pending = 0
        self._activity = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._unavailable = False
        self._hurry: asyncio.TimerHandle | None = None
        self._abandoning: asyncio.Future[None] | None = None
        self._abandoned = False

    async def open(self) -> None:
        """Open the store and start the writer threads.

        Raises:
            StoreSchemaError: The store is not one that can be used.
            StoreUnavailableError: It does not answer.
        """
        await anyio.to_thread.run_sync(self._open_store)
        self._loop = asyncio.get_running_loop()
        self._readers = Readers()
        self._lanes.open(self.store.lanes, self.store.foreign_poll_interval)

    def _open_store(self) -> None:
        self.store.open()
        self.store.join(self._owner, self._hear)

    def hurry(self) -> None:
        """The client closes: what the store has not answered in a moment fails, whatever the store's own deadline."""
        if self._hurry is None and self._loop is not None:
            self._hurry = self._loop.call_later(CLOSE_GRACE, self._begin_abandon)

    def _begin_abandon(self) -> None:
        assert self._loop is not None
        self._abandoning = self._loop.run_in_executor(None, self._abandon)

    def _abandon(self) -> None:
        logger.warning(
            "the store does not answer, and the client closes without it: %s",
            self.store.url,
            extra=event("store_abandoned"),
        )
        self._abandoned = True
        self.store.close()  # ends what is under way

    async def close(self) -> None:
        """Commit what is queued, stop the threads, close the store."""
        await self._no_reads.wait()
        await anyio.to_thread.run_sync(self._lanes.close())
        if self._readers is not None:
            await anyio.to_thread.run_sync(self._readers.close())
        if self._hurry is not None:
            self._hurry.cancel()
        if self._abandoning is not None:
            await asyncio.wait([self._abandoning])
        await anyio.to_thread.run_sync(self.store.close)
        self._loop = None
        await asyncio.sleep(0)  # what the threads handed to the loop last is delivered before the caller goes on

    async def settle(self) -> None:
        """Return when nothing is left to do without time moving."""
        quiet = 0
        seen = -1
        while quiet < SETTLE_ROUNDS:
            await self._idle.wait()
            await asyncio.sleep(0)
            if self._activity == seen and self._pending == 0:
                quiet += 1
            else:
                quiet, seen = 0, self._activity

    async def read(self, name: str) -> Record | None:
        """The row, as it is after every change that was answered before this call."""
        return (await self.read_many((name,))).get(name)

    async def read_many(self, names: Collection[str]) -> dict[str, Record]:
        """The rows that exist, by name."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Record]] = loop.create_future()
        self._wanted.append((names, future))
        if self._no_reads.is_set():
            self._no_reads.clear()
            loop.call_soon(self._read_wanted)  # not now: whoever asks in the same turn of the loop shares the read
        return await future

    def call(self, function: Callable[[], T], work: Work = Work.READ) -> asyncio.Future[T]:
        """Run a blocking read or scan of the store on a thread for this kind of work.

        Cancelling the future does not stop it. It may get StoreUnavailableError, or what the store raises.

        Raises:
            ClosedError: The client is not open, or no longer.
            RuntimeError: On another event loop.
        """
        future = self._call(function, work)
        future.add_done_callback(self._called)
        return future

    def _call(
        self, function: Callable[[], T], work: Work, told: Callable[[asyncio.Future[T]], None] | None = None
    ) -> asyncio.Future[T]:
        """As ``call``, for those who say themselves that it is over, with ``_called``."""
        self._checked_loop()
        assert self._readers is not None
        future = self._readers.run(function, work, told)
        self._pending += 1
        self._activity += 1
        self._idle.clear()
        return future

    def _called(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            if isinstance(future.exception(), StoreUnavailableError):
                self._note_silence()
            elif self._unavailable:
                self._note_answer()
        self._pending -= 1
        if not self._pending:
            self._idle.set()

    def submit(self, change: Change, answered: Answered | None = None) -> asyncio.Future[Record | None]:
        """Commit a change with whatever else is waiting; gives the row after it, None if it was removed.

        Cancelling the future does not take the change back. It may get an LroError: the transition's refusal, or
        StoreUnavailableError, and then nothing is known of the change.

        Args:
            change: See above.
            answered: Called on the loop with what became of it, even where nobody waits for the future any more.

        Raises:
            ClosedError: The client is not open, or no longer.
            RuntimeError: On another event loop.
        """
        future: asyncio.Future[Record | None] = self._checked_loop().create_future()
        self._put(change, future, answered)
        return future

    def post(self, change: Change, answered: Answered) -> None:
        """As ``submit``, for whoever wants to be told of the outcome, and waits for nothing.

        Raises:
            ClosedError: The client is not open, or no longer.
            RuntimeError: On another event loop.
        """
        self._checked_loop()
        self._put(change, None, answered)

    def _checked_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop or self._life.forked:
            self._life.check_open()  # says what is wrong
        return loop

    def _put(self, change: Change, future: asyncio.Future[Record | None] | None, answered: Answered | None) -> None:
        if self._observing is not None:
            change, answered = self._observing.watched(change, answered)
        self._lanes.put((change, future, answered))
        self._pending += 1
        self._activity += 1
        self._idle.clear()

    def apply_from_thread(self, changes: Sequence[Change]) -> list[Outcome]:
        """Commit renewals from a thread that must not depend on the event loop; blocks until they are.

        Raises:
            ClosedError: The client is closed.
        """
        promises: list[concurrent.futures.Future[Outcome]] = []
        for change in changes:
            promise: concurrent.futures.Future[Outcome] = concurrent.futures.Future()
            self._lanes.put_renewal((change, promise, None))
            promises.append(promise)
        return [promise.result() for promise in promises]

    def _read_wanted(self) -> None:
        """Begin one read of all that is wanted. What is asked for while it is under way is the next one."""
        wanted, self._wanted = self._wanted, []
        names = list({name for group, _ in wanted for name in group})
        try:
            self._call(partial(self.store.read, names), Work.READ, partial(self._was_read, wanted))
        except Exception as exc:  # noqa: BLE001 (every reader gets it)
            self._share(wanted, [], exc)

    def _was_read(self, wanted: list[Wanted], reading: asyncio.Future[list[Record]]) -> None:
        exc = reading.exception()
        try:
            self._called(reading)
        finally:  # who waits is not to wait for ever for a defect of those who are told of an outage
            self._share(wanted, [] if exc is not None else reading.result(), exc)

    def _share(self, wanted: list[Wanted], records: list[Record], exc: BaseException | None) -> None:
        by_name = {record.name: record for record in records}
        for group, future in wanted:
            if future.done():  # whoever asked was cancelled
                continue
            if exc is not None:
                future.set_exception(exc)
            else:  # nobody gets the rows of those who share the read
                future.set_result({name: by_name[name] for name in group if name in by_name})
        if self._wanted:
            self._read_wanted()
        else:
            self._no_reads.set()

    def _note_silence(self) -> None:
        if not self._unavailable:
            self._unavailable = True
            self._away()

    def _note_answer(self) -> None:
        if self._unavailable:
            self._unavailable = False
            self._recovered()

    def _commit(self, batch: list[Item]) -> None:
        """Apply a batch on the calling writer thread and hand the outcomes back."""
        began = time.monotonic()
        outcomes = self._apply([change for change, _, _ in batch])
        seconds = time.monotonic() - began
        for (_, promise, _), outcome in zip(batch, outcomes, strict=True):
            if isinstance(promise, concurrent.futures.Future):
                promise.set_result(outcome)
        self._to_loop(self._deliver, batch, outcomes, seconds)

    def _apply(self, changes: list[Change]) -> list[Outcome]:
        """Bisects a batch that is refused for good, so that only the offender fails (rule 16)."""
        try:
            return self.store.apply(changes)
        except StoreUnavailableError as exc:
            return [exc] * len(changes)
        except Exception as exc:  # the contract of `Store.apply`: nothing was committed, and the same is refused again
            if self._abandoned:  # closed under it, which is no fault of the changes
                gone = StoreUnavailableError(f"{self.store.url} did not answer before the client closed")
                return [gone] * len(changes)
            if len(changes) == 1:
                whole = isinstance(exc, StoreSchemaError)  # all changes are refused alike
                if not whole or self._repeats.first(str(exc)):
                    logger.warning(
                        "the store refused a change of %s: %s",
                        changes[0].name,
                        exc,
                        exc_info=exc,
                        extra=event("change_refused", operation=changes[0].name),
                    )
                return [exc if isinstance(exc, LroError) else _refused(changes[0].name, exc)]
            half = len(changes) // 2
            return self._apply(changes[:half]) + self._apply(changes[half:])

    def _deliver(self, batch: list[Item], outcomes: list[Outcome], seconds: float) -> None:
        asked = 0
        unavailable = False
        for (change, promise, answered), outcome in zip(batch, outcomes, strict=True):
            unavailable = unavailable or isinstance(outcome, StoreUnavailableError)
            if not isinstance(promise, concurrent.futures.Future):
                asked += 1
                if self._lanes.berths:
                    self._lanes.answered(change)
                if promise is not None and not promise.done():  # else whoever asked was cancelled
                    _settle(promise, outcome)
            try:
                if answered is not None:
                    answered(outcome)
                if isinstance(outcome, Exception):
                    continue
                if change.made:
                    self._tell_made(change.made)
                if not self._newest or not self._newest.outdated(change.name, outcome):
                    self._committed(change.name, outcome)
            except Exception:  # a defect of ours must not keep the others of the batch from their answers
                logger.exception(
                    "the outcome of a change of %s was not processed",
                    change.name,
                    extra=event("outcome_not_processed", operation=change.name),
                )
        if unavailable:
            self._note_silence()
        elif self._unavailable:
            self._note_answer()
        self._pending -= asked
        if not self._pending:
            self._idle.set()
        if self._observing is not None:
            self._observing.committed(outcomes, len(batch), seconds)

    def _tell_made(self, made: Sequence[Record]) -> None:
        for row in made:
            if self._observing is not None:
                self._observing.made(row)
            self._committed(row.name, row)
            self._made(row)

    def _poll_elsewhere(self) -> None:
        """Ask, on a writer thread between batches, whether another process has committed."""
        try:
            changed = self.store.changed_elsewhere()
        except Exception as exc:  # noqa: BLE001 (the thread must live; the next request of anybody will say so)
            logger.debug("polling for commits of other processes failed: %s", exc, extra=event("poll_failed"))
            return
        if changed:
            self._hear()

    def _hear(self) -> None:
        """Another process has committed. Called on any thread, also before the client is open."""
        if self._loop is not None and not self._heard:
            self._heard = True
            self._to_loop(self._tell)

    def _tell(self) -> None:
        self._heard = False  # first: what is heard from now on is news again
        self._elsewhere()

    def _to_loop(self, function: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            logger.debug("the event loop is closed; what was committed stays committed", extra=event("loop_closed"))


def _settle(promise: asyncio.Future[Record | None], outcome: Outcome) -> None:
    if isinstance(outcome, Exception):
        promise.set_exception(outcome)
    else:
        promise.set_result(outcome)


def _refused(name: str, exc: Exception) -> StoreRefusedError:
    """One error for what each driver says in its own way, and with what was to be written in its text."""
    refused = StoreRefusedError(name, type(exc).__name__)
    refused.__cause__ = exc
    return refused
