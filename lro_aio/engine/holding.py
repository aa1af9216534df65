"""What stands behind an ``Operation``: the row as last seen, the claim that writes it, and what is not yet written."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.rpc import status_pb2

from lro_aio.core import transitions
from lro_aio.core.change import Change
from lro_aio.core.codec import StateCodec
from lro_aio.core.data import ANY_RESPONSE, ResponseType
from lro_aio.core.journal import Entry
from lro_aio.core.logs import about
from lro_aio.core.lossless import ATOMS
from lro_aio.core.record import Record
from lro_aio.core.status import fitted
from lro_aio.core.transitions import Holder
from lro_aio.core.webhooks import Webhook
from lro_aio.engine.causes import Causes
from lro_aio.engine.children import Children
from lro_aio.engine.handlers import Handler, HandlerFunction
from lro_aio.engine.journal import RunJournal
from lro_aio.engine.lines import Lines
from lro_aio.engine.observing import Observing
from lro_aio.engine.progress import Progress
from lro_aio.engine.rows import Rows
from lro_aio.engine.settings import Settings
from lro_aio.engine.suspension import Suspended, suspend_event
from lro_aio.engine.tasks import Tasks
from lro_aio.engine.waits import Waits
from lro_aio.ports import Clock

__all__ = ["CancelReason", "Holding", "OperationHost", "guessed"]

logger = logging.getLogger("lro_aio")

_UNREAD: Any = object()


class CancelReason(enum.StrEnum):
    """Why a handler's task is cancelled. Set before it is."""

    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    """Somebody cancelled the operation: clean up and let the cancellation pass."""
    LEASE_LOST = "LEASE_LOST"
    """Another process has the operation: stop, nothing you write is taken any more."""
    SHUTDOWN = "SHUTDOWN"
    """This process ends: stop, another one runs the segment again."""
    RUN_TIMEOUT = "RUN_TIMEOUT"
    """The handler's ``run_timeout`` ran out."""
    SUSPENDED = "SUSPENDED"
    """Nothing but durable waits is left in the handler: it runs again from the top when one of them is over."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    """The operation's ``deadline`` has come: it fails, or runs its clean-up for that."""


class OperationHost(Protocol):
    """What an operation needs of the engine that made it."""

    client: Any
    """The ``Client``."""
    clock: Clock
    settings: Settings
    rows: Rows
    children: Children
    causes: Causes
    tasks: Tasks
    """Own what writes progress later."""
    observing: Observing | None
    """Told of what happens; None: nobody wants to know."""
    lines: Lines
    """The queues here."""
    lingering: set[Waits]
    """Runs that wait durably in this process."""

    @property
    def dev_mode(self) -> bool:
        """Whether wake-ups happen in this process."""
        ...

    @property
    def draining(self) -> bool:
        """Whether this process takes no more work."""
        ...

    @property
    def hurried(self) -> bool:
        """Whether a run that only waits should give its slot back at once."""
        ...

    def let_go(self, holder: Holder) -> None:
        """Renew the lease no longer."""
        ...

    async def start_child(
        self, by: Holding, handler: str | HandlerFunction, state: Any, *, key: str, webhook: Webhook | None = None
    ) -> Holding:
        """See ``Operation.start_child``."""
        ...

    async def cancel(self, name: str, *, cancel_children: bool = True) -> None:
        """See ``Client.cancel_operation``."""
        ...

    async def delete(self, name: str) -> None:
        """See ``Client.delete_operation``."""
        ...


class StraightCode(Protocol):
    """The steps and durable waits of a run, as far as the end of its segment needs them."""

    journal: RunJournal

    def ends_segment(self, topics: Sequence[str]) -> tuple[tuple[Entry, ...], bool]:
        """What the end of a segment appends, and whether a message is there for the wait that follows."""
        ...


class Holding:
    """One operation in the hands of its creator, its handler, or a visitor.

    Args:
        host: The engine, as far as operations need it.
        record: The row as last seen.
        handler: The row's, where it is registered here.
        holder: The claim to write with; None: a visitor's.
        codec: How to read the state; None: as the handler does.
        response: What it ends with; None: what the handler returns.
        in_handler: Whether the handler's own code has it, and may suspend.
    """

    # What most holdings never have any other value of is the class's own: an object less to fill for each of them.
    children: Sequence[operations_pb2.Operation] = ()
    """What the last suspend waited for."""
    cancel_reason: CancelReason | None = None
    suspended: Suspended | None = None
    """What ``suspend`` returned last."""
    begin_straight: Callable[[], StraightCode] | None = None
    """Makes what a run has of steps and durable waits; None outside of runs."""
    known_straight: StraightCode | None = None
    """``straight``, where it was asked for."""
    _state: Any = _UNREAD
    _read = _assigned = False
    _progress: Progress | None = None

    def __init__(
        self,
        host: OperationHost,
        record: Record,
        *,
        handler: Handler | None = None,
        holder: Holder | None = None,
        codec: StateCodec[Any] | None = None,
        response: ResponseType | None = None,
        in_handler: bool = False,
    ) -> None:
        self.host = host
        self.record = record
        self.holder = holder if holder is not None else Holder(record.uid, 0)
        self.handler = handler
        self.in_handler = in_handler
        self._codec = codec if codec is not None else (handler.codec if handler is not None else None)
        self._response = response
        # Not a run's own: its exception would hold itself, through the frames of its traceback.
        self._interest = None if in_handler else host.causes.interest(record.uid)

    @property
    def progress(self) -> Progress:
        """Made when it is asked for: few operations tell of theirs."""
        if self._progress is None:
            self._progress = Progress(
                self.record.name,
                self.record.metadata,
                self.write_metadata,
                clock=self.host.clock,
                tasks=self.host.tasks,
            )
        return self._progress

    @property
    def straight(self) -> StraightCode:
        """Steps and durable waits. Made when they are asked for: they cost nothing where they are not used.

        Raises:
            RuntimeError: No handler of a run asks.
        """
        if self.known_straight is None:
            self.check_running()
        return self._made_straight()

    def _made_straight(self) -> StraightCode:
        if self.known_straight is None:
            assert self.begin_straight is not None
            self.known_straight = self.begin_straight()
        return self.known_straight

    @property
    def unsaved(self) -> tuple[Entry, ...]:
        """Entries of the journal that go along with the next write."""
        return tuple(self.known_straight.journal.unsaved.values()) if self.known_straight is not None else ()

    def check_running(self) -> None:
        """Check that the handler of a run may begin a step or a durable wait.

        Raises:
            RuntimeError: There is none, or it has ended.
            CancelledError: It was told to stop. After a cancel, it may still clean up.
        """
        if not self.in_handler or self.begin_straight is None:
            raise RuntimeError("steps and durable waits work inside the operation's handler, and until it has ended")
        if self.cancel_reason not in (None, CancelReason.CANCEL_REQUESTED):
            raise asyncio.CancelledError(f"the handler was told to stop: {self.cancel_reason}")

    @property
    def response(self) -> ResponseType:
        """What the operation ends with, for those who read it."""
        if self._response is not None:
            return self._response
        return self.handler.response if self.handler is not None else ANY_RESPONSE

    @property
    def promised(self) -> ResponseType:
        """What it may be ended with by hand. A handler that does so returns None, whatever its result is."""
        return self.handler.returns.declared if self.handler is not None else ANY_RESPONSE

    @property
    def state(self) -> Any:
        """The decoded state. Whoever asks for it may change it in place: whether it was is seen before the next write.

        Raises:
            StateCodecError: What is stored cannot be read.
        """
        self.decode()
        self._read = True
        return self._state

    @state.setter
    def state(self, value: Any) -> None:
        self._state = value
        self._assigned = True

    def decode(self) -> None:
        """Read the state, for whoever asks for it later.

        Raises:
            StateCodecError: What is stored cannot be read.
        """
        if self._state is _UNREAD:
            codec = self._codec if self._codec is not None else StateCodec[Any](None)
            self._state = codec.decode(self.record.state_data, self.record.state_codec)

    def learn(self, record: Record) -> None:
        """Take over what another writer left in the row."""
        self.record = record

    def state_changes(self) -> dict[str, Any]:
        """The state as columns to write; empty where nobody set it or changed it.

        Raises:
            StateCodecError: The state cannot be encoded; names the field.
            PayloadTooLargeError: Over ``Limits.state``.
        """
        if not self._assigned and (not self._read or type(self._state) in ATOMS):
            return {}
        codec = self._codec if self._codec is not None else guessed(self._state)
        record = self.record
        if not self._assigned and not codec.changed(self._state, record.state_data, record.state_codec):
            return {}
        data, tag = codec.encode(self._state)
        self.host.settings.limits.check("state", len(data))
        return {"state_data": data, "state_codec": tag}

    def last_changes(self) -> dict[str, Any]:
        """Progress that is not yet written, to go with the operation's next write."""
        metadata = self._progress.take() if self._progress is not None else None
        return {"metadata": metadata} if metadata else {}

    def retire(self) -> None:
        """The run is over: no progress is written and no suspend taken any more."""
        self.last_changes()
        self.in_handler = False
        if self.begin_straight is not None:
            self.begin_straight = self.known_straight = None  # no circle through the run: each would be the collector's

    def suspend_change(self, planned: Suspended) -> tuple[Callable[..., Record | None], int, tuple[Entry, ...]]:
        """The transition that commits what ``suspend`` returned, the bytes that it writes, and what it appends.

        Raises:
            StateCodecError: The state cannot be encoded; names the field.
            PayloadTooLargeError: Over ``Limits.state``.
        """
        changes = {**self.state_changes(), **self.last_changes()}
        straight = self._made_straight() if planned.topics else self.known_straight
        appends, ready = ((), False) if straight is None else straight.ends_segment(planned.topics)
        event = suspend_event(
            planned,
            on_cancel=self.handler.on_cancel if self.handler is not None else "",
            retention=self.host.settings.retention.duration,
            changes=changes,
            known=straight.journal.known if straight is not None and planned.topics else None,
            ready=ready,
        )
        size = 512 + len(changes.get("state_data", b"")) + sum(entry.size for entry in appends)
        return event, size, appends

    def fitted(self, error: status_pb2.Status) -> status_pb2.Status:
        """The error within ``Limits.error``: what a list returns must fit into it."""
        limit = self.host.settings.limits.error
        cut = fitted(error, limit)
        if cut is not error:
            logger.warning(
                "the error of %s has %d bytes; the limit is %d: details that do not fit are left out",
                self.record.name,
                error.ByteSize(),
                limit,
                extra=about(self.record, "error_cut"),
            )
        return cut

    async def finish(self, *, response: bytes = b"", error: status_pb2.Status | None = None) -> None:
        """End the operation. An error that is too large is cut: it must not keep the operation from ending."""
        if error is not None:
            error = self.fitted(error)
        await self.write(
            transitions.finish,
            retention=self.host.settings.retention.duration,
            response=response,
            error=error,
            changes={**self.state_changes(), **self.last_changes()},
        )
        self.host.let_go(self.holder)

    async def write(self, event: Callable[..., Record | None], **arguments: Any) -> None:
        """Commit a transition of the holder's."""
        error = arguments.get("error")
        change = Change(
            self.record.name,
            partial(event, holder=self.holder, now=self.host.clock.time(), **arguments),
            size=512 + len(arguments.get("response", b"")) + (0 if error is None else error.ByteSize()),
        )
        record = await self.host.rows.submit(change)
        if record is None:  # a deleted row is removed as it ends: this object alone still knows how
            record = change.apply(replace(self.record, deleted=False, cancel_children=False))
        assert record is not None
        if record.revision >= self.record.revision:  # else `learn` has a later one, with a cancel say
            self.record = record

    async def write_metadata(self, metadata: bytes) -> None:
        """Write the metadata now."""
        await self.write(transitions.save, changes={"metadata": metadata})


def guessed(state: Any) -> StateCodec[Any]:
    """How to store a state whose handler is not known here."""
    return StateCodec(None if state is None else type(state), lossless=False)
