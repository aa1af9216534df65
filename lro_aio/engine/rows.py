"""The rows of the store as this process sees them: read, changed, waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import OperationNotFoundError
from lro_aio.core.record import Record, State
from lro_aio.engine.batching import Batcher
from lro_aio.engine.changes import Feed, Subscription
from lro_aio.engine.life import Life
from lro_aio.ports import Clock

if TYPE_CHECKING:
    from lro_aio.core.history import HistoryEntry

__all__ = ["Rows"]

NOTICE = 1.0
"""Seconds in which a notice of another process's commit has certainly come, on a store that gives any."""
DRAIN_HOLD = 1.0
"""Real seconds for which whoever asks during a drain is held: a caller that asks again at once would spin."""
WATCH_POLL = 1.0
"""Engine seconds between reads of a watched row on a store that gives no notice of other processes."""


class Rows:
    """Reads and changes rows, and waits for them to change.

    Args:
        batcher: The store.
        feed: What was committed.
        clock: Engine time.
        life: Whether the client is open.
        owner: This process, in the rows that it holds.
    """

    def __init__(self, batcher: Batcher, feed: Feed, clock: Clock, life: Life, owner: str) -> None:
        self._batcher = batcher
        self._feed = feed
        self._clock = clock
        self._life = life
        self._owner = owner
        self.submit = batcher.submit
        """Commit a change; see ``Batcher.submit``."""
        self.post = batcher.post
        """Commit a change that nobody waits for; see ``Batcher.post``."""
        self.call = batcher.call
        """Run a blocking read or scan of the store on a thread; see ``Batcher.call``."""
        self.store = batcher.store
        """For its terms: what it can hold, and for how long."""
        self._own: dict[str, Record] = {}
        """By name: rows that run under this owner, as last committed, while no other process has committed anything."""

    def listen(self) -> Callable[[], None]:
        """Learn what is committed; returns the undo."""
        return self._feed.listen(self._observe, self._own.clear)

    @property
    def has_notices(self) -> bool:
        """Whether the store tells of other processes' commits; where it does not, only polling does."""
        return self._batcher.store.foreign_poll_interval is not None

    @property
    def draining(self) -> bool:
        """Whether this process takes no more work."""
        return self._life.draining

    def check_open(self) -> None:
        """Refuse use of a client that is not open; see ``Life.check_open``."""
        self._life.check_open()

    async def record(self, name: str) -> Record:
        """The row of a visible operation.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never made, deleted or expired.
            StoreUnavailableError: The store did not answer.
        """
        self._life.check_open()
        names.parse(name)
        record = await self._batcher.read(name)
        if record is None:
            raise OperationNotFoundError(name)
        return record.check_visible(self._clock.time())

    async def history(self, name: str) -> list[HistoryEntry]:
        """See ``Client.history``. One read; two where there are entries of the journal."""
        from lro_aio.core.history import history_of

        record = await self.record(name)
        if not record.entries:
            return history_of(record, ())
        journal = await self.call(partial(self.store.journal, [name]))
        return history_of(record, journal.get(name, ()))

    async def find(self, name: str) -> Record | None:
        """The row, hidden or not; None where there is none."""
        self._life.check_open()
        return await self._batcher.read(name)

    async def read_many(self, wanted: list[str]) -> dict[str, Record]:
        """The rows that exist, hidden or not, by name."""
        return await self._batcher.read_many(wanted)

    def unfinished(self, wanted: list[str]) -> asyncio.Future[set[str]]:
        """Those of the operations that have not ended."""
        return self.call(partial(self._batcher.store.unfinished, wanted))

    async def delete(self, name: str) -> None:
        """See ``Client.delete_operation``."""
        names.parse(name)
        await self.submit(Change(name, partial(transitions.delete, now=self._clock.time())))

    def own(self, name: str) -> Record | None:
        """The row of an operation that runs here, as it is in the store, without a read; None where that is not known.

        Another process may have changed it so short a time ago that no notice of it has come yet: for who waits for
        such a notice anyhow.
        """
        return self._own.get(name)

    async def wait(self, name: str, timeout: float | None) -> Record:
        """Wait until the operation has ended, or until the time is up; returns it as last seen.

        A drain ends the wait. One that begins during a drain is held for a moment.
        """
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        held = self._held_until()
        with self._feed.subscribe((name,)) as changes:
            record = self._running_here(name, timeout)
            if record is None:
                record = await self.record(name)  # under the subscription: nothing falls between the two
            while not record.done and (later := await self._later(record, changes, deadline, held)) is not None:
                record = later
        return record

    async def watch(self, name: str) -> AsyncGenerator[Record]:
        """Yield the row now and whenever it has changed; ends with the terminal one, or as ``wait`` on a drain."""
        held = self._held_until()
        with self._feed.subscribe((name,)) as changes:
            record = await self.record(name)
            yield record
            while (later := await self._later(record, changes, None, held)) is not None:
                record = later
                yield record

    def subscribe(self, wanted: Iterable[str]) -> Subscription:
        """Collect changes of these rows; see ``Feed.subscribe``."""
        return self._feed.subscribe(wanted)

    async def news(
        self, changes: Subscription, deadline: float | None, *, poll: float = WATCH_POLL
    ) -> tuple[dict[str, Record | None], bool]:
        """Wait for a change of the subscribed rows, until the deadline (monotonic) at most.

        Where the store gives no notice of other processes, it returns after ``poll`` seconds too, empty-handed: the
        caller reads then.

        Returns:
            The rows that changed, and whether others may have changed unseen.
        """
        await changes.wait(self._clock, self._polled(deadline, poll))
        return changes.take()

    def _polled(self, deadline: float | None, poll: float = WATCH_POLL) -> float | None:
        """Until when somebody waits who reads at the deadline, and now and then where the store gives no notices."""
        if self.has_notices:
            return deadline
        polled = self._clock.monotonic() + poll
        return polled if deadline is None else min(deadline, polled)

    async def pause(self, clock: Clock, length: float) -> bool:
        """Return after so many seconds of a clock, True; or when the client drains, False.

        A pause that begins during a drain is held for a moment.
        """
        if self._life.draining:
            await asyncio.sleep(min(length, DRAIN_HOLD))
            return False
        until = clock.monotonic() + length
        with self._feed.subscribe(()) as changes:  # a drain is told to everybody
            changes.by = ""  # no wait for another operation, where a run pauses
            while not self._life.draining and clock.monotonic() < until:
                await changes.wait(clock, until)
                changes.take()
        return not self._life.draining

    def _running_here(self, name: str, timeout: float | None) -> Record | None:
        """What a wait begins with, without a read: its row if it runs here and nobody else has changed anything.

        Where the store gives notice of other processes, a change of theirs that this misses is told to the subscription
        in a moment; a wait that ends before that must read.
        """
        self._life.check_open()
        if not self.has_notices or (timeout is not None and timeout < NOTICE):
            return None
        record = self._own.get(name)
        return None if record is None else record.check_visible(self._clock.time())

    def _held_until(self) -> float | None:
        """Until when a call that begins now is held, in the event loop's time; None where there is no drain."""
        return self._life.loop.time() + DRAIN_HOLD if self._life.begun and self._life.draining else None

    def _later(
        self, record: Record, changes: Subscription, deadline: float | None, held: float | None
    ) -> Awaitable[Record | None]:
        """The row once it has changed; None where it has ended, at the deadline, and when the client drains."""
        if held is None:
            return self._changed(record, changes, deadline)
        return self._changed_in_drain(record, changes, deadline, held)

    async def _changed_in_drain(
        self, record: Record, changes: Subscription, deadline: float | None, held: float
    ) -> Record | None:
        hold = asyncio.timeout_at(held)
        try:
            async with hold:
                return await self._changed(record, changes, deadline, despite_drain=True)
        except TimeoutError:
            if not hold.expired():
                raise  # the store's own
        return None

    async def _changed(
        self, record: Record, changes: Subscription, deadline: float | None, *, despite_drain: bool = False
    ) -> Record | None:
        changes.known = record
        while not record.done and (despite_drain or not self._life.draining):
            if deadline is not None and self._clock.monotonic() >= deadline:
                return None
            await changes.wait(self._clock, self._polled(deadline))
            changed, stale = changes.take()
            latest = changed.get(record.name)
            if stale or record.name not in changed:
                latest = await self.record(record.name)
            if latest is None or _is_another(latest, record):  # removed, or a later one under its name
                raise OperationNotFoundError(record.name)
            if _is_news(latest.check_visible(self._clock.time()), record):
                return latest
        return None

    def _observe(self, name: str, record: Record | None) -> None:
        if record is not None and record.state is State.RUNNING and record.owner == self._owner:
            self._own[name] = record
        else:
            self._own.pop(name, None)


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
