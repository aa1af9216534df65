"""The seam between a handle and a service: where an operation is, what an answer says of it, and how to ask."""

from __future__ import annotations

import abc
import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.rpc import status_pb2

from lro_aio.core.call_failures import sentence
from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError
from lro_aio.core.payloads import Payload, to_any
from lro_aio.core.policies import Duration, PollPolicy, RetryPolicy, seconds

__all__ = [
    "DEFAULT_POLL",
    "DEFAULT_RETRY",
    "CallOptions",
    "HasTransport",
    "Latest",
    "Metadata",
    "MetadataSource",
    "NotTheServiceError",
    "Place",
    "Reply",
    "Transport",
    "metadata_of",
]

Metadata = Mapping[str, str] | Sequence[tuple[str, str]]
"""gRPC metadata or HTTP headers of a call."""

MetadataSource = Metadata | Callable[[], Metadata | Awaitable[Metadata]]
"""The same, or a function, sync or async, that returns them for each call."""

DEFAULT_POLL = PollPolicy(interval=1.0, multiplier=1.2, max_interval=20.0, jitter=0.1)
"""How often to poll a service that has no long-polls."""

DEFAULT_RETRY = RetryPolicy(max_attempts=10, initial_delay=0.5, multiplier=2.0, max_delay=30.0, jitter=0.2)
"""How often one failed poll is repeated: for about two minutes in all."""


class NotTheServiceError(RemoteCallError):
    """Something other than the service has answered: a proxy in front of it, or a web site at a wrong address."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of one call."""

    timeout: float | None = None
    """Seconds; None takes the transport's."""
    metadata: tuple[tuple[str, str], ...] = ()
    on_answer: Callable[[Any], None] | None = None
    """Called with the answer as it came, also with one that is refused."""

    @classmethod
    def of(
        cls, timeout: Duration | None, metadata: Metadata | None, on_answer: Callable[[Any], None] | None = None
    ) -> CallOptions:
        """Options as users give them."""
        limit = None if timeout is None else seconds(timeout, "timeout", positive=True)
        return cls(limit, _pairs(metadata), on_answer)

    def answered(self, raw: Any) -> None:
        """Hand on an answer as it came."""
        if self.on_answer is not None:
            self.on_answer(raw)


async def metadata_of(source: MetadataSource, name: str, limit: float) -> tuple[tuple[str, str], ...]:
    """The metadata for the next call.

    Args:
        source: The metadata, or the caller's function for them.
        name: The operation.
        limit: Seconds that the function may take.

    Raises:
        RemoteCallError: The function failed or took too long. It is transient, as if the call itself had failed.
    """
    if not callable(source):
        return _pairs(source) if source else ()
    bound = asyncio.timeout(limit)
    try:
        async with bound:
            given = source()
            return _pairs(await given if inspect.isawaitable(given) else given)
    except Exception as exc:
        said = f"took longer than {limit:g} s" if bound.expired() else f"failed with {sentence(exc)}"
        problem = f"the function that returns headers or metadata {said}"
        raise RemoteCallError(name, problem, code=Code.UNAVAILABLE, transient=True) from exc


def _pairs(metadata: Metadata | None) -> tuple[tuple[str, str], ...]:
    pairs = tuple(metadata.items() if isinstance(metadata, Mapping) else metadata or ())
    for key, value in pairs:
        if not isinstance(key, str) or not isinstance(value, str | bytes):
            raise TypeError(f"the value of {key!r} must be text, not {type(value).__name__}")
    return pairs


@dataclass(frozen=True, slots=True)
class Place:
    """Where to ask for an operation. A rehydration token holds all of it."""

    name: str
    """Resource name; in Azure's style, the address that the service gave for it."""
    link: str = ""
    """Azure's style: the address to ask next, if it is not ``name``."""
    result: str = ""
    """Azure's style: where to get the result once the operation has succeeded."""
    step: str = ""
    """Azure's style: how to read the next answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one answer of a service says of an operation."""

    place: Place
    """Where to ask next."""
    raw: Any
    """The message or the HTTP response, as it came."""
    done: bool
    metadata: Payload | None = None
    response: Payload | None = None
    error: status_pb2.Status | None = None
    """Of a failed operation; None until it is done."""
    retry_after: float | None = None
    """Seconds after which the service wants to be asked again."""

    def to_operation(self) -> operations_pb2.Operation:
        """The same in the form of ``google.longrunning``."""
        operation = operations_pb2.Operation(name=self.place.name, done=self.done)
        if self.metadata is not None:
            operation.metadata.CopyFrom(to_any(self.metadata))
        if self.error is not None:
            operation.error.CopyFrom(self.error)
        elif self.response is not None:
            operation.response.CopyFrom(to_any(self.response))
        return operation


@dataclass(eq=False, slots=True)
class Latest:
    """What is known of one operation. The handle and the poller share it."""

    place: Place
    reply: Reply | None = None
    """None: the service has not told of it yet."""
    raw: Any = None
    """The last answer as it came, whatever it said."""
    seen: float = field(default_factory=time.monotonic)
    """When the last reply came: ``time.monotonic()``."""
    problem: Exception | None = None
    """How the last poll failed; None where it succeeded."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.reply is not None and self.reply.done

    def answered(self, raw: Any) -> None:
        """Keep an answer as it came, also one that is refused."""
        self.raw = raw

    def take(self, reply: Reply) -> None:
        """Learn from a reply. An end is final: a replica that lags behind does not take it back."""
        self.raw = reply.raw
        self.seen = time.monotonic()
        self.problem = None
        if self.place.step and self.reply is not None and reply.metadata is None:
            reply = replace(reply, metadata=self.reply.metadata)  # a bare result says nothing of the progress
        if not self.done:
            self.reply = reply
            self.place = reply.place


class Transport(abc.ABC):
    """How the operations of one service are asked for. Belongs to the event loop on which it is first awaited.

    ``fetch``, ``wait``, ``cancel`` and ``delete`` make exactly one request each.

    Args:
        address: Of the service; "" where it is not known.
        timeout: Seconds or a timedelta that one request may take.
        poll: How often handles poll, unless they say otherwise.
        retry: How often they repeat a failed poll. ``RetryPolicy.on`` may name further exceptions.
        max_calls: Polls under way at a time, of all handles together.
        max_waits: Long-polls open at a time. Operations beyond that are polled.
        long_polls: Whether the service has long-polls; None: not known yet.

    Raises:
        ValueError: A limit that is not a whole number of 1 or more.
    """

    kind: str
    """In tokens: which transport understands them."""

    def __init__(
        self,
        *,
        address: str = "",
        timeout: Duration = 15.0,
        poll: PollPolicy | None = None,
        retry: RetryPolicy | None = None,
        max_calls: int = 64,
        max_waits: int = 1000,
        long_polls: bool | None = None,
    ) -> None:
        for name, value in (("max_calls", max_calls), ("max_waits", max_waits)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}")
        self.address = address
        """Of the service, for tokens and for people; "" where it is not known."""
        self.timeout = seconds(timeout, "timeout", positive=True)
        self.poll = poll if poll is not None else DEFAULT_POLL
        self.retry = retry if retry is not None else DEFAULT_RETRY
        self.max_calls = max_calls
        self.max_waits = max_waits
        self.long_polls = long_polls
        """Whether the service has a call that answers when the operation ends. None: not known yet."""
        self.answered = False
        """Whether the service has answered a poll: its address is right, then."""
        self.poller: Any = None
        """The poller on the running event loop; see ``polling.poller_of``."""

    @abc.abstractmethod
    def place(self, name: str) -> Place:
        """Where to ask for the operation of this name.

        Raises:
            ValueError: No service of this kind can have such a name.
        """

    def check(self, place: Place) -> None:
        """Refuse a place from a token if this transport could not have made it.

        Raises:
            ValueError: It could not.
        """
        if place != self.place(place.name):
            raise ValueError("it has parts that such a service does not use")

    @abc.abstractmethod
    def started(self, answer: Any) -> Reply:
        """What the answer to the call that starts an operation says.

        Raises:
            TypeError: It is not what this transport's services answer with.
            RemoteProtocolError: It says nothing of an operation.
            RemoteCallError: It says that the call failed.
        """

    @abc.abstractmethod
    async def fetch(self, place: Place, options: CallOptions) -> Reply:
        """Ask once.

        Raises:
            OperationNotFoundError: The service does not have it.
            RemoteCallError: The call failed; ``transient`` says whether a repeat may succeed.
            RemoteProtocolError: The answer makes no sense.
        """

    async def wait(self, place: Place, length: float, options: CallOptions) -> Reply:  # noqa: ARG002
        """Ask once, and be answered when the operation has ended or after ``length`` seconds. Raises as ``fetch``.

        Only called where ``long_polls`` is not False. This one refuses; the service is then polled.
        """
        raise RemoteCallError(place.name, f"{type(self).__name__} has no long-polls", code=Code.UNIMPLEMENTED)

    @abc.abstractmethod
    async def cancel(self, place: Place, options: CallOptions) -> None:
        """Ask the service to cancel the operation. Raises as ``fetch``."""

    @abc.abstractmethod
    async def delete(self, place: Place, options: CallOptions) -> None:
        """Ask the service to forget the operation. Raises as ``fetch``."""

    async def send(self, place: Place, topic: str, payload: Any, message_id: str, options: CallOptions) -> None:  # noqa: ARG002
        """Send the operation a message. Raises as ``fetch``; UNIMPLEMENTED where there is no such call."""
        problem = f"{type(self).__name__} cannot send messages: Google's interface has no call for it"
        raise RemoteCallError(place.name, problem, code=Code.UNIMPLEMENTED)


class HasTransport(Protocol):
    """A service client: handles of its operations can be made with it."""

    @property
    def transport(self) -> Transport:
        """The transport of its handles."""
        ...
