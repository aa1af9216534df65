"""The durable waits of one run: first in this process, and then, where nothing but waits is left, in the row."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.logs import event
from lro_aio.core.policies import Limits
from lro_aio.core.quick import dataclass
from lro_aio.core.record import NEVER, Record, Wait
from lro_aio.engine.blocked import is_blocked
from lro_aio.engine.changes import Subscription
from lro_aio.engine.journal import RunJournal
from lro_aio.engine.rows import Rows
from lro_aio.engine.timing import sleep_for
from lro_aio.ports import Clock

__all__ = ["Waits"]

logger = logging.getLogger("lro_aio")

FIRST_PAUSE, LAST_PAUSE = 0.02, 1.0
"""Real seconds between two questions whether a handler that does something else beside its waits still does: doubled
each time, up to the last."""
AGAIN = 1.0
"""Seconds from one wake-up of straight code to the next, unless a timer ends; and after a read that failed."""


@dataclass(eq=False, slots=True)
class _Open:
    """One wait that is not over."""

    task: asyncio.Task[Any] | None
    over: asyncio.Future[None]
    topic: str = ""
    ready: Callable[[], bool] = field(default=lambda: False)
    """Whether the message is there."""
    children: tuple[str, ...] = ()
    until: float | None = None
    """Epoch seconds."""
    queue: str = ""
    """In which it waits for a place."""


class Waits:
    """What the handler of a run waits for.

    Args:
        name: The operation's.
        rows: The store.
        journal: The run's.
        clock: Engine time.
        limits: Of the names in a row.
        linger: Seconds for which a wait holds the process.
        lingering: Where to be told to hurry: those that have a wait are in it.
        hurried: Whether somebody else needs the slot, or the process drains: then nothing lingers.
        suspend: Stops the handler, once nothing but waits is left in it.
        stopped: Whether the handler was told to stop.
        waits_for: Tells the task of a step that a task awaits; see ``is_blocked``.
    """

    def __init__(
        self,
        name: str,
        *,
        rows: Rows,
        journal: RunJournal,
        clock: Clock,
        limits: Limits,
        linger: float,
        lingering: set[Waits],
        hurried: Callable[[], bool],
        suspend: Callable[[], None],
        stopped: Callable[[], bool],
        waits_for: Callable[[Any], asyncio.Future[Any] | bool],
    ) -> None:
        self.ended: dict[str, Record | None] = {}
        """The awaited operations that have ended; None for one that is gone."""
        self.task: asyncio.Task[Any] | None = None
        """The handler's."""
        self._name = name
        self._rows = rows
        self._journal = journal
        self._clock = clock
        self._limits = limits
        self._linger = linger
        self._lingering = lingering
        self._hurried = hurried
        self._suspend = suspend
        self._stopped = stopped
        self._waits_for = waits_for
        self._open: dict[_Open, None] = {}
        self._names_size = 0
        self._beginning = 0
        """Calls that are about to wait: their children are being started, or read."""
        self._captured: list[_Open] = []
        """What was open when the handler was stopped."""
        self._moved_at = 0.0
        """Monotonic seconds at which the last wait began or ended."""
        self._disarm: Callable[[], None] | None = None
        self._pause = FIRST_PAUSE
        self._again: asyncio.TimerHandle | None = None
        self._hurrying = False
        """The handler is about to be looked at: many waits that begin in one turn of the event loop ask for that."""
        self._changes: Subscription | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._saver: asyncio.Task[None] | None = None

    def watch(self, *children: str) -> None:
        """Hear of these operations from here on, and of messages. Whoever reads them then misses nothing."""
        if self._changes is None:
            self._changes = self._rows.subscribe((self._name,))
            self._changes.by = ""  # no wait that holds its slot for long
            self._changes.__enter__()
            self._watcher = asyncio.create_task(self._watch(self._changes), name=f"lro-aio-waits {self._name}")
        self._changes.add(children)

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """A wait is about to begin: until then, the handler does something else than to wait."""
        self._beginning += 1
        try:
            yield
        finally:
            self._beginning -= 1

    async def wait(
        self,
        *,
        topic: str = "",
        ready: Callable[[], bool] | None = None,
        children: tuple[str, ...] = (),
        until: float | None = None,
        over: asyncio.Future[None] | None = None,
        queue: str = "",
    ) -> None:
        """Return when a message is ready, when all of the children have ended, or at ``until``.

        Args:
            topic: Of the message.
            ready: Whether it is there.
            children: Names; ``watch`` knows them.
            until: Epoch seconds.
            over: Ends the wait when it is done.
            queue: In which it waits for a place, for people.

        Raises:
            PayloadTooLargeError: The names of all that the handler waits for are over ``Limits.children``.
        """
        over = asyncio.get_running_loop().create_future() if over is None else over
        wait = _Open(asyncio.current_task(), over, topic, ready or (lambda: False), children, until, queue)
        with self._counted(children):
            cancel = None if until is None else self._clock.call_at(until, lambda: _end(over))
            self._open[wait] = None
            self._moved()
            try:
                if topic or children:
                    self._look_at(wait)
                await over
            finally:
                del self._open[wait]
                if cancel is not None:
                    cancel()
                self._moved()

    def hurry(self) -> None:
        """Somebody needs the slot, or the process drains: linger no longer."""
        if self._open and not self._hurrying:
            self._hurrying = True
            asyncio.get_running_loop().call_soon(self._check)

    def capture(self) -> None:
        """The handler is about to be stopped: keep in mind what it waits for."""
        self._captured = list(self._open)

    def union(self, *, token: str, on_cancel: str, now: float, not_before: float) -> Wait:
        """What the handler waited for when it was suspended, as one wait."""
        asked = [tuple(name for name in wait.children if name not in self.ended) for wait in self._captured]
        groups = [names for names in asked if len(names) > 1]
        alone = [names[0] for names in asked if len(names) == 1]
        timers = [wait.until for wait in self._captured if wait.until is not None]
        longest = self._rows.store.max_wait
        if longest is not None:  # a row that waits for longer may be removed; to wake it for nothing is harmless
            timers.append(now + longest)
        first = min(timers, default=NEVER)
        is_over = any(wait.ready() or (wait.children and not left) for wait, left in zip(self._captured, asked))
        union = Wait(
            token=token,
            sleep_until=NEVER,
            children=tuple(name for names in (*groups, alone) for name in names),
            groups=tuple(map(len, groups)),
            topics=tuple(dict.fromkeys(wait.topic for wait in self._captured if wait.topic)),
            queues=tuple(dict.fromkeys(wait.queue for wait in self._captured if wait.queue)),
            timer=first if first < NEVER else None,
            not_before=not_before,
            on_cancel=on_cancel,
            union=True,
            rerun=True,
        )
        return union.told(now) if is_over else union

    async def close(self) -> None:
        """The run is over."""
        self._lingering.discard(self)
        if self._disarm is not None:
            self._disarm()
            self._disarm = None
        if self._again is not None:
            self._again.cancel()
        tasks = [task for task in (self._watcher, self._saver) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._changes is not None:
            self._changes.__exit__(None, None, None)
            self._changes = None

    @contextmanager
    def _counted(self, children: tuple[str, ...]) -> Iterator[None]:
        size = sum(len(name) + 3 for name in children)
        self._limits.check("children", self._names_size + size)
        self._names_size += size
        try:
            yield
        finally:
            self._names_size -= size

    def _moved(self) -> None:
        self._moved_at, self._pause = self._clock.monotonic(), FIRST_PAUSE
        (self._lingering.add if self._open else self._lingering.discard)(self)
        if self._open and self._disarm is None:
            self._disarm = self._clock.call_later(self._linger, self._fire)
        if not self._linger or self._hurried():
            self.hurry()

    def _fire(self) -> None:
        self._disarm = None
        if not self._open or self._stopped():
            return
        left = self._moved_at + self._linger - self._clock.monotonic()
        if left > 0:
            self._disarm = self._clock.call_later(left, self._fire)
        else:
            self._check()

    def _check(self) -> None:
        """Suspend, if nothing but waits is left in the handler. If not, store at least when they end, and ask again."""
        self._hurrying = False
        if not self._open or self._stopped() or self.task is None:
            return
        if self._is_blocked(self.task):
            self._suspend()
            return
        if self._journal.unsaved and (self._saver is None or self._saver.done()):
            self._saver = asyncio.create_task(self._save(), name=f"lro-aio-save {self._name}")
        if self._again is None:  # in real time: what the handler does beside its waits takes no engine time
            self._again = asyncio.get_running_loop().call_later(self._pause, self._check_again)
            self._pause = min(2 * self._pause, LAST_PAUSE)

    def _is_blocked(self, task: asyncio.Task[Any]) -> bool:
        if self._beginning or any(wait.over.done() for wait in self._open):
            return False  # it is about to go on; to follow what it waits for takes long where that is much
        waiting = {wait.task for wait in self._open}
        return is_blocked(task, lambda task: task in waiting or self._waits_for(task))

    def _check_again(self) -> None:
        self._again = None
        if self._hurried() or self._clock.monotonic() >= self._moved_at + self._linger:
            self._check()

    async def _save(self) -> None:
        try:
            await self._journal.append()
        except Exception as exc:  # noqa: BLE001 (whatever it is, the next write tells the handler)
            logger.debug("%s: its waits are not stored yet: %s", self._name, exc, extra=event("waits_not_stored"))

    async def _watch(self, changes: Subscription) -> None:
        stale = False
        while True:
            changed: dict[str, Record | None] = {}
            if not stale:
                changed, stale = await self._rows.news(changes, None)
            for name, record in changed.items():
                self._note(name, record)
            try:
                if stale or not changed:
                    await self._look()
                if any(wait.topic for wait in self._open):
                    await self._journal.catch_up()
                stale = False
            except StoreUnavailableError as exc:
                logger.warning(
                    "what %s waits for could not be read; trying again: %s",
                    self._name,
                    exc,
                    extra=event("waits_not_read", operation=self._name),
                )
                stale = True
                await sleep_for(self._clock, AGAIN)
            for wait in self._open:
                self._look_at(wait)

    def _note(self, name: str, record: Record | None) -> None:
        if name == self._name:
            if record is not None:
                self._journal.learn(record)
        elif record is None or record.done or record.deleted:
            self.ended[name] = record

    async def _look(self) -> None:
        """Read what may have changed unseen."""
        awaited = {name for wait in self._open for name in wait.children if name not in self.ended}
        if awaited:
            unfinished = await self._rows.unfinished(sorted(awaited))
            gone = sorted(awaited - unfinished)
            if gone:
                found = await self._rows.read_many(gone)
                for name in gone:
                    self._note(name, found.get(name))
        if any(wait.topic for wait in self._open):
            self._note(self._name, await self._rows.find(self._name))

    def _look_at(self, wait: _Open) -> None:
        if wait.ready() or (wait.children and self.ended.keys() >= set(wait.children)):
            _end(wait.over)


def _end(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
