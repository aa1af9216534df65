"""From a ``ListQuery`` to the conditions of one or two statements, each of which is a range of one index."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lro_aio.core.record import OUTCOMES, State
from lro_aio.ports import ListQuery

__all__ = ["Part", "parts"]

Part = tuple[list[str], dict[str, Any]]
"""Conditions as SQL, and their values. The limit is the caller's."""

_EVERY = frozenset(State)
_LIVE = frozenset(state for state, outcome in OUTCOMES.items() if outcome == 0)
_UNSUCCESSFUL = frozenset(state for state, outcome in OUTCOMES.items() if outcome == 2)


def parts(query: ListQuery) -> Iterator[Part]:
    """The statements whose rows, one after the other, are the page. None where no row can be on it."""
    states = _states(query)
    if not states or query.limit <= 0:
        return
    conditions, values = _conditions(query, states)
    first = -math.inf if query.created_from is None else query.created_from
    last = math.inf if query.created_to is None else query.created_to
    span = ["create_time >= %(first)b", "create_time <= %(last)b"]
    values |= {"first": first, "last": last}
    if query.after is not None:
        moment, name = query.after
        if first <= moment <= last:
            # Rows created at the same moment have a statement of their own: one seek, even for thousands of them.
            same = ["create_time = %(moment)b", "name > %(name)b"]
            yield [*conditions, *same], {**values, "moment": moment, "name": name}
        if moment <= last:
            span = ["create_time >= %(first)b", "create_time < %(moment)b"]
            values["moment"] = moment
    yield [*conditions, *span], values


def _states(query: ListQuery) -> frozenset[State]:
    states = _EVERY if query.states is None else query.states
    if query.done is None:
        return states
    return states - _LIVE if query.done else states & _LIVE


def _conditions(query: ListQuery, states: frozenset[State]) -> Part:
    # The constants are spelled as in the indexes: a partial index is used only where its condition is seen.
    conditions: list[str] = []
    values: dict[str, Any] = {"now": query.now}
    if states <= _LIVE:
        conditions.append("outcome = 0")
    elif states <= _UNSUCCESSFUL:
        conditions.append("outcome = 2")
    if states not in (_EVERY, _LIVE, _UNSUCCESSFUL):
        conditions.append("state = ANY(%(states)b::text[])")
        values["states"] = [state.value for state in sorted(states)]
    if query.parent_operation:
        conditions.append("parent_operation <> ''")
    if query.paused is not None:
        conditions.append("paused" if query.paused else "NOT paused")
    equal = {"parent": query.parent, "handler": query.handler, "parent_operation": query.parent_operation}
    conditions += [f"{column} = %({column})b" for column, value in equal.items() if value is not None]
    values |= {column: value for column, value in equal.items() if value is not None}
    return conditions, values
