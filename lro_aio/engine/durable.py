"""What straight code awaits of its operation; the base of ``Operation``."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast, overload

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import names
from lro_aio.core.data import ANY_RESPONSE, ResponseType, decode_response
from lro_aio.core.errors import WaitDeadlineExceededError
from lro_aio.core.kept import decode_value
from lro_aio.core.policies import Duration, RetryPolicy, seconds
from lro_aio.core.queues import Queue, check_key
from lro_aio.core.record import Record
from lro_aio.core.results import response_of
from lro_aio.core.webhooks import Webhook
from lro_aio.engine.children import missing
from lro_aio.engine.handlers import HandlerFunction
from lro_aio.engine.holding import Holding
from lro_aio.engine.straight import MAX_KEY, Message, Straight
from lro_aio.engine.suspension import Named, Suspended, check_children, moment

__all__ = ["Durable"]

T = TypeVar("T")
D = TypeVar("D")

_NO_DEFAULT: Any = object()


class Durable:
    """Steps and waits that outlive the process, for handlers without segments.

    Every one has a name that is stored. When the handler runs again, after a crash or a wait, it runs from the top, and
    what is stored under a name answers at once: so a handler may look at the clock or draw random numbers as it likes,
    and what it does outside of steps is done again.

    A wait holds its process for ``Client(linger=)`` seconds. If nothing but waits is left in the handler by then, its
    task is cancelled with ``CancelReason.SUSPENDED`` and the operation is suspended until one of them is over.
    """

    _hold: Holding

    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        *args: Any,
        key: str | int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        queue: Queue | None = None,
        queue_key: str | None = None,
        result_type: type[T],
    ) -> T: ...

    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., Awaitable[T]],
        *args: Any,
        key: str | int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        queue: Queue | None = None,
        queue_key: str | None = None,
        result_type: None = None,
    ) -> T: ...

    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., T],
        *args: Any,
        key: str | int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        queue: Queue | None = None,
        queue_key: str | None = None,
        result_type: None = None,
    ) -> T: ...

    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        *args: Any,
        key: str | int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        queue: Queue | None = None,
        queue_key: str | None = None,
        result_type: Any = None,
    ) -> Any:
        """Run a function once, and keep its result: a later run of the handler gets that.

        The function runs again only if its process died before the result was stored. What the caller gets is always
        what was stored, decoded. An exception that is not retried passes through and is not kept.

        A step that was begun is let end, and its result kept, also where a sibling's failure or a timeout of the
        caller's cancels the await.

        Args:
            name: Tells it from the other steps, over the whole operation.
            function: Async, or a plain function, which runs in a thread. It may not await steps or durable waits.
            *args: Its arguments.
            key: Tells steps of one name apart.
            retry: Which of its exceptions are tried again. ``RetryLater`` always is. A delay over ``Client(linger=)``
                is a durable wait, and the tries are counted on across crashes.
            timeout: Seconds or a timedelta for one try; then it raises TimeoutError. In a thread, it runs on.
            queue: Where each try waits for a place, durably; see ``Queue``. Its ``scope`` does not matter here.
            queue_key: Steps of one key share what the queue allows each key. 1 to 256 printable characters.
            result_type: What the result is read back as: a type that pydantic knows, or a protobuf message class. None:
                what the function's return annotation says, or plain JSON data.

        Raises:
            ValueError: The same name and key were used before in this run; ``queue_key`` is malformed or has no queue;
                or the queue is declared with other limits in this process.
            RuntimeError: Not in the operation's handler, in the function of a step, or the handler has ended.
            StateCodecError: The result cannot be stored, or not read as its type. It names the field.
            PayloadTooLargeError: Over ``Limits.step``, or the journal is over ``Limits.entries``.
            LeaseLostError: Another process has the operation. Nothing was stored.
            StoreSchemaError: The store keeps no journal, or no queues.
            StoreUnavailableError: The journal could not be read, and nothing ran. Unless it is caught, the handler runs
                again later. A result is stored however long the store is away.
        """
        names.check_given("step", name)
        limit = None if timeout is None else seconds(timeout, "timeout", positive=True)
        if queue_key is not None and check_key(queue_key) and queue is None:
            raise ValueError("queue_key needs a queue")
        identity, straight = _key(key), self._straight
        await straight.begin()
        return await straight.steps.run(
            straight.waits,
            name,
            function,
            args,
            key=identity,
            retry=retry,
            timeout=limit,
            queue=queue,
            queue_key=queue_key or "",
            result_type=result_type,
        )

    async def sleep(
        self, name: str, duration: Duration | None = None, *, until: datetime.datetime | float | None = None
    ) -> None:
        """Sleep durably. The end is stored: a later run sleeps for what is left.

        Args:
            name: Tells it from the other sleeps, over the whole operation.
            duration: Seconds or a timedelta.
            until: Instead: an aware datetime or epoch seconds. In the past: at once.

        Raises:
            ValueError: Neither or both are given, one is negative, naive or not finite, or the name was used before.
            RuntimeError: As ``step``.
        """
        names.check_given("sleep", name)
        if (duration is None) == (until is None):
            raise ValueError("give a duration or until")
        clock = self._hold.host.clock
        if until is not None:
            end = moment(until)
            await self._straight.sleep(name, lambda: end)
            return
        assert duration is not None
        length = seconds(duration, "duration")
        await self._straight.sleep(name, lambda: clock.time() + length)

    @overload
    async def receive(self, topic: str, type: type[T], *, timeout: Duration | None = None) -> T: ...

    @overload
    async def receive(
        self,
        topic: str,
        type: type[T],
        *,
        timeout: Duration | None = None,
        default: D,
    ) -> T | D: ...

    @overload
    async def receive(
        self,
        topic: str,
        type: None = None,
        *,
        timeout: Duration | None = None,
        default: Any = ...,
    ) -> Any: ...

    async def receive(
        self,
        topic: str,
        type: Any = None,  # noqa: A002 (the word for it)
        *,
        timeout: Duration | None = None,
        default: Any = _NO_DEFAULT,
    ) -> Any:
        """The next message of a topic, oldest first. Each is received once.

        A run after a crash receives the same again.

        Args:
            topic: As given to ``client.send``.
            type: What the payload is read as: a type that pydantic knows, or a protobuf message class. None: JSON data,
                or the message that was sent.
            timeout: Seconds or a timedelta, from the first time that it is awaited. One that timed out stays so in
                later runs; a message that comes late is for the next ``receive``.
            default: What to return at the timeout.

        Raises:
            WaitDeadlineExceededError: None came in time, and there is no default.
            StateCodecError: The payload is not of the type. It names the field, and the message is kept.
            ValueError: The topic is malformed, or the timeout negative.
            RuntimeError: As ``step``.
        """
        names.check_given("topic", topic)
        limit = None if timeout is None else seconds(timeout, "timeout")
        try:
            entry = await self._straight.receive(topic, limit)
        except WaitDeadlineExceededError:
            if default is _NO_DEFAULT:
                raise
            return default
        return decode_value(entry.payload, entry.codec, type)

    @overload
    async def call(
        self,
        handler: Callable[[Any], Awaitable[T | Suspended]],
        state: Any = None,
        *,
        key: str,
        response_type: None = None,
        timeout: Duration | None = None,
        webhook: Webhook | None = None,
    ) -> T: ...

    @overload
    async def call(
        self,
        handler: str | HandlerFunction,
        state: Any = None,
        *,
        key: str,
        response_type: type[T],
        timeout: Duration | None = None,
        webhook: Webhook | None = None,
    ) -> T: ...

    @overload
    async def call(
        self,
        handler: str,
        state: Any = None,
        *,
        key: str,
        response_type: None = None,
        timeout: Duration | None = None,
        webhook: Webhook | None = None,
    ) -> Any: ...

    async def call(
        self,
        handler: str | HandlerFunction,
        state: Any = None,
        *,
        key: str,
        response_type: Any = None,
        timeout: Duration | None = None,
        webhook: Webhook | None = None,
    ) -> Any:
        """Start a child operation, wait for its end durably, and return its result.

        ``asyncio.gather`` over many of them is a fan-out. A later run finds the same child by its key.

        Args:
            handler: Name or decorated function.
            state: Its initial state.
            key: Names the child among its siblings; the same in every run.
            response_type: A protobuf message class, or a type that pydantic can validate. None: what the handler
                declares.
            timeout: Seconds or a timedelta, from the first time that it is awaited. The child goes on.
            webhook: Who is told of the child's end, as in ``start_child``.

        Raises:
            OperationFailedError: The child failed, or was cancelled. One that was deleted is NOT_FOUND.
            WaitDeadlineExceededError: It did not end in time.
            OperationAlreadyExistsError: The key stands for a child with another handler.
            UnknownHandlerError: It is not registered.
            StateCodecError: The state cannot be encoded.
            ValueError: The webhook is not allowed.
            PayloadTooLargeError: What the handler waits for is over ``Limits.children``.
            RuntimeError: As ``step``.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        name, row = await self._straight.call(handler, state, key=key, timeout=limit, webhook=webhook)
        kind = response_type if response_type is not None else self._response_of(handler).kind
        return decode_response(response_of(self._ended(name, row)), kind)

    async def join(
        self, children: Sequence[str | Named], timeout: Duration | None = None
    ) -> list[operations_pb2.Operation]:
        """Wait durably until other operations of this client have ended, as ``wait`` does in this process.

        Args:
            children: Operations or their names.
            timeout: Seconds or a timedelta, from the first time that it is awaited.

        Returns:
            The operations, done, in the order given. One that failed is handed back, not raised; a missing one is done
            with NOT_FOUND.

        Raises:
            WaitDeadlineExceededError: The time is up; it carries the pending and the finished.
            ValueError: This operation is among them, or the timeout is negative.
            InvalidOperationNameError: A name is malformed.
            PayloadTooLargeError: What the handler waits for is over ``Limits.children``.
            RuntimeError: As ``step``.
        """
        wanted = check_children(self._hold.record.name, children, foreign=False)
        return await self._straight.join(wanted, None if timeout is None else seconds(timeout, "timeout"))

    def idempotency_key(self, name: str, key: str | int | None = None) -> str:
        """A key of this operation and a step, for the remote side: the same in every run, and of no other operation.

        Args:
            name: The step's.
            key: The step's, where it has one.
        """
        parts = [self._hold.record.uid or self._hold.record.name, name, *([] if key is None else [str(key)])]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    @property
    def messages(self) -> list[Message]:
        """All messages that had come when the handler was called, and since then as far as it has waited; oldest first.

        Raises:
            RuntimeError: Not in the operation's handler.
        """
        return self._straight.messages()

    @property
    def resources(self) -> Any:
        """What was given as ``Client(resources=)``: pools, HTTP clients.

        Raises:
            RuntimeError: Not in the operation's handler.
        """
        if not self._hold.in_handler:
            raise RuntimeError("resources are for the operation's handler")
        return self._hold.host.settings.resources

    @property
    def _straight(self) -> Straight:
        return cast("Straight", self._hold.straight)

    def _response_of(self, handler: str | HandlerFunction) -> ResponseType:
        """What operations of a handler end with."""
        known = self._hold.host.client.handlers.find(handler)
        return known.response if known is not None else ANY_RESPONSE

    def _ended(self, name: str, row: Record | None) -> operations_pb2.Operation:
        if row is None or row.hidden(self._hold.host.clock.time()):
            return missing(name)
        return row.to_operation()


def _key(key: str | int | None) -> str | None:
    """The key of a step as text, on one line."""
    if key is None:
        return None
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError(f"key must be a text or a whole number, not {type(key).__name__}")
    text = str(key)
    if not 0 < len(text) <= MAX_KEY or not text.isprintable():
        raise ValueError(f"key must be 1 to {MAX_KEY} printable characters, not {text[:MAX_KEY]!r}")
    return text
