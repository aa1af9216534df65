"""Who gets a place: every rule of the queues, as a pure decision over what a store reads in one transaction.

A *ticket* belongs to an operation, by its uid. It stands in line, or it holds a place. The places that are taken are
the tickets that hold one, and nothing else counts them: a place cannot be lost, and cannot be there twice. It is taken
in the transaction of the claim that needs it and given back in the one of the change that ends its need, so that it
belongs to a lease: whoever takes over a dead process's run has its place, and whoever ends that run gives it back.

The line is kept by (priority, turn, number). Of each key, the turns rise from one ticket to the next, and begin behind
the turn that was served last (start-time fair queueing), so that keys take turns. Of what has a key, no more tickets
are READY than a ``WINDOW``, or than the key has places: the others stand BEHIND. So nobody ever walks through those
that cannot go: the first READY ones are who is next, however long the line is.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import field, replace
from typing import NamedTuple, Protocol

from lro_aio.core import trail
from lro_aio.core.queues import Bounds, Rate
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, Seat, State

__all__ = [
    "KNOWN_STARTS",
    "WINDOW",
    "KeyRow",
    "Places",
    "QueueRow",
    "Reader",
    "Resettled",
    "Rest",
    "Standing",
    "Start",
    "Starts",
    "Ticket",
    "room",
]

WINDOW = 16
"""Tickets of one key that are READY at most."""
KNOWN_STARTS = 64
"""Starts that one transaction reads of a rate: more than so many do not become free at a time."""


class Standing(enum.IntEnum):
    """Where a ticket is."""

    BEHIND = 0
    """Behind others of its key."""
    READY = 1
    """In line."""
    HELD = 2
    """It holds a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One operation in a queue."""

    uid: str
    """The operation's; of one of its steps, with the step behind a line break."""
    name: str
    """Of the operation."""
    queue: str
    key: str
    handler: str
    priority: int
    turn: int
    number: int
    """The order of arrival."""
    standing: Standing
    since: float
    """Epoch seconds: since when it waits, or holds its place."""

    @property
    def held(self) -> bool:
        """Whether it holds a place."""
        return self.standing is Standing.HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """What is stored of a queue, besides its tickets."""

    name: str
    bounds: Bounds = Bounds()
    """What holds now."""
    known: bool = True
    """Whether anybody has said what it allows. Nothing gets a place before that."""
    paused: bool = False
    turn: int = 0
    """The latest that was served."""
    last: int = 0
    """The turn of the last ticket without a key."""
    number: int = 0
    """Tickets that were ever drawn."""
    starts: int = 0
    """Starts that were ever counted."""
    clock: float = 0.0
    """Epoch seconds: the latest moment that any process has decided for. The queue's time never goes back."""
    rests_until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """What is stored of one key of a queue."""

    queue: str
    key: str
    turn: int = 0
    """Of its last ticket."""
    starts: int = 0
    rests_until: float = 0.0
    wakes: float | None = None
    """Epoch seconds at which more of its tickets may go, without anybody giving back a place."""
    idle: float | None = None
    """Epoch seconds from which nothing is to be remembered of it; None while it has tickets."""


class Rest(NamedTuple):
    """What puts a queue, or one key of it, to rest."""

    queue: str
    key: str
    until: float


class Start(NamedTuple):
    """A start that a rate counts; ``key`` "" counts for the queue."""

    queue: str
    key: str
    number: int
    time: float


class Resettled(NamedTuple):
    """How many tickets of a key are to be READY: its first ones. The others stand BEHIND."""

    queue: str
    key: str
    ready: int


class Reader(Protocol):
    """What a transaction reads, as it is needed. A queue's row is locked from then on."""

    def queue(self, name: str) -> QueueRow | None:
        """The row of a queue; None: it was never declared."""
        ...

    def key(self, queue: str, key: str) -> KeyRow | None:
        """The row of a key."""
        ...

    def ticket(self, uid: str) -> Ticket | None:
        """The ticket of an operation."""
        ...

    def steps(self, uid: str) -> list[str]:
        """The ``uid`` of each ticket of a step of an operation."""
        ...

    def held(self, queue: str, key: str | None) -> int:
        """Places that are taken in a queue; those of one key where ``key`` is given."""
        ...

    def ready(self, queue: str) -> bool:
        """Whether anybody is READY."""
        ...

    def starts(self, queue: str, key: str, after: int) -> list[tuple[int, float]]:
        """(number, time) of the ``KNOWN_STARTS`` first starts that are kept with a number beyond ``after``."""
        ...


class Starts:
    """The starts that a rate counts: the last ``rate.count`` of them are kept, and no others matter.

    One more may begin once the count-th last is a period old: then there are never more than ``count`` in a period,
    wherever it begins.
    """

    def __init__(self, rate: Rate, number: int, known: Sequence[tuple[int, float]]) -> None:
        self._rate = rate
        self._times = [time for _, time in known]
        self._kept = number - known[0][0] + 1 if known else 0

    def free(self, now: float) -> int:
        """How many may start now."""
        old = bisect_right(self._times, now, key=self._ends)
        return self._rate.count - self._kept + old

    def next(self, now: float) -> float | None:
        """When one more may start than now; None where that is not known, or where no start is remembered."""
        return next((ends for ends in map(self._ends, self._times) if ends > now), None)

    def add(self, now: float) -> None:
        """One has started."""
        self._kept += 1
        if self._kept > self._rate.count and self._times:
            self._kept -= 1
            del self._times[0]
        if self._kept <= KNOWN_STARTS:
            self._times.append(now)

    def _ends(self, time: float) -> float:
        """When a start of this time matters no more."""
        return time + self._rate.period


def room(row: QueueRow, held: int, starts: Starts | None, now: float) -> int | None:
    """How many operations a queue lets begin at this moment; None for as many as there are."""
    if not row.known or row.paused or row.rests_until > now:
        return 0
    free = [] if row.bounds.running is None else [row.bounds.running - held]
    if starts is not None:
        free.append(starts.free(now))
    return max(0, min(free)) if free else None


@dataclass(slots=True)
class _Key:
    """A key of a line, as it is in one transaction."""

    row: KeyRow
    held: int
    starts: Starts | None
    changed: bool = False

    def room(self, bounds: Bounds, now: float) -> int:
        if self.row.rests_until > now:
            return 0
        free = [WINDOW if bounds.running is None else min(WINDOW, bounds.running)]
        if bounds.per_key is not None:
            free.append(bounds.per_key - self.held)
        if self.starts is not None:
            free.append(self.starts.free(now))
        return max(0, min(free))

    def wakes(self, now: float) -> float | None:
        if self.row.rests_until > now:
            return self.row.rests_until
        return None if self.starts is None else self.starts.next(now)


@dataclass(slots=True)
class _Line:
    """A queue, as it is in one transaction."""

    row: QueueRow
    held: int
    ready: bool
    starts: Starts | None
    keys: dict[str, _Key] = field(default_factory=dict)
    changed: bool = False


class Places:
    """The queues in one transaction: takes the places that claims need, and gives back what is no longer needed.

    Args:
        reader: Reads what is stored, once.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lines: dict[str, _Line] = {}
        self._stored: dict[str, Ticket | None] = {}
        self._tickets: dict[str, Ticket | None] = {}
        self.started: list[Start] = []
        """Starts to be stored."""

    def after(self, before: Record | None, row: Record | None, rests: Sequence[Rest] = ()) -> Record | None:
        """What a change makes of a row, once its queue was asked: the same, or a row that stands in line instead.

        Args:
            before: The row before the change.
            row: What the change made of it.
            rests: What the change puts to rest.
        """
        for rest in rests:
            self._rest(rest)
        if row is before or not (_waits_anywhere(before) or _waits_anywhere(row)):
            return row
        if before is not None and row is not None and before.uid != row.uid:
            self._drop(before.uid)
            before = None
        record = row if row is not None else before
        assert record is not None
        if row is None or row.done or row.seat is None or not row.seat.queue:
            self._drop(record.uid)
        elif row.state is State.RUNNING:
            return self._running(before, row, row.seat)
        elif row.state is State.PENDING:
            return self._pending(before, row, row.seat)
        elif not row.seat.whole or not self._holds(row.uid):
            self._drop(row.uid)
        return row

    def _running(self, before: Record | None, row: Record, seat: Seat) -> Record:
        """A claim: it takes a place, or the row stands in line."""
        if (before is not None and row.claim == before.claim) or self._holds(row.uid):
            return row
        ticket = self._ticket(row.uid)
        line, now = self._line(seat.queue), self._now(seat.queue, row)
        if self._admits(line, seat, now, in_line=ticket is not None):
            self._hold(ticket or self._draw(row, seat, now), now)
            return row
        if seat.key:
            self._key(line, seat.key).changed = True  # it may have been READY by what was allowed before
        if before is not None and before.state is State.PENDING and ticket is not None:
            due = before.check_time is not None and before.check_time <= row.update_time
            if due or before.handover:  # a scheduler brought it in vain, and has it no longer
                return before.evolve(check_time=_looks(before), handover=0, schedule_handle="")
            return before
        if ticket is None:
            self._stand(self._draw(row, seat, now))
        return row.evolve(
            state=State.PENDING,
            owner="",
            lease_expire_time=None,
            check_time=_looks(row),
            attempt=max(0, row.attempt - 1),
            trail=trail.queued(row.trail, row.update_time, seat.queue),
        )

    def _pending(self, before: Record | None, row: Record, seat: Seat) -> Record:
        """A row that is to run stands in line, unless it has its place still or is not to run yet."""
        ticket = self._ticket(row.uid)
        if ticket is not None and ticket.held and seat.whole:
            return row
        due = row.check_time is not None and row.check_time <= row.update_time
        # What a claim only ends needs no place, and what has still to pass a cancel on must be seen by a sweep.
        ends = row.cancel_children or (row.cancel_requested and not row.cleaning)
        stands = ticket is not None and not ticket.held
        if not due and stands and before is not None and before.state is State.PENDING:
            return row
        if not due or ends:
            self._drop(row.uid)
            return row
        if not stands:
            now = self._now(seat.queue, row)
            self._give_back(row.uid)
            self._stand(ticket or self._draw(row, seat, now))
        return row.evolve(check_time=_looks(row))

    def _admits(self, line: _Line, seat: Seat, now: float, *, in_line: bool) -> bool:
        if line.ready and not in_line:
            return False  # others were first: who is next is looked up in the line
        free = room(line.row, line.held, line.starts, now)
        if free is not None and free <= 0:
            return False
        return not seat.key or self._key(line, seat.key).room(line.row.bounds, now) > 0

    def _draw(self, row: Record, seat: Seat, now: float) -> Ticket:
        """A new ticket, with its turn behind the last one of its key."""
        line = self._line(seat.queue)
        key = self._key(line, seat.key) if seat.key else None
        turn = max(line.row.turn, (line.row.last if key is None else key.row.turn) + 1)
        number = line.row.number + 1
        if key is None:
            line.row = replace(line.row, number=number, last=turn)
        else:
            line.row, key.row, key.changed = replace(line.row, number=number), replace(key.row, turn=turn), True
        line.changed = True
        return Ticket(
            uid=row.uid, name=row.name, queue=seat.queue, key=seat.key, handler=row.handler, priority=seat.priority,
            turn=turn, number=number, standing=Standing.BEHIND, since=now,
        )  # fmt: skip

    def _stand(self, ticket: Ticket) -> None:
        line = self._line(ticket.queue)
        # What has a key is READY only once the first of its key are known: see `resettled`.
        standing = Standing.BEHIND if ticket.key else Standing.READY
        line.ready = line.ready or not ticket.key
        if ticket.key:
            self._key(line, ticket.key).changed = True
        since = line.row.clock if ticket.held else ticket.since
        self._tickets[ticket.uid] = replace(ticket, standing=standing, since=since)
        line.changed = True

    def _hold(self, ticket: Ticket, now: float) -> None:
        line = self._line(ticket.queue)
        self._tickets[ticket.uid] = replace(ticket, standing=Standing.HELD, since=now)
        line.held += 1
        line.changed = True
        line.row = replace(line.row, turn=max(line.row.turn, ticket.turn))
        if line.starts is not None:
            line.row = replace(line.row, starts=line.row.starts + 1)
            line.starts.add(now)
            self.started.append(Start(ticket.queue, "", line.row.starts, now))
        if ticket.key:
            key = self._key(line, ticket.key)
            key.held += 1
            key.changed = True
            if key.starts is not None:
                key.row = replace(key.row, starts=key.row.starts + 1)
                key.starts.add(now)
                self.started.append(Start(ticket.queue, ticket.key, key.row.starts, now))

    def _drop(self, uid: str) -> None:
        ticket = self._ticket(uid)
        if ticket is not None:
            self._give_back(uid)
            self._tickets[uid] = None
            line = self._line(ticket.queue)
            if ticket.key:
                self._key(line, ticket.key).changed = True

    def _give_back(self, uid: str) -> None:
        ticket = self._ticket(uid)
        if ticket is None or not ticket.held:
            return
        line = self._line(ticket.queue)
        line.held -= 1
        if ticket.key:
            key = self._key(line, ticket.key)
            key.held -= 1
            key.changed = True

    def _rest(self, rest: Rest) -> None:
        line = self._line(rest.queue)
        if rest.key:
            key = self._key(line, rest.key)
            key.row = replace(key.row, rests_until=max(key.row.rests_until, rest.until))
            key.changed = True
        else:
            line.row = replace(line.row, rests_until=max(line.row.rests_until, rest.until))
            line.changed = True

    def _now(self, queue: str, row: Record) -> float:
        """The moment of a change, by the queue's time."""
        return self._at(queue, row.update_time)

    def _at(self, queue: str, moment: float) -> float:
        """A moment by the queue's time."""
        line = self._line(queue)
        if moment > line.row.clock:
            line.row = replace(line.row, clock=moment)
            line.changed = True
        return line.row.clock

    def _holds(self, uid: str) -> bool:
        ticket = self._ticket(uid)
        return ticket is not None and ticket.held

    def _ticket(self, uid: str) -> Ticket | None:
        if uid not in self._tickets:
            self._stored[uid] = self._tickets[uid] = self._reader.ticket(uid)
        return self._tickets[uid]

    def _line(self, name: str) -> _Line:
        line = self._lines.get(name)
        if line is None:
            row = self._reader.queue(name) or QueueRow(name=name, known=False)
            starts = self._starts(row.bounds.rate, name, "", row.starts)
            line = _Line(row, self._reader.held(name, None), self._reader.ready(name), starts)
            self._lines[name] = line
        return line

    def _key(self, line: _Line, key: str) -> _Key:
        known = line.keys.get(key)
        if known is None:
            queue = line.row.name
            row = self._reader.key(queue, key) or KeyRow(queue=queue, key=key)
            starts = self._starts(line.row.bounds.rate_per_key, queue, key, row.starts)
            known = line.keys[key] = _Key(row, self._reader.held(queue, key), starts)
        return known

    def _starts(self, rate: Rate | None, queue: str, key: str, number: int) -> Starts | None:
        if rate is None:
            return None
        return Starts(rate, number, self._reader.starts(queue, key, number - rate.count))

    @property
    def untouched(self) -> bool:
        """Whether nothing was asked for: there is nothing to store, as in most transactions."""
        return not self._stored and not self._lines

    def tickets(self) -> dict[str, Ticket | None]:
        """What is to be stored of tickets, by uid; None: nothing any more."""
        return {uid: ticket for uid, ticket in self._tickets.items() if ticket != self._stored[uid]}

    def queues(self) -> list[QueueRow]:
        """The rows of queues that have changed."""
        return [line.row for line in self._lines.values() if line.changed]

    def resettled(self) -> list[Resettled]:
        """How many tickets are to be READY now of each key that was touched."""
        found = []
        for name, line in self._lines.items():
            for key, known in line.keys.items():
                if known.changed:
                    found.append(Resettled(name, key, known.room(line.row.bounds, line.row.clock)))
        return found

    def key_row(self, queue: str, key: str, *, waits: bool) -> KeyRow:
        """The row to be stored of a key that was touched.

        Args:
            queue: Its queue.
            key: See above.
            waits: Whether it has a ticket in line.
        """
        line = self._lines[queue]
        known, now = line.keys[key], line.row.clock
        rate = line.row.bounds.rate_per_key
        remembered = max(known.row.rests_until, now + rate.period if rate is not None and known.row.starts else 0.0)
        idle = None if waits or known.held else max(remembered, now)
        return replace(known.row, wakes=known.wakes(now) if waits else None, idle=idle)

    def trims(self) -> list[tuple[str, str, int]]:
        """(queue, key, number): starts up to this number matter no more."""
        found = []
        for start in self.started:
            bounds = self._lines[start.queue].row.bounds
            rate = bounds.rate_per_key if start.key else bounds.rate
            if rate is not None:
                found.append((start.queue, start.key, start.number - rate.count))
        return found


def _waits_anywhere(row: Record | None) -> bool:
    return row is not None and row.seat is not None and row.seat.queue != ""


def _looks(row: Record) -> float | None:
    """When a sweep must look at a row that stands in line: at its deadline; else the line is where it is found."""
    return None if row.cleaning else row.deadline
