"""What straight code awaits: steps, and waits that outlive the process.

The handler runs again from the top after each suspend and each crash; what is in the journal answers at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import names
from lro_aio.core.errors import StoreUnavailableError, WaitDeadlineExceededError
from lro_aio.core.journal import Entry, Kind, key_of, parts_of
from lro_aio.core.kept import decode_value
from lro_aio.core.moments import Received
from lro_aio.core.queues import Queue
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, Wait, Wake
from lro_aio.core.straight import wait_durably
from lro_aio.core.webhooks import Webhook
from lro_aio.engine.children import missing
from lro_aio.engine.handlers import HandlerFunction
from lro_aio.engine.holding import Holding
from lro_aio.engine.inbox import Inbox
from lro_aio.engine.journal import RunJournal
from lro_aio.engine.settings import COMMIT_RETRY
from lro_aio.engine.step_places import StepPlace
from lro_aio.engine.steps import IN_STEP, Steps
from lro_aio.engine.waits import AGAIN, Waits

__all__ = ["MAX_KEY", "Message", "Straight"]

_JSON = "json;v=1"
MAX_KEY = 256
"""Characters of the key of a step, or of what the journal shows of the key of a child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What was sent to an operation with ``client.send``."""

    topic: str
    payload: Any
    """JSON data, a protobuf message, or None."""
    message_id: str
    time: float
    """Epoch seconds at which it was stored."""


class Straight:
    """The steps and durable waits of one run. Made when the handler first asks for one, or the journal has entries.

    Args:
        hold: The operation in the hands of its handler.
        task: The run's.
        suspend: Stops the handler: nothing but waits is left in it.
    """

    def __init__(
        self, hold: Holding, task: Callable[[], asyncio.Task[Any] | None], suspend: Callable[[], None]
    ) -> None:
        host, settings = hold.host, hold.host.settings
        self._hold = hold
        self._host = host
        self._clock = host.clock
        record = hold.record
        self.journal = RunJournal(host.rows, record, hold.holder, host.clock, settings.limits.entries)
        self._task = task
        self._suspend_handler = suspend
        self.steps = Steps(
            record.name,
            journal=self.journal,
            clock=host.clock,
            limits=settings.limits,
            linger=settings.linger,
            stopped=self._stopped,
            handler=record.handler,
            observing=host.observing,
            place=self._place,
        )
        self.standing: tuple[str, ...] = ()
        """The steps that waited in line when the handler was suspended."""
        self.waits = Waits(
            record.name,
            rows=host.rows,
            journal=self.journal,
            clock=host.clock,
            limits=settings.limits,
            linger=settings.linger,
            lingering=host.lingering,
            hurried=lambda: host.hurried,
            suspend=self._suspend,
            stopped=self._stopped,
            waits_for=self.steps.awaited_by,
        )
        self._not_before = record.update_time + AGAIN if record.claim > 1 else 0.0
        """Of the next wake-up by a message or a child: the claim was a wake-up, perhaps."""
        self._sleeps: set[str] = set()
        self._joins: Counter[str] = Counter()
        self._inboxes: dict[str, Inbox] = {}
        """By topic, of those that were received in this run."""
        self._told: dict[str, int] = {}
        """By topic that the last suspend waited for: how many messages the handler was shown."""

    async def load(self, wake: Wake | None = None) -> None:
        """Read what is stored of earlier runs."""
        await self.journal.load()
        if wake is not None:
            self._told = {topic: len(self.journal.messages(topic)) for topic in wake.topics}

    def stop(self) -> None:
        """The handler is told to stop."""
        self.steps.stop()

    async def settle(self, timeout: float) -> None:
        """The handler has ended: let its steps end too.

        Args:
            timeout: Real seconds.
        """
        await self.steps.settle(timeout)

    async def close(self) -> None:
        """The run is over."""
        await self.waits.close()

    def messages(self) -> list[Message]:
        """See ``Operation.messages``."""
        return [_message(entry) for entry in self.journal.all_messages()]

    async def sleep(self, name: str, until: Callable[[], float]) -> None:
        """See ``Operation.sleep``; ``until`` gives the end in epoch seconds, where none is stored."""
        await self.begin()
        if name in self._sleeps:
            raise ValueError(f"sleep {name!r} is awaited twice in one run of the handler: give each a name of its own")
        self._sleeps.add(name)
        end = self._moment(Kind.TIMER, name, until)
        if end > self._clock.time():
            await self.waits.wait(until=end)

    async def receive(self, topic: str, timeout: float | None) -> Entry:
        """The next message of a topic.

        Raises:
            WaitDeadlineExceededError: None came in time.
        """
        await self.begin()
        inbox = self._inboxes.get(topic)
        if inbox is None:
            inbox = self._inboxes[topic] = Inbox(*self.journal.received.get(topic, (0, 0)))
        number = inbox.begin()
        try:
            entry = await self._next(topic, inbox, number, timeout)
            inbox.take(number)
        finally:
            inbox.end(number)
        if self._host.observing is not None and self._host.observing.wants(Received):
            record, age = self._hold.record, max(0.0, self._clock.time() - entry.time)
            self._host.observing.tell(Received(name=record.name, handler=record.handler, topic=topic, age=age))
        return entry

    async def _next(self, topic: str, inbox: Inbox, number: int, timeout: float | None) -> Entry:
        key = key_of(f"receive {topic}", str(number))

        def found() -> Entry | None:
            messages, place = self.journal.messages(topic), inbox.place(number)
            return messages[place] if place < len(messages) else None

        if self.journal.find(Kind.TIMEOUT, key) is None:
            if self.journal.behind:
                await self.journal.catch_up()
            self.waits.watch()
            end = None if timeout is None else self._moment(Kind.DEADLINE, key, lambda: self._clock.time() + timeout)
            while (entry := found()) is None and (end is None or end > self._clock.time()):
                await self.waits.wait(topic=topic, ready=lambda: found() is not None, until=end)
            if entry is not None:
                self.journal.unsaved.pop((Kind.DEADLINE, key), None)
                return entry
            await self._timed_out(key)
        raise WaitDeadlineExceededError(timeout or 0.0, (), topic=topic)

    async def call(
        self,
        handler: str | HandlerFunction,
        state: Any,
        *,
        key: str,
        timeout: float | None,
        webhook: Webhook | None = None,
    ) -> tuple[str, Record | None]:
        """Start a child, or find the one that an earlier run has started; its name, and its row once it has ended.

        Raises:
            WaitDeadlineExceededError: It did not end in time.
        """
        await self.begin()
        parent = self._hold.record
        identifier = names.child_id(parent.uid or parent.name, key)
        name = names.make(names.parse(parent.name).parent, identifier)
        self.waits.watch(name)
        with self.waits.beginning():
            known = await self._host.rows.find(name) if parent.claim > 1 else None
            if known is None:
                made = await self._host.start_child(self._hold, handler, state, key=key, webhook=webhook)
                known = made.record
        if known.done or known.deleted:
            self.waits.ended[name] = known
        shown = key if len(key) <= MAX_KEY and key.isprintable() else identifier
        await self._ends((name,), f"call {shown}", timeout)
        return name, self.waits.ended[name]

    async def join(self, children: tuple[str, ...], timeout: float | None) -> list[operations_pb2.Operation]:
        """See ``Operation.join``."""
        await self.begin()
        if not children:
            return []
        self.waits.watch(*children)
        with self.waits.beginning():
            found = await self._host.rows.read_many(list(dict.fromkeys(children)))
        for name in children:
            row = found.get(name)
            if row is None or row.done or row.deleted:
                self.waits.ended[name] = row
        digest = hashlib.sha256("\n".join(sorted(children)).encode()).hexdigest()[:16]
        await self._ends(children, f"join {digest}", timeout)
        return [self._public(name) for name in children]

    async def parked(self) -> tuple[Callable[..., Record | None], tuple[Entry, ...]]:
        """The transition that suspends the handler until one of its waits is over, and what it appends.

        Raises:
            StoreUnavailableError: The client drains, and its messages cannot be read.
        """
        attempt = 0
        while self.journal.behind:
            try:
                await self.journal.catch_up()
            except StoreUnavailableError:
                if self._host.draining:
                    raise
                await self._host.rows.pause(self._clock, COMMIT_RETRY.delay(attempt))
                attempt += 1
        handler = self._hold.handler
        wait: Wait = self.waits.union(
            token=names.new_id(),
            on_cancel=handler.on_cancel if handler is not None else "",
            now=self._clock.time(),
            not_before=self._not_before,
        )
        event = partial(
            wait_durably,
            retention=self._host.settings.retention.duration,
            wait=wait,
            known=self.journal.known,
            changes=self._hold.last_changes(),
        )
        return event, tuple(self.journal.unsaved.values())

    def ends_segment(self, topics: Sequence[str]) -> tuple[tuple[Entry, ...], bool]:
        """What the end of a segment appends, and whether a message is there for the wait that follows.

        Args:
            topics: What it waits for.
        """
        counts: dict[str, tuple[int, int]] = {}
        for topic in {*self._inboxes, *self._told, *topics}:
            inbox = self._inboxes.get(topic) or Inbox(*self.journal.received.get(topic, (0, 0)))
            counts[topic] = (inbox.calls, max(inbox.taken, self._told.get(topic, 0)))
        changed = {topic: count for topic, count in counts.items() if self.journal.received.get(topic, (0, 0)) != count}
        ready = any(len(self.journal.messages(topic)) > counts[topic][1] for topic in topics)
        entries = tuple(self.journal.unsaved.values())
        if not changed:
            return entries, ready
        entry = Entry(
            kind=Kind.RECEIVED,
            key=str(self._hold.holder.claim),
            time=self._clock.time(),
            payload=json.dumps(changed).encode(),
            codec=_JSON,
        )
        return (*entries, entry), ready

    def _stopped(self) -> bool:
        return self._hold.cancel_reason is not None

    def _place(self, queue: Queue, key: str, step: str) -> StepPlace:
        hold, host = self._hold, self._host
        return StepPlace(
            queue, key, step, name=hold.record.name, holder=hold.holder, rows=host.rows, lines=host.lines,
            clock=host.clock, in_line=self.steps.in_line,
        )  # fmt: skip

    def _suspend(self) -> None:
        self.standing = tuple(self.steps.in_line)
        self.waits.capture()
        self._suspend_handler()

    async def begin(self) -> None:
        """Check that a step or a wait may begin here, and now.

        Raises:
            RuntimeError: Inside of a step, outside of the handler, or on another event loop.
            StoreSchemaError: The store has no journal.
            CancelledError: The handler was told to stop, and went on.
        """
        if step := IN_STEP.get():
            raise RuntimeError(f"the function of step {step!r} cannot await steps or durable waits: the handler does")
        self._host.rows.check_open()
        self._hold.check_running()
        self.journal.check_kept()
        self.waits.task = self._task()
        await self.journal.load()

    def _moment(self, kind: Kind, key: str, until: Callable[[], float]) -> float:
        """A moment that is stored once, and the same in each run."""
        entry = self.journal.find(kind, key)
        if entry is None:
            payload = json.dumps(until()).encode()
            entry = Entry(kind=kind, key=key, time=self._clock.time(), payload=payload, codec=_JSON)
            self.journal.unsaved[kind, key] = entry
        return float(json.loads(entry.payload))

    async def _ends(self, children: tuple[str, ...], what: str, timeout: float | None) -> None:
        """Return when all of the children have ended."""
        count = self._joins[what]
        self._joins[what] += 1
        ended = self.waits.ended
        key = key_of(what, str(count))
        late = self.journal.find(Kind.TIMEOUT, key)
        if late is None:
            left = tuple(name for name in children if name not in ended)
            if not left:
                return
            end = None if timeout is None else self._moment(Kind.DEADLINE, key, lambda: self._clock.time() + timeout)
            while left and (end is None or end > self._clock.time()):
                await self.waits.wait(children=left, until=end)
                left = tuple(name for name in left if name not in ended)
            if not left:
                self.journal.unsaved.pop((Kind.DEADLINE, key), None)
                return
            late = await self._timed_out(key, left)
        pending = json.loads(late.payload)  # later runs are told the same, whatever has ended since
        finished = [self._public(name) for name in children if name not in pending and name in ended]
        raise WaitDeadlineExceededError(timeout or 0.0, pending, finished=finished)

    async def _timed_out(self, key: str, pending: Sequence[str] = ()) -> Entry:
        """Store that a wait timed out before the handler hears of it: later runs are told the same."""
        payload = json.dumps(pending).encode()
        entry = Entry(kind=Kind.TIMEOUT, key=key, time=self._clock.time(), payload=payload, codec=_JSON)
        await self.journal.keep(entry)
        return entry

    def _public(self, name: str) -> operations_pb2.Operation:
        row = self.waits.ended[name]
        if row is None or row.hidden(self._clock.time()):
            return missing(name)
        return row.to_operation()


def _message(entry: Entry) -> Message:
    topic, message_id = parts_of(entry.key)
    payload = decode_value(entry.payload, entry.codec)
    return Message(topic=topic, payload=payload, message_id=message_id, time=entry.time)
