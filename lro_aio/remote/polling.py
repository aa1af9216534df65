"""Looking for the ends of operations: one poller for all handles of a transport.

A watched operation costs a timer or a place in a queue, and a task only while its service is being asked. Where the
service can tell of an end (a long-poll), an operation has one such call open, up to ``Transport.max_waits``; what
exceeds that, and every operation of another service, is polled, ``Transport.max_calls`` at a time.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections import deque
from dataclasses import dataclass, field

from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError
from lro_aio.core.policies import PollPolicy, RetryPolicy
from lro_aio.remote.transport import CallOptions, Latest, Reply, Transport

__all__ = ["Poller", "poller_of"]

WAIT_LENGTH = 60.0
"""Seconds of one long-poll."""
HELD = 5.0
"""Seconds after which a long-poll that tells of no end was held, and not answered early: the next one follows at once.
Services and proxies have limits of their own, below what was asked for."""
PROBE = 0.25
"""Seconds for which the other operations hold back while the first long-poll shows whether the service has them."""
MIN_PAUSE, MAX_PAUSE = 0.1, 3600.0
"""Seconds between two looks, whatever the service asks for."""

NO_OPTIONS = CallOptions()


@dataclass(eq=False, slots=True)
class _Watch:
    """One operation that somebody waits for."""

    latest: Latest
    retry: RetryPolicy
    polls: bool
    """It is looked at, also where the service could tell of its end."""
    waiters: dict[asyncio.Future[None], PollPolicy] = field(default_factory=dict)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    """Of the first waiter. Looks are made in it: metadata functions may depend on it, and so do traces."""
    looks: int = 0
    failures: int = 0
    plain: bool = False
    """The next look is no long-poll: the last one failed or ran out without an answer."""
    refused: bool = False
    """The service lets nobody long-poll this operation, or not this caller."""
    due: float = 0.0
    """When the last look was due: ``time.monotonic()``."""
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None

    def pause(self) -> float:
        """Seconds until the next look, as the most eager of the waiters wants it."""
        return min(policy.delay(self.looks) for policy in self.waiters.values())


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
        self, latest: Latest, poll: PollPolicy, retry: RetryPolicy, *, polls: bool = False
    ) -> asyncio.Future[None]:
        """A future for the end of an operation, or, with ``polls``, for its next change. Cancel it to stop looking.

        Args:
            latest: Learns what the looks bring.
            poll: How often to look.
            retry: How often a look that fails is repeated before the future gets its error.
            polls: Look, even where the service could tell of the end.
        """
        future: asyncio.Future[None] = self.loop.create_future()
        key = (latest, polls)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = _Watch(latest, retry, polls)
        watch.waiters[future] = poll
        future.add_done_callback(functools.partial(self._left, watch))
        if len(watch.waiters) == 1:
            self._schedule(watch, self._first_pause(watch))
        else:
            self._hurry(watch, poll)
        return future

    def _first_pause(self, watch: _Watch) -> float:
        latest = watch.latest
        if latest.reply is None or self._long(watch):
            return 0.0
        asked_for = latest.reply.retry_after
        pause = watch.pause() if asked_for is None else _bounded(asked_for)
        watch.looks = 1
        return latest.seen + pause - time.monotonic()

    def _hurry(self, watch: _Watch, poll: PollPolicy) -> None:
        """Look sooner for a waiter that came later, unless it is the service that wants to be left alone."""
        reply = watch.latest.reply
        if watch.timer is None or watch.failures or (reply is not None and reply.retry_after is not None):
            return
        due = watch.latest.seen + poll.delay(0)
        if due < watch.due:
            watch.timer.cancel()
            watch.timer = None
            self._schedule(watch, due - time.monotonic())

    def _long(self, watch: _Watch) -> bool:
        may = not (watch.polls or watch.plain or watch.refused)
        return may and self._transport.long_polls is not False

    def _left(self, watch: _Watch, future: asyncio.Future[None]) -> None:
        """A waiter went away by itself: without any, nothing is looked for."""
        if watch.waiters.pop(future, None) is None or watch.waiters:
            return
        self._watches.pop((watch.latest, watch.polls), None)
        if watch.timer is not None:
            watch.timer.cancel()
        if watch.task is not None:
            watch.task.cancel()

    def _finish(self, watch: _Watch, exc: BaseException | None = None) -> None:
        """Wake the waiters. Whoever waits on makes a new watch."""
        if not watch.waiters:
            return
        del self._watches[watch.latest, watch.polls]
        futures, watch.waiters = watch.waiters, {}
        for future in futures:
            if not future.done():
                future.set_result(None) if exc is None else future.set_exception(exc)

    def _schedule(self, watch: _Watch, pause: float) -> None:
        watch.due = time.monotonic() + max(0.0, pause)
        if pause > 0:
            watch.timer = self.loop.call_later(pause, self._due, watch)
        else:
            self._due(watch)

    def _due(self, watch: _Watch) -> None:
        watch.timer = None
        self._ready.append(watch)
        self._pump()

    def _pump(self) -> None:
        """Start what is due and has a place."""
        while self._ready and self._calls < self._transport.max_calls:
            watch = self._ready.popleft()
            if not watch.waiters:
                continue
            long = self._long(watch)
            if long and self._waits >= self._transport.max_waits:
                long, watch.plain = False, True
                if watch.looks == 0 and (pause := self._first_pause(watch)) > 0:
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
            look = self._look(watch, long=long)
            watch.task = self.loop.create_task(look, name="lro-aio-remote-look", context=watch.context)
            watch.task.add_done_callback(functools.partial(self._looked, watch, long))

    def _looked(self, watch: _Watch, long: bool, task: asyncio.Task[None]) -> None:
        if long:
            self._waits -= 1
        else:
            self._calls -= 1
        if watch.task is task:
            watch.task = None
        if long and watch is self._probe:  # if it left, or failed in a way that tells nothing, another one tries
            self._probed()
        # A look without waiters was cancelled here; one with waiters by what it called, such as a channel that closed.
        exc = _cancelled(watch) if task.cancelled() else task.exception()
        if exc is not None:
            self._finish(watch, exc)
        self._pump()

    def _unanswered(self) -> None:
        """Nobody has refused the first long-poll for a while: the service seems to have them."""
        self._assumed = True
        self._probed()

    def _probed(self) -> None:
        """Let those go on that were held back."""
        if self._probe_end is not None:
            self._probe_end.cancel()
        self._probe, self._probe_end = None, None
        held, self._held = self._held, []
        for watch in held:
            if watch.waiters:
                self._schedule(watch, self._first_pause(watch))

    async def _look(self, watch: _Watch, *, long: bool) -> None:
        transport, latest = self._transport, watch.latest
        watch.plain = False
        try:
            if long:
                reply = await transport.wait(latest.place, WAIT_LENGTH, NO_OPTIONS)
            else:
                reply = await transport.fetch(latest.place, NO_OPTIONS)
        except Exception as exc:  # noqa: BLE001 (what is not worth another look goes to the waiters)
            self._failed(watch, exc, long=long)
            return
        if long and transport.long_polls is None:
            transport.long_polls = True
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
            watch.looks = 0
            return 0.0
        if reply.retry_after is not None:
            return _bounded(reply.retry_after)
        pause = watch.pause()
        watch.looks += 1
        # From one due moment to the next, so that a crowd that waits its turn does not look later and
        # later; but a service that answers slowly is left alone for a while, and a long-poll that is answered early
        # does not become a busy loop.
        return max(pause - took, pause / 2)

    def _failed(self, watch: _Watch, exc: Exception, *, long: bool) -> None:
        """Look again later, or give the error to the waiters."""
        call = exc if isinstance(exc, RemoteCallError) else None
        if long and call is not None and (pause := self._without_long_poll(watch, call)) is not None:
            if watch.waiters:
                self._schedule(watch, pause)
            return
        watch.failures += 1
        worth_it = (call is not None and call.transient) or isinstance(exc, watch.retry.on)
        if not worth_it or watch.failures >= watch.retry.max_attempts:
            self._finish(watch, exc)
            return
        asked_for = (call.retry_after if call is not None else None) or 0.0
        watch.plain = long  # proxies cut long-polls with any code: a look tells whether the service is away
        if watch.waiters:
            self._schedule(watch, max(watch.retry.delay(watch.failures - 1), _bounded(asked_for)))

    def _without_long_poll(self, watch: _Watch, exc: RemoteCallError) -> float | None:
        """Seconds until a plain look, where that is all that a failed long-poll asks for; None where it is not."""
        if exc.code is Code.UNIMPLEMENTED:
            self._transport.long_polls = False
            return self._first_pause(watch)
        if exc.code is Code.DEADLINE_EXCEEDED:  # held for longer than was asked for, or the service is away
            watch.plain = True
            return 0.0
        if not exc.transient:  # the operation may well be looked at, and if not, that tells why
            watch.refused = True
            return 0.0
        return None


def poller_of(transport: Transport) -> Poller:
    """The transport's poller on the running event loop."""
    loop = asyncio.get_running_loop()
    poller: Poller | None = transport.poller
    if poller is None or poller.loop is not loop:
        poller = transport.poller = Poller(transport, loop)
    return poller


def _cancelled(watch: _Watch) -> RemoteCallError:
    problem = "the call was cancelled in this process, as when its channel is closed"
    return RemoteCallError(watch.latest.place.name, problem, code=Code.CANCELLED)


def _bounded(pause: float) -> float:
    return min(max(pause, MIN_PAUSE), MAX_PAUSE)
