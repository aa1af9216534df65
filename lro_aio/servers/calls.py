"""The calls of ``google.longrunning.Operations``, with access control: gRPC and HTTP translate to them."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import duration_pb2

from lro_aio.client import Client
from lro_aio.core.bulk import FASTEST, SLOWEST, BulkPreview
from lro_aio.core.errors import StateCodecError
from lro_aio.core.names import collection
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.record import Record
from lro_aio.engine.listing import Page
from lro_aio.servers.errors import invalid, permission_denied, unimplemented
from lro_aio.servers.sending import parse_sent

__all__ = ["MAX_WAIT", "Authorize", "BulkRequest", "Calls"]

Authorize = Callable[[Any, str, str], bool | Awaitable[bool | None] | None]
"""``authorize(caller, verb, name)``, a plain function or a coroutine function.

``caller`` is the ``grpc.aio.ServicerContext`` or the ``fastapi.Request``. ``verb`` is "get", "list", "delete",
"cancel", "send", "wait" (for a watch too), "pause", "unpause" or "rerun". ``name`` is what the caller sent, unchecked;
for "list" it is the collection in its one spelling: ``operations``, ``{parent}/operations``, or ``-`` for every parent.
A verb over many operations is asked about twice, both times with the collection: may the caller "list" it, and do that?
HTTP asks about schedules too: "list_schedules" with the name "schedules", "get_schedule", "run_schedule",
"pause_schedule", "unpause_schedule", "backfill_schedule" and "delete_schedule" with ``schedules/{name}``.
It refuses the call by returning False or raising ``PermissionError``, and allows it by returning True or None.
"""

MAX_WAIT = 60.0
"""Seconds after which a Wait answers, whatever the caller asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRequest:
    """What a caller wants done to many operations."""

    filter: str = ""
    force: bool = False
    reason: str = ""
    per_second: float = 50.0
    request_id: str = ""


class Calls:
    """The service's calls. Call ``allow`` before each of them.

    Args:
        client: Opened and closed elsewhere.
        authorize: None lets every caller do everything.
        max_wait: Seconds or a timedelta after which ``wait`` answers in any case.
    """

    def __init__(self, client: Client, authorize: Authorize | None = None, max_wait: Duration = MAX_WAIT) -> None:
        if authorize is not None and not callable(authorize):
            raise TypeError(f"authorize must be callable, not {type(authorize).__name__}")
        self.client = client
        self._authorize = authorize
        self._max_wait = seconds(max_wait, "max_wait", positive=True)

    async def allow(self, caller: object, verb: str, name: str) -> None:
        """Ask ``authorize``. Comes first, before anything is validated or read (AIP-211).

        Raises:
            RequestError: PERMISSION_DENIED.
        """
        if self._authorize is None:
            return
        if verb == "list":
            name = collection(name)
        try:
            answer = self._authorize(caller, verb, name)
            if inspect.isawaitable(answer):
                answer = await answer
        except PermissionError as exc:
            raise permission_denied(name) from exc
        if answer is not None and not answer:
            raise permission_denied(name)

    async def get(self, name: str) -> operations_pb2.Operation:
        """As ``Client.get_operation``."""
        return await self.client.get_operation(name)

    async def record(self, name: str) -> Record:
        """The row of the operation, for a style that shows more of its state than ``done``. Raises as ``get``."""
        return await self.client.server_host.record(name)

    async def list(self, request: operations_pb2.ListOperationsRequest) -> operations_pb2.ListOperationsResponse:
        """As ``Client.list_operations``; ``request.name`` is the parent."""
        return (await self.page(request)).response

    async def page(self, request: operations_pb2.ListOperationsRequest) -> Page:
        """As ``list``, with the rows."""
        if getattr(request, "return_partial_success", False):  # older releases of the messages have no such field
            raise unimplemented("return_partial_success")
        if request.page_size < 0:
            raise invalid("page_size", f"must be 0 or more, not {request.page_size}")
        return await self.client.server_host.page(
            filter=request.filter, page_size=request.page_size, page_token=request.page_token, parent=request.name
        )

    async def delete(self, name: str) -> None:
        """As ``Client.delete_operation``."""
        await self.client.delete_operation(name)

    async def cancel(self, name: str, reason: str = "") -> None:
        """As ``Client.cancel_operation``."""
        await self.client.cancel_operation(name, reason=reason)

    async def send(self, name: str, body: bytes) -> None:
        """As ``Client.send``, with what a caller has sent as JSON."""
        sent = parse_sent(body)
        try:
            await self.client.send(name, sent.topic, sent.payload, message_id=sent.message_id)
        except StateCodecError as exc:  # JSON that cannot be stored is the caller's fault, and not the program's
            raise invalid("payload", "cannot be stored: it is nested too deeply, or its text is no Unicode") from exc

    async def pause(self, name: str, reason: str) -> None:
        """As ``Client.pause_operation``."""
        await self.client.pause_operation(name, reason)

    async def unpause(self, name: str, reason: str = "") -> None:
        """As ``Client.unpause_operation``."""
        await self.client.unpause_operation(name, reason)

    async def rerun(self, name: str, request_id: str | None) -> operations_pb2.Operation:
        """As ``Client.rerun_operation``."""
        return (await self.client.rerun_operation(name, request_id=request_id)).proto

    async def bulk(self, verb: str, parent: str, asked: BulkRequest) -> operations_pb2.Operation | BulkPreview:
        """As ``Client.cancel_operations`` and its neighbours.

        Args:
            verb: Of ``core.bulk.VERBS``.
            parent: The collection, as ``list`` takes it.
            asked: The rest.
        """
        if not SLOWEST <= asked.per_second <= FASTEST:
            raise invalid("per_second", f"must be from {SLOWEST:g} to {FASTEST:g}")
        act = getattr(self.client, f"{verb}_operations")
        found = await act(
            asked.filter,
            force=asked.force,
            reason=asked.reason,
            per_second=asked.per_second,
            parent=parent,
            request_id=asked.request_id or None,
        )
        return found if isinstance(found, BulkPreview) else cast("operations_pb2.Operation", found.proto)

    async def wait(
        self, request: operations_pb2.WaitOperationRequest, *, time_left: float | None = None
    ) -> operations_pb2.Operation:
        """The operation once it has ended, or its latest state when the time is up or the client drains.

        Args:
            request: Its timeout is in engine time.
            time_left: Real seconds until the caller gives up; the answer comes a little earlier.
        """
        timeout = self._max_wait
        if request.HasField("timeout"):
            timeout = min(timeout, _seconds(request.timeout))
        try:
            async with asyncio.timeout(None if time_left is None else time_left - min(1.0, time_left / 5)):
                return await self.client.wait_operation(request.name, timeout)
        except TimeoutError:
            return await self.client.get_operation(request.name)

    def watch(self, name: str) -> AsyncGenerator[operations_pb2.Operation, None]:
        """As ``Client.watch``. The caller must close it."""
        return cast("AsyncGenerator[operations_pb2.Operation, None]", self.client.watch(name))


def _seconds(timeout: duration_pb2.Duration) -> float:
    length = timeout.seconds + timeout.nanos / 1e9
    if timeout.seconds < 0 or not 0 <= timeout.nanos < 10**9 or not math.isfinite(length):
        raise invalid("timeout", "must be a duration of zero or more")
    return length
