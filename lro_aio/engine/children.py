"""Reading and awaiting other operations: the client's own through the feed, remote ones by polling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import names
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    LroError,
    OperationNotFoundError,
    SchedulerUnavailableError,
    StoreUnavailableError,
    WaitDeadlineExceededError,
    WorkerUnavailableError,
)
from lro_aio.core.policies import Duration, PollPolicy, seconds
from lro_aio.core.record import Record, Wait, Wake, WakeReason
from lro_aio.core.status import to_status
from lro_aio.engine.changes import Feed
from lro_aio.engine.rows import Rows
from lro_aio.engine.timing import SystemClock, sleep_for, timeout_at
from lro_aio.ports import Clock, GetOperationStub, OperationsService

__all__ = ["Children", "as_service", "fetch", "missing", "wait_operation"]

Service = OperationsService | GetOperationStub
MAX_CALLS = 32
"""Calls to a remote service that are under way at a time."""
RETRY_AFTER = 1.0
"""Seconds after which a remote service that did not answer is asked again."""
CALL_TIMEOUT = 30.0
"""Real seconds that one call to a remote service may take: a stub without a deadline of its own may hang for ever."""


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
        gate = asyncio.Semaphore(MAX_CALLS)

        async def one(name: str) -> operations_pb2.Operation:
            async with gate:
                try:
                    async with asyncio.timeout(CALL_TIMEOUT):
                        return await fetch(service, name)
                except OperationNotFoundError:
                    return missing(name)

        found: list[operations_pb2.Operation] = []
        results = await asyncio.gather(*(one(name) for name in wanted), return_exceptions=True)
        for name, result in zip(wanted, results, strict=True):
            if isinstance(result, Exception) and lenient:
                found.append(operations_pb2.Operation(name=name))
            elif isinstance(result, BaseException):
                raise result
            else:
                found.append(result)
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
        if wait.children and wait.sleep_until <= self._clock.time():
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
        self, wanted: Sequence[str], *, deadline: float | None, timeout: float, poll_interval: float
    ) -> list[operations_pb2.Operation]:
        """Wait until all of the client's own operations have ended.

        Raises:
            WaitDeadlineExceededError: ``deadline`` (monotonic seconds) passed; ``timeout`` is for its sentence.
        """
        finished: dict[str, operations_pb2.Operation] = {}
        with self._feed.subscribe(dict.fromkeys(wanted)) as changes:
            pending = await self._scan(dict.fromkeys(wanted), finished)
            while pending:
                if deadline is not None and self._clock.monotonic() >= deadline:
                    left = [name for name in wanted if name in pending]
                    raise WaitDeadlineExceededError(timeout, left, finished=tuple(finished.values()))
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
        """Poll another service until all operations have ended. A poll that fails is repeated until the deadline.

        Raises:
            WaitDeadlineExceededError: As ``wait``; its cause is the last failed poll, if any.
        """
        finished: dict[str, operations_pb2.Operation] = {}
        problem: Exception | None = None
        while True:
            pending = [name for name in dict.fromkeys(wanted) if name not in finished]
            try:
                async with timeout_at(self._clock, deadline):
                    seen = await self.read_foreign(pending, service)
            except Exception as exc:  # noqa: BLE001 (a foreign stub raises what it likes; the deadline bounds it)
                problem, seen = exc, []
            finished.update((name, operation) for name, operation in zip(pending, seen) if operation.done)
            if len(finished) == len(set(wanted)):
                return [finished[name] for name in wanted]
            now = self._clock.monotonic()
            if deadline is not None and now >= deadline:
                left = [name for name in pending if name not in finished]
                raise WaitDeadlineExceededError(timeout, left, finished=tuple(finished.values())) from problem
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


def as_service(service: object) -> Service:
    """Check that an object can be asked for operations.

    Raises:
        TypeError: It has neither ``get_operation`` nor ``GetOperation``.
    """
    if isinstance(service, OperationsService | GetOperationStub):
        return service
    raise TypeError(f"{type(service).__name__} has neither get_operation(name) nor a stub's GetOperation(request)")


async def fetch(service: Service, name: str) -> operations_pb2.Operation:
    """One operation of a service.

    Raises:
        OperationNotFoundError: The service answered NOT_FOUND.
        Exception: Whatever the service raised for anything else.
    """
    try:
        if isinstance(service, GetOperationStub):
            operation = await service.GetOperation(operations_pb2.GetOperationRequest(name=name))
        else:
            operation = await service.get_operation(name)
    except Exception as exc:  # every stub has its own NOT_FOUND; whatever is none is raised again
        if to_status(exc).code == Code.NOT_FOUND:
            raise OperationNotFoundError(name) from exc
        raise
    if not isinstance(operation, operations_pb2.Operation):
        raise TypeError(f"{type(service).__name__} answered with {type(operation).__name__}, not an Operation")
    return operation


def missing(name: str) -> operations_pb2.Operation:
    """What stands for a child that does not exist: done, with NOT_FOUND."""
    return operations_pb2.Operation(name=name, done=True, error=to_status(OperationNotFoundError(name)))


async def wait_operation(
    operation: str,
    service: Service,
    timeout: Duration = 77.0,
    *,
    poll: PollPolicy | None = None,
    clock: Clock | None = None,
) -> operations_pb2.Operation:
    """Wait for an operation of any service; raises when the time is up.

    The function of the Go package ``go.alis.build/lro``. ``Client.wait_operation`` is the RPC instead: at the timeout
    it returns the latest state.

    Args:
        operation: Resource name.
        service: An ``OperationsService``, or a gRPC stub with ``GetOperation(request)``. A ``Client`` is one.
        timeout: Seconds or a timedelta.
        poll: How often to look.
        clock: For tests.

    Returns:
        The operation, done. That it failed is for the caller to see.

    Raises:
        InvalidOperationNameError: Malformed name.
        OperationNotFoundError: The service does not have it.
        WaitDeadlineExceededError: The time is up; carries the operation as last seen.
    """
    names.parse(operation)
    limit = seconds(timeout, "timeout")
    clock = clock if clock is not None else SystemClock()
    policy = poll if poll is not None else PollPolicy()
    asked = as_service(service)
    deadline = clock.monotonic() + limit
    attempt = 0
    while True:
        latest = await fetch(asked, operation)
        if latest.done:
            return latest
        now = clock.monotonic()
        if now >= deadline:
            raise WaitDeadlineExceededError(limit, (operation,), operation=latest)
        await sleep_for(clock, min(deadline - now, policy.delay(attempt)))
        attempt += 1


def _public(name: str, record: Record | None, now: float) -> operations_pb2.Operation:
    return missing(name) if record is None or record.hidden(now) else record.to_operation()
