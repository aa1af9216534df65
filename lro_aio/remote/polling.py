"""Polling for the ends of operations: one poller for all handles of a transport.

A watched operation costs a timer or a slot in a queue, and a task only while a call is under way. Where the service has
long-polls, each operation has one open, up to ``Transport.max_waits``. Operations beyond that, and those of services
without long-polls, are polled, ``Transport.max_calls`` at a time.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
from collections import deque
from dataclasses import dataclass, field

from lro_aio.core.call_failures import cannot_connect, sentence
from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError
from lro_aio.core.logs import event
from lro_aio.core.policies import PollPolicy, RetryPolicy
from lro_aio.remote.transport import CallOptions, Latest, NotTheServiceError, Reply, Transport

__all__ = ["Poller", "poller_of"]

logger = logging.getLogger("lro_aio")

WAIT_LENGTH = 60.0
"""Seconds of one long-poll."""
HELD = 5.0
"""Seconds after which a long-poll that tells of no end counts as held, and not as answered early: the next one follows
at once. Services and proxies have limits of their own, below the length that was asked for."""
PROBE = 0.25
"""Seconds for which other operations hold back while the first long-poll shows whether the service has them."""
MIN_PAUSE, MAX_PAUSE = 0.1, 3600.0
"""Seconds between two polls, whatever the service asks for."""
LAST_POLL = 1.0
"""Seconds before the end of a wait at which there is a last poll, however long the pause; a fifth of a short wait."""
FIRST_TRIES, FIRST_PAUSE = 3, 1.0
"""Tries of the first poll, and the most seconds between them, where the address may be wrong: the name does not
resolve, TLS fails, or a web site answers."""
SLOW = 0.5
"""Seconds after which a call under way counts as not answered, if the time is up and others have been answered."""
SOON = 0.05
"""Seconds by which a poll may come before the moment of the last one and pass for it."""


@dataclass(eq=False, slots=True)
class _Waiter:
    """One that waits for an operation."""

    policy: PollPolicy
    last: float | None
    """When to make the last poll before the wait runs out: ``time.monotonic()``. None: done, or the wait has no end."""


@dataclass(eq=False, slots=True)
class _Watch:
    """One operation that has waiters."""

    latest: Latest
    retry: RetryPolicy
    polls: bool
    """It is polled even where the service has long-polls."""
    waiters: dict[asyncio.Future[None], _Waiter] = field(default_factory=dict)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    """The first waiter's. Calls are made in it: metadata functions may depend on it, and so do traces."""
    count: int = 0
    """Pauses so far: they grow with it."""
    failures: int = 0
    plain: bool = False
    """The next call is not a long-poll: the last one failed, or ran out without an answer."""
    refused: bool = False
    """The service does not let this caller long-poll the operation."""
    due: float = 0.0
    """When the last call was due: ``time.monotonic()``."""
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    long: bool = False
    """The call under way is a long-poll."""
    begun: float = 0.0
    """When the call under way began: ``time.monotonic()``."""
    answers: int = 0

    def pause(self) -> float:
        """Seconds until the next poll, as the most eager waiter wants it."""
        return min(waiter.policy.delay(self.count) for waiter in self.waiters.values())

    def last_poll(self, now: float) -> float | None:
        """When the next of the waiters wants its last poll."""
        moments = [waiter.last for waiter in self.waiters.values() if waiter.last is not None and waiter.last > now]
        return min(moments, default=None)

    def polled(self, now: float) -> None:
        """A call begins: it is the last poll of those who want theirs by now."""
        for waiter in self.waiters.values():
            if waiter.last is not None and waiter.last <= now + SOON:
                waiter.last = None


class Poller:
    """Wakes the waiters of one transport on one event loop."""

    def __init__(self, transport: Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._transport = transport
        self._watches: dict[tuple[Latest, bool], _Watch] = {}
        self._ready: deque[_Watch] = deque()
        self._calls = 0
        self._waits = 0
        self._probe: _Watch | None = None
        self._probe_end: asyncio.TimerHandle | None = None
        self._assumed = False
        self._held: list[_Watch] = []

    def watch(
        self,
        latest: Latest,
        poll: PollPolicy,
        retry: RetryPolicy,
        *,
        polls: bool = False,
        timeout: float | None = None,
    ) -> asyncio.Future[None]:
        """A future for the end of an operation, or, with ``polls``, for its next change. Cancel it to stop polling.

        Args:
            latest: Learns what the service answers.
            poll: How often to poll.
            retry: How often a failed poll is repeated before the future gets its error.
            polls: Poll even where the service has long-polls.
            timeout: Seconds after which the caller will stop waiting; there is a last poll shortly before.
        """
        future: asyncio.Future[None] = self.loop.create_future()
        key = (latest, polls)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = _Watch(latest, retry, polls)
        last = None if timeout is None else time.monotonic() + timeout - min(LAST_POLL, timeout / 5)
        watch.waiters[future] = waiter = _Waiter(poll, last)
        future.add_done_callback(functools.partial(self._left, watch))
        if len(watch.waiters) == 1:
            self._schedule(watch, self._first_pause(watch))
        else:
            self._hurry(watch, waiter)
        return future

    def failure_of(self, latest: Latest) -> Exception | None:
        """How the last poll of an operation failed. One that hangs counts, now that the time is up."""
        for polls in (True, False):
            watch = self._watches.get((latest, polls))
            if watch is not None and watch.task is not None:
                return _failure(watch)
        return latest.problem

    def _first_pause(self, watch: _Watch) -> float:
        latest = watch.latest
        if latest.reply is None or self._long(watch):
            return 0.0
        asked_for = latest.reply.retry_after
        pause = watch.pause() if asked_for is None else _bounded(asked_for)
        watch.count = 1
        return latest.seen + pause - time.monotonic()

    def _hurry(self, watch: _Watch, waiter: _Waiter) -> None:
        """Poll sooner for a waiter that came later. A pause that the service asked for ends only for a last poll."""
        if watch.timer is None:
            return
        reply, due = watch.latest.reply, watch.due
        if not watch.failures and (reply is None or reply.retry_after is None):
            due = min(due, watch.latest.seen + waiter.policy.delay(0))
        if waiter.last is not None:
            due = min(due, waiter.last)
        if due < watch.due:
            watch.timer.cancel()
            watch.timer = None
            self._schedule(watch, due - time.monotonic())

    def _long(self, watch: _Watch) -> bool:
        may = not (watch.polls or watch.plain or watch.refused)
        return may and self._transport.long_polls is not False

    def _left(self, watch: _Watch, future: asyncio.Future[None]) -> None:
        """A waiter left of its own accord. When there is none left, polling stops."""
        if watch.waiters.pop(future, None) is None or watch.waiters:
            return
        self._watches.pop((watch.latest, watch.polls), None)
        if watch.timer is not None:
            watch.timer.cancel()
        if watch.task is not None:
            watch.task.cancel()
            watch.latest.problem = _failure(watch)

    def _finish(self, watch: _Watch, exc: BaseException | None = None) -> None:
        """Wake the waiters. One that goes on waiting makes a new watch."""
        if not watch.waiters:
            return
        del self._watches[watch.latest, watch.polls]
        futures, watch.waiters = watch.waiters, {}
        for future in futures:
            if not future.done():
                future.set_result(None) if exc is None else future.set_exception(exc)

    def _schedule(self, watch: _Watch, pause: float) -> None:
        now = time.monotonic()
        if (last := watch.last_poll(now)) is not None:
            pause = min(pause, last - now)
        watch.due = now + max(0.0, pause)
        if pause > 0:
            watch.timer = self.loop.call_later(pause, self._due, watch)
        else:
            self._due(watch)

    def _due(self, watch: _Watch) -> None:
        watch.timer = None
        self._ready.append(watch)
        self._pump()

    def _pump(self) -> None:
        """Start what is due and has a free slot."""
        while self._ready and self._calls < self._transport.max_calls:
            watch = self._ready.popleft()
            if not watch.waiters:
                continue
            long = self._long(watch)
            if long and self._waits >= self._transport.max_waits:
                long, watch.plain = False, True
                if watch.count == 0 and (pause := self._first_pause(watch)) > 0:
                    self._schedule(watch, pause)
                    continue
            if long and self._transport.long_polls is None and not self._assumed:
                if self._probe is not None:
                    self._held.append(watch)
                    continue
                self._probe = watch
                self._probe_end = self.loop.call_later(PROBE, self._unanswered)
            if long:
                self._waits += 1
            else:
                self._calls += 1
            watch.long, watch.begun = long, time.monotonic()
            watch.polled(watch.begun)
            poll = self._poll(watch, long=long)
            watch.task = self.loop.create_task(poll, name="lro-aio-remote-poll", context=watch.context)
            watch.task.add_done_callback(functools.partial(self._polled, watch, long))

    def _polled(self, watch: _Watch, long: bool, task: asyncio.Task[None]) -> None:
        if long:
            self._waits -= 1
        else:
            self._calls -= 1
        if watch.task is task:
            watch.task = None
        if long and watch is self._probe:  # if it left, or failed without telling, another one tries
            self._probed()
        # A call without waiters was cancelled here. One that has waiters was cancelled by what it called.
        exc = _cancelled(watch) if task.cancelled() else task.exception()
        if exc is not None:
            self._finish(watch, exc)
        self._pump()

    def _unanswered(self) -> None:
        """The first long-poll has not been refused for a while: the service seems to have them."""
        self._assumed = True
        self._probed()

    def _probed(self) -> None:
        """Let the operations go on that were held back."""
        if self._probe_end is not None:
            self._probe_end.cancel()
        self._probe, self._probe_end = None, None
        held, self._held = self._held, []
        for watch in held:
            if watch.waiters:
                self._schedule(watch, self._first_pause(watch))

    async def _poll(self, watch: _Watch, *, long: bool) -> None:
        transport, latest = self._transport, watch.latest
        options = CallOptions(on_answer=latest.answered)
        watch.plain = False
        try:
            if long:
                reply = await transport.wait(latest.place, WAIT_LENGTH, options)
            else:
                reply = await transport.fetch(latest.place, options)
        except Exception as exc:  # noqa: BLE001 (what is not worth a repeat goes to the waiters)
            self._failed(watch, exc, long=long)
            return
        if long and transport.long_polls is None:
            transport.long_polls = True
        transport.answered = True
        watch.answers += 1
        watch.failures = 0
        before = latest.reply
        latest.take(reply)
        if latest.done or (watch.polls and (before is None or before.metadata != reply.metadata)):
            self._finish(watch)
        if watch.waiters:
            self._schedule(watch, self._next_pause(watch, reply, long=long))

    def _next_pause(self, watch: _Watch, reply: Reply, *, long: bool) -> float:
        took = time.monotonic() - watch.due
        if long and took >= HELD:
            watch.count = 0
            return 0.0
        if reply.retry_after is not None:
            return _bounded(reply.retry_after)
        pause = watch.pause()
        watch.count += 1
        # Counted from the moment when the poll was due, so that a crowd that queues for slots is not polled later and
        # later. But a service that answers slowly gets a pause, and a long-poll that is answered early makes no busy
        # loop.
        return max(pause - took, pause / 2)

    def _failed(self, watch: _Watch, exc: Exception, *, long: bool) -> None:
        """Poll again later, or give the error to the waiters."""
        call = exc if isinstance(exc, RemoteCallError) else None
        if long and call is not None and (pause := self._without_long_poll(watch, call)) is not None:
            if watch.waiters:
                self._schedule(watch, pause)
            return
        watch.latest.problem = exc
        watch.failures += 1
        name = watch.latest.place.name
        logger.warning(
            "poll %d of operation %s failed: %s",
            watch.failures,
            name,
            sentence(exc),
            extra=event("poll_failed", operation=name),
        )
        named = isinstance(exc, watch.retry.on)
        most, pause = watch.retry.max_attempts, watch.retry.delay(watch.failures - 1)
        astray = cannot_connect(exc) or (isinstance(exc, NotTheServiceError) and watch.latest.reply is None)
        if astray and not named and not self._transport.answered:
            most, pause = min(most, FIRST_TRIES), min(pause, FIRST_PAUSE)
        if not (named or (call is not None and call.transient)) or watch.failures >= most:
            self._finish(watch, exc)
            return
        asked_for = (call.retry_after if call is not None else None) or 0.0
        watch.plain = long  # proxies cut long-polls with any code: a plain poll tells whether the service is away
        if watch.waiters:
            self._schedule(watch, max(pause, _bounded(asked_for)))

    def _without_long_poll(self, watch: _Watch, exc: RemoteCallError) -> float | None:
        """Seconds until a plain poll, if a failed long-poll calls for no more; None: it counts as a failure."""
        if exc.code is Code.UNIMPLEMENTED:
            self._transport.long_polls = False
            return self._first_pause(watch)
        if exc.code is Code.DEADLINE_EXCEEDED:  # held for longer than was asked for, or the service is away
            watch.plain = True
            return 0.0
        if exc.transient or exc.code in (Code.RESOURCE_EXHAUSTED, Code.CANCELLED):  # a poll would fare no better
            return None
        watch.refused = True  # the operation itself may be readable; if not, the poll tells why
        return 0.0


def poller_of(transport: Transport) -> Poller:
    """The transport's poller on the running event loop."""
    loop = asyncio.get_running_loop()
    poller: Poller | None = transport.poller
    if poller is None or poller.loop is not loop:
        poller = transport.poller = Poller(transport, loop)
    return poller


def _cancelled(watch: _Watch) -> RemoteCallError:
    problem = "the call was cancelled in this process, as happens when its channel is closed"
    return RemoteCallError(watch.latest.place.name, problem, code=Code.CANCELLED)


def _failure(watch: _Watch) -> Exception | None:
    """How the last poll failed: as it did, or, if the one under way hangs, without an answer."""
    hangs = not watch.answers or time.monotonic() - watch.begun > SLOW
    if watch.latest.problem is not None or watch.long or not hangs:
        return watch.latest.problem
    problem = "no answer before the time was up"
    return RemoteCallError(watch.latest.place.name, problem, code=Code.DEADLINE_EXCEEDED, transient=True)


def _bounded(pause: float) -> float:
    return min(max(pause, MIN_PAUSE), MAX_PAUSE)
