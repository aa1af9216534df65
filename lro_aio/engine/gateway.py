"""Coalesces reads and changes onto a store.

All reads that are asked for while one is under way become the next single read; all changes that arrive while a
transaction commits become the next one. A thousand callers cost a handful of round trips.

Reads and scans run on anyio's worker threads under a limiter of the engine's own. Changes go through writer threads
with a queue each: one for a store with one lane; where there are several, claims have one more and renewals another,
so that a slow batch, or a claim that waits for a lock of a dead process, never costs a lease.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.record import Record
from lro_aio.ports import Store

__all__ = ["ClosedError", "Gateway"]

logger = logging.getLogger("lro_aio")

T = TypeVar("T")

MAX_ROWS = 1000
MAX_BYTES = 4 * 1024 * 1024
"""Caps of one transaction (rule 16)."""
SLOW = 0.25
"""Seconds after which a transaction counts as slow, and what has nothing to do with its rows takes another lane."""

CLOSE_GRACE = 2.0
"""Seconds for the last reads and changes of a client that closes; a store that is away must not hold it up."""

Slot = asyncio.Future[Record | None] | concurrent.futures.Future[Outcome]
Answered = Callable[[Outcome], None]
Item = tuple[Change, Slot, Answered | None]


class ClosedError(RuntimeError):
    """The client is not open: not yet, or no longer. A server answers UNAVAILABLE for it."""


class Gateway:
    """One store in the hands of one event loop.

    Args:
        store: Opened and closed here.
        committed: Called on the loop for every row that a change left behind, in the order of commit.
        elsewhere: Called on the loop when another process has committed.
        failed: Called on the loop when the store was found unavailable; ``recovered`` when it answers again.
        recovered: See ``failed``.
        threads: Reads and scans that may be under way at a time.
    """

    def __init__(
        self,
        store: Store,
        *,
        committed: Callable[[str, Record | None], None],
        elsewhere: Callable[[], None],
        failed: Callable[[], None],
        recovered: Callable[[], None],
        threads: int = 4,
    ) -> None:
        self.store = store
        self._committed = committed
        self._elsewhere = elsewhere
        self._failed = failed
        self._recovered = recovered
        self._threads = threads
        self._limiter: anyio.CapacityLimiter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: list[_Lane] = []
        self._places: dict[str, _Place] = {}
        self._claims: _Lane | None = None
        self._renewals: _Lane | None = None
        self._wanted: list[tuple[Iterable[str], asyncio.Future[dict[str, Record]]]] = []
        self._reader: asyncio.Task[None] | None = None
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
        self._loop = asyncio.get_running_loop()
        self._limiter = anyio.CapacityLimiter(self._threads)
        await anyio.to_thread.run_sync(self.store.open, limiter=self._limiter)
        self._lanes = [_Lane(self, index, polls=index == 0) for index in range(max(1, self.store.lanes))]
        if self.store.lanes > 1:
            self._claims = _Lane(self, len(self._lanes), polls=False)
            self._renewals = _Lane(self, len(self._lanes) + 1, polls=False)

    def hurry(self) -> None:
        """The client closes: what the store has not answered in a moment fails, whatever the store's own deadline."""
        if self._hurry is None and self._loop is not None:
            self._hurry = self._loop.call_later(CLOSE_GRACE, self._begin_abandon)

    def _begin_abandon(self) -> None:
        assert self._loop is not None
        self._abandoning = self._loop.run_in_executor(None, self._abandon)

    def _abandon(self) -> None:
        logger.warning("the store does not answer, and the client closes without it: %s", self.store.url)
        self._abandoned = True
        self.store.close()  # what is under way ends by that

    async def close(self) -> None:
        """Commit what is queued, stop the threads, close the store."""
        if self._reader is not None:
            await asyncio.wait([self._reader])
        lanes = self._all_lanes()
        self._lanes, self._claims, self._renewals = (
            [],
            None,
            None,
        )  # before the stop: nobody's change may get behind it, and wait for ever
        for lane in lanes:
            lane.stop()
        for lane in lanes:
            await anyio.to_thread.run_sync(lane.join)
        if self._hurry is not None:
            self._hurry.cancel()
        if self._abandoning is not None:
            await asyncio.wait([self._abandoning])
        await anyio.to_thread.run_sync(self.store.close)
        await asyncio.sleep(0)  # what the threads handed to the loop last is delivered before the caller goes on

    @property
    def activity(self) -> int:
        """Rises with every request: unchanged between two looks means that nobody asked for anything."""
        return self._activity

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._pending == 0

    async def idle(self) -> None:
        """Return when no request is under way."""
        await self._idle.wait()

    async def read(self, name: str) -> Record | None:
        """The row, as it is after every change that was answered before this call."""
        return (await self.read_many((name,))).get(name)

    async def read_many(self, names: Iterable[str]) -> dict[str, Record]:
        """The rows that exist, by name."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Record]] = loop.create_future()
        self._wanted.append((names, future))
        if self._reader is None:
            self._reader = loop.create_task(self._read_wanted(), name="lro-aio-reader")
        return await future

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run a blocking scan of the store on a worker thread."""
        self._begin(1)
        try:
            result = await anyio.to_thread.run_sync(lambda: function(*args), limiter=self._limiter)
        except StoreUnavailableError:
            self._note_failure()
            raise
        finally:
            self._end(1)
        self._note_success()
        return result

    def submit(self, change: Change, answered: Answered | None = None) -> asyncio.Future[Record | None]:
        """Commit a change with whatever else is waiting; gives the row after it, None if it was removed.

        Cancelling the future does not take the change back. It may get an LroError: the transition's refusal, or
        StoreUnavailableError, and then nothing is known of the change.

        Args:
            change: See above.
            answered: Called on the loop with what became of it, also where nobody waits for the future any more.

        Raises:
            RuntimeError: The gateway is closed.
        """
        assert self._loop is not None, "the gateway is not open"
        future: asyncio.Future[Record | None] = self._loop.create_future()
        self._lane(change).queue.put((change, future, answered))
        self._begin(1)
        return future

    def apply_from_thread(self, changes: Sequence[Change]) -> list[Outcome]:
        """Commit renewals from a thread that must not depend on the event loop; blocks until they are.

        Raises:
            RuntimeError: The gateway is closed.
        """
        slots: list[concurrent.futures.Future[Outcome]] = []
        for change in changes:
            slot: concurrent.futures.Future[Outcome] = concurrent.futures.Future()
            (self._renewals or self._lane(change)).queue.put((change, slot, None))
            slots.append(slot)
        return [slot.result() for slot in slots]

    def _all_lanes(self) -> list[_Lane]:
        return [*self._lanes, *(lane for lane in (self._claims, self._renewals) if lane is not None)]

    def _lane(self, change: Change) -> _Lane:
        if not self._lanes:
            raise ClosedError("the client is closed")
        if change.claims and self._claims is not None:
            return self._claims
        if len(self._lanes) == 1:
            return self._lanes[0]
        place = self._places.get(change.name)
        if place is None:
            place = self._places[change.name] = _Place(self._free_lane())
        place.changes += 1
        return place.lane

    def _free_lane(self) -> _Lane:
        """The first lane that is neither slow nor full, so that what can be one transaction becomes one."""
        now = time.monotonic()
        for lane in self._lanes:
            if now - lane.began < SLOW and lane.queue.qsize() < MAX_ROWS:
                return lane
        return min(self._lanes, key=lambda lane: lane.queue.qsize())

    def _leave(self, change: Change) -> None:
        place = self._places.get(change.name)
        if place is not None and not change.claims:
            place.changes -= 1
            if not place.changes:
                del self._places[change.name]

    async def _read_wanted(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, []
            names = list({name for group, _ in wanted for name in group})
            try:
                records = await self.call(self.store.read, names)
            except Exception as exc:  # noqa: BLE001 (every reader gets it)
                for _, future in wanted:
                    if not future.done():
                        future.set_exception(exc)
                continue
            by_name = {record.name: record for record in records}
            for _, future in wanted:
                if not future.done():
                    future.set_result(by_name)
        self._reader = None

    def _begin(self, count: int) -> None:
        self._pending += count
        self._activity += count
        self._idle.clear()

    def _end(self, count: int) -> None:
        self._pending -= count
        if self._pending == 0:
            self._idle.set()

    def _note_failure(self) -> None:
        self._unavailable = True
        self._failed()

    def _note_success(self) -> None:
        if self._unavailable:
            self._unavailable = False
            self._recovered()

    def commit(self, batch: list[Item]) -> None:
        """Apply a batch on the calling writer thread and hand the outcomes back."""
        outcomes = self._apply([change for change, _, _ in batch])
        for (_, slot, _), outcome in zip(batch, outcomes, strict=True):
            if isinstance(slot, concurrent.futures.Future):
                slot.set_result(outcome)
        self._to_loop(self._deliver, batch, outcomes)

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
                logger.warning("the store refused a change of %s: %s", changes[0].name, exc, exc_info=exc)
                return [exc]
            half = len(changes) // 2
            return self._apply(changes[:half]) + self._apply(changes[half:])

    def _deliver(self, batch: list[Item], outcomes: list[Outcome]) -> None:
        asked = 0
        unavailable = False
        for (change, slot, answered), outcome in zip(batch, outcomes, strict=True):
            if isinstance(slot, asyncio.Future):
                asked += 1
                if self._places:
                    self._leave(change)
                if slot.done():  # whoever asked was cancelled
                    pass
                elif isinstance(outcome, Exception):
                    slot.set_exception(outcome)
                else:
                    slot.set_result(outcome)
            unavailable = unavailable or isinstance(outcome, StoreUnavailableError)
            try:
                if answered is not None:
                    answered(outcome)
                if not isinstance(outcome, Exception):
                    self._committed(change.name, outcome)
            except Exception:  # a defect of ours must not keep the others of the batch from their answers
                logger.exception("what became of %s was not taken", change.name)
        if unavailable:
            self._note_failure()
        else:
            self._note_success()
        self._end(asked)

    def foreign(self) -> None:
        """Called on the writer thread of the first lane between batches."""
        try:
            changed = self.store.changed_elsewhere()
        except Exception as exc:  # noqa: BLE001 (the thread must live; the next request of anybody will say so)
            logger.debug("changes of other processes were not looked for: %s", exc)
            return
        if changed:
            self._to_loop(self._elsewhere)

    def _to_loop(self, function: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            logger.debug("the event loop is closed; what was committed stays committed")


@dataclass(slots=True)
class _Place:
    """The lane of a row's changes, as long as one of them is under way: no row is in two transactions at a time."""

    lane: _Lane
    changes: int = 0


class _Lane:
    """A writer thread and its queue."""

    def __init__(self, gateway: Gateway, index: int, *, polls: bool) -> None:
        self.queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self.began = math.inf
        """When the transaction under way began (``time.monotonic``); in no past while there is none."""
        self._gateway = gateway
        self._poll = gateway.store.foreign_poll_interval if polls else None
        self._thread = threading.Thread(target=self._run, name=f"lro-aio-writer-{index}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.queue.put(None)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        polled = time.monotonic()
        stopping = False
        while not stopping:
            batch, stopping = self._next_batch()
            if batch:
                self.began = time.monotonic()
                self._gateway.commit(batch)
                self.began = math.inf
            if self._poll is not None and not stopping and time.monotonic() - polled >= self._poll * 0.9:
                self._gateway.foreign()
                polled = time.monotonic()

    def _next_batch(self) -> tuple[list[Item], bool]:
        """Whatever is queued, up to the caps; empty when it is time to look for foreign changes."""
        batch: list[Item] = []
        size = 0
        try:
            item = self.queue.get(timeout=self._poll)
            while item is not None:
                batch.append(item)
                size += item[0].size
                if len(batch) >= MAX_ROWS or size >= MAX_BYTES:
                    return batch, False
                item = self.queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True
