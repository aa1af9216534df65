"""Services that ``lro`` calls: over gRPC, and over HTTP in Google's style and in Azure's."""

from __future__ import annotations

import abc
import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from lro_aio.cli.backends import Backend, BulkAction, Page, Row, Waited, is_token
from lro_aio.cli.problems import CliError, Exit
from lro_aio.cli.scheduled import ScheduleCalls, of_service
from lro_aio.core.bulk import BulkPreview
from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError, RemoteProtocolError, WaitDeadlineExceededError
from lro_aio.core.history import HistoryEntry
from lro_aio.core.names import ANY_PARENT
from lro_aio.core.policies import PollPolicy, RetryPolicy
from lro_aio.core.shown_progress import created_of
from lro_aio.core.stats import Count, Stats
from lro_aio.remote import RemoteOperation, Transport, tokens
from lro_aio.remote.grpc import GrpcTransport

if TYPE_CHECKING:
    import httpx

__all__ = ["Service", "address_in", "open_service"]

CALL_TIMEOUT = 15.0
"""Seconds that one call may take."""
WATCH = PollPolicy(interval=0.5, multiplier=1.0, max_interval=0.5, jitter=0.0)
"""How often to poll while somebody looks on."""
PATIENCE = RetryPolicy(max_attempts=24, initial_delay=0.5, multiplier=1.5, max_delay=3.0, jitter=0.1)
"""A service that has answered once may be away for about a minute during a wait, as in a deploy."""
LARGEST = 1 << 28
"""Bytes of a gRPC answer. The default, 4 MiB, is for servers that must bound what clients can make them keep."""

RESULT = "result"
"""The step of an operation in Azure's style whose result is elsewhere than in its status monitor."""
LIST_MEMBERS = {"operations", "nextPageToken", "unreachable"}
"""Of ``ListOperationsResponse``; an empty list has none."""
NO_WILDCARD = (Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.PERMISSION_DENIED)
"""What services without lists over every parent answer to such a request."""

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service is, and how it represents operations."""

    url: str
    """``grpc://``, ``grpcs://`` (with TLS), ``http://`` or ``https://``."""
    style: str = "google"
    """Over HTTP: "google" or "azure"."""
    headers: Pairs = ()
    """Sent with every call."""

    def __str__(self) -> str:
        return f"the server {self.url.removeprefix('grpc://')}"


def address_in(token: str) -> Service | None:
    """The service that a rehydration token is for, if the token says so."""
    found = tokens.decode(token)
    if found.kind not in ("http", "azure") or not found.address:
        return None
    return Service(found.address, "azure" if found.kind == "azure" else "google")


class _Service(Backend):
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, name: str) -> operations_pb2.Operation:
        return _proto(await self._poll(name))

    async def wait(self, name: str, timeout: float | None) -> Waited:
        handle = await self._poll(name)  # once, without patience: a service that was never there is told at once
        try:
            await handle.wait_for_completion(timeout=timeout)
        except WaitDeadlineExceededError as exc:
            return Waited(_proto(handle), exc.problem)
        return Waited(_proto(handle))

    async def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        handle = await self._poll(name)
        yield _proto(handle)
        async for _ in handle:
            yield _proto(handle)
        yield _proto(handle)

    async def stats(self) -> Stats:
        raise CliError("services do not tell how it goes with all operations: give --store URL", Exit.USAGE)

    async def history(self, _: str) -> list[HistoryEntry]:
        raise CliError("services do not tell what happened to an operation: give --store URL", Exit.USAGE)

    async def preview(self, action: BulkAction) -> BulkPreview:
        told = await self._many(action, force=False)
        if not isinstance(told, dict) or not isinstance(told.get("count"), int) or not isinstance(told["sample"], list):
            raise RemoteProtocolError(f"operations:{action.verb}", "its answer is not a count")
        count = Count(told["count"], more=told.get("more") is True)
        sample = tuple(str(name) for name in told["sample"])
        return BulkPreview(verb=action.verb, filter=action.filter, count=count, sample=sample)

    async def act(self, action: BulkAction) -> operations_pb2.Operation:
        made = await self._many(action, force=True)
        if not isinstance(made, dict):
            raise RemoteProtocolError(f"operations:{action.verb}", "its answer is not an operation")
        return self._transport.started(made).to_operation()

    async def _many(self, action: BulkAction, *, force: bool) -> Any:
        parent = "" if action.parent == "operations" else action.parent.removesuffix("/operations")
        body = {"filter": action.filter, "force": force, "reason": action.reason, "perSecond": action.per_second}
        return await self._control(f"{parent}/operations".lstrip("/"), action.verb, body)

    async def cancel(self, name: str, reason: str) -> None:
        if reason:
            await self._control(name, "cancel", {"reason": reason})
        else:
            await (await self._handle(name)).cancel()

    async def send(self, name: str, topic: str, payload: Any, message_id: str | None) -> None:
        await (await self._handle(name)).send(topic, payload, message_id=message_id)

    async def delete(self, name: str) -> None:
        await (await self._handle(name)).delete()

    async def pause(self, name: str, reason: str) -> None:
        await self._control(name, "pause", {"reason": reason} if reason else {})

    async def unpause(self, name: str, reason: str) -> None:
        await self._control(name, "unpause", {"reason": reason} if reason else {})

    async def rerun(self, name: str, request_id: str) -> operations_pb2.Operation:
        made = await self._control(name, "rerun", {"requestId": request_id} if request_id else {})
        if not isinstance(made, dict):
            raise RemoteProtocolError(name, "its answer is not an operation")
        return self._transport.started(made).to_operation()

    async def _control(self, _: str, verb: str, body: dict[str, Any]) -> Any:
        """Call a verb for operators; gives the JSON of the answer."""
        what = "reason for a cancel" if verb == "cancel" and "filter" not in body else repr(verb)
        many = " of many operations" if "filter" in body else ""
        raise CliError(
            f"services of this kind have no {what}{many}: give --store URL, or --url http(s)://... in Google's style",
            Exit.USAGE,
        )

    async def _handle(self, name: str) -> RemoteOperation[Any]:
        if is_token(name):
            return await RemoteOperation.rehydrate(self._transport, name)
        try:
            return RemoteOperation.from_name(self._transport, name)
        except ValueError as exc:
            raise CliError(str(exc), Exit.USAGE) from exc

    async def _poll(self, name: str) -> RemoteOperation[Any]:
        handle = await self._handle(name)
        if handle.raw_response is None:
            await handle.update_status()
        return handle


class _AzureService(_Service):
    async def _poll(self, name: str) -> RemoteOperation[Any]:
        handle = await super()._poll(name)
        if handle._latest.place.step == RESULT and not handle.has_completed:  # noqa: SLF001 (it has succeeded)
            await handle.update_status()
        return handle

    async def page(self, *_: str | int) -> Page:
        raise CliError("services in Azure's style have no common form of lists", Exit.USAGE)


class _ListingService(_Service):
    """A service with lists, though perhaps not over every parent."""

    _all_parents = True

    @abc.abstractmethod
    async def _list(
        self, collection: str, filter_: str, size: int, token: str
    ) -> operations_pb2.ListOperationsResponse:
        """One page of the operations below ``{parent}/operations``."""

    async def page(self, filter_: str, parent: str, size: int, token: str) -> Page:
        collection = parent.removesuffix("operations").rstrip("/")
        if parent == ANY_PARENT and not self._all_parents:
            collection = ""
        try:
            found = await self._list(f"{collection}/operations".lstrip("/"), filter_, size, token)
        except RemoteCallError as exc:
            if parent != ANY_PARENT or not self._all_parents or exc.code not in NO_WILDCARD:
                raise
            self._all_parents = False  # list the top level instead
            return await self.page(filter_, parent, size, token)
        rows = [Row(operation, created=created_of(operation)) for operation in found.operations]
        return Page(rows, found.next_page_token)


class _GrpcService(_ListingService):
    def __init__(self, transport: Transport, channel: grpc.aio.Channel, metadata: Pairs) -> None:
        super().__init__(transport)
        self._stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]  # generated code
        self._metadata = tuple(metadata)

    async def send(self, *_: Any) -> None:
        raise CliError("messages are sent over HTTP or to a store: give --url http(s):// or --store URL", Exit.USAGE)

    async def _list(
        self, collection: str, filter_: str, size: int, token: str
    ) -> operations_pb2.ListOperationsResponse:
        request = operations_pb2.ListOperationsRequest(
            name=collection, filter=filter_, page_size=size, page_token=token
        )
        try:
            page: operations_pb2.ListOperationsResponse | None = await self._stub.ListOperations(
                request, timeout=CALL_TIMEOUT, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as exc:
            problem = exc.details() or "it gave no reason"
            raise RemoteCallError(collection, problem, code=Code.of(exc.code().value[0])) from exc
        if page is None:
            raise RemoteProtocolError(collection, "its answer is not a list of operations")
        return page


class _GoogleHttpService(_ListingService):
    def __init__(self, transport: Transport, client: httpx.AsyncClient, service: Service) -> None:
        super().__init__(transport)
        self._client = client
        self._service = service

    async def _call(self, method: str, name: str, path: str, **options: Any) -> Any:
        """One request; gives the JSON of the answer."""
        import httpx

        from lro_aio.remote import answers, bodies

        url = f"{self._service.url.rstrip('/')}/v1/{path}"
        try:
            response = await bodies.request(
                self._client,
                method,
                httpx.URL(url),
                name=name,
                headers=[*bodies.ACCEPTED.items(), *self._service.headers],
                timeout=CALL_TIMEOUT,
                **options,
            )
        except httpx.RequestError as exc:
            raise answers.call_failed(exc, name) from exc
        except httpx.InvalidURL as exc:
            raise CliError(f"the filter does not fit into a URL: {exc}", Exit.USAGE) from exc
        if not response.is_success:
            raise answers.refused(response, name)
        return answers.json_of(response, name)

    @property
    def schedules(self) -> ScheduleCalls:
        return of_service(self._call, lambda told: self._transport.started(told).to_operation())

    async def _control(self, name: str, verb: str, body: dict[str, Any]) -> Any:
        named = tokens.decode(name).place.name if is_token(name) else name
        return await self._call("POST", named, f"{urllib.parse.quote(named)}:{verb}", json=body)

    async def _list(
        self, collection: str, filter_: str, size: int, token: str
    ) -> operations_pb2.ListOperationsResponse:
        params = {"filter": filter_, "pageSize": str(size), "pageToken": token}
        body = await self._call("GET", collection, urllib.parse.quote(collection), params=params)
        if not isinstance(body, dict) or (body and not body.keys() & LIST_MEMBERS):
            raise RemoteProtocolError(collection, "its JSON is not a list of operations")
        listed, next_token = body.get("operations") or [], body.get("nextPageToken") or ""
        if not (
            isinstance(listed, list) and all(isinstance(one, dict) for one in listed) and isinstance(next_token, str)
        ):
            raise RemoteProtocolError(collection, "its JSON is not a list of operations")
        found = [self._transport.started(operation).to_operation() for operation in listed]
        return operations_pb2.ListOperationsResponse(operations=found, next_page_token=next_token)


@contextlib.asynccontextmanager
async def open_service(service: Service) -> AsyncIterator[Backend]:
    """Open a service. Nothing is sent before the first call.

    Raises:
        CliError: The URL is malformed, or an extra is missing.
    """
    scheme, _, rest = service.url.partition("://")
    if scheme in ("grpc", "grpcs"):
        if not rest or "/" in rest:
            raise CliError(f"{service.url!r} is not {scheme}://HOST:PORT", Exit.USAGE)
        metadata = tuple((key.lower(), value) for key, value in service.headers)
        async with _channel(rest, tls=scheme == "grpcs") as channel:
            transport = GrpcTransport(channel, metadata=metadata, timeout=CALL_TIMEOUT, poll=WATCH, retry=PATIENCE)
            yield _GrpcService(transport, channel, metadata)
    elif scheme in ("http", "https"):
        try:
            import httpx

            from lro_aio.remote.http import HttpTransport
        except ModuleNotFoundError as exc:
            raise CliError(f"--url {scheme}:// needs {exc.name}: pip install 'lro-aio[cli,http]'", Exit.USAGE) from exc
        async with httpx.AsyncClient() as client:
            try:
                style: Any = service.style
                over_http = HttpTransport(
                    client, service.url, style=style, headers=service.headers, timeout=CALL_TIMEOUT, poll=WATCH,
                    retry=PATIENCE,
                )  # fmt: skip
            except ValueError as exc:
                raise CliError(str(exc).replace("base_url", "--url"), Exit.USAGE) from exc
            yield _GoogleHttpService(over_http, client, service) if style == "google" else _AzureService(over_http)
    else:
        raise CliError(f"{service.url!r} is not a URL of grpc, grpcs, http or https", Exit.USAGE)


def _channel(target: str, *, tls: bool) -> grpc.aio.Channel:
    options = [("grpc.max_receive_message_length", LARGEST)]
    if tls:
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.aio.insecure_channel(target, options)


def _proto(handle: RemoteOperation[Any]) -> operations_pb2.Operation:
    proto = handle.proto
    assert proto is not None, "it was polled"
    return proto
