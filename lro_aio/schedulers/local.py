"""The default scheduler: timers of this process. The rows stay the truth.

Sleeps need nothing here: the engine's sweep runs at the least ``check_time`` of the store. The scheduler remembers only
which children each suspended operation still waits for, and checks all of them with one read. A process that dies loses
only that memory: within a lease's time, the sweep of another process watches the row instead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import field

from lro_aio.core.errors import SchedulerUnavailableError
from lro_aio.core.logs import about, event
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State, Wait, WakeReason
from lro_aio.ports import SchedulerHost

__all__ = ["LocalScheduler"]

logger = logging.getLogger("lro_aio")

FALLBACK = 10.0
"""Real seconds between checks of the client's own children, where notices come long before. Where the store gives no
notice of other processes' commits, the ``poll_interval`` of the waits counts instead."""
COMMIT_PAUSE = 0.1
"""Least real seconds between two checks that other processes' commits cause."""
OUTAGE_PAUSE = 1.0
"""Real seconds from a check that failed to the next one."""


@dataclass(eq=False, slots=True)
class _Watched:
    """A row that waits, and what it still waits for."""

    record: Record
    pending: set[str] = field(default_factory=set)
    poll_at: float = 0.0
    """Monotonic time of the next poll of a remote service."""
    polling: bool = False
    """A poll of the remote service is under way."""


class LocalScheduler:
    """Wakes suspended operations in this process (``lro_aio.ports.Scheduler``). Belongs to one client."""

    local = True

    def __init__(self) -> None:
        self.horizon = 30.0
        self._host: SchedulerHost | None = None
        self._watched: dict[str, _Watched] = {}
        self._parents: dict[str, set[str]] = {}
        """Own child -> watched operations that wait for it."""
        self._nudge = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None
        self._fresh: set[str] = set()
        """Watched operations whose children have not been checked yet."""
        self._stale = False
        self._polls: set[asyncio.Task[None]] = set()
        """Polls of remote services that are under way: one that hangs must not hold up the others."""

    async def open(self, host: SchedulerHost) -> None:
        """Start watching."""
        self._host = host
        self.horizon = host.lease
        self._nudge = asyncio.Event()
        self._unlisten = host.listen(self._committed, self._elsewhere)
        self._task = asyncio.get_running_loop().create_task(self._loop(host), name="lro-aio-local-scheduler")

    async def close(self) -> None:
        """Stop watching. The rows are made due, so that the sweep of another process watches them at once."""
        if self._unlisten is not None:
            self._unlisten()
        tasks = self._polls | ({self._task} if self._task is not None else set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        watched = [watched.record for watched in self._watched.values()]
        self._watched.clear()
        self._parents.clear()
        if self._host is not None and watched:
            await self._host.hand_back(watched)

    async def schedule(self, record: Record) -> str | None:
        """Wake the row if it is due, watch its children if it waits for some. A sleep needs nothing here."""
        host, wait = self._host, record.wait
        if host is None or wait is None:
            return None
        now = host.clock.time()
        if wait.ripe(now):
            await host.wake(record, wait.reason(now, wait.children) or WakeReason.ELAPSED, pending=wait.children)
            return None
        if not wait.children or (wait.ends > now and not wait.union):
            return None
        if wait.service and not host.has_service(wait.service):
            # An error, so that the row is put off: a row that stays due would block others.
            raise SchedulerUnavailableError(
                f"service {wait.service!r} is not known in this process; another process must poll it"
            )
        if wait.deadline is not None and host.clock.time() >= wait.deadline:
            watched = self._watch(record)
            if wait.service:
                self._start_poll(host, watched)  # the last poll; it wakes the row, whatever it finds
                return None
            await self._check(host, watched)
            if record.name in self._watched:
                await self._wake(host, self._watched[record.name], WakeReason.CHILDREN_TIMEOUT)
            return None
        self._watch(record)
        self._nudge.set()
        return ""

    def watches(self, name: str) -> bool:
        """Whether the row's children are watched here."""
        return name in self._watched

    async def cancel(self, record: Record) -> None:
        """Forget the row."""
        self._forget(record.name)

    def _watch(self, record: Record) -> _Watched:
        known = self._watched.get(record.name)
        assert record.wait is not None
        if known is not None and known.record.wait is not None and known.record.wait.token == record.wait.token:
            known.record = record
            return known
        self._forget(record.name)
        watched = _Watched(record, set(record.wait.children))
        self._watched[record.name] = watched
        if not record.wait.service:
            for child in watched.pending:
                self._parents.setdefault(child, set()).add(record.name)
        self._fresh.add(record.name)
        return watched

    def _forget(self, name: str) -> None:
        watched = self._watched.pop(name, None)
        if watched is None or watched.record.wait is None or watched.record.wait.service:
            return
        for child in watched.record.wait.children:
            parents = self._parents.get(child)
            if parents is not None:
                parents.discard(name)
                if not parents:
                    del self._parents[child]

    def _committed(self, name: str, record: Record | None) -> None:
        """A row of this process changed: children count themselves down, without a read of the store."""
        watched = self._watched.get(name)
        if watched is not None and (record is None or record.state not in (State.SUSPENDED, State.PENDING)):
            self._forget(name)  # cancelled, or woken by another caller
        if name not in self._parents or (record is not None and not record.done and not record.deleted):
            return
        for parent in self._parents[name]:
            watched = self._watched[parent]
            watched.pending.discard(name)
            if not watched.pending or _union(watched):
                self._nudge.set()

    def _elsewhere(self) -> None:
        if self._watched:
            self._stale = True
            self._nudge.set()

    async def _loop(self, host: SchedulerHost) -> None:
        allowed = checked = time.monotonic()
        while True:
            due = allowed if self._stale else checked + self._interval(host)
            cancel = self._arm(host)
            try:
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._nudge.wait()
            except TimeoutError:
                self._stale = True
            finally:
                cancel()
            self._nudge.clear()
            began = time.monotonic()
            if began >= checked + self._interval(host):  # also where nudges never stopped coming
                self._stale = True
            everything = self._stale and began >= allowed
            if everything:
                self._stale = False
            fresh, self._fresh = self._fresh, set()
            try:
                await self._round(host, fresh, everything=everything)
            except Exception as exc:  # noqa: BLE001 (an outage ends; the loop must be there then)
                logger.warning(
                    "the children of suspended operations could not be checked; trying again: %s",
                    exc,
                    extra=event("children_check_failed"),
                )
                self._stale, everything, began = True, True, time.monotonic() + OUTAGE_PAUSE
            if everything:
                # A busy neighbour commits all the time: checks must not cost more than a fifth of this process.
                checked = time.monotonic()
                allowed = began + max(COMMIT_PAUSE, 5 * (checked - began))

    def _interval(self, host: SchedulerHost) -> float:
        """Real seconds between checks that nothing else causes."""
        if host.notices:
            return FALLBACK
        waits = (watched.record.wait for watched in self._watched.values() if not _service(watched))
        return min((wait.poll_interval for wait in waits if wait is not None), default=FALLBACK)

    def _arm(self, host: SchedulerHost) -> Callable[[], None]:
        """A timer for the next poll of a remote service, or the next time that a union may be woken."""
        due = [watched.poll_at - host.clock.monotonic() for watched in self._watched.values() if _service(watched)]
        due += [wait.not_before - host.clock.time() for wait in self._held_back(host)]
        return host.clock.call_later(min(due), self._nudge.set) if due else lambda: None

    def _held_back(self, host: SchedulerHost) -> Iterator[Wait]:
        """The unions that are over, and were woken a moment ago."""
        now = host.clock.time()
        for watched in self._watched.values():
            wait = watched.record.wait
            if wait is not None and wait.union and wait.not_before > now and wait.some_ended(watched.pending):
                yield wait

    async def _round(self, host: SchedulerHost, fresh: set[str], *, everything: bool) -> None:
        now = host.clock.monotonic()
        to_read: list[_Watched] = []
        for name, watched in self._watched.items():
            if not watched.pending:
                continue
            if not _service(watched):
                if everything or name in fresh:
                    to_read.append(watched)
            elif watched.poll_at <= now:
                self._start_poll(host, watched)
        await self._read(host, to_read)
        await self._wake_ready(host, list(self._watched.values()))

    async def _check(self, host: SchedulerHost, watched: _Watched) -> None:
        """Check the children of one operation."""
        await self._read(host, [watched])
        await self._wake_ready(host, [watched])

    async def _read(self, host: SchedulerHost, parents: list[_Watched]) -> None:
        """Learn with one read which children of these operations have ended."""
        own = {child for watched in parents for child in watched.pending}
        if own:
            unfinished = await host.unfinished(list(own))
            for watched in parents:
                watched.pending &= unfinished

    async def _wake_ready(self, host: SchedulerHost, parents: list[_Watched]) -> None:
        """Wake the operations that have none left, or, for a union, enough."""
        now = host.clock.time()
        ready = [watched for watched in parents if _is_over(watched, now)]
        wakes = (self._wake(host, watched, WakeReason.CHILDREN_DONE) for watched in ready)
        for failure in await asyncio.gather(*wakes, return_exceptions=True):
            if failure is not None:
                raise failure

    def _start_poll(self, host: SchedulerHost, watched: _Watched) -> None:
        assert watched.record.wait is not None
        watched.poll_at = host.clock.monotonic() + watched.record.wait.poll_interval
        if not watched.polling:
            watched.polling = True
            task = asyncio.get_running_loop().create_task(self._poll(host, watched), name="lro-aio-poll")
            self._polls.add(task)
            task.add_done_callback(self._polls.discard)

    async def _poll(self, host: SchedulerHost, watched: _Watched) -> None:
        """Poll a remote service once; wake the row if no child is left, or the deadline has passed."""
        wait, name = watched.record.wait, watched.record.name
        assert wait is not None
        try:
            asked = sorted(watched.pending)
            operations = await host.poll(wait.service, asked, until=wait.deadline)
            # By the name in the request: services answer with a canonical one (a project's number for its id, say).
            ended = (child for child, operation in zip(asked, operations, strict=True) if operation.done)
            watched.pending.difference_update(ended)
        except Exception as exc:  # noqa: BLE001 (a stub raises what it likes; the next poll comes)
            logger.warning(
                "service %r could not be polled for %s: %s",
                wait.service,
                name,
                exc,
                extra=about(watched.record, "service_poll_failed"),
            )
        finally:
            watched.polling = False
        late = wait.deadline is not None and host.clock.time() >= wait.deadline
        if late or not watched.pending:
            try:
                await self._wake(
                    host, watched, WakeReason.CHILDREN_TIMEOUT if watched.pending else WakeReason.CHILDREN_DONE
                )
            except Exception as exc:  # noqa: BLE001 (an outage of the store; the row stays watched)
                logger.warning(
                    "%s could not be woken; trying again: %s", name, exc, extra=about(watched.record, "wake_failed")
                )
        self._nudge.set()  # so that the timer is set for the next poll

    async def _wake(self, host: SchedulerHost, watched: _Watched, reason: WakeReason) -> None:
        name = watched.record.name
        if self._watched.get(name) is not watched:
            return
        self._forget(name)
        try:
            await host.wake(watched.record, reason, pending=sorted(watched.pending))
        except BaseException:
            self._watched.setdefault(name, watched)  # the store did not answer: nothing else remembers the wait
            raise


def _union(watched: _Watched) -> bool:
    return watched.record.wait is not None and watched.record.wait.union


def _is_over(watched: _Watched, now: float) -> bool:
    wait = watched.record.wait
    if wait is None or not wait.union:
        return not watched.pending
    return wait.reason(now, tuple(watched.pending)) is not None


def _service(watched: _Watched) -> str:
    return watched.record.wait.service if watched.record.wait is not None else ""
