"""The tables of the queues in one transaction of changes: what is read of them, what is locked, and what is written.

A transaction locks operations first, by their names, and then queues, by theirs, all of them in one statement. So no
two of them wait for each other. Which queues it needs, it learns from a decision that knows of none: what that one asks
for is then read, in one round trip, and the decision made again. What has no queue asks for nothing, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from lro_aio.core.queueing import KNOWN_STARTS, KeyRow, Places, QueueRow, Ticket
from lro_aio.core.record import Record
from lro_aio.stores._places import MOST, TICKET, queue_row, ticket_of_row
from lro_aio.stores.postgres.connections import Link
from lro_aio.stores.postgres.queries import Call, Statements, columns_of

__all__ = ["FETCHED", "PlacesReader", "Wanted", "decode_ticket", "statements"]

FETCHED = ("queue_made", "queue_locked", "queue_line", "queue_key", "queue_started", "queue_tickets")
"""The statements of ``fetch``: what is read of queues comes behind their lock."""


@dataclass(slots=True)
class Wanted:
    """What decisions have asked for. It only grows: what one try finds missing, the next one reads."""

    pairs: set[tuple[str, str]] = field(default_factory=set)
    """(queue, key); the key "" stands for the queue alone."""
    uids: set[str] = field(default_factory=set)
    """Of tickets."""
    steps: set[str] = field(default_factory=set)
    """Uids of operations of which the tickets of all steps are asked for."""

    def __bool__(self) -> bool:
        return bool(self.pairs or self.uids or self.steps)

    def values(self) -> dict[str, Any]:
        """For the statements."""
        pairs = sorted(self.pairs)
        return {
            "queues": [queue for queue, _ in pairs],
            "keys": [key for _, key in pairs],
            "uids": [uid.encode() for uid in sorted(self.uids)],
            "steps": [uid.encode() for uid in sorted(self.steps)],
            "most": KNOWN_STARTS,
        }


class PlacesReader:
    """``queueing.Reader`` in a transaction. What was not fetched is answered as if it were not there, and wanted.

    Args:
        before: The rows that the transaction changes, as stored and locked, by name: those that are new have no ticket.
        wanted: Takes what is asked for.
    """

    def __init__(self, before: Mapping[str, Record], wanted: Wanted) -> None:
        self._seated = {row.uid for row in before.values() if row.seat is not None}
        self._wanted = wanted
        self.misses = False
        """Whether anything was asked for that had not been fetched."""
        self._uids: set[str] = set()
        self._operations: set[str] = set()
        self._queues: dict[str, QueueRow] = {}
        self._lines: dict[str, tuple[int, bool]] = {}
        self._keys: dict[tuple[str, str], tuple[int, KeyRow | None]] = {}
        self._starts: dict[tuple[str, str], list[tuple[int, float]]] = {}
        self._tickets: dict[str, Ticket] = {}

    def fetch(self, link: Link, pipeline: psycopg.Pipeline, texts: Statements) -> None:
        """Lock the queues that are wanted, and read what is wanted of them: one round trip."""
        values = self._wanted.values()
        self._uids, self._operations = set(self._wanted.uids), set(self._wanted.steps)
        cursors = {name: link.cursor(binary=True).execute(texts[name], values) for name in FETCHED}
        pipeline.sync()
        self._queues = {row.name: row for row in map(queue_row, cursors["queue_locked"])}
        self._lines = {queue: (held, ready) for queue, held, ready in cursors["queue_line"]}
        for queue, key, held, *rest in cursors["queue_key"]:
            turn, starts, rests_until, wakes, idle = rest
            row = KeyRow(
                queue=queue, key=key, turn=turn, starts=starts, rests_until=rests_until, wakes=wakes, idle=idle
            )  # fmt: skip
            self._keys[queue, key] = held, row if turn is not None else None
        for queue, key, number, time in cursors["queue_started"]:
            self._starts.setdefault((queue, key), []).append((number, time))
        self._tickets = {ticket.uid: ticket for ticket in map(decode_ticket, cursors["queue_tickets"])}
        self.misses = False

    def queue(self, name: str) -> QueueRow | None:
        """Its row, which is locked."""
        if name not in self._queues:
            self._miss()
            self._wanted.pairs.add((name, ""))
        return self._queues.get(name)

    def key(self, queue: str, key: str) -> KeyRow | None:
        """The row of a key."""
        if (queue, key) not in self._keys:
            self._miss()
            self._wanted.pairs.add((queue, key))
        _, row = self._keys.get((queue, key), (0, None))
        return row

    def ticket(self, uid: str) -> Ticket | None:
        """The ticket of a row that was there, or of one of its steps."""
        operation = uid.partition("\n")[0]
        if operation not in self._seated:
            return None
        if uid not in self._uids and (uid == operation or operation not in self._operations):
            self._miss()
            self._wanted.uids.add(uid)
        return self._tickets.get(uid)

    def steps(self, uid: str) -> list[str]:
        """The ``uid`` of each ticket of its steps."""
        if uid not in self._seated:
            return []
        if uid not in self._operations:
            self._miss()
            self._wanted.steps.add(uid)
        return [ticket for ticket in self._tickets if ticket.startswith(f"{uid}\n")]

    def held(self, queue: str, key: str | None) -> int:
        """Counted behind the lock. Whoever asks has asked for the queue, or for its key."""
        return self._lines.get(queue, (0, False))[0] if key is None else self._keys.get((queue, key), (0, None))[0]

    def ready(self, queue: str) -> bool:
        """As ``held``."""
        return self._lines.get(queue, (0, False))[1]

    def starts(self, queue: str, key: str, after: int) -> list[tuple[int, float]]:
        """As ``held``."""
        return [(number, time) for number, time in self._starts.get((queue, key), ()) if number > after]

    def _miss(self) -> None:
        self.misses = True


def decode_ticket(row: tuple[Any, ...]) -> Ticket:
    """The ticket of a row of ``TICKET``."""
    uid, *rest = row
    return ticket_of_row((bytes(uid).decode(), *rest))


def _encode_ticket(ticket: Ticket) -> tuple[Any, ...]:
    # A plain number: psycopg would take a Standing for an enum of the database.
    plain = {"uid": ticket.uid.encode(), "standing": int(ticket.standing)}
    return tuple(plain.get(column, getattr(ticket, column)) for column in TICKET)


def statements(texts: Statements, places: Places) -> list[Call]:
    """What stores a decision. Nothing where no queue was touched."""
    calls: list[Call] = []
    tickets = places.tickets()
    removed = [uid.encode() for uid, ticket in tickets.items() if ticket is None]
    if removed:
        calls.append((texts["remove_tickets"], [removed]))
    stored = [_encode_ticket(ticket) for ticket in tickets.values() if ticket is not None]
    if stored:
        calls.append(texts.put_tickets.of(stored))
    if places.started:
        calls.append((texts["put_starts"], columns_of(places.started)))
        last = {(queue, key): number for queue, key, number in places.trims()}
        calls.append((texts["trim_starts"], columns_of([(*pair, number) for pair, number in last.items()])))
    queues = [
        (row.name, row.turn, row.last, row.number, row.starts, row.clock, row.rests_until) for row in places.queues()
    ]
    if queues:
        calls.append((texts["put_queues"], columns_of(queues)))
    resettled = places.resettled()
    if resettled:
        given = dict(zip(("queues", "keys", "ready"), columns_of(resettled), strict=True))
        calls.append((texts["resettle"], {**given, "most": MOST}))
        calls.append((texts["put_keys"], columns_of([_key_values(places, queue, key) for queue, key, _ in resettled])))
    return calls


def _key_values(places: Places, queue: str, key: str) -> tuple[Any, ...]:
    """The row of a key both for when somebody waits and for when nobody does: the statement knows which it is."""
    waits, idle = (places.key_row(queue, key, waits=waits) for waits in (True, False))
    return queue, key, waits.turn, waits.starts, waits.rests_until, waits.wakes, idle.idle
