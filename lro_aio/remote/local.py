"""Operations of a client in this process, behind the same seam as those of a remote service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError, OperationNotFoundError, RemoteCallError, WorkerUnavailableError
from lro_aio.core.names import parse
from lro_aio.core.policies import Duration, PollPolicy, RetryPolicy
from lro_aio.remote.messages import reply_of
from lro_aio.remote.transport import CallOptions, Place, Reply, Transport

__all__ = ["LocalTransport"]

R = TypeVar("R")


class LocalHost(Protocol):
    """Whether the client takes no more work."""

    @property
    def draining(self) -> bool: ...


class LocalClient(Protocol):
    """The part of ``lro_aio.Client`` that the transport uses."""

    @property
    def server_host(self) -> LocalHost: ...

    async def get_operation(self, name: str) -> operations_pb2.Operation: ...

    async def wait_operation(self, name: str, timeout: float | None = None) -> operations_pb2.Operation: ...

    async def cancel_operation(self, name: str) -> None: ...

    async def delete_operation(self, name: str) -> None: ...

    async def send(self, name: str, topic: str, payload: Any = None, *, message_id: str | None = None) -> None: ...


class LocalTransport(Transport):
    """Asks a ``Client`` of this process, so that code that takes handles runs without a server, as in tests.

    Args:
        client: Open. It is not closed here.
        timeout: Real seconds or a timedelta that one call may take.
        poll: How often handles poll for changes; the client itself tells of ends.
        retry: How often they repeat a failed poll.
        max_calls: Polls under way at a time.
        max_waits: Handles that wait at a time without polling.
    """

    kind = "local"

    def __init__(
        self,
        client: LocalClient,
        *,
        timeout: Duration = 15.0,
        poll: PollPolicy | None = None,
        retry: RetryPolicy | None = None,
        max_calls: int = 64,
        max_waits: int = 100_000,
    ) -> None:
        super().__init__(
            timeout=timeout, poll=poll, retry=retry, max_calls=max_calls, max_waits=max_waits, long_polls=True
        )
        self._client = client

    def place(self, name: str) -> Place:
        """A resource name of the client's."""
        try:
            return Place(str(parse(name)))
        except LroError as exc:
            raise ValueError(str(exc)) from exc

    def started(self, answer: Any) -> Reply:
        """What ``client.start`` or ``client.get_operation`` returned."""
        return reply_of(getattr(answer, "proto", answer))

    async def fetch(self, place: Place, options: CallOptions) -> Reply:
        """``client.get_operation``."""
        return reply_of(await self._call(self._client.get_operation(place.name), place, options), place)

    async def wait(self, place: Place, length: float, options: CallOptions) -> Reply:  # noqa: ARG002 (no call to bound)
        """``client.wait_operation``; it ends for good when the client drains."""
        reply = reply_of(await _translated(self._client.wait_operation(place.name, length), place), place)
        if not reply.done and self._client.server_host.draining:
            raise WorkerUnavailableError("the client is closing; the operation goes on")
        return reply

    async def cancel(self, place: Place, options: CallOptions) -> None:
        """``client.cancel_operation``."""
        await self._call(self._client.cancel_operation(place.name), place, options)

    async def delete(self, place: Place, options: CallOptions) -> None:
        """``client.delete_operation``."""
        await self._call(self._client.delete_operation(place.name), place, options)

    async def send(self, place: Place, topic: str, payload: Any, message_id: str, options: CallOptions) -> None:
        """``client.send``."""
        call = self._client.send(place.name, topic, payload, message_id=message_id)
        await self._call(call, place, options)

    async def _call(self, call: Awaitable[R], place: Place, options: CallOptions) -> R:
        limit = options.timeout or self.timeout
        try:
            async with asyncio.timeout(limit):
                return await _translated(call, place)
        except TimeoutError as exc:
            problem = f"no answer within {limit:g} s"
            raise RemoteCallError(place.name, problem, code=Code.DEADLINE_EXCEEDED, transient=True) from exc


async def _translated(call: Awaitable[R], place: Place) -> R:
    try:
        return await call
    except OperationNotFoundError:
        raise
    except LroError as exc:
        raise RemoteCallError(
            place.name,
            str(exc) if exc.withholds else exc.message,
            code=exc.code,
            transient=exc.code is Code.UNAVAILABLE,
            retry_after=exc.retry_after,
        ) from exc
