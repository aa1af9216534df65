"""``RemoteOperation``: the caller's handle of one operation of any service."""

from __future__ import annotations

import asyncio
import typing
from collections.abc import AsyncGenerator, Generator
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.empty_pb2 import Empty

from lro_aio.core.call_failures import is_transient, sentence
from lro_aio.core.errors import LroError, OperationNotDoneError, RemoteProtocolError, WaitDeadlineExceededError
from lro_aio.core.names import new_id
from lro_aio.core.payloads import decode, may_be_none, type_name
from lro_aio.core.policies import Duration, PollPolicy, RetryPolicy, seconds
from lro_aio.core.status import from_status
from lro_aio.remote import tokens
from lro_aio.remote.polling import poller_of
from lro_aio.remote.transport import CallOptions, HasTransport, Latest, Metadata, Transport

__all__ = ["RemoteOperation"]

T = TypeVar("T")

ONE_POLL = 2.0
"""Seconds that the poll of a wait with ``timeout=0`` may take."""


class RemoteOperation(Generic[T]):
    """A long-running operation of a service that speaks google.longrunning, over gRPC or HTTP, or the Azure style.

    ::

        handle = RemoteOperation(transport, await stub.CreateReport(request), response_type=Report)
        report = await handle

    ``await handle`` waits for the end and returns the value. ``async for metadata in handle`` yields the progress until
    the end. The properties do no I/O: they tell what the last answer said. Cancelling a task that waits stops the wait
    and not the work; ``await handle.cancel()`` asks the service to stop the work.

    A service client may subclass it. The type argument is then the response type. ::

        class CreateReportOperation(RemoteOperation[Report]):
            metadata_type = ReportProgress

    Args:
        transport: How to ask the service, or a service client that has a transport as ``transport``.
        started: The answer to the call that started the operation: an ``Operation``, or an ``httpx.Response``.
        response_type: A protobuf message class, or any type that pydantic can validate, for JSON. None: the class's,
            else the type that the service names.
        metadata_type: As ``response_type``, for the metadata.
        poll: How often to poll; None takes the transport's.
        retry: How often to repeat a failed poll; None takes the transport's.

    Raises:
        TypeError: ``started`` is not what such a service answers with.
        RemoteProtocolError: It says nothing of an operation.
        RemoteCallError: It says that the start failed.
    """

    response_type: ClassVar[Any] = None
    """Set by a subclass whose response type is not its type argument."""
    metadata_type: ClassVar[Any] = None
    """Set by a subclass."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "response_type" in vars(cls):
            return
        for base in vars(cls).get("__orig_bases__", ()):
            origin, arguments = typing.get_origin(base), typing.get_args(base)
            known = isinstance(origin, type) and issubclass(origin, RemoteOperation)
            if known and arguments and not isinstance(arguments[0], TypeVar | str | typing.ForwardRef):
                cls.response_type = arguments[0]

    def __init__(
        self,
        transport: Transport | HasTransport,
        started: Any,
        *,
        response_type: type[T] | None = None,
        metadata_type: type[Any] | None = None,
        poll: PollPolicy | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        asked = _transport(transport)
        reply = asked.started(started)
        latest = Latest(reply.place)
        latest.take(reply)
        self._set(asked, latest, response_type, metadata_type, poll, retry)

    @classmethod
    def from_name(
        cls,
        transport: Transport | HasTransport,
        name: str,
        *,
        response_type: type[T] | None = None,
        metadata_type: type[Any] | None = None,
        poll: PollPolicy | None = None,
        retry: RetryPolicy | None = None,
    ) -> Self:
        """A handle of an operation whose name is known. No I/O: nothing is known of it before the first poll.

        Args:
            transport: As in the class.
            name: Resource name; in Azure's style, the address of its status monitor.
            response_type: As in the class.
            metadata_type: As in the class.
            poll: As in the class.
            retry: As in the class.

        Raises:
            ValueError: No such service can have an operation of that name.
        """
        asked = _transport(transport)
        handle = cls.__new__(cls)
        RemoteOperation._set(handle, asked, Latest(asked.place(name)), response_type, metadata_type, poll, retry)
        return handle

    @classmethod
    async def rehydrate(
        cls,
        transport: Transport | HasTransport,
        token: str,
        *,
        response_type: type[T] | None = None,
        metadata_type: type[Any] | None = None,
        poll: PollPolicy | None = None,
        retry: RetryPolicy | None = None,
    ) -> Self:
        """Come back to an operation by its ``rehydration_token``. Polls it once.

        Args:
            transport: As in the class, for the same service.
            token: Made by any process, of this release or an earlier one.
            response_type: As in the class.
            metadata_type: As in the class.
            poll: As in the class.
            retry: As in the class.

        Raises:
            InvalidTokenError: It is not a token, was altered, or is for another service or kind of transport.
            OperationNotFoundError: The service no longer has the operation.
            RemoteCallError: The poll failed.
        """
        asked = _transport(transport)
        handle = cls.__new__(cls)
        latest = Latest(tokens.place_of(token, asked))
        RemoteOperation._set(handle, asked, latest, response_type, metadata_type, poll, retry)
        await handle.update_status()
        return handle

    def _set(
        self,
        transport: Transport,
        latest: Latest,
        response_type: Any,
        metadata_type: Any,
        poll: PollPolicy | None,
        retry: RetryPolicy | None,
    ) -> None:
        self._transport = transport
        self._latest = latest
        self._response_type = response_type if response_type is not None else self.response_type
        self._metadata_type = metadata_type if metadata_type is not None else self.metadata_type
        self._poll = poll
        self._retry = retry

    @property
    def name(self) -> str:
        """Resource name; in Azure's style, the address of the status monitor."""
        return self._latest.place.name

    @property
    def is_done(self) -> bool:
        """Whether the operation had ended when last seen, in success or failure. No I/O."""
        return self._latest.done

    @property
    def has_completed(self) -> bool:
        """The same as ``is_done``."""
        return self.is_done

    @property
    def value(self) -> T:
        """The response of the ended operation.

        Raises:
            OperationNotDoneError: It has not ended, as far as is known.
            OperationFailedError: It failed; ``lro_aio.failures`` has a subclass for each code.
            OperationCancelledError: It was cancelled.
            TypeError: The response is of another type.
            RemoteProtocolError: A ``response_type`` is declared, and the service gave no response. An ``Empty`` needs
                none.
        """
        reply = self._latest.reply
        if reply is None or not reply.done:
            raise OperationNotDoneError(self.name)
        if reply.error is not None:
            raise from_status(reply.error, name=self.name)
        if reply.response is not None:
            return cast("T", decode(reply.response, self._response_type))
        if may_be_none(self._response_type):
            return cast("T", None)
        if self._response_type is Empty:  # neither a response nor an error
            return cast("T", Empty())
        expected = type_name(self._response_type)
        raise RemoteProtocolError(
            self.name, f"the operation has ended without a response, where {expected} was expected"
        )

    @property
    def metadata(self) -> Any:
        """What the service last said of the progress; None if it said nothing.

        Raises:
            TypeError: A ``metadata_type`` is declared, and the metadata is of another type.
        """
        reply = self._latest.reply
        return None if reply is None or reply.metadata is None else decode(reply.metadata, self._metadata_type)

    @property
    def proto(self) -> operations_pb2.Operation | None:
        """What the service last said, in the form of ``google.longrunning``, in any style. None before that."""
        reply = self._latest.reply
        return None if reply is None else reply.to_operation()

    @property
    def raw_response(self) -> Any:
        """The last answer as it came: an ``Operation``, or an ``httpx.Response``, of any status. None before."""
        return self._latest.raw

    @property
    def rehydration_token(self) -> str | None:
        """Text with which any process can come back to the operation: see ``rehydrate``.

        URL-safe, under 1 KB, without credentials. None if there is nothing to come back to, since the service answered
        the start with the result, or if the operation's address would itself be a credential, such as a signed URL.
        """
        return tokens.encode(self._transport, self._latest.place) if self.name else None

    async def refresh(self) -> None:
        """Poll once: what the properties tell is then new. Raises as ``update_status``."""
        await self.update_status()

    async def update_status(self, *, timeout: Duration | None = None, metadata: Metadata | None = None) -> Any:
        """Poll once: exactly one request, which is not repeated if it fails.

        Args:
            timeout: Seconds or a timedelta that the request may take.
            metadata: gRPC metadata or HTTP headers, besides the transport's.

        Returns:
            The answer as it came: what ``raw_response`` is now.

        Raises:
            OperationNotFoundError: The service does not have it.
            RemoteCallError: The call failed; ``transient`` tells whether a repeat may succeed.
            RemoteProtocolError: The answer makes no sense.
        """
        latest = self._latest
        try:
            reply = await self._transport.fetch(latest.place, CallOptions.of(timeout, metadata, latest.answered))
        except LroError as exc:
            latest.problem = exc
            raise
        self._transport.answered = True
        latest.take(reply)
        return reply.raw

    async def wait_for_completion(
        self, polling_interval: Duration | None = None, timeout: Duration | None = None
    ) -> None:
        """Wait until the operation has ended, in success or failure. Failed polls are repeated as ``retry`` says.

        Args:
            polling_interval: Seconds or a timedelta between polls, instead of ``poll``. The service is then polled even
                if it has long-polls. Its own Retry-After still wins.
            timeout: Seconds or a timedelta; None waits for as long as it takes. There is a last poll shortly before the
                end, also if Retry-After is longer. 0 polls once.

        Raises:
            WaitDeadlineExceededError: The time is up; has the last state and the token, and in its text and its
                ``__cause__`` the last poll if that failed. The work goes on.
            OperationNotFoundError: The service does not have it.
            RemoteCallError: A poll failed for good, or more often than ``retry`` allows.
            RemoteProtocolError: An answer makes no sense.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        poll = self._poll
        if polling_interval is not None:
            length = seconds(polling_interval, "polling_interval", positive=True)
            poll = PollPolicy(interval=length, multiplier=1.0, max_interval=length, jitter=0.0)
        if self.has_completed:
            return
        if limit == 0:
            await self._poll_once()
            return
        deadline = None if limit is None else asyncio.get_running_loop().time() + limit
        time_left = asyncio.timeout_at(deadline)
        future = self.watch(poll, polls=polling_interval is not None, timeout=limit)
        try:
            async with time_left:
                while not self.has_completed:  # a future that polls is done at each change
                    await future
                    if not self.has_completed:
                        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
                        future = self.watch(poll, polls=True, timeout=left)
        except TimeoutError:
            if limit is None or not time_left.expired():  # raised by a function of the caller's own
                raise
            if not self.has_completed:
                failure = self._last_failure()
                raise self._deadline_error(limit, failure) from failure
        finally:
            future.cancel()

    async def _poll_once(self) -> None:
        try:
            await self.update_status(timeout=min(ONE_POLL, self._transport.timeout))
        except LroError as exc:
            if not is_transient(exc):
                raise
        if not self.has_completed:
            failure = self._last_failure()
            raise self._deadline_error(0.0, failure) from failure

    def watch(
        self, poll: PollPolicy | None = None, *, polls: bool = False, timeout: float | None = None
    ) -> asyncio.Future[None]:
        """A future for the end, or with ``polls`` for the next change; for ``gather`` and the like.

        It holds no result. Cancel it to stop polling. ``poll`` is taken instead of the handle's. Nothing happens after
        ``timeout`` seconds, but there is a last poll shortly before.
        """
        transport = self._transport
        return poller_of(transport).watch(
            self._latest,
            poll or self._poll or transport.poll,
            self._retry or transport.retry,
            polls=polls,
            timeout=timeout,
        )

    def _last_failure(self) -> Exception | None:
        return poller_of(self._transport).failure_of(self._latest)

    def _deadline_error(self, limit: float, failure: Exception | None) -> WaitDeadlineExceededError:
        return WaitDeadlineExceededError(
            limit,
            (self.name,),
            operation=self.proto,
            problem="" if failure is None else sentence(failure),
            rehydration_token=self.rehydration_token,
        )

    def __await__(self) -> Generator[Any, None, T]:
        yield from self.wait_for_completion().__await__()
        return self.value

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        """Yield the metadata now and whenever it has changed, until the operation has ended, in success or failure.

        Some changes may be skipped. Raises as ``wait_for_completion``, and as ``metadata``.
        """
        told = None
        while True:
            reply = self._latest.reply
            if reply is not None and reply.metadata is not None and reply.metadata != told:
                told = reply.metadata
                yield self.metadata
                continue  # the caller took its time: there may be news
            if self.has_completed:
                return
            future = self.watch(polls=True)
            try:
                await future
            finally:
                future.cancel()

    async def cancel(self, *, timeout: Duration | None = None, metadata: Metadata | None = None) -> None:
        """Ask the service to stop the work: one request. The operation may still end otherwise; wait to see.

        Args:
            timeout: Seconds or a timedelta that the request may take.
            metadata: gRPC metadata or HTTP headers, besides the transport's.

        Raises:
            OperationNotFoundError: The service does not have it.
            RemoteCallError: The call failed; UNIMPLEMENTED where the service cannot cancel.
        """
        await self._transport.cancel(self._latest.place, CallOptions.of(timeout, metadata))

    async def delete(self, *, timeout: Duration | None = None, metadata: Metadata | None = None) -> None:
        """Ask the service to forget the operation: one request. It does not stop the work. Otherwise: as ``cancel``."""
        await self._transport.delete(self._latest.place, CallOptions.of(timeout, metadata))

    async def send(
        self,
        topic: str,
        payload: Any = None,
        *,
        message_id: str | None = None,
        timeout: Duration | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        """Send the operation a message, as ``Client.send``: one request to a service of this package, over HTTP.

        Args:
            topic: What the handler gives to ``op.receive``.
            payload: JSON data.
            message_id: A message of the same topic with the same id is there once. None: one that is drawn here.
            timeout: Seconds or a timedelta that the request may take.
            metadata: HTTP headers, besides the transport's.

        Raises:
            OperationNotFoundError: The service does not have it.
            RemoteCallError: The call failed: FAILED_PRECONDITION where the operation has ended, UNIMPLEMENTED over
                gRPC.
            TypeError: The payload is not JSON data.
            ValueError: The payload has a number that JSON does not have, or a text that is no Unicode.
        """
        identity = new_id() if message_id is None else message_id
        await self._transport.send(self._latest.place, topic, payload, identity, CallOptions.of(timeout, metadata))

    def __repr__(self) -> str:
        state = "unknown" if self._latest.reply is None else "ended" if self.has_completed else "running"
        return f"<{type(self).__name__} {self.name!r}: {state}>"


def _transport(given: Transport | HasTransport) -> Transport:
    found = given if isinstance(given, Transport) else getattr(given, "transport", None)
    if not isinstance(found, Transport):
        raise TypeError(f"{type(given).__name__} is not a Transport of lro_aio.remote, and has none as .transport")
    return found
