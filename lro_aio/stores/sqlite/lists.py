"""From a ``ListQuery`` to statements: which index, which conditions.

Each statement names its index. Left to itself, SQLite would search for the live rows of a parent among the parent's
million finished ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lro_aio.core.record import State
from lro_aio.ports import ListQuery
from lro_aio.stores._lists import EVERY, LIVE, UNSUCCESSFUL, spans, states

__all__ = ["FEW", "Statement", "few", "statements"]

Statement = tuple[str, str, dict[str, Any]]
"""An index, the conditions as SQL, and their values. The limit is the caller's."""


FEW = 1000
"""Rows up to which it is cheaper to sort what is looked for than to walk past the others."""

_STATES = "operations_states"


def few(query: ListQuery) -> Statement | None:
    """What to count, up to ``FEW``, where few of the live rows may be looked for: those that run, and paused ones.

    There may be a hundred thousand that sleep. None where that makes no difference.
    """
    wanted = states(query)
    if query.parent_operation or not wanted or not wanted <= LIVE or not (query.paused or wanted == {State.RUNNING}):
        return None
    conditions, values = _conditions(replace(query, parent=None), wanted, _STATES)  # the index has no parents
    return _STATES, " AND ".join(conditions), values


def statements(query: ListQuery, *, few: bool = False) -> Iterator[Statement]:
    """The statements whose rows, one after the other, are the page. None where no row can be on it.

    Args:
        query: The page.
        few: Whether there are no more than ``FEW`` of what ``few`` counts.
    """
    wanted = states(query)
    if not wanted or query.limit <= 0:
        return
    index = _STATES if few else _index(query, wanted)
    conditions, values = _conditions(query, wanted, index)
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


def _conditions(query: ListQuery, states: frozenset[State], index: str) -> tuple[list[str], dict[str, Any]]:
    # The constants are spelled as in the indexes: SQLite uses a partial index only where it sees its condition.
    conditions: list[str] = []
    values: dict[str, Any] = {"now": query.now}
    if index == _STATES:
        pass  # it has the states, and not what becomes of them
    elif states <= LIVE:
        conditions.append("outcome = 0")
    elif states <= UNSUCCESSFUL:
        conditions.append("outcome = 2")
    if index == _STATES or states not in (EVERY, LIVE, UNSUCCESSFUL):
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
