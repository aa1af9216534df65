"""Where the operations are: a gRPC server, or a store that this process opens itself."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2

from lro_aio.cli.problems import CliError, Exit
from lro_aio.client import Client

__all__ = ["Backend", "open_server", "open_store"]

CALL_TIMEOUT = 15.0
"""Seconds that a server gets to answer one call."""
WAIT_SLICE = 30.0
"""Seconds of one WaitOperation call; a longer wait takes several."""
WATCH_INTERVAL = 0.5
"""Seconds between looks at a server."""
PATIENCE = 60.0
"""Seconds for which a server that has answered before may be away (a deploy, say) while something is waited for."""


class Backend(abc.ABC):
    """What the commands need. Errors are those of ``grpc.aio`` or of ``lro_aio``."""

    @abc.abstractmethod
    async def get(self, name: str) -> operations_pb2.Operation:
        """The operation as it is now."""

    @abc.abstractmethod
    async def page(self, filter_: str, parent: str, size: int, token: str) -> operations_pb2.ListOperationsResponse:
        """One page of a list."""

    @abc.abstractmethod
    async def wait(self, name: str, timeout: float | None) -> operations_pb2.Operation:
        """The operation at its end, or as it is at the timeout (seconds)."""

    @abc.abstractmethod
    def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        """The operation now, and as it changes, until it is done."""

    @abc.abstractmethod
    async def cancel(self, name: str) -> None:
        """Ask for a cancel."""

    @abc.abstractmethod
    async def delete(self, name: str) -> None:
        """Forget the operation."""


class _Server(Backend):
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]  # generated code

    async def get(self, name: str) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        operation: operations_pb2.Operation = await self._stub.GetOperation(request, timeout=CALL_TIMEOUT)
        return operation

    async def page(self, filter_: str, parent: str, size: int, token: str) -> operations_pb2.ListOperationsResponse:
        request = operations_pb2.ListOperationsRequest(
            name=parent or "operations", filter=filter_, page_size=size, page_token=token
        )
        page: operations_pb2.ListOperationsResponse = await self._stub.ListOperations(request, timeout=CALL_TIMEOUT)
        return page

    async def wait(self, name: str, timeout: float | None) -> operations_pb2.Operation:
        deadline = None if timeout is None else time.monotonic() + timeout
        patience = _Patience()
        latest = await self.get(name)
        while not latest.done:
            left = WAIT_SLICE if deadline is None else min(WAIT_SLICE, deadline - time.monotonic())
            if left <= 0:
                break
            asked = time.monotonic()
            try:
                latest = await self._wait_once(name, left)
                patience.answered()
            except grpc.aio.AioRpcError as exc:
                patience.refused(exc)
            if not latest.done:  # an early answer is allowed: it must not become a busy loop
                pause = asked + min(WATCH_INTERVAL, left) - time.monotonic()
                await asyncio.sleep(max(0.0, pause))
        return latest

    async def _wait_once(self, name: str, seconds: float) -> operations_pb2.Operation:
        duration = duration_pb2.Duration()
        duration.FromNanoseconds(int(seconds * 1e9))
        request = operations_pb2.WaitOperationRequest(name=name, timeout=duration)
        try:
            operation: operations_pb2.Operation = await self._stub.WaitOperation(
                request, timeout=seconds + CALL_TIMEOUT
            )
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.UNIMPLEMENTED:  # many services have no WaitOperation
                raise
            operation = await self.get(name)
        return operation

    async def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        latest = await self.get(name)
        yield latest
        patience = _Patience()
        while not latest.done:
            await asyncio.sleep(WATCH_INTERVAL)
            try:
                seen = await self.get(name)
                patience.answered()
            except grpc.aio.AioRpcError as exc:
                patience.refused(exc)
                continue
            if seen != latest:
                latest = seen
                yield latest

    async def cancel(self, name: str) -> None:
        await self._stub.CancelOperation(operations_pb2.CancelOperationRequest(name=name), timeout=CALL_TIMEOUT)

    async def delete(self, name: str) -> None:
        await self._stub.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name), timeout=CALL_TIMEOUT)


class _Patience:
    """Bears with a server that is away for a while."""

    def __init__(self) -> None:
        self._answered = time.monotonic()

    def answered(self) -> None:
        self._answered = time.monotonic()

    def refused(self, exc: grpc.aio.AioRpcError) -> None:
        """Return to try again.

        Raises:
            grpc.aio.AioRpcError: ``exc``: it is not about being away, or it has been going on for too long.
        """
        away = exc.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        if not away or time.monotonic() - self._answered > PATIENCE:
            raise exc


class _Store(Backend):
    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, name: str) -> operations_pb2.Operation:
        return await self._client.get_operation(name)

    async def page(self, filter_: str, parent: str, size: int, token: str) -> operations_pb2.ListOperationsResponse:
        return await self._client.list_operations(filter_, size, token, parent)

    async def wait(self, name: str, timeout: float | None) -> operations_pb2.Operation:
        return await self._client.wait_operation(name, timeout)

    def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        return self._client.watch(name)

    async def cancel(self, name: str) -> None:
        await self._client.cancel_operation(name)

    async def delete(self, name: str) -> None:
        await self._client.delete_operation(name)


@contextlib.asynccontextmanager
async def open_server(address: str) -> AsyncIterator[Backend]:
    """A server at ``HOST:PORT``, without TLS. Nothing is sent before the first call."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield _Server(channel)


@contextlib.asynccontextmanager
async def open_store(url: str, *, writes: bool) -> AsyncIterator[Backend]:
    """A store, with a client that runs nothing.

    Args:
        url: As for ``Client``.
        writes: False opens a SQLite file read-only, so that looking at it never changes its schema.

    Raises:
        CliError: The URL is malformed, or names nothing that exists.
        StoreSchemaError: It is not a store of ours.
        StoreUnavailableError: It does not answer.
    """
    url = _existing(url, writes=writes)
    try:
        client = Client(url, worker=False)
    except (ValueError, ImportError) as exc:
        raise CliError(str(exc), Exit.USAGE) from exc
    async with client:
        yield _Store(client)


def _existing(url: str, *, writes: bool) -> str:
    if not url.startswith("sqlite:"):
        return url
    from lro_aio.stores.sqlite.location import Location

    try:
        location = Location.parse(url)
    except ValueError as exc:
        raise CliError(str(exc), Exit.USAGE) from exc
    if location.path is None:
        raise CliError(f"{url} is memory of one process: there is nothing in it to look at", Exit.USAGE)
    if not Path(location.path).exists():
        raise CliError(f"the store {location.path} does not exist", Exit.UNAVAILABLE)
    if writes or location.read_only:
        return url
    return f"{url}{'&' if '?' in url else '?'}mode=ro"
