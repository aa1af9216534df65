"""What a filter says about the columns that stores have indexes on."""

from __future__ import annotations

from collections.abc import Sequence

from lro_aio.core.quick import dataclass
from lro_aio.core.record import State

__all__ = ["ALL_STATES", "ANYTHING", "ENDED", "Bounds", "Pushdown"]

ALL_STATES = frozenset(State)
ENDED = frozenset(state for state in State if state.terminal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushdown:
    """Conditions that every matching row satisfies, for a store's indexes. None is no condition."""

    done: bool | None = None
    states: frozenset[State] | None = None
    """None where it would be all states, or all states of one ``done``. Empty: no row can match."""
    handler: str | None = None
    paused: bool | None = None
    created_from: float | None = None
    """Epoch seconds, inclusive."""
    created_to: float | None = None
    """Epoch seconds, inclusive."""
    exact: bool = False
    """The conditions are the whole filter: a row that satisfies them needs no evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A box around the rows that a part of a filter matches."""

    states: frozenset[State] = ALL_STATES
    handler: str | None = None
    paused: bool | None = None
    """None: both."""
    created_from: float | None = None
    created_to: float | None = None
    exact: bool = False
    """Every row in the box matches."""

    @property
    def only_states(self) -> bool:
        """Whether nothing but the state is bounded."""
        others = (self.handler, self.paused, self.created_from, self.created_to)
        return all(bound is None for bound in others)

    def negate(self) -> Bounds:
        """Around the rows that this part does not match."""
        if self.exact and self.only_states:
            return Bounds(states=ALL_STATES - self.states, exact=True)
        return ANYTHING

    @staticmethod
    def intersect(parts: Sequence[Bounds]) -> Bounds:
        """Around the rows that all parts match."""
        states = frozenset.intersection(*(part.states for part in parts))
        handlers = {part.handler for part in parts if part.handler is not None}
        pauses = {part.paused for part in parts if part.paused is not None}
        if len(handlers) > 1 or len(pauses) > 1:
            return Bounds(states=frozenset(), exact=True)
        return Bounds(
            states=states,
            handler=next(iter(handlers), None),
            paused=next(iter(pauses), None),
            created_from=max((part.created_from for part in parts if part.created_from is not None), default=None),
            created_to=min((part.created_to for part in parts if part.created_to is not None), default=None),
            exact=all(part.exact for part in parts),
        )

    @staticmethod
    def unite(parts: Sequence[Bounds]) -> Bounds:
        """Around the rows that one part or another matches."""
        handlers = {part.handler for part in parts}
        pauses = {part.paused for part in parts}
        starts = [part.created_from for part in parts if part.created_from is not None]
        ends = [part.created_to for part in parts if part.created_to is not None]
        return Bounds(
            states=frozenset.union(*(part.states for part in parts)),
            handler=handlers.pop() if len(handlers) == 1 else None,
            paused=pauses.pop() if len(pauses) == 1 else None,
            created_from=min(starts) if len(starts) == len(parts) else None,
            created_to=max(ends) if len(ends) == len(parts) else None,
            # A box around two boxes holds more than both, unless they differ in the states alone.
            exact=all(part.exact and part.only_states for part in parts),
        )

    def pushdown(self) -> Pushdown:
        """These bounds as conditions for a store."""
        done = True if self.states <= ENDED else False if self.states <= ALL_STATES - ENDED else None
        whole = {None: ALL_STATES, True: ENDED, False: ALL_STATES - ENDED}[done]
        return Pushdown(
            done=done if self.states else None,
            states=None if self.states == whole else self.states,
            handler=self.handler,
            paused=self.paused,
            created_from=self.created_from,
            created_to=self.created_to,
            exact=self.exact,
        )


ANYTHING = Bounds()
"""Nothing is known."""
