"""The counts of ``Store.stats``: seeks into indexes, each of which stops at a bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from lro_aio.ports import StatsQuery

__all__ = ["STATEMENTS", "gather", "values"]

STATEMENTS = ("count_states", "count_owners", "count_due", "failures")
"""The statements, for one snapshot."""

_MOST_BYTES = 4 * 1024 * 1024
"""Of errors that are read for their groups."""

Rows = Sequence[tuple[Any, ...]]


def values(query: StatsQuery) -> dict[str, Any]:
    """What the statements take: each finds one more than is counted, to tell whether there are more."""
    return {"now": query.now, "most": query.most + 1, "failures": query.failures + 1, "bytes": _MOST_BYTES}


def gather(query: StatsQuery, found: Mapping[str, Rows]) -> Stats:
    """All of it, from the rows of the statements."""
    most = query.most
    cells = [
        (StateCount(handler=handler, state=State(state), count=Count.up_to(number, most)), Count.up_to(paused, most))
        for state, handler, number, paused in found["count_states"]
    ]
    due = [
        DueRoute(handler=handler, resume_point=point, since=since, name=name, count=Count.up_to(number, most))
        for handler, point, since, name, number in found["count_due"]
    ]
    owners = found["count_owners"]
    return arranged(
        time=query.now,
        counts=(cell for cell, _ in cells),
        paused=total(paused for cell, paused in cells if not cell.state.terminal),
        owners=owners,
        more=sum(number for _, number in owners) > most,
        due=due,
        failures=_failures(found["failures"], query.failures),
    )


def _failures(found: Rows, most: int) -> tuple[FailureGroup, ...]:
    read = [
        FoundFailure(name, handler, bytes(error), time) for name, handler, error, time in found if error is not None
    ]
    return grouped(read[:most], more=len(read) < len(found) or len(found) > most)
