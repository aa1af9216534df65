"""From a ``ListQuery`` to statements: which index, which conditions.

Each statement names its index. Left to itself, SQLite would search for the live rows of a parent among the parent's
million finished ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lro_aio.core.record import State
from lro_aio.ports import ListQuery
from lro_aio.stores._lists import EVERY, LIVE, UNSUCCESSFUL, spans, states

__all__ = ["Statement", "statements"]

Statement = tuple[str, str, dict[str, Any]]
"""An index, the conditions as SQL, and their values. The limit is the caller's."""


def statements(query: ListQuery) -> Iterator[Statement]:
    """The statements whose rows, one after the other, are the page. None where no row can be on it."""
    wanted = states(query)
    if not wanted or query.limit <= 0:
        return
    conditions, values = _conditions(query, wanted)
    index = _index(query, wanted)
    for span, more in spans(query, ":{}".format):
        yield index, " AND ".join([*conditions, *span]), {**values, **more}


def _index(query: ListQuery, states: frozenset[State]) -> str:
    """The index that leaves the fewest rows to scan."""
    if query.parent_operation:
        return "operations_children"
    if states <= LIVE:
        return "operations_live"
    if states <= UNSUCCESSFUL:
        return "operations_unsuccessful"
    if query.handler is not None:
        return "operations_by_handler"
    if query.parent is not None:
        return "operations_by_parent"
    return "operations_newest"


def _conditions(query: ListQuery, states: frozenset[State]) -> tuple[list[str], dict[str, Any]]:
    # The constants are spelled as in the indexes: SQLite uses a partial index only where it sees its condition.
    conditions: list[str] = []
    values: dict[str, Any] = {"now": query.now}
    if states <= LIVE:
        conditions.append("outcome = 0")
    elif states <= UNSUCCESSFUL:
        conditions.append("outcome = 2")
    if states not in (EVERY, LIVE, UNSUCCESSFUL):
        names = {f"state_{i}": state.value for i, state in enumerate(sorted(states))}
        conditions.append(f"state IN ({', '.join(f':{name}' for name in names)})")
        values |= names
    if query.parent_operation is not None:
        conditions.append("parent_operation = :parent_operation")
        if query.parent_operation:
            conditions.append("parent_operation <> ''")
    if query.paused is not None:
        conditions.append(f"paused = {query.paused:d}")
    equal = {"parent": query.parent, "handler": query.handler, "parent_operation": query.parent_operation}
    conditions += [f"{column} = :{column}" for column in ("parent", "handler") if equal[column] is not None]
    values |= {column: value for column, value in equal.items() if value is not None}
    return conditions, values
