"""The tables of the queues in one transaction of changes: what is read of them, and what is written.

Which queues it needs, a transaction learns from a decision that knows of none: what that one asks for is then read, in
one statement, and the decision made again, until it asks for nothing new. What has no queue asks for nothing, and costs
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.cloud.spanner_v1 import types
from google.protobuf import struct_pb2

from lro_aio.core.queueing import WINDOW, KeyRow, Places, QueueRow, Standing, Ticket
from lro_aio.core.record import Record
from lro_aio.core.step_places import step_of, ticket_of
from lro_aio.stores._places import in_order, queue_row
from lro_aio.stores.spanner.queries import Query
from lro_aio.stores.spanner.queue_queries import KEY, QUEUE, TICKET, decided
from lro_aio.stores.spanner.queue_tables import KEYS, QUEUES, STARTS, TICKETS, QueueTable
from lro_aio.stores.spanner.values import moment, number, values_of

__all__ = [
    "Ask",
    "PlacesReader",
    "Settled",
    "decode_queue",
    "decode_started",
    "decode_ticket",
    "items",
    "mutations",
    "write",
]

Rows = Sequence[struct_pb2.ListValue]
Ask = Callable[[Query], Rows]
"""Runs a statement in the transaction."""
Started = list[tuple[int, float]]

_LAST = 253_402_300_799.0
"""The last second of the year 9999: no TIMESTAMP is later."""
_NEW_QUEUE: dict[str, Any] = {"Bounds": "", "Declared": "[]", "Paused": False}
"""What a row has of which nobody has said yet what it allows."""
_DECIDED = ("Turn", "Last", "Number", "Starts", "Clock", "RestsUntil")
"""What a decision changes in the row of a queue."""


@dataclass(slots=True)
class _Wanted:
    """What decisions have asked for. It only grows: what one finds missing, the next one knows."""

    queues: set[str] = field(default_factory=set)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    """(queue, key)."""
    tickets: set[tuple[str, str, str]] = field(default_factory=set)
    """(name, uid, step)."""
    operations: set[tuple[str, str, str]] = field(default_factory=set)
    """The same, without a step: the tickets of all steps are asked for."""
    most: int = WINDOW
    """Tickets of each pair and standing."""

    def copy(self) -> _Wanted:
        return _Wanted(set(self.queues), set(self.pairs), set(self.tickets), set(self.operations), self.most)


class PlacesReader:
    """``queueing.Reader`` in a transaction. What was not fetched is answered as if it were not there, and wanted.

    Args:
        table: The table of the operations.
        before: The rows that the transaction changes, as stored, by name: those that are new have no ticket.
    """

    def __init__(self, table: str, before: Mapping[str, Record]) -> None:
        self._table = table
        self._seats = {row.uid: (row.name, row.seat) for row in before.values() if row.seat is not None}
        # As many of those who wait may leave a line at once.
        most = max(Counter((seat.queue, seat.key) for _, seat in self._seats.values()).values(), default=0)
        self._wanted = _Wanted(most=WINDOW + most)
        self._fetched = self._wanted.copy()
        self._queues: dict[str, tuple[QueueRow, int, bool, Started]] = {}
        self._keys: dict[tuple[str, str], tuple[KeyRow, int, Started]] = {}
        self._tickets: dict[str, Ticket] = {}
        self._waiting: dict[tuple[str, str], list[Ticket]] = {}

    @property
    def queues(self) -> list[str]:
        """The queues that were asked for."""
        return sorted(self._wanted.queues)

    def fetch(self, ask: Ask) -> bool:
        """Read what is wanted; returns whether anything of it was not known yet. One call, or none."""
        if self._wanted == self._fetched:
            return False
        wanted = self._fetched = self._wanted.copy()
        query = decided(
            self._table,
            queues=sorted(wanted.queues),
            pairs=sorted(wanted.pairs),
            tickets=sorted(wanted.tickets),
            operations=sorted(wanted.operations),
            most=wanted.most,
        )
        (row,) = ask(query)
        queues, keys, tickets, steps, waiting = map(items, row.values)
        self._queues = {}
        for values in queues:
            queue, (held, ready, started) = decode_queue(values), values[len(QUEUE) :]
            self._queues[queue.name] = queue, number(held), number(ready) > 0, decode_started(started)
        self._keys = {}
        for values in keys:
            key, (held, started) = _decode_key(values), values[len(KEY) + 2 :]
            self._keys[key.queue, key.key] = key, number(held), decode_started(started)
        self._tickets = {ticket.uid: ticket for ticket in map(decode_ticket, [*tickets, *steps])}
        self._waiting = {}
        for ticket in map(decode_ticket, waiting):
            self._waiting.setdefault((ticket.queue, ticket.key), []).append(ticket)
        return True

    def queue(self, name: str) -> QueueRow | None:
        """Its row."""
        self._wanted.queues.add(name)
        return self._queues[name][0] if name in self._queues else None

    def key(self, queue: str, key: str) -> KeyRow | None:
        """The row of a key."""
        self._wanted.pairs.add((queue, key))
        return self._keys[queue, key][0] if (queue, key) in self._keys else None

    def ticket(self, uid: str) -> Ticket | None:
        """The ticket of a row that was there, or of one of its steps."""
        operation, _, step = uid.partition("\n")
        if operation not in self._seats:
            return None
        name, seat = self._seats[operation]
        if not step:  # whoever asks for it will ask for its queue once it is known
            self._wanted.queues |= {seat.queue} - {""}
            self._wanted.pairs |= {(seat.queue, seat.key)} if seat.queue and seat.key else set()
        if not step or (name, operation, "") not in self._wanted.operations:
            self._wanted.tickets.add((name, operation, step))
        return self._tickets.get(uid)

    def steps(self, uid: str) -> list[str]:
        """The ``uid`` of each ticket of its steps."""
        if uid not in self._seats:
            return []
        self._wanted.operations.add((self._seats[uid][0], uid, ""))
        return [ticket for ticket in self._tickets if ticket.startswith(f"{uid}\n")]

    def held(self, queue: str, key: str | None) -> int:
        """Whoever asks has asked for the queue, or for its key."""
        if key is None:
            return self._queues[queue][1] if queue in self._queues else 0
        return self._keys[queue, key][1] if (queue, key) in self._keys else 0

    def ready(self, queue: str) -> bool:
        """As ``held``."""
        return queue in self._queues and self._queues[queue][2]

    def starts(self, queue: str, key: str, after: int) -> Started:
        """As ``held``."""
        if not key:
            known = self._queues[queue][3] if queue in self._queues else []
        else:
            known = self._keys[queue, key][2] if (queue, key) in self._keys else []
        return [(place, time) for place, time in known if place > after]

    def stored(self, uid: str) -> Ticket:
        """A ticket that is stored."""
        return self._tickets[uid]

    def waiting(self, queue: str, key: str, least: int, changed: Collection[str]) -> list[Ticket]:
        """The first who wait, apart from those whose tickets are changed: at least so many, where there are.

        Args:
            queue: The queue.
            key: See above.
            least: As many as are to be READY.
            changed: Uids of tickets.
        """
        found = self._waiting.get((queue, key), [])
        behind = [ticket for ticket in found if ticket.standing is Standing.BEHIND]
        left = sum(ticket.uid not in changed for ticket in behind)
        if left < max(least, 1) and len(behind) >= self._fetched.most:
            self._wanted.most = max(self._wanted.most, self._fetched.most + WINDOW + len(changed))
        return [ticket for ticket in found if ticket.uid not in changed]


@dataclass(frozen=True, slots=True)
class Settled:
    """What a decision stores of tickets and keys, once the first of each key are READY."""

    tickets: Mapping[str, Ticket | None]
    """By uid; None: nothing any more."""
    keys: Sequence[KeyRow]

    @classmethod
    def of(cls, places: Places, reader: PlacesReader) -> Settled:
        """Of a decision."""
        tickets = dict(places.tickets())
        changed = frozenset(tickets)
        own: dict[tuple[str, str], list[Ticket]] = {}
        for ticket in tickets.values():
            if ticket is not None and not ticket.held:
                own.setdefault((ticket.queue, ticket.key), []).append(ticket)
        keys = []
        for queue, key, ready in places.resettled():
            others = reader.waiting(queue, key, ready, changed)
            first = sorted([*own.get((queue, key), ()), *others], key=in_order)
            for place, ticket in enumerate(first):
                standing = Standing.READY if place < ready else Standing.BEHIND
                if ticket.standing is not standing:
                    tickets[ticket.uid] = replace(ticket, standing=standing)
            keys.append(places.key_row(queue, key, waits=bool(first)))
        return cls(tickets, keys)


def mutations(table: str, places: Places, settled: Settled, reader: PlacesReader) -> list[Any]:
    """What stores a decision. Nothing where no queue was touched.

    The row of each queue is among it wherever anything is: see ``queue_tables``.
    """
    gone = [reader.stored(uid) for uid, ticket in settled.tickets.items() if ticket is None]
    kept = [ticket for ticket in settled.tickets.values() if ticket is not None]
    changed = {row.name: row for row in places.queues()}
    if not (gone or kept or settled.keys or places.started or changed):
        return []
    trimmed = [values_of(*start) for start in places.trims() if start[2] > 0]
    rows = [(name, reader.queue(name), changed.get(name)) for name in reader.queues]
    known = [values_of(name, *_of_queue(row or old)) for name, old, row in rows if old is not None]
    new = [
        values_of(name, *_NEW_QUEUE.values(), *_of_queue(row or QueueRow(name=name, known=False)))
        for name, old, row in rows
        if old is None
    ]
    found = [
        _delete(TICKETS, table, [values_of(*_key_of_ticket(ticket)) for ticket in gone]),
        write("insert_or_update", TICKETS, table, TICKET, map(_of_ticket, kept)),
        write("insert_or_update", KEYS, table, ("Queue", "QueueKey", *KEY), map(_of_key, settled.keys)),
        _delete(STARTS, table, trimmed),
        write("insert_or_update", STARTS, table, _START, _starts(places, reader)),
        write("update", QUEUES, table, ("Name", *_DECIDED), known),
        write("insert", QUEUES, table, ("Name", *_NEW_QUEUE, *_DECIDED), new),
    ]
    return [mutation for mutation in found if mutation is not None]


def write(
    kind: str, one: QueueTable, table: str, columns: Sequence[str], rows: Iterable[struct_pb2.ListValue]
) -> Any | None:
    """The mutation that writes rows of one of the tables; None for no rows."""
    values = list(rows)
    if not values:
        return None
    mutation: Any = types.Mutation.pb()()
    made = getattr(mutation, kind)
    made.table = one.name(table)
    made.columns.extend(columns)
    made.values.extend(values)
    return mutation


def _delete(one: QueueTable, table: str, keys: Sequence[struct_pb2.ListValue]) -> Any | None:
    if not keys:
        return None
    mutation: Any = types.Mutation.pb()()
    mutation.delete.table = one.name(table)
    mutation.delete.key_set.keys.extend(keys)
    return mutation


def items(array: struct_pb2.Value) -> list[Sequence[struct_pb2.Value]]:
    """The elements of an ARRAY<STRUCT>, each as its fields."""
    return [element.list_value.values for element in array.list_value.values]


def decode_queue(values: Sequence[struct_pb2.Value]) -> QueueRow:
    """The queue of values that begin with ``QUEUE``."""
    name, bounds, paused, *counts, clock, rests = values[: len(QUEUE)]
    return queue_row(
        (
            name.string_value,
            bounds.string_value,
            paused.bool_value,
            *map(number, counts),
            moment(clock) or 0.0,
            moment(rests) or 0.0,
        )
    )


def decode_started(array: struct_pb2.Value) -> Started:
    """(number, time) of each start."""
    return [(number(place), moment(time) or 0.0) for place, time in items(array)]


def decode_ticket(values: Sequence[struct_pb2.Value]) -> Ticket:
    """The ticket of values of ``TICKET``."""
    name, uid, step, queue, key, handler, *counts, since = values
    priority, turn, place, standing = map(number, counts)
    return Ticket(
        uid=ticket_of(uid.string_value, step.string_value) if step.string_value else uid.string_value,
        name=name.string_value,
        queue=queue.string_value,
        key=key.string_value,
        handler=handler.string_value,
        priority=priority,
        turn=turn,
        number=place,
        standing=Standing(standing),
        since=moment(since) or 0.0,
    )


def _decode_key(values: Sequence[struct_pb2.Value]) -> KeyRow:
    queue, key, turn, starts, rests, wakes, idle = values[: len(KEY) + 2]
    return KeyRow(
        queue=queue.string_value,
        key=key.string_value,
        turn=number(turn),
        starts=number(starts),
        rests_until=moment(rests) or 0.0,
        wakes=moment(wakes),
        idle=moment(idle),
    )


def _storable(time: float) -> float:
    """A moment that a TIMESTAMP can hold."""
    return min(float(time), _LAST)


def _key_of_ticket(ticket: Ticket) -> tuple[str, str, str]:
    return ticket.name, ticket.uid.partition("\n")[0], step_of(ticket)


def _of_ticket(ticket: Ticket) -> struct_pb2.ListValue:
    return values_of(
        *_key_of_ticket(ticket),
        ticket.queue,
        ticket.key,
        ticket.handler,
        ticket.priority,
        ticket.turn,
        ticket.number,
        ticket.standing,
        _storable(ticket.since),
    )


def _of_key(row: KeyRow) -> struct_pb2.ListValue:
    times = (None if time is None else _storable(time) for time in (row.rests_until, row.wakes, row.idle))
    return values_of(row.queue, row.key, row.turn, row.starts, *times)


def _of_queue(row: QueueRow) -> tuple[Any, ...]:
    """The values of ``_DECIDED``."""
    return row.turn, row.last, row.number, row.starts, _storable(row.clock), _storable(row.rests_until)


_START = ("Queue", "QueueKey", "Number", "Time", "Ends")


def _starts(places: Places, reader: PlacesReader) -> Iterable[struct_pb2.ListValue]:
    """Those to be stored, each until it counts no more."""
    for queue, key, place, time in places.started:
        row = reader.queue(queue)
        assert row is not None
        rate = row.bounds.rate_per_key if key else row.bounds.rate
        assert rate is not None
        yield values_of(queue, key, place, _storable(time), _storable(time + rate.period))
