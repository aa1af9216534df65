"""Reading and awaiting other operations: the client's own through the feed, remote ones by polling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.call_failures import sentence
from lro_aio.core.errors import (
    LroError,
    OperationNotFoundError,
    SchedulerUnavailableError,
    StoreUnavailableError,
    WaitDeadlineExceededError,
    WorkerUnavailableError,
)
from lro_aio.core.record import Record, Wait, Wake, WakeReason
from lro_aio.core.status import to_status
from lro_aio.engine.changes import Feed
from lro_aio.engine.remote_polls import Service, as_service, cut_short, fetch, log_failed_poll, wait_operation
from lro_aio.engine.rows import Rows
from lro_aio.engine.timing import sleep_for, timeout_at
from lro_aio.ports import Clock

__all__ = ["Children", "Service", "as_service", "fetch", "missing", "wait_operation"]

MAX_CALLS = 32
"""Calls to a remote service that are under way at a time."""
RETRY_AFTER = 1.0
"""Seconds after which a remote service that did not answer is asked again."""


class Children:
    """Reads and awaits operations on behalf of one engine.

    Args:
        rows: The client's own.
        clock: Engine time.
        services: Remote services by name.
    """

    def __init__(self, rows: Rows, feed: Feed, clock: Clock, services: Mapping[str, Service]) -> None:
        self._rows = rows
        self._feed = feed
        self._clock = clock
        self.services = services

    def service(self, name: str) -> Service:
        """The remote service of this name.

        Raises:
            ValueError: ``Client(services=...)`` does not name it.
        """
        service = self.services.get(name)
        if service is None:
            listed = ", ".join(sorted(self.services)) or "none"
            raise ValueError(f"no service {name!r} in Client(services=...); known: {listed}")
        return service

    async def read(self, wanted: Sequence[str]) -> list[operations_pb2.Operation]:
        """The client's own operations, in the order asked for; a missing one is done with NOT_FOUND."""
        records = await self._rows.read_many(list(dict.fromkeys(wanted)))
        now = self._clock.time()
        return [_public(name, records.get(name), now) for name in wanted]

    async def read_foreign(
        self, wanted: Sequence[str], service: Service, *, lenient: bool = False
    ) -> list[operations_pb2.Operation]:
        """Operations of another service, in the order asked for; a missing one is done with NOT_FOUND.

        Args:
            wanted: Names.
            service: Who has them.
            lenient: Give one that cannot be read back as not done, with nothing but its name.

        Raises:
            Exception: Whatever the service raised for anything but NOT_FOUND.
        """
        answers: dict[str, operations_pb2.Operation | Exception] = {}
        await _ask_each(wanted, service, answers)
        found: list[operations_pb2.Operation] = []
        for name in wanted:
            answer = answers[name]
            if not isinstance(answer, Exception):
                found.append(answer)
            elif lenient:
                log_failed_poll(name, answer)
                found.append(operations_pb2.Operation(name=name))
            else:
                raise answer
        return found

    async def pending(self, wait: Wait, among: Sequence[str] | None = None) -> list[str]:
        """The children of a wait that have not ended, in their order; None of ``among``: all of them.

        Raises:
            WorkerUnavailableError: The service that has them is not known here.
            StoreUnavailableError: They cannot be read now.
        """
        asked = None if among is None else set(among)
        children = [name for name in wait.children if asked is None or name in asked]
        if not wait.service:
            unfinished = await self._rows.unfinished(children)
            return [name for name in children if name in unfinished]
        if wait.service not in self.services:
            raise WorkerUnavailableError(f"service {wait.service!r} is not known here")
        try:
            read = await self.read_foreign(children, self.service(wait.service))
        except LroError:
            raise
        except Exception as exc:  # a remote stub raises what it likes
            problem = f"service {wait.service!r} does not give its operations"
            raise StoreUnavailableError(problem, retry_after=RETRY_AFTER) from exc
        return [name for name, child in zip(children, read, strict=True) if not child.done]

    async def reason(self, wait: Wait) -> tuple[WakeReason | None, Sequence[str]]:
        """Why a suspended operation may run now, and which children are pending; no reason: it may not.

        Raises:
            WorkerUnavailableError: The service that has the children is not known here, and the wait goes on.
            StoreUnavailableError: They cannot be read now, and the wait goes on.
        """
        pending: Sequence[str] = ()
        if wait.ripe(self._clock.time()):
            return wait.reason(self._clock.time(), wait.children), wait.children
        if wait.children and (wait.union or wait.ends <= self._clock.time()):
            try:
                pending = await self.pending(wait)
            except (WorkerUnavailableError, StoreUnavailableError):
                if not wait.over(self._clock.time()):
                    raise
                pending = wait.children  # the timeout bounds the wait even where nobody can tell
        return wait.reason(self._clock.time(), pending), pending

    async def woken(self, wake: Wake, *, lenient: bool = False) -> list[operations_pb2.Operation]:
        """The children that a run is told of, as they are now.

        Args:
            wake: Why it runs.
            lenient: Whatever the remote service says. It is not asked to be well in any case where the wait was over
                without it: a service that is down must not make a wait longer than its timeout.

        Raises:
            SchedulerUnavailableError: The remote service does not give them.
            StoreUnavailableError: The store did not answer.
        """
        if not wake.children:
            return []
        if not wake.service:
            return await self.read(wake.children)
        lenient = lenient or wake.reason in (WakeReason.CHILDREN_TIMEOUT, WakeReason.POLL_FAILED)
        try:
            return await self.read_foreign(wake.children, self.service(wake.service), lenient=lenient)
        except Exception as exc:
            raise SchedulerUnavailableError(f"service {wake.service!r} does not give its operations: {exc}") from exc

    async def wait(
        self,
        wanted: Sequence[str],
        *,
        deadline: float | None,
        timeout: float,
        poll_interval: float,
        through_drain: bool = True,
    ) -> list[operations_pb2.Operation]:
        """Wait until all of the client's own operations have ended.

        Raises:
            WaitDeadlineExceededError: ``deadline`` (monotonic seconds) passed; ``timeout`` is for its sentence.
            WorkerUnavailableError: The client drains, and the wait is not one that goes on through a drain.
        """
        finished: dict[str, operations_pb2.Operation] = {}
        with self._feed.subscribe(dict.fromkeys(wanted)) as changes:
            pending = await self._scan(dict.fromkeys(wanted), finished)
            while pending:
                if deadline is not None and self._clock.monotonic() >= deadline:
                    left = [name for name in wanted if name in pending]
                    raise WaitDeadlineExceededError(timeout, left, finished=tuple(finished.values()))
                if self._rows.draining and not through_drain:
                    raise WorkerUnavailableError("the client is closing; the operations go on")
                changed, stale = await self._rows.news(changes, deadline, poll=poll_interval)
                for name, record in changed.items():
                    if name in pending and (record is None or record.done):
                        finished[name] = _public(name, record, self._clock.time())
                        pending.discard(name)
                if stale or not changed:
                    pending = await self._scan(pending, finished)
        return [finished[name] for name in wanted]

    async def wait_foreign(
        self, wanted: Sequence[str], service: Service, *, deadline: float | None, timeout: float, poll_interval: float
    ) -> list[operations_pb2.Operation]:
        """Poll a remote service until all operations have ended. A poll that fails is repeated until the deadline.

        Raises:
            WaitDeadlineExceededError: As ``wait``; its cause, and the end of its sentence, is the last poll if that
                failed.
        """
        finished: dict[str, operations_pb2.Operation] = {}
        while True:
            pending = [name for name in dict.fromkeys(wanted) if name not in finished]
            answers: dict[str, operations_pb2.Operation | Exception] = {}
            problem: Exception | None = None
            try:
                async with timeout_at(self._clock, deadline):
                    await _ask_each(pending, service, answers)
            except TimeoutError:  # what has answered by then counts
                problem = cut_short(next((name for name in pending if name not in answers), pending[0]))
            for name, answer in answers.items():
                if isinstance(answer, Exception):
                    problem = answer
                    log_failed_poll(name, answer)
                elif answer.done:
                    finished[name] = answer
            left = [name for name in pending if name not in finished]
            if not left:
                return [finished[name] for name in wanted]
            now = self._clock.monotonic()
            if deadline is not None and now >= deadline:
                failed = sentence(problem) if problem is not None else ""
                raise WaitDeadlineExceededError(
                    timeout, left, finished=tuple(finished.values()), problem=failed
                ) from problem
            until = now + poll_interval if deadline is None else min(deadline, now + poll_interval)
            await sleep_for(self._clock, until - now)

    async def _scan(self, wanted: Iterable[str], finished: dict[str, operations_pb2.Operation]) -> set[str]:
        """One cheap scan for what has ended, then one read of just that; returns what has not."""
        wanted = list(wanted)
        pending = await self._rows.unfinished(wanted)
        ended = [name for name in wanted if name not in pending]
        if ended:
            for operation in await self.read(ended):
                finished[operation.name] = operation
        return pending


async def _ask_each(
    wanted: Iterable[str], service: Service, answers: dict[str, operations_pb2.Operation | Exception]
) -> None:
    """Ask a remote service once for each operation, ``MAX_CALLS`` at a time.

    Args:
        wanted: Names; one that comes twice is asked for once.
        service: Who has them.
        answers: Gets each operation, or the failure of its call, as it comes: what there is stays if this is cancelled.
    """
    gate = asyncio.Semaphore(MAX_CALLS)

    async def ask(name: str) -> None:
        async with gate:
            try:
                answers[name] = await fetch(service, name)
            except OperationNotFoundError:
                answers[name] = missing(name)
            except Exception as exc:  # noqa: BLE001 (a service raises what it likes; whoever asked decides)
                answers[name] = exc

    await asyncio.gather(*(ask(name) for name in dict.fromkeys(wanted)))


def missing(name: str) -> operations_pb2.Operation:
    """What stands for a child that does not exist: done, with NOT_FOUND."""
    return operations_pb2.Operation(name=name, done=True, error=to_status(OperationNotFoundError(name)))


def _public(name: str, record: Record | None, now: float) -> operations_pb2.Operation:
    return missing(name) if record is None or record.hidden(now) else record.to_operation()
