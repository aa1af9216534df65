"""The rows that are due, and when the next ones are: what a look reads in its snapshot."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Container, Iterable, Iterator, Sequence

from lro_aio.core.record import Record
from lro_aio.ports import Route
from lro_aio.stores.sqlite import queries, rows

__all__ = ["due", "next_check", "single", "unknown"]

_SQL = queries.load()

SMALL = 2048
"""Bytes of payloads up to which a due row is read whole: it is likely to be claimed, and then is not read again."""


def due(
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
        whole: Gets the rows whole, where all of them are small.
    """
    return _outlines(connection, _rowids(connection, now, routes, limit, skipped), whole)


def _rowids(connection: sqlite3.Connection, now: float, routes: Iterable[Route], limit: int, skipped: str) -> list[int]:
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
