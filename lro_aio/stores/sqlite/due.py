"""The rows that are due, and when the next ones are: what a look reads in its snapshot."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from lro_aio.core.record import Record, State
from lro_aio.ports import Route
from lro_aio.stores.sqlite import queries, rows

__all__ = ["DueRows", "has_mark", "mark", "next_check", "single", "unknown"]

_SQL = queries.load()

SMALL = 2048
"""Bytes of payloads up to which a due row is read whole: it is likely to be claimed, and then is not read again."""


class DueRows:
    """Due rows. Those that the last look found, and that nobody has changed since, are not read again.

    Where many are due, a row is found by look after look until its claim is committed: most of a look would be rows
    that are known.
    """

    def __init__(self) -> None:
        self._last: Mapping[int, Record] = {}
        """By rowid: outlines of rows that waited."""

    def look(
        self,
        connection: sqlite3.Connection,
        now: float,
        routes: Iterable[Route],
        limit: int,
        *,
        skipped: str,
        whole: list[Record],
    ) -> list[Record]:
        """The outlines of what is due, soonest first.

        Args:
            connection: In a transaction.
            now: Epoch seconds.
            routes: Those asked for, each with a resume point.
            limit: Most rows.
            skipped: An owner whose rows are left out.
            whole: Gets the small ones of those that were read, whole.
        """
        rowids = _due(connection, now, routes, limit, skipped)
        last = self._last
        found = _unchanged(connection, {rowid: last[rowid] for rowid in rowids if rowid in last}) if last else {}
        read = [rowid for rowid in rowids if rowid not in found] if found else rowids
        found.update(zip(read, _outlines(connection, read, whole), strict=True))
        self._last = {rowid: record for rowid, record in found.items() if has_mark(record)}
        return [found[rowid] for rowid in rowids]


def has_mark(record: Record) -> bool:
    """Whether ``mark`` tells of each change: one that waits and is our own program's."""
    return record.state in (State.SUSPENDED, State.PENDING) and not record.foreign and not record.owner


def mark(record: Record) -> tuple[object, ...]:
    """What ``marks`` reads: it changes with the outline, also where the revision stays as it is."""
    return record.uid, record.revision, record.handover, record.check_time, record.owner, int(record.cancel_children)


def _unchanged(connection: sqlite3.Connection, known: Mapping[int, Record]) -> dict[int, Record]:
    marks = connection.execute(_SQL["marks"], (json.dumps(list(known)),)) if known else ()
    return {rowid: known[rowid] for rowid, *found in marks if tuple(found) == mark(known[rowid])}


def _due(connection: sqlite3.Connection, now: float, routes: Iterable[Route], limit: int, skipped: str) -> list[int]:
    """The rowids of the rows that are due, soonest first."""
    if limit <= 0:
        return []
    found: list[tuple[float, int]] = []
    for handler, resume_point in routes:
        found += connection.execute(_SQL["due"], (handler, resume_point, now, skipped, limit))
    found.sort()
    return [rowid for _, rowid in found[:limit]]


def _outlines(connection: sqlite3.Connection, rowids: Sequence[int], whole: list[Record]) -> list[Record]:
    """The outlines of these rows, in their order. Those that are small are read whole, and added to ``whole``."""
    if not rowids:
        return []
    text = json.dumps(rowids)
    whole += map(rows.decode, connection.execute(_SQL["due_small"], (text, SMALL)))
    if len(whole) == len(rowids):
        return [record.outline() for record in whole]
    return list(map(rows.decode, connection.execute(_SQL["due_rows"], (text,))))


def single(connection: sqlite3.Connection, routes: Iterable[Route]) -> Iterator[Route]:
    """The routes, those of all resume points taken apart: two seeks for each that the rows of the handler have."""
    for handler, resume_point in routes:
        route: Route | None = (handler, "" if resume_point is None else resume_point)
        while route is not None:
            yield route
            route = None if resume_point is not None else _next_point(connection, route)


def _next_point(connection: sqlite3.Connection, route: Route) -> Route | None:
    """The next route of the same handler."""
    found: Route | None = connection.execute(_SQL["next_route"], (*route, route[0])).fetchone()
    return found if found is not None and found[0] == route[0] else None


def next_check(connection: sqlite3.Connection, now: float, routes: Iterable[Route], owner: str) -> float | None:
    """When the next row of these routes is due that is not the owner's."""
    found = [connection.execute(_SQL["next_check"], (*route, now, owner)).fetchone() for route in routes]
    return min((row[0] for row in found if row is not None), default=None)


def unknown(connection: sqlite3.Connection, overdue: float, known: Container[Route], owner: str) -> Route | None:
    """A route that is not known and has a row due at ``overdue``: one step per route, regardless of its rows."""
    route: Route | None = ("", "")
    while route is not None:
        if route not in known and connection.execute(_SQL["due"], (*route, overdue, owner, 1)).fetchone() is not None:
            return route
        route = connection.execute(_SQL["next_route"], (*route, route[0])).fetchone()
    return None
