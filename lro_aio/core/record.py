"""The row of one operation, frozen, and what it is suspended on.

Times are ``float`` seconds since the Unix epoch (UTC). Payloads stay serialized until somebody looks at them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, NamedTuple

from google.longrunning import operations_proto_pb2 as operations_pb2  # the half without grpc

from lro_aio.core.codegen import compiled
from lro_aio.core.errors import OperationNotFoundError
from lro_aio.core.json_members import JsonMembers
from lro_aio.core.quick import dataclass

__all__ = [
    "LATER",
    "NEVER",
    "NOT_KEPT",
    "NO_STATE",
    "OUTCOMES",
    "Draft",
    "Plan",
    "Record",
    "Seat",
    "State",
    "Wait",
    "Wake",
    "WakeReason",
]

NEVER = 253_402_300_799.0
"""Epoch seconds of a moment that does not come: the end of the year 9999."""


class State(enum.StrEnum):
    """Where an operation is in its life."""

    PENDING = "PENDING"
    """Has a handler and waits for a worker."""
    RUNNING = "RUNNING"
    """Claimed by a worker, or driven by its creator."""
    SUSPENDED = "SUSPENDED"
    """Waits for a time or for other operations, and holds nobody."""
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    __hash__ = str.__hash__  # an enum's own is a Python function, and every table of states asks for it

    @property
    def terminal(self) -> bool:
        """Whether the operation has ended: the state never changes again."""
        return self in _TERMINAL


OUTCOMES = {
    State.PENDING: 0,
    State.RUNNING: 0,
    State.SUSPENDED: 0,
    State.SUCCEEDED: 1,
    State.FAILED: 2,
    State.CANCELLED: 2,
}
"""The state in three classes, by which indexes tell the operations apart: 0 live, 1 successful, 2 unsuccessful."""

NO_STATE = "-"
"""``initial_codec`` of an operation that began without a state and has one now."""
NOT_KEPT = "!"
"""``initial_codec`` of one whose first state was larger than what is kept beside the present one."""

_TERMINAL = frozenset(state for state, outcome in OUTCOMES.items() if outcome)


class WakeReason(enum.StrEnum):
    """Why a suspended operation runs again."""

    ELAPSED = "ELAPSED"
    """The sleep is over."""
    CHILDREN_DONE = "CHILDREN_DONE"
    """All children have ended, well or not."""
    CHILDREN_TIMEOUT = "CHILDREN_TIMEOUT"
    """The timeout of the children part ran out."""
    POLL_FAILED = "POLL_FAILED"
    """The children could not be read; the error says why."""
    MESSAGE = "MESSAGE"
    """A message came on one of the topics that it waited for."""
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    """The operation was cancelled and runs its clean-up."""
    FAILED = "FAILED"
    """The operation is about to fail and runs its clean-up."""


class Plan(NamedTuple):
    """What a scheduler that works elsewhere does for a wait: sleep, then poll the children.

    Whether the wait is over then, the engine says when it is asked to resume.
    """

    sleep_until: float
    """Epoch seconds; in the past for no sleep."""
    children: tuple[str, ...]
    """Names; none: the end of the sleep is the end of the wait."""
    deadline: float | None
    """Epoch seconds up to which it polls; None: until they have ended."""
    some: bool = False
    """Whether it is enough that one of the children has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(JsonMembers):
    """What an operation is suspended on. The sleep comes first, then the children. A message ends both.

    The wait of straight code is a ``union`` of several: any of them ends it.
    """

    token: str
    """The resume token: valid until the run that it starts commits a suspend or an end."""
    sleep_until: float
    """Epoch seconds. In the past or now: no sleep."""
    children: tuple[str, ...] = ()
    """Names of operations to wait for after the sleep."""
    service: str = ""
    """Name of the foreign service that has the children; "" is this client."""
    deadline: float | None = None
    """Epoch seconds at which the children part ends in any case."""
    poll_interval: float = 3.0
    """Seconds between looks at the children."""
    max_poll_interval: float | None = None
    """Seconds up to which a scheduler may let the interval grow. None: the scheduler chooses."""
    poll_endpoint: str = ""
    """URL at which a remote scheduler reads the children, where it is not the client's own."""
    expires: float | None = None
    """Epoch seconds at which the operation itself fails, whatever it waits for: ``Record.deadline``."""
    on_cancel: str = ""
    """Resume point of the clean-up that a cancel runs; "" for none."""
    joins: bool = False
    """An empty list of children is all that was given to wait for: all of them have ended."""
    began: float = 0.0
    """Epoch seconds at which the run that it started was claimed, where that run is on trial."""
    trial: float = 0.0
    """Seconds for which nothing else begins in its process; 0 for none. See ``core.trials``."""
    company: int = 1
    """How many runs share that trial."""
    rerun: bool = False
    """The wait does not end a segment: a first run handed over, a retry or a clean-up. ``wake`` stays as it is."""
    topics: tuple[str, ...] = ()
    """Topics of which one message ends the wait."""
    news: float | None = None
    """Epoch seconds from which on such a message has ended it; None: none has come."""
    union: bool = False
    """Any part ends the wait. ``sleep_until`` never comes then, so that a release that does not know of unions leaves
    the row alone."""
    timer: float | None = None
    """Epoch seconds at which the first timer of a union ends; None: it has none."""
    groups: tuple[int, ...] = ()
    """In a union, the sizes of the leading groups of children that are waited for as one; each child behind them is
    waited for by itself."""
    not_before: float = 0.0
    """Epoch seconds before which children and messages do not end a union: it was woken a moment ago."""
    traceparent: str = ""
    """W3C trace context of the run that began to wait; "" where nobody traces."""
    queues: tuple[str, ...] = ()
    """In which steps wait for a place, in a union: for people. Who gives the place knows by itself."""

    @property
    def ends(self) -> float:
        """Epoch seconds at which the sleep is over; of a union, at which its first timer ends."""
        if self.union:
            return NEVER if self.timer is None else self.timer
        return self.sleep_until

    @property
    def repeats(self) -> bool:
        """Whether it is one before the segment runs again, and not one that the handler asked for."""
        return self.rerun and not self.union

    def told(self, now: float) -> Wait:
        """The same, ended by a message or by what was found out: now, or once it may be woken again."""
        return self if self.news is not None else dataclasses.replace(self, news=max(now, self.not_before))

    def doubts(self, reason: WakeReason, now: float) -> bool:
        """Whether a ``reason`` from outside is not enough: it comes before ``now`` allows, or is only a guess."""
        polled = reason is WakeReason.ELAPSED and bool(self.children)
        return self.union or bool(self.topics) or self.ends > now or polled

    def ripe(self, now: float) -> bool:
        """Whether it is over whatever becomes of the children."""
        if self.news is not None and self.news <= now:
            return True
        return (self.union or not self.children) and self.ends <= now

    def plan(self, now: float) -> Plan | None:
        """What a scheduler does for it from this moment on; None for nothing: a message alone ends it."""
        if self.news is not None:
            return Plan(max(now, self.news), (), None)
        if self.union and self.children:
            return Plan(max(now, self.not_before), self.children, self.timer, some=True)
        if self.ends >= NEVER and (self.union or self.topics):
            return None
        return Plan(self.ends, self.children, self.deadline)

    def first_check(self, now: float) -> float | None:
        """When a sweep must look at a row that begins to wait at this moment; None for never."""
        if self.union:
            check = now if self.children else self.ends
        elif self.children and self.deadline is not None:
            check = min(self.sleep_until, self.deadline)
        else:
            check = self.sleep_until
        check = min([check, *(moment for moment in (self.news, self.expires) if moment is not None)])
        return check if check < NEVER else None

    def spent(self) -> Wait:
        """What is kept of a union while the run goes on that it has started: nothing of it is waited for any more."""
        if not self.union:
            return self
        return Wait(
            token=self.token, sleep_until=0.0, on_cancel=self.on_cancel, began=self.began, trial=self.trial,
            company=self.company, rerun=True, traceparent=self.traceparent,
        )  # fmt: skip

    def acquitted(self) -> Wait:
        """The same without what it says of the trial of a run."""
        return dataclasses.replace(self, began=0.0, trial=0.0, company=1) if self.trial else self

    def again(self, token: str, now: float) -> Wait:
        """The same once more, for who was woken before its children had ended.

        Not at once: whoever woke it may say the same again.

        Args:
            token: The new one.
            now: Epoch seconds.
        """
        return dataclasses.replace(self.acquitted(), token=token, sleep_until=now + self.poll_interval)

    def bounded(self) -> Wait:
        """The same, but no longer than the operation itself may take: for whoever keeps the time."""
        if self.expires is None:
            return self
        if self.union:
            return dataclasses.replace(self, timer=min(self.ends, self.expires))
        ends = self.expires if self.deadline is None else min(self.deadline, self.expires)
        return dataclasses.replace(
            self, sleep_until=min(self.sleep_until, self.expires), deadline=ends if self.children else None
        )

    def over(self, now: float) -> bool:
        """Whether the timeout of the children part has run out."""
        return self.deadline is not None and self.deadline <= now

    def reason(self, now: float, pending: Sequence[str]) -> WakeReason | None:
        """Why the operation may run now; None while it has to wait.

        Args:
            now: Epoch seconds.
            pending: The children that have not ended.
        """
        if self.news is not None and self.news <= now:
            return WakeReason.MESSAGE
        if self.union:
            if self.ends <= now:
                return WakeReason.ELAPSED
            return WakeReason.CHILDREN_DONE if self.not_before <= now and self.some_ended(pending) else None
        if now < self.sleep_until:
            return None
        if not self.children:
            return WakeReason.ELAPSED
        if not pending:
            return WakeReason.CHILDREN_DONE
        return WakeReason.CHILDREN_TIMEOUT if self.over(now) else None

    def some_ended(self, pending: Collection[str]) -> bool:
        """Whether one of the groups of a union has ended, or a child that stands alone."""
        left, begin = set(pending), 0
        for size in self.groups:
            if left.isdisjoint(self.children[begin : begin + size]):
                return True
            begin += size
        return not left.issuperset(self.children[begin:])

    def wake(self, reason: WakeReason, pending: Sequence[str] = (), error: str = "") -> Wake:
        """What the next run is told: its ``reason``, what was ``pending`` then, and the ``error`` of a scheduler."""
        if self.joins and reason is WakeReason.ELAPSED:
            reason = WakeReason.CHILDREN_DONE
        return Wake(
            reason=reason, children=self.children, service=self.service, pending=tuple(pending), error=error,
            topics=self.topics,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake(JsonMembers):
    """Why the current segment runs, kept so that a run after a crash is told the same."""

    reason: WakeReason
    children: tuple[str, ...] = ()
    service: str = ""
    pending: tuple[str, ...] = ()
    """Children that had not ended."""
    error: str = ""
    """What a scheduler could not do, for ``POLL_FAILED``."""
    topics: tuple[str, ...] = ()
    """Topics of messages that it waited for."""

    def __post_init__(self) -> None:
        # A newer release may know more reasons; its rows must stay readable here.
        if self.reason in WakeReason.__members__:
            object.__setattr__(self, "reason", WakeReason(self.reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat(JsonMembers):
    """Where an operation waits for a place before it runs: its queue, and its place in the line."""

    queue: str
    """Its name; "" where who made the row did not know it: the first claim does."""
    key: str = ""
    """Those of one key share what the queue allows each key. "": of none."""
    priority: int = 0
    """Lower first."""
    whole: bool = False
    """Whether a place is kept from the first run to the end, waits included, and not only while a run lasts."""
    steps: bool = False
    """Whether steps of it have waited in queues: they may have tickets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The row of one operation. Changed only by the functions in ``transitions``."""

    name: str
    uid: str
    """Random; tells a row from one that was made later under the same name. "": another program made the row."""
    state: State
    create_time: float
    update_time: float
    end_time: float | None = None
    expire_time: float | None = None
    """When the row stops being visible; written when the operation ends."""

    metadata: bytes = b""
    """Serialized ``google.protobuf.Any``; empty for none."""
    response: bytes = b""
    """Serialized ``google.protobuf.Any``; empty unless SUCCEEDED."""
    error: bytes = b""
    """Serialized ``google.rpc.Status``; empty unless FAILED or CANCELLED."""

    handler: str = ""
    """Name of the handler; "" where the creator drives the operation by hand."""
    resume_point: str = ""
    """Where the handler goes on; "" is its start."""
    state_data: bytes = field(default=b"", repr=False)
    """The handler's own state."""
    state_codec: str = ""
    """How to read it: "json;v=N" or "proto:<full name>"; "" for no state."""
    parent_operation: str = ""
    """Name of the operation that started this one with ``start_child``."""

    wait: Wait | None = None
    wake: Wake | None = None
    cleaning: bool = False
    """Runs its clean-up: after a cancel it ends CANCELLED, or FAILED if the clean-up raises; with a ``failure`` it ends
    with that."""
    cancel_requested: bool = False
    cancel_children: bool = False
    """A cancel has still to be passed on to the children."""

    owner: str = ""
    lease_expire_time: float | None = None
    """The lease is over at this moment, not after it."""
    claim: int = 0
    """Fencing number; only rises."""
    attempt: int = 0
    """Claims since the last progress that no graceful hand-back returned."""
    retries: int = 0
    """Failed runs of this segment that the retry policy let run again."""

    check_time: float | None = None
    """When a sweep must look at the row next; None for never."""
    handover: int = 0
    """How often the wait was handed to a scheduler."""
    schedule_handle: str = ""
    """The scheduler's name for the wait."""

    fingerprint: str = ""
    """"N:<hex>": a hash of the request and the number of the scheme that made it."""
    traceparent: str = ""
    """W3C trace context of the request that started the operation."""
    deleted: bool = False
    """Hidden from every read; removed when it ends."""
    revision: int = 1
    entries: int = 0
    """How many entries were appended to its journal: what has none needs no read of it."""
    trail: str = ""
    """The last things that happened to it; see ``core.trail``."""

    paused: bool = False
    """Nobody begins a run of it: one that is under way is its last until it is unpaused."""
    failure: bytes = b""
    """Serialized ``google.rpc.Status``, only before the end: why it is paused, or what it ends with after its clean-up.
    """
    deadline: float | None = None
    """Epoch seconds at which it fails if it has not ended. Not once it cleans up."""
    initial_data: bytes = field(default=b"", repr=False)
    """The state with which it began, once it has another."""
    initial_codec: str = ""
    """How to read that; "" where the state was never changed. Or ``NO_STATE``, or ``NOT_KEPT``."""
    seat: Seat | None = None
    """The queue in which its runs wait for a place; None for none. See ``core.queueing``."""

    def evolve(self, **changes: Any) -> Record:
        """A copy with other values: ``dataclasses.replace``, ten times as fast.

        Raises:
            AttributeError: There is no such field.
        """
        return self.replaced(changes)

    def replaced(self, changes: Mapping[str, Any]) -> Record:
        """As ``evolve``, of columns that are in a mapping already: to spread one costs as much as the copy."""
        shape = tuple(changes)
        evolved = _SHAPES.get(shape)
        if evolved is not None:
            return evolved(self, *changes.values())
        _learn(shape)
        draft = _copied(self)
        for name, value in changes.items():
            setattr(draft, name, value)
        return draft.finish()

    def outline(self) -> Record:
        """The row without its payloads, for whoever decides what becomes of it: a thousand of them are no load.

        Without ``trail`` and what follows it too, which may be stored behind the payloads.
        """
        return self.replaced(_OUTLINED)

    @property
    def done(self) -> bool:
        """Whether the operation has ended."""
        return self.state in _TERMINAL

    @property
    def ended(self) -> float:
        """Epoch seconds of the end of one that is done, also where another program ended it and noted no time."""
        return self.update_time if self.end_time is None else self.end_time

    @property
    def in_line(self) -> bool:
        """Whether it stands in a queue's line. A sweep finds it there, and looks at it at its deadline otherwise."""
        waits = self.state is State.PENDING and self.seat is not None and self.seat.queue != ""
        return waits and (self.check_time is None or self.check_time == self.deadline)

    @property
    def foreign(self) -> bool:
        """Whether another program made the row and drives it: without lease, and without a revision that moves."""
        return not self.uid

    @property
    def size(self) -> int:
        """Approximate bytes of the row's payloads, for the caps of a batch."""
        told = len(self.metadata) + len(self.response) + len(self.error) + len(self.failure)
        return told + len(self.state_data) + len(self.initial_data) + 512

    def hidden(self, now: float) -> bool:
        """Whether readers must not see the row: deleted, or past its retention."""
        return self.deleted or (self.expire_time is not None and self.expire_time <= now)

    def check_visible(self, now: float) -> Record:
        """Return the row.

        Raises:
            OperationNotFoundError: It is deleted or expired.
        """
        if self.hidden(now):
            raise OperationNotFoundError(self.name)
        return self

    def same_request(self, other: Record, also: Sequence[str] = ()) -> bool:
        """Whether the fingerprints are of one request.

        Made by schemes of which none is the other's, they count as equal: a release that changes the scheme must not
        turn repeats into errors.

        Args:
            other: The row that was to be made.
            also: Other fingerprints of its request.
        """
        mine = self.fingerprint
        if not mine or not other.fingerprint:
            return False
        scheme = mine.partition(":")[0]
        comparable = [theirs for theirs in (other.fingerprint, *also) if theirs.partition(":")[0] == scheme]
        return not comparable or mine in comparable

    def lease_live(self, now: float) -> bool:
        """Whether a run may be under way: the row is RUNNING and its lease is not over."""
        if self.state is not State.RUNNING:
            return False
        return self.lease_expire_time is None or now < self.lease_expire_time

    def to_operation(self) -> operations_pb2.Operation:
        """The public message. A new one on each call."""
        operation = operations_pb2.Operation(name=self.name)
        if self.metadata:
            operation.metadata.ParseFromString(self.metadata)
        if self.state is State.SUCCEEDED:
            operation.done = True
            operation.response.ParseFromString(self.response)
        elif self.done:
            operation.done = True
            operation.error.ParseFromString(self.error)
        return operation


LATER = frozenset({"entries", "trail", "paused", "failure", "deadline", "initial_data", "initial_codec", "seat"})
"""The fields of a row that a store without a journal does not keep; ``seat`` is also left out by one without queues."""

_OUTLINED: dict[str, Any] = {
    item.name: item.default for item in dataclasses.fields(Record) if item.type == "bytes" or item.name in LATER
}
"""What an outline has instead of what it leaves out."""


class Draft:
    """A Record in the making: it has the same slots, may be assigned to, and turns into one by its class.

    For the hot path only: the constructor of a frozen dataclass with so many fields takes 10 us, this a tenth of it.
    """

    __slots__ = Record.__slots__

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None: ...

    def finish(self) -> Record:
        """The same object as a Record; every field must have been assigned."""
        self.__class__ = Record  # type: ignore[assignment]  # the layouts are the same
        return self  # type: ignore[return-value]  # it is one now


_FIELDS = tuple(item.name for item in dataclasses.fields(Record))

_copied: Callable[[Record], Draft] = compiled(
    __name__,
    [
        "def copied(record):",
        "    draft = Draft()",
        *(f"    draft.{name} = record.{name}" for name in _FIELDS),
        "    return draft",
    ],
    {"Draft": Draft},
)["copied"]
"""A draft with the values of a row."""

_OFTEN = 32
"""How often a set of columns is changed before it gets a function of its own: to compile one costs as much."""
_MOST_SHAPES = 256
_SHAPES: dict[tuple[str, ...], Callable[..., Record]] = {}
"""``evolve`` of the columns that are changed often: half of its time."""
_seen: Counter[tuple[str, ...]] = Counter()


def _learn(shape: tuple[str, ...]) -> None:
    """Count one change of these columns, and write its function out when they are changed often."""
    _seen[shape] += 1
    if _seen[shape] < _OFTEN or len(_SHAPES) >= _MOST_SHAPES or not set(shape) <= set(_FIELDS):
        return
    lines = [
        f"def evolved({', '.join(('record', *shape))}):",
        "    draft = Draft()",
        *(f"    draft.{name} = {name if name in shape else f'record.{name}'}" for name in _FIELDS),
        "    draft.__class__ = Record",
        "    return draft",
    ]
    _SHAPES[shape] = compiled(__name__, lines, {"Draft": Draft, "Record": Record}, of=", ".join(shape))["evolved"]
