"""What a ``ListQuery`` asks for, for the stores that answer it from indexes in SQL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from lro_aio.core.record import OUTCOMES, State
from lro_aio.ports import ListQuery

__all__ = ["EVERY", "LIVE", "UNSUCCESSFUL", "spans", "states"]

EVERY = frozenset(State)
LIVE = frozenset(state for state, outcome in OUTCOMES.items() if outcome == 0)
UNSUCCESSFUL = frozenset(state for state, outcome in OUTCOMES.items() if outcome == 2)


def states(query: ListQuery) -> frozenset[State]:
    """The states in which a row may be on the page."""
    asked = EVERY if query.states is None else query.states
    if query.done is None:
        return asked
    return asked - LIVE if query.done else asked & LIVE


def spans(query: ListQuery, place: Callable[[str], str]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The times of creation whose rows, one after the other, are the page: conditions as SQL, and their values.

    Args:
        query: The page.
        place: Writes the place of a value in a statement.
    """
    first = -math.inf if query.created_from is None else query.created_from
    last = math.inf if query.created_to is None else query.created_to
    since = f"create_time >= {place('first')}"
    moment, name = query.after or (math.inf, "")
    if query.after is None or moment > last:
        yield [since, f"create_time <= {place('last')}"], {"first": first, "last": last}
        return
    if first <= moment:
        # Rows created at the same moment have a statement of their own: one seek, even for thousands of them.
        yield [f"create_time = {place('moment')}", f"name > {place('name')}"], {"moment": moment, "name": name}
    yield [since, f"create_time < {place('moment')}"], {"first": first, "moment": moment}
