"""Reading and awaiting other operations: the client's own through notices, those of remote services by polling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.call_failures import sentence
from lro_aio.core.errors import OperationNotFoundError, WaitDeadlineExceededError
from lro_aio.core.record import Record
from lro_aio.core.status import to_status
from lro_aio.engine.gateway import Gateway
from lro_aio.engine.notices import Notices
from lro_aio.engine.remote_polls import Service, as_service, cut_short, fetch, log_failed_poll, wait_operation
from lro_aio.engine.timing import sleep_until, timeout_at
from lro_aio.ports import Clock

__all__ = ["Children", "Service", "as_service", "fetch", "missing", "wait_operation"]

MAX_CALLS = 32
"""Calls to a remote service that are under way at a time."""


class Children:
    """Waits for operations on behalf of one engine."""

    def __init__(self, gateway: Gateway, notices: Notices, clock: Clock) -> None:
        self._gateway = gateway
        self._notices = notices
        self._clock = clock

    async def read(self, wanted: Sequence[str]) -> list[operations_pb2.Operation]:
        """The client's own operations, in the order asked for; a missing one is done with NOT_FOUND."""
        records = await self._gateway.read_many(dict.fromkeys(wanted))
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

    async def wait(
        self, wanted: Sequence[str], *, deadline: float | None, timeout: float, poll_interval: float
    ) -> list[operations_pb2.Operation]:
        """Wait until all of the client's own operations have ended.

        Raises:
            WaitDeadlineExceededError: ``deadline`` (epoch seconds) passed; ``timeout`` is for its sentence.
        """
        finished: dict[str, operations_pb2.Operation] = {}
        with self._notices.subscribe(dict.fromkeys(wanted)) as changes:
            pending = await self._look(dict.fromkeys(wanted), finished)
            while pending:
                now = self._clock.time()
                if deadline is not None and now >= deadline:
                    left = [name for name in wanted if name in pending]
                    raise WaitDeadlineExceededError(timeout, left, finished=tuple(finished.values()))
                until = deadline
                if self._gateway.store.foreign_poll_interval is None:  # no notice comes from other processes
                    until = now + poll_interval if deadline is None else min(deadline, now + poll_interval)
                await changes.wait(self._clock, until)
                changed, stale = changes.take()
                for name, record in changed.items():
                    if name in pending and (record is None or record.done):
                        finished[name] = _public(name, record, self._clock.time())
                        pending.discard(name)
                if stale or not changed:
                    pending = await self._look(pending, finished)
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
            now = self._clock.time()
            if deadline is not None and now >= deadline:
                failed = sentence(problem) if problem is not None else ""
                raise WaitDeadlineExceededError(
                    timeout, left, finished=tuple(finished.values()), problem=failed
                ) from problem
            until = now + poll_interval if deadline is None else min(deadline, now + poll_interval)
            await sleep_until(self._clock, until)

    async def _look(self, wanted: Iterable[str], finished: dict[str, operations_pb2.Operation]) -> set[str]:
        """One cheap scan for what has ended, then one read of just that; returns what has not."""
        wanted = list(wanted)
        pending = await self._gateway.call(self._gateway.store.unfinished, wanted)
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
