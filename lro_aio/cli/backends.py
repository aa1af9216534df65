"""What the commands need of the place where the operations are, and the store that this process opens itself."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from google.longrunning import operations_pb2

from lro_aio.cli.problems import CliError, Exit
from lro_aio.client import Client
from lro_aio.remote import tokens

__all__ = ["Backend", "is_token", "open_store"]

TOKEN_START = "eyJ2Ijo"
"""Of every rehydration token: a JSON object whose first member is its version. Ids of operations do not look so."""


class Backend(abc.ABC):
    """What the commands need. Where a name is asked for, a rehydration token will do.

    Errors are those of ``lro_aio``, and of ``grpc.aio`` or httpx where lists are read.
    """

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


class _Store(Backend):
    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, name: str) -> operations_pb2.Operation:
        return await self._client.get_operation(_named(name))

    async def page(self, filter_: str, parent: str, size: int, token: str) -> operations_pb2.ListOperationsResponse:
        return await self._client.list_operations(filter_, size, token, parent)

    async def wait(self, name: str, timeout: float | None) -> operations_pb2.Operation:
        return await self._client.wait_operation(_named(name), timeout)

    def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        return self._client.watch(_named(name))

    async def cancel(self, name: str) -> None:
        await self._client.cancel_operation(_named(name))

    async def delete(self, name: str) -> None:
        await self._client.delete_operation(_named(name))


def is_token(text: str) -> bool:
    """Whether it is meant to be a rehydration token, and no name."""
    return text.startswith(TOKEN_START) and "/" not in text


def _named(text: str) -> str:
    return tokens.decode(text).place.name if is_token(text) else text


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
