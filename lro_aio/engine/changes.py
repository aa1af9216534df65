"""In-process notice that an operation changed: who waits here need not poll."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from lro_aio.core.record import Record
from lro_aio.ports import Clock

__all__ = ["RUNNING", "Feed", "Subscription"]

Listener = Callable[[str, Record | None], None]

RUNNING: ContextVar[str] = ContextVar("lro_aio_running", default="")
"""In a handler, and in the tasks that it makes: the name of its operation."""


class Feed:
    """Tells subscribers and listeners of committed rows. Belongs to one event loop.

    Args:
        now: Monotonic seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._all: set[Subscription] = set()
        self._listeners: tuple[tuple[Listener, Callable[[], None]], ...] = ()
        self._commits: tuple[Listener, ...] = ()
        """Of these, the first ones: a commit is told to all of them, and must cost little."""

    def publish(self, name: str, record: Record | None) -> None:
        """A row was committed by this process, or seen to have changed; None: it was removed."""
        for subscription in self._subscriptions.get(name, ()):
            subscription.push(name, record)
        for committed in self._commits:
            committed(name, record)

    def elsewhere(self) -> None:
        """Another process committed something: whoever waits must look again."""
        self.look_again()
        for _, elsewhere in self._listeners:
            elsewhere()

    def look_again(self) -> None:
        """Let whoever waits look again, without a sign of any change. Listeners have timers of their own for that."""
        for subscription in self._all:
            subscription.push_stale()

    def subscribe(self, names: Iterable[str]) -> Subscription:
        """Collect changes of these rows; use as a context manager."""
        return Subscription(self, names)

    @property
    def waiting(self) -> int:
        """How many wait, each of whom looks again when something may have changed."""
        return len(self._all)

    def waits(self) -> list[Subscription]:
        """Those of handlers, which wait in place and hold their slots."""
        return [subscription for subscription in self._all if subscription.by]

    def listen(self, commit: Listener, elsewhere: Callable[[], None]) -> Callable[[], None]:
        """Call ``commit`` for every published row, ``elsewhere`` for every foreign commit; returns the undo."""
        listener = (commit, elsewhere)
        self._set_listeners((*self._listeners, listener))

        def undo() -> None:
            self._set_listeners(tuple(known for known in self._listeners if known is not listener))

        return undo

    def _set_listeners(self, listeners: tuple[tuple[Listener, Callable[[], None]], ...]) -> None:
        self._listeners, self._commits = listeners, tuple(commit for commit, _ in listeners)

    def add(self, subscription: Subscription, names: Iterable[str]) -> None:
        """Called by the subscription."""
        self._all.add(subscription)
        for name in names:
            self._subscriptions.setdefault(name, set()).add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Called by the subscription."""
        self._all.discard(subscription)
        for name in subscription.names:
            subscribed = self._subscriptions.get(name)
            if subscribed is not None:
                subscribed.discard(subscription)
                if not subscribed:
                    del self._subscriptions[name]


class Subscription:
    """What changed since the last ``take``. One waiter each."""

    def __init__(self, feed: Feed, names: Iterable[str]) -> None:
        self.names = dict.fromkeys(names)
        self.by = RUNNING.get()
        """The operation whose handler it is; "" for anybody else's."""
        self.began = feed.now() if self.by else 0.0
        self._feed = feed
        self.known: Record | None = None
        """The row as whoever waits for a single one knows it: what says nothing new wakes nobody."""
        self._changed: dict[str, Record | None] = {}
        self._stale = False
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._feed.add(self, self.names)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._feed.remove(self)

    def add(self, names: Iterable[str]) -> None:
        """Collect the changes of these rows too."""
        new = [name for name in dict.fromkeys(names) if name not in self.names]
        self.names.update(dict.fromkeys(new))
        self._feed.add(self, new)

    def push(self, name: str, record: Record | None) -> None:
        """Called by the feed."""
        known = self.known
        if (
            known is None
            or record is None
            or not record.uid
            # The rest, a renewal or an entry of the journal, is not for readers.
            or (record.revision, record.uid, record.deleted) != (known.revision, known.uid, known.deleted)
        ):
            self._changed[name] = record
            self._wake()

    def push_stale(self) -> None:
        """Called by the feed."""
        self._stale = True
        self._wake()

    async def wait(self, clock: Clock, until: float | None) -> None:
        """Return when there is something to take, or at ``until`` of the clock's monotonic time."""
        left = None if until is None else until - clock.monotonic()
        if self._changed or self._stale or (left is not None and left <= 0):
            return
        self._waiter = asyncio.get_running_loop().create_future()
        cancel = clock.call_later(left, self._wake) if left is not None else None
        try:
            await self._waiter
        finally:
            self._waiter = None
            if cancel is not None:
                cancel()

    def take(self) -> tuple[dict[str, Record | None], bool]:
        """The rows that changed, and whether others may have changed unseen."""
        taken = self._changed, self._stale
        self._changed, self._stale = {}, False
        return taken

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
