"""What the commands need of a server or a store, and the store that this process opens itself."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from google.longrunning import operations_pb2

from lro_aio.cli.problems import CliError, Exit
from lro_aio.cli.scheduled import ScheduleCalls, of_store
from lro_aio.client import Client
from lro_aio.core.bulk import BulkPreview
from lro_aio.core.description import Description
from lro_aio.core.errors import StateCodecError
from lro_aio.core.history import HistoryEntry
from lro_aio.core.names import MalformedIdError
from lro_aio.core.stats import Stats
from lro_aio.remote import tokens

if TYPE_CHECKING:
    from lro_aio.stores.sqlite.location import Location

__all__ = ["Backend", "BulkAction", "Page", "Row", "Waited", "file_of", "is_token", "open_client", "open_store"]

TOKEN_START = "eyJ2Ijo"
"""Of every rehydration token: a JSON object whose first member is its version. No id looks like this."""


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of a list."""

    operation: operations_pb2.Operation
    handler: str = ""
    """Name of the handler; "" where that is not known."""
    created: float | None = None
    """Epoch seconds of the start; None where that is not known."""
    paused: bool = False
    """Whether it is known to be paused."""


class Page(NamedTuple):
    """A part of a list."""

    rows: list[Row]
    token: str
    """Of the next page; "" after the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAction:
    """What is to be done to many operations."""

    verb: str
    """Of ``core.bulk.VERBS``."""
    filter: str
    parent: str
    reason: str
    per_second: float


class Waited(NamedTuple):
    """The outcome of a wait."""

    operation: operations_pb2.Operation
    problem: str = ""
    """How the last poll failed, if the time ran out and it did."""


class Backend(abc.ABC):
    """What the commands need. A rehydration token will do for a name.

    Errors are those of ``lro_aio``.
    """

    @abc.abstractmethod
    async def get(self, name: str) -> operations_pb2.Operation:
        """The operation as it is now."""

    @abc.abstractmethod
    async def page(self, filter_: str, parent: str, size: int, token: str) -> Page:
        """One page of a list; the parent "-" is every parent."""

    @abc.abstractmethod
    async def wait(self, name: str, timeout: float | None) -> Waited:
        """The operation at its end, or as it is at the timeout (seconds)."""

    @abc.abstractmethod
    def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        """The operation now, and as it changes, until it is done."""

    async def describe(self, name: str) -> Description | None:  # noqa: ARG002 (for those who can tell)
        """Everything about the operation; None where it is not told."""
        return None

    @abc.abstractmethod
    async def stats(self) -> Stats:
        """How it goes with all operations."""

    @abc.abstractmethod
    async def history(self, name: str) -> list[HistoryEntry]:
        """What happened to the operation, oldest first."""

    @abc.abstractmethod
    async def preview(self, action: BulkAction) -> BulkPreview:
        """What an action would act on."""

    @abc.abstractmethod
    async def act(self, action: BulkAction) -> operations_pb2.Operation:
        """Start an action on many operations; gives the operation that does it."""

    @abc.abstractmethod
    async def cancel(self, name: str, reason: str) -> None:
        """Ask for the operation to be cancelled."""

    @abc.abstractmethod
    async def send(self, name: str, topic: str, payload: Any, message_id: str | None) -> None:
        """Send the operation a message."""

    @abc.abstractmethod
    async def delete(self, name: str) -> None:
        """Forget the operation."""

    @abc.abstractmethod
    async def pause(self, name: str, reason: str) -> None:
        """Let no run of the operation begin."""

    @abc.abstractmethod
    async def unpause(self, name: str, reason: str) -> None:
        """Let a paused operation run again."""

    @abc.abstractmethod
    async def rerun(self, name: str, request_id: str) -> operations_pb2.Operation:
        """Run an operation that has ended once more; gives the new one."""

    @property
    def schedules(self) -> ScheduleCalls:
        """Its schedules."""
        problem = "services of this kind have no schedules: give --store URL, or --url http(s)://... in Google's style"
        raise CliError(problem, Exit.USAGE)

    async def replay_webhook(self, name: str) -> list[operations_pb2.Operation]:  # noqa: ARG002 (for those who can)
        """Tell the receivers of an operation of its end once more; gives the deliveries."""
        raise CliError("webhooks are sent again from a store: give --store URL", Exit.USAGE)


class _Store(Backend):
    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def schedules(self) -> ScheduleCalls:
        return of_store(self._client.schedules)

    async def get(self, name: str) -> operations_pb2.Operation:
        return await self._client.get_operation(_named(name))

    async def page(self, filter_: str, parent: str, size: int, token: str) -> Page:
        found = await self._client.server_host.page(filter=filter_, page_size=size, page_token=token, parent=parent)
        pairs = zip(found.response.operations, found.records, strict=True)
        rows = [Row(operation, record.handler, record.create_time, record.paused) for operation, record in pairs]
        return Page(rows, found.response.next_page_token)

    async def wait(self, name: str, timeout: float | None) -> Waited:
        return Waited(await self._client.wait_operation(_named(name), timeout))

    def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        return self._client.watch(_named(name))

    async def describe(self, name: str) -> Description | None:
        return await self._client.describe(_named(name))

    async def stats(self) -> Stats:
        return await self._client.stats()

    async def history(self, name: str) -> list[HistoryEntry]:
        return await self._client.history(_named(name))

    async def preview(self, action: BulkAction) -> BulkPreview:
        found = await self._bulk(action, force=False)
        assert isinstance(found, BulkPreview)
        return found

    async def act(self, action: BulkAction) -> operations_pb2.Operation:
        started = await self._bulk(action, force=True)
        proto: operations_pb2.Operation = started.proto
        return proto

    async def _bulk(self, action: BulkAction, *, force: bool) -> Any:
        act = getattr(self._client, f"{action.verb}_operations")
        try:
            return await act(
                action.filter, force=force, reason=action.reason, per_second=action.per_second, parent=action.parent
            )
        except ValueError as exc:
            raise CliError(str(exc), Exit.USAGE) from exc

    async def cancel(self, name: str, reason: str) -> None:
        await self._client.cancel_operation(_named(name), reason=reason)

    async def send(self, name: str, topic: str, payload: Any, message_id: str | None) -> None:
        try:
            await self._client.send(_named(name), topic, payload, message_id=message_id)
        except (MalformedIdError, StateCodecError) as exc:
            raise CliError(str(exc), Exit.USAGE) from exc

    async def delete(self, name: str) -> None:
        await self._client.delete_operation(_named(name))

    async def pause(self, name: str, reason: str) -> None:
        await self._client.pause_operation(_named(name), reason)

    async def unpause(self, name: str, reason: str) -> None:
        await self._client.unpause_operation(_named(name), reason)

    async def rerun(self, name: str, request_id: str) -> operations_pb2.Operation:
        return (await self._client.rerun_operation(_named(name), request_id=request_id)).proto

    async def replay_webhook(self, name: str) -> list[operations_pb2.Operation]:
        return [made.proto for made in await self._client.replay_webhook(_named(name))]


def is_token(text: str) -> bool:
    """Whether it is meant to be a rehydration token, and not a name."""
    return text.startswith(TOKEN_START) and "/" not in text


def _named(text: str) -> str:
    return tokens.decode(text).place.name if is_token(text) else text


@contextlib.asynccontextmanager
async def open_store(url: str, *, writes: bool) -> AsyncIterator[Backend]:
    """A store, with a client that runs nothing.

    Args:
        url: As for ``Client``.
        writes: False opens a SQLite file read-only, so that reading it never changes its schema.

    Raises:
        CliError: The URL is malformed, or there is no such store.
        StoreSchemaError: It is not a store of this package.
        StoreUnavailableError: It does not answer.
    """
    async with open_client(url, writes=writes) as client:
        yield _Store(client)


@contextlib.asynccontextmanager
async def open_client(url: str, *, writes: bool) -> AsyncIterator[Client]:
    """A client that runs nothing, over an existing store. Arguments and errors: as ``open_store``."""
    url = _existing(url, writes=writes)
    try:
        client = Client(url, worker=False)
    except (ValueError, ImportError) as exc:
        raise CliError(str(exc), Exit.USAGE) from exc
    async with client:
        yield client


def file_of(url: str) -> Location:
    """The file of a SQLite store.

    Raises:
        CliError: The URL is malformed, or names the memory of a process.
    """
    from lro_aio.stores.sqlite.location import Location

    try:
        location = Location.parse(url)
    except ValueError as exc:
        raise CliError(str(exc), Exit.USAGE) from exc
    if location.path is None:
        raise CliError(f"{url} is the memory of one process: nothing in it can be seen from here", Exit.USAGE)
    return location


def _existing(url: str, *, writes: bool) -> str:
    if url.startswith(("postgresql:", "postgres:")) and "migrate=" not in url:
        return f"{url}{'&' if '?' in url else '?'}migrate=0"  # a look at a database makes no tables in it
    if not url.startswith("sqlite:"):
        return url
    location = file_of(url)
    try:
        exists = Path(location.path or "").exists()
    except (OSError, ValueError) as exc:  # a directory that may not be read; a null character
        raise CliError(f"the store {location.path} cannot be opened: {exc}", Exit.UNAVAILABLE) from exc
    if not exists:
        raise CliError(f"the store {location.path} does not exist", Exit.UNAVAILABLE)
    if writes or location.read_only:
        return url
    return f"{url}{'&' if '?' in url else '?'}mode=ro"
