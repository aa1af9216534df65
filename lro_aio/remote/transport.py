"""The seam between a handle and a service: where an operation is, what one answer says of it, how to ask."""

from __future__ import annotations

import abc
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.errors import RemoteCallError
from lro_aio.core.policies import Duration, PollPolicy, RetryPolicy, seconds
from lro_aio.remote.payloads import Payload, to_any

__all__ = [
    "DEFAULT_POLL",
    "DEFAULT_RETRY",
    "CallOptions",
    "HasTransport",
    "Latest",
    "Metadata",
    "MetadataSource",
    "Place",
    "Reply",
    "Transport",
    "metadata_of",
]

Metadata = Mapping[str, str] | Sequence[tuple[str, str]]
"""gRPC metadata or HTTP headers of a call."""

MetadataSource = Metadata | Callable[[], Metadata | Awaitable[Metadata]]
"""The same, or a function that gives them for each call."""

DEFAULT_POLL = PollPolicy(interval=1.0, multiplier=1.2, max_interval=20.0, jitter=0.1)
"""How often to look where the service cannot tell of an end by itself."""

DEFAULT_RETRY = RetryPolicy(max_attempts=10, initial_delay=0.5, multiplier=2.0, max_delay=30.0, jitter=0.2)
"""How often one look that fails is repeated: for about two minutes."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Of one call."""

    timeout: float | None = None
    """Seconds; None takes the transport's."""
    metadata: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, timeout: Duration | None, metadata: Metadata | None) -> CallOptions:
        """Options as users give them."""
        pairs = metadata.items() if isinstance(metadata, Mapping) else metadata or ()
        return cls(None if timeout is None else seconds(timeout, "timeout", positive=True), tuple(pairs))


async def metadata_of(source: MetadataSource) -> tuple[tuple[str, str], ...]:
    """What a source gives for the next call."""
    given = source() if callable(source) else source
    if inspect.isawaitable(given):
        given = await given
    return CallOptions.of(None, given).metadata


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation is asked for. All of it stands in a rehydration token."""

    name: str
    """Resource name; in the Azure style, the address that the service gave for it."""
    link: str = ""
    """Azure style: what to ask next, where that is not ``name``."""
    result: str = ""
    """Azure style: where the result is to be had once the operation has succeeded."""
    step: str = ""
    """Azure style: how to read the next answer."""


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
    """Of a failed operation; only where it is done."""
    retry_after: float | None = None
    """Seconds after which the service wants to be asked again."""

    def to_operation(self) -> operations_pb2.Operation:
        """The same as ``google.longrunning`` has it."""
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
    """What is known of one operation; shared by its handle and those who look for it."""

    place: Place
    reply: Reply | None = None
    """None: nothing was ever asked."""
    raw: Any = None
    """Of the last answer, whatever it said."""
    seen: float = field(default_factory=time.monotonic)
    """When the last answer came: ``time.monotonic()``."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.reply is not None and self.reply.done

    def take(self, reply: Reply) -> None:
        """Learn from an answer. An end is final: a replica that is behind does not take it back."""
        self.raw = reply.raw
        self.seen = time.monotonic()
        if self.place.step and self.reply is not None and reply.metadata is None:
            reply = replace(reply, metadata=self.reply.metadata)  # a result by itself says nothing of the progress
        if not self.done:
            self.reply = reply
            self.place = reply.place


class Transport(abc.ABC):
    """How operations of one service are asked for. Belongs to the event loop on which it is first awaited.

    ``fetch``, ``wait``, ``cancel`` and ``delete`` make exactly one request each.

    Args:
        address: Of the service; "" where it is not known.
        timeout: Seconds or a timedelta that one request may take.
        poll: How often handles look where nothing else is said.
        retry: How often they repeat a look that fails. ``RetryPolicy.on`` may name further exceptions.
        max_calls: Looks that are under way at a time, of all handles together.
        max_waits: Long-polls that are open at a time. What exceeds them is polled.
        long_polls: Whether the service has them; None: not known yet.

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
        """Of the service, for tokens and people; "" where it is not known."""
        self.timeout = seconds(timeout, "timeout", positive=True)
        self.poll = poll if poll is not None else DEFAULT_POLL
        self.retry = retry if retry is not None else DEFAULT_RETRY
        self.max_calls = max_calls
        self.max_waits = max_waits
        self.long_polls = long_polls
        """Whether the service has a call that answers when the operation ends. None: not known yet."""
        self.poller: Any = None
        """Of the running event loop; see ``polling.poller_of``."""

    @abc.abstractmethod
    def place(self, name: str) -> Place:
        """Where the operation of this name is asked for.

        Raises:
            ValueError: No service of this kind can have such a name.
        """

    def check(self, place: Place) -> None:
        """Refuse a place, out of a token, that this transport would not have made.

        Raises:
            ValueError: It is one.
        """
        if place != self.place(place.name):
            raise ValueError("it has more parts than such a service needs")

    @abc.abstractmethod
    def started(self, answer: Any) -> Reply:
        """What the answer to a call that starts an operation says.

        Raises:
            TypeError: It is not what this transport's services answer.
            RemoteProtocolError: It says nothing of an operation.
            RemoteCallError: It says that the call failed.
        """

    @abc.abstractmethod
    async def fetch(self, place: Place, options: CallOptions) -> Reply:
        """Ask once.

        Raises:
            OperationNotFoundError: The service does not have it.
            RemoteCallError: The call failed; says whether it may be repeated.
            RemoteProtocolError: The answer makes no sense.
        """

    async def wait(self, place: Place, length: float, options: CallOptions) -> Reply:  # noqa: ARG002
        """Ask once, for an answer when the operation has ended or after ``length`` seconds. Raises as ``fetch``.

        Only called where ``long_polls`` is not False. Here: refused, after which the service is polled.
        """
        raise RemoteCallError(place.name, f"{type(self).__name__} has no long-polls", code=Code.UNIMPLEMENTED)

    @abc.abstractmethod
    async def cancel(self, place: Place, options: CallOptions) -> None:
        """Ask for a cancel. Raises as ``fetch``."""

    @abc.abstractmethod
    async def delete(self, place: Place, options: CallOptions) -> None:
        """Forget the operation. Raises as ``fetch``."""


class HasTransport(Protocol):
    """A service client: handles of its operations can be made from it."""

    @property
    def transport(self) -> Transport:
        """What its handles ask through."""
        ...
