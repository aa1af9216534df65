"""From a ``ListQuery`` to statements: which index, which conditions.

Each statement names its index. Left to itself, SQLite would search for the live rows of a parent among the parent's
million finished ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lro_aio.core.record import OUTCOMES, State
from lro_aio.ports import ListQuery

__all__ = ["Statement", "statements"]

Statement = tuple[str, str, dict[str, Any]]
"""An index, the conditions as SQL, and their values. The limit is the caller's."""

_EVERY = frozenset(State)
_LIVE = frozenset(state for state, outcome in OUTCOMES.items() if outcome == 0)
_UNSUCCESSFUL = frozenset(state for state, outcome in OUTCOMES.items() if outcome == 2)


def statements(query: ListQuery) -> Iterator[Statement]:
    """The statements whose rows, one after the other, are the page. None where no row can be on it."""
    states = _states(query)
    if not states or query.limit <= 0:
        return
    conditions, values = _conditions(query, states)
    index = _index(query, states)
    first = -math.inf if query.created_from is None else query.created_from
    last = math.inf if query.created_to is None else query.created_to
    values |= {"first": first, "last": last}
    span = "create_time >= :first AND create_time <= :last"
    if query.after is not None:
        moment, name = query.after
        values |= {"after_time": moment, "after_name": name}
        if first <= moment <= last:
            # Rows created at the same moment have a statement of their own: one seek, even for thousands of them.
            yield index, " AND ".join([*conditions, "create_time = :after_time AND name > :after_name"]), values
        if moment <= last:
            span = "create_time >= :first AND create_time < :after_time"
    yield index, " AND ".join([*conditions, span]), values


def _states(query: ListQuery) -> frozenset[State]:
    states = _EVERY if query.states is None else query.states
    if query.done is None:
        return states
    return states - _LIVE if query.done else states & _LIVE


def _index(query: ListQuery, states: frozenset[State]) -> str:
    """The index that leaves the fewest rows to scan."""
    if query.parent_operation:
        return "operations_children"
    if states <= _LIVE:
        return "operations_live"
    if states <= _UNSUCCESSFUL:
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
    if states <= _LIVE:
        conditions.append("outcome = 0")
    elif states <= _UNSUCCESSFUL:
        conditions.append("outcome = 2")
    if states not in (_EVERY, _LIVE, _UNSUCCESSFUL):
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
