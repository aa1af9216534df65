"""From a ``ListQuery`` to the conditions of one or two statements, each of which is a range of one index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lro_aio.core.record import State
from lro_aio.ports import ListQuery
from lro_aio.stores._lists import EVERY, LIVE, UNSUCCESSFUL, spans, states

__all__ = ["Part", "parts"]

Part = tuple[list[str], dict[str, Any]]
"""Conditions as SQL, and their values. The limit is the caller's."""


def parts(query: ListQuery) -> Iterator[Part]:
    """The statements whose rows, one after the other, are the page. None where no row can be on it."""
    wanted = states(query)
    if not wanted or query.limit <= 0:
        return
    conditions, values = _conditions(query, wanted)
    for span, more in spans(query, "%({})b".format):
        yield [*conditions, *span], {**values, **more}


def _conditions(query: ListQuery, states: frozenset[State]) -> Part:
    # The constants are spelled as in the indexes: a partial index is used only where its condition is seen.
    conditions: list[str] = []
    values: dict[str, Any] = {"now": query.now}
    if states <= LIVE:
        conditions.append("outcome = 0")
    elif states <= UNSUCCESSFUL:
        conditions.append("outcome = 2")
    if states not in (EVERY, LIVE, UNSUCCESSFUL):
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
