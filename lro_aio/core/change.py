"""A change to one row, as data: what the engine asks a store to apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lro_aio.core.errors import OperationNotFoundError
from lro_aio.core.record import Record

__all__ = ["Change", "Outcome"]

Outcome = Record | None | Exception
"""What became of a change: the row as it is now, None where it was removed, or why nothing was written."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One pure function on one row.

    A store may call it several times (a transaction that is run again), so it must have no effect of its own.
    """

    name: str
    """The row's name."""
    event: Callable[[Record | None], Record | None] | Callable[[Record], Record | None]
    """From the old row to the new one: the same object for "nothing to write", None for "remove it"."""
    creates: bool = False
    """Whether it is for a row that may not exist: only then is ``event`` called with None."""
    size: int = 512
    """Approximate bytes that it adds to a batch."""
    urgent: bool = False
    """A claim or a renewal: it goes by a lane of its own, so that a slow batch never costs a lease."""

    def apply(self, row: Record | None) -> Record | None:
        """The row after the change.

        Raises:
            OperationNotFoundError: There is no such row and the change does not make one.
            LroError: The transition's own refusal.
        """
        if row is None and not self.creates:
            raise OperationNotFoundError(self.name)
        return self.event(row)  # type: ignore[arg-type]  # None is passed to creating events only
