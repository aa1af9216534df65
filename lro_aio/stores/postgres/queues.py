"""Queues outside of changes: who is next in line, what operators see and change, and what nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from lro_aio.core.queueing import KNOWN_STARTS
from lro_aio.core.queues import InLine, QueueStatus, QueueTerms
from lro_aio.core.record import Record
from lro_aio.ports import Look, Route
from lro_aio.stores._places import (
    KEYS,
    LOOKED_AT,
    MOST,
    RIPE,
    SPARE,
    TICKET,
    TOLD,
    free_places,
    in_line,
    look,
    next_in_line,
    queue_row,
    status,
    terms_of,
)
from lro_aio.stores.postgres import rows
from lro_aio.stores.postgres.commits import Cursor, check_committed, ending, execute
from lro_aio.stores.postgres.connections import Link
from lro_aio.stores.postgres.places import decode_ticket
from lro_aio.stores.postgres.queries import Call, Statements

__all__ = [
    "LINE",
    "NEXT",
    "STATUS",
    "Lines",
    "change_terms",
    "line_values",
    "purge",
    "standing_values",
    "standings",
    "status_values",
    "statuses",
]

Found = Mapping[str, Sequence[tuple[Any, ...]]]

LINE = ("line_handlers", "line_queues", "line_started")
"""The statements that tell how many places there are: some seeks for each queue."""
NEXT = ("next_tickets", "next_rows")
"""Those that tell who is next, where there are places."""
STATUS = ("every_queue", "key_counts", "resting_keys")
"""Those for ``Store.queues``."""


def line_values(now: float, routes: Sequence[Route]) -> dict[str, Any]:
    """What ``LINE`` takes."""
    return {"handlers": [handler for handler, _ in routes if handler], "now": now, "most": KNOWN_STARTS}


class Lines:
    """The queues in which a process may have somebody.

    Args:
        found: The rows of ``LINE``.
        now: Epoch seconds.
        limit: Most rows of each.
    """

    def __init__(self, found: Found, now: float, limit: int) -> None:
        self._limit = limit
        self._handlers: dict[str, list[str]] = {}
        for queue, handler in found["line_handlers"]:
            self._handlers.setdefault(queue, []).append(handler)
        starts: dict[str, list[tuple[int, float]]] = {}
        for queue, number, time in found["line_started"]:
            starts.setdefault(queue, []).append((number, time))
        self._moments: list[float] = []
        self._now: dict[str, float] = {}
        self.free: dict[str, int] = {}
        """Of the queues in which any may begin, how many."""
        for *values, held, wakes in found["line_queues"]:
            row = queue_row(values)
            self._now[row.name] = max(now, row.clock)
            free, moments = free_places(row, held, starts.get(row.name, ()), wakes, self._now[row.name])
            self._moments += moments
            if free != 0 and limit > 0:
                self.free[row.name] = limit if free is None else min(free, limit)

    def wanted(self) -> dict[str, Any]:
        """What ``NEXT`` takes."""
        pairs = [(queue, handler) for queue in self.free for handler in self._handlers[queue]]
        return {
            "queues": [queue for queue, _ in pairs],
            "handlers": [handler for _, handler in pairs],
            "limits": [self.free[queue] + SPARE for queue, _ in pairs],
            "ripe": list(self.free),
            "moments": [self._now[queue] for queue in self.free],
            "most": RIPE,
        }

    def look(self, routes: Sequence[Route], found: Found) -> Look:
        """The answer, from the rows of ``NEXT``."""
        tickets = [
            ticket for ticket in map(decode_ticket, found.get("next_tickets", ()))
            if ticket.handler in self._handlers[ticket.queue]
        ]  # fmt: skip
        operations = list(map(rows.decode, found.get("next_rows", ())))
        first: list[tuple[Record, str]] = []
        for queue, free in self.free.items():
            line = [ticket for ticket in tickets if ticket.queue == queue]
            first += next_in_line(line, operations, routes, free, self._now[queue])
        return look(first, self._moments, self._limit)


def status_values(now: float, names: Sequence[str] | None) -> dict[str, Any]:
    """What ``STATUS`` takes."""
    return {"now": now, "names": None if names is None else list(names), "most": MOST, "keys": KEYS}


def statuses(found: Found, now: float) -> list[QueueStatus]:
    """How it goes with the queues, from the rows of ``STATUS``."""
    lines: dict[str, dict[str, tuple[int, int]]] = {}
    for queue, key, waiting, running in found["key_counts"]:
        lines.setdefault(queue, {})[key] = waiting, running
    resting: dict[str, dict[str, float]] = {}
    for queue, key, until in found["resting_keys"]:
        resting.setdefault(queue, {})[key] = until
    return [
        status(
            name, bounds, terms_of(override, declared, paused), rests, now=now,
            lines=lines.get(name, {}), resting=resting.get(name, {}),
        )
        for name, bounds, override, declared, paused, rests in found["every_queue"]
    ]  # fmt: skip


def standing_values(uid: str) -> dict[str, Any]:
    """What the statement takes that tells where an operation and its steps stand."""
    return {"uid": uid.encode(), "told": TOLD, "most": MOST + 1}


def standings(found: Sequence[tuple[Any, ...]], now: float) -> list[InLine]:
    """Where they stand, from its rows."""
    size = len(TICKET)
    return [
        in_line(decode_ticket(row[:size]), paused=bool(paused), rests=rests, ahead=ahead, seen=seen, now=now)
        for row in found
        for paused, *rests, ahead, seen in [row[size:]]
    ]


def change_terms(
    link: Link,
    texts: Statements,
    name: str,
    change: Callable[[QueueTerms], QueueTerms],
    notice: tuple[str, str],
) -> tuple[QueueTerms, QueueTerms]:
    """Change what holds of a queue; gives what held before, and what holds now."""
    ended: list[Cursor] = []
    before = after = QueueTerms()
    try:
        with link.pipeline() as pipeline:
            link.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            execute(link, texts["queue_made"], {"queues": [name], "keys": [""], "uids": [], "steps": []})
            found = execute(link, texts["queue_terms"], {"queue": name})
            pipeline.sync()
            ((override, declared, paused),) = found
            before = terms_of(override, declared, paused)
            after = change(before)
            values = {
                "queue": name,
                "bounds": after.bounds.to_json(),
                "override": None if after.override is None else after.override.to_json(),
                "declared": after.declared_json(),
                "paused": after.paused,
            }
            calls: list[Call] = [(texts["put_terms"], values)]
            if after.bounds != before.bounds:
                calls.append((texts["wake_keys"], {"queue": name}))
            ending(link, texts, calls, notice, ended)
    except psycopg.Error as exc:
        check_committed(ended, exc)
    return before, after


def purge(
    link: Link, texts: Statements, now: float, limit: int, notice: tuple[str, str], after: tuple[str, str]
) -> tuple[int, tuple[str, str]]:
    """Remove expired rows, and then of queues what nobody needs any more, in one round trip. It waits for no lock.

    An older release ends operations, and removes them, and tells no queue. Where it has, that is made good in a
    transaction of its own.

    Returns:
        How many rows were removed, and the last key that was looked at: ``after`` for the next time.
    """
    window = {"queue": after[0], "key": after[1], "most": LOOKED_AT}
    with link.pipeline():
        link.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        removed = execute(link, texts["purge"], [now, limit])
        execute(link, texts["forget_idle"], {"now": now, "limit": limit})
        stale = execute(link, texts["stale_queues"], {"now": now})
        some = execute(link, texts["some_keys"], window)
        link.committing = True
        link.execute("COMMIT")
    found = some.fetchall()
    alone = [(queue, key) for queue, key, is_alone, _ in found if is_alone]
    queues = {queue for (queue,) in stale} | {queue for queue, _ in alone}
    if queues:
        _give_back(link, texts, now, sorted(queues), alone, notice)
    return removed.rowcount, next(((queue, key) for queue, key, _, is_last in found if is_last), ("", ""))


def _give_back(
    link: Link,
    texts: Statements,
    now: float,
    queues: Sequence[str],
    alone: Sequence[tuple[str, str]],
    notice: tuple[str, str],
) -> None:
    """Give back the places that an older release has left, and let the next of these keys go on.

    As with any decision, the queue is locked first, and what is read of it is read in a statement behind that. A queue
    that another transaction holds is left for the next purge.
    """
    ended: list[Cursor] = []
    try:
        with link.pipeline() as pipeline:
            link.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            unlocked = execute(link, texts["unlocked"], {"queues": queues})
            pipeline.sync()
            own = [name for (name,) in unlocked]
            of, keys = [queue for queue, _ in alone], [key for _, key in alone]
            values = {"queues": own, "now": now, "of": of, "keys": keys}
            calls: list[Call] = [(texts["remove_stale"], values)] if own else []
            ending(link, texts, calls, notice if own else None, ended)
    except psycopg.Error as exc:
        check_committed(ended, exc)
