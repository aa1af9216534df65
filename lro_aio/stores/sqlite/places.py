"""The tables of the queues: what a transaction reads and writes of them, and who is next in line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from lro_aio.core.queueing import KNOWN_STARTS, WINDOW, KeyRow, Places, QueueRow, Resettled, Standing, Ticket
from lro_aio.core.queues import InLine, QueueStatus, QueueTerms
from lro_aio.core.record import Record
from lro_aio.ports import Look, Route
from lro_aio.stores._places import (
    KEY,
    KEYS,
    LOOKED_AT,
    MOST,
    QUEUE,
    RIPE,
    SPARE,
    TICKET,
    TOLD,
    free_places,
    in_line,
    in_order,
    look,
    next_in_line,
    queue_row,
    status,
    terms_of,
    ticket_of_row,
)
from lro_aio.stores.sqlite import queries, rows

__all__ = ["SqliteReader", "change_terms", "forget_idle", "line", "standings", "statuses", "write_places"]

_SQL = queries.load()


class SqliteReader:
    """``queueing.Reader`` in a transaction.

    Args:
        connection: In a transaction.
        before: The rows that the transaction changes, as stored, by name: those that are new have no ticket.
    """

    def __init__(self, connection: sqlite3.Connection, before: Mapping[str, Record]) -> None:
        self._connection = connection
        self._before = before
        self._tickets: dict[str, Ticket] | None = None
        self._steps: dict[str, dict[str, Ticket]] = {}

    def queue(self, name: str) -> QueueRow | None:
        """One statement."""
        found = self._connection.execute(_SQL["queue"], (name,)).fetchone()
        return None if found is None else queue_row(found)

    def key(self, queue: str, key: str) -> KeyRow | None:
        """One statement."""
        found = self._connection.execute(_SQL["queue_key"], (queue, key)).fetchone()
        return None if found is None else KeyRow(**dict(zip(KEY, found, strict=True)))

    def ticket(self, uid: str) -> Ticket | None:
        """One statement for all of the rows, and one for each step."""
        if "\n" in uid:
            known = self._steps.get(uid.partition("\n")[0])
            return self._one(uid) if known is None else known.get(uid)
        if self._tickets is None:
            uids = json.dumps([row.uid for row in self._before.values() if row.seat is not None])
            found = map(ticket_of_row, self._connection.execute(_SQL["tickets"], (uids,)))
            self._tickets = {ticket.uid: ticket for ticket in found}
        return self._tickets.get(uid)

    def steps(self, uid: str) -> list[str]:
        """One seek."""
        return list(self._of(uid))

    def _one(self, uid: str) -> Ticket | None:
        found = self._connection.execute(_SQL["ticket"], (uid,)).fetchone()
        return None if found is None else ticket_of_row(found)

    def _of(self, uid: str) -> dict[str, Ticket]:
        if uid not in self._steps:
            found = map(ticket_of_row, self._connection.execute(_SQL["step_tickets"], (uid, uid)))
            self._steps[uid] = {ticket.uid: ticket for ticket in found}
        return self._steps[uid]

    def held(self, queue: str, key: str | None) -> int:
        """One statement, on an index of what is taken."""
        text, values = (_SQL["held"], (queue,)) if key is None else (_SQL["held_key"], (queue, key))
        (count,) = self._connection.execute(text, values).fetchone()
        return int(count)

    def ready(self, queue: str) -> bool:
        """One seek."""
        return self._connection.execute(_SQL["any_ready"], (queue,)).fetchone() is not None

    def starts(self, queue: str, key: str, after: int) -> list[tuple[int, float]]:
        """One seek."""
        return self._connection.execute(_SQL["starts"], (queue, key, after, KNOWN_STARTS)).fetchall()


def write_places(connection: sqlite3.Connection, places: Places) -> None:
    """Store what was decided. No statement where no queue was touched."""
    if places.untouched:
        return
    removed, stored = [], []
    for uid, ticket in places.tickets().items():
        if ticket is None:
            removed.append((uid,))
        else:
            stored.append(tuple(getattr(ticket, column) for column in TICKET))
    if removed:
        connection.executemany(_SQL["remove_ticket"], removed)
    if stored:
        connection.executemany(_SQL["put_ticket"], stored)
    if places.started:
        connection.executemany(_SQL["put_start"], places.started)
        connection.executemany(_SQL["trim_starts"], places.trims())
    queues = places.queues()
    if queues:
        connection.executemany(_SQL["put_queue"], map(_queue_values, queues))
    for resettled in places.resettled():
        waits = _resettle(connection, resettled)
        row = places.key_row(resettled.queue, resettled.key, waits=waits)
        connection.execute(_SQL["put_key"], tuple(getattr(row, column) for column in KEY))


def _resettle(connection: sqlite3.Connection, wanted: Resettled) -> bool:
    """Let the first tickets of a key be READY, and the others stand BEHIND; returns whether there are any."""
    ready, behind = (
        list(map(ticket_of_row, connection.execute(_SQL["next_of_key"], (wanted.queue, wanted.key, standing, most))))
        for standing, most in ((Standing.READY, MOST), (Standing.BEHIND, max(wanted.ready, 1)))
    )
    first = sorted([*ready, *behind], key=in_order)
    moved = [
        (standing, ticket.uid)
        for place, ticket in enumerate(first)
        if ticket.standing is not (standing := Standing.READY if place < wanted.ready else Standing.BEHIND)
    ]
    if moved:
        connection.executemany(_SQL["move_ticket"], moved)
    return bool(first)


def line(connection: sqlite3.Connection, now: float, routes: Sequence[Route], limit: int) -> Look:
    """Who is next in the lines of these routes: some seeks for each queue, however long its line is."""
    handlers: dict[str, list[str]] = {}
    for handler in dict.fromkeys(handler for handler, _ in routes if handler):
        queue = ""
        while (found := connection.execute(_SQL["next_queue"], (handler, queue)).fetchone()) is not None:
            (queue,) = found
            handlers.setdefault(queue, []).append(handler)
    known = set(routes)
    first: list[tuple[Record, str]] = []
    moments: list[float] = []
    for queue, served in handlers.items():
        first += _next(connection, queue, served, now, limit, known, moments)
    return look(first, moments, limit)


def _next(
    connection: sqlite3.Connection,
    queue: str,
    handlers: Iterable[str],
    now: float,
    limit: int,
    routes: set[Route],
    moments: list[float],
) -> list[tuple[Record, str]]:
    """Who is next in one line, each with its step.

    Adds to ``moments`` when there will be more without anybody giving back a place.
    """
    reader = SqliteReader(connection, {})
    row = reader.queue(queue) or QueueRow(name=queue, known=False)
    now = max(now, row.clock)
    rate = row.bounds.rate
    starts = [] if rate is None else reader.starts(queue, "", row.starts - rate.count)
    (wakes,) = connection.execute(_SQL["next_wake"], (queue, now)).fetchone() or (None,)
    free, later = free_places(row, reader.held(queue, None), starts, wakes, now)
    moments += later
    wanted = limit if free is None else min(free, limit)
    if wanted <= 0:
        return []
    found: dict[str, Ticket] = {}
    for handler in handlers:
        for ticket in map(ticket_of_row, connection.execute(_SQL["next_in_line"], (queue, handler, wanted + SPARE))):
            found[ticket.uid] = ticket
    for (key,) in connection.execute(_SQL["ripe_keys"], (queue, now, RIPE)).fetchall():
        heads = [
            ticket_of_row(values)
            for standing in (Standing.READY, Standing.BEHIND)
            for values in connection.execute(_SQL["next_of_key"], (queue, key, standing, 1))
        ]
        if heads and (head := min(heads, key=in_order)).handler in handlers:
            found[head.uid] = head
    names = json.dumps([ticket.name for ticket in found.values()])
    operations = map(rows.decode, connection.execute(_SQL["line_rows"], (names,)))
    return next_in_line(found.values(), operations, routes, wanted, now)


def change_terms(
    connection: sqlite3.Connection, name: str, change: Callable[[QueueTerms], QueueTerms]
) -> tuple[QueueTerms, QueueTerms]:
    """Change what holds of a queue; gives what held before, and what holds now."""
    found = connection.execute(_SQL["terms"], (name,)).fetchone()
    before = QueueTerms() if found is None else terms_of(*found)
    after = change(before)
    if after != before or found is None or not after.declared:
        override = None if after.override is None else after.override.to_json()
        values = (name, after.bounds.to_json(), override, after.declared_json(), int(after.paused))
        connection.execute(_SQL["put_terms"], values)
    if after.bounds != before.bounds:
        connection.execute(_SQL["wake_keys"], (0.0, name))
    return before, after


def statuses(connection: sqlite3.Connection, now: float, names: Sequence[str] | None) -> list[QueueStatus]:
    """How it goes with the queues, in one snapshot."""
    found = []
    for name, bounds, override, declared, paused, rests in connection.execute(_SQL["every_queue"]).fetchall():
        if names is not None and name not in names:
            continue
        if not bounds:  # nobody has said yet what it allows
            continue
        terms = terms_of(override, declared, paused)
        resting = dict(connection.execute(_SQL["resting_keys"], (name, now, KEYS)))
        counts = connection.execute(_SQL["key_counts"], {"queue": name, "most": MOST}).fetchall()
        lines = {key: (waiting, running) for key, waiting, running in counts}
        found.append(status(name, bounds, terms, rests, now=now, lines=lines, resting=resting))
    return found


def standings(connection: sqlite3.Connection, uid: str, now: float) -> list[InLine]:
    """Where an operation and its steps stand, in one snapshot."""
    reader, found = SqliteReader(connection, {}), []
    tickets = connection.execute(_SQL["tickets_of"], {"uid": uid, "told": TOLD}).fetchall()
    for ticket in map(ticket_of_row, tickets):
        queue, key = reader.queue(ticket.queue), reader.key(ticket.queue, ticket.key)
        asked = {"queue": ticket.queue, "most": MOST + 1}
        asked |= {"priority": ticket.priority, "turn": ticket.turn, "number": ticket.number}
        ahead, seen = connection.execute(_SQL["ahead"], asked).fetchone()
        rests = [row.rests_until for row in (queue, key) if row is not None]
        paused = queue is not None and queue.paused
        found.append(in_line(ticket, paused=paused, rests=rests, ahead=ahead, seen=seen, now=now))
    return found


def forget_idle(connection: sqlite3.Connection, now: float, limit: int, after: tuple[str, str]) -> tuple[str, str]:
    """Remove up to ``limit`` keys of which nothing is to be remembered, and places that nobody has any more.

    An older release ends operations, and removes them, and tells no queue.

    Args:
        connection: In a transaction.
        now: Epoch seconds.
        limit: See above.
        after: The last key that was looked at.

    Returns:
        The same for the next time.
    """
    for _ in range(WINDOW):  # behind one that was first of its key there may be another
        stale = connection.execute(_SQL["stale"], (now,)).fetchall()
        if not stale:
            break
        connection.executemany(_SQL["remove_ticket"], [(uid,) for uid, _, _ in stale])
        _leave(connection, now, {(queue, key) for _, queue, key in stale if key})
    some = connection.execute(_SQL["some_keys"], (*after, LOOKED_AT)).fetchall()
    _leave(connection, now, {(queue, key) for queue, key, alone in some if alone})
    idle = connection.execute(_SQL["idle_keys"], (now, limit)).fetchall()
    if idle:
        connection.executemany(_SQL["remove_key"], idle)
        connection.executemany(_SQL["trim_starts"], [(*key, 2**62) for key in idle])
    return some[-1][:2] if len(some) == LOOKED_AT else ("", "")


def _leave(connection: sqlite3.Connection, now: float, keys: Iterable[tuple[str, str]]) -> None:
    connection.executemany(_SQL["leave_key"], [{"now": now, "queue": queue, "key": key} for queue, key in keys])


def _queue_values(row: QueueRow) -> tuple[object, ...]:
    plain = {"bounds": row.bounds.to_json() if row.known else "", "paused": int(row.paused)}
    return tuple(plain.get(column, getattr(row, column)) for column in QUEUE)
