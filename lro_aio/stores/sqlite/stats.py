"""The counts of ``Store.stats``: seeks into indexes, each of which stops at a bound."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from lro_aio.core.record import State
from lro_aio.core.stats import (
    Count,
    DueRoute,
    FailureGroup,
    FoundFailure,
    StateCount,
    Stats,
    arranged,
    grouped,
    total,
)
from lro_aio.ports import Route, StatsQuery
from lro_aio.stores.sqlite import queries

__all__ = ["gather"]

_SQL = queries.load()

_MOST_BYTES = 4 * 1024 * 1024
"""Of errors that are read for their groups."""


def gather(connection: sqlite3.Connection, query: StatsQuery) -> Stats:
    """All of it, in a transaction that the caller has begun."""
    most = query.most
    cells = [(state, handler) for state in State for handler in _handlers(connection, state)]
    counts = [
        StateCount(handler=handler, state=state, count=_count(connection, "count", (state.value, handler), most))
        for state, handler in cells
    ]
    live = [(state.value, handler) for state, handler in cells if not state.terminal]
    owners = connection.execute(_SQL["count_owners"], (most + 1,)).fetchall()
    return arranged(
        time=query.now,
        counts=counts,
        paused=total(_count(connection, "count_paused", cell, most) for cell in live),
        owners=owners,
        more=sum(number for _, number in owners) > most,
        due=_due(connection, query),
        failures=_failures(connection, query),
    )


def _count(connection: sqlite3.Connection, statement: str, values: tuple[str | float, ...], most: int) -> Count:
    (found,) = connection.execute(_SQL[statement], (*values, most + 1)).fetchone()
    return Count.up_to(found, most)


def _handlers(connection: sqlite3.Connection, state: State) -> Iterator[str]:
    """The handlers that have rows in a state: one seek for each."""
    if _count(connection, "count", (state.value, ""), 1).number:
        yield ""
    handler = ""
    while (found := connection.execute(_SQL["next_handler"], (state.value, handler)).fetchone()) is not None:
        (handler,) = found
        yield handler


def _due(connection: sqlite3.Connection, query: StatsQuery) -> Iterator[DueRoute]:
    """Two seeks for each route that any row has."""
    route: Route | None = ("", "")
    while route is not None:
        handler, resume_point = route
        asked = (handler, resume_point or "", query.now)
        found = connection.execute(_SQL["oldest_due"], asked).fetchone()
        if found is not None:
            since, name = found
            count = _count(connection, "count_due", asked, query.most)
            yield DueRoute(handler=handler, resume_point=resume_point or "", since=since, name=name, count=count)
        route = connection.execute(_SQL["next_route"], (*route, route[0])).fetchone()


def _failures(connection: sqlite3.Connection, query: StatsQuery) -> tuple[FailureGroup, ...]:
    found: list[FoundFailure] = []
    size = 0
    more = False
    for row in connection.execute(_SQL["failures"], (query.now, query.most + 1)):
        more = len(found) >= query.failures or size > _MOST_BYTES
        if more:
            break
        found.append(FoundFailure(*row))
        size += len(found[-1].error)
    return grouped(found, more=more)
