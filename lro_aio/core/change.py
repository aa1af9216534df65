"""A change to one row, as data: what the engine asks a store to apply."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from lro_aio.core.errors import OperationNotFoundError
from lro_aio.core.journal import MOST_ENTRIES, Appending, Entry
from lro_aio.core.queueing import Rest
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record
from lro_aio.core.step_places import StepPlaces, Take
from lro_aio.core.webhooks import told

__all__ = ["Change", "Outcome", "names_of", "run"]

Outcome = Record | None | Exception
"""What became of a change: the row as it is now, None where it was removed, or why nothing was written."""


@dataclass(slots=True, eq=False)  # not frozen, which takes four times as long to make
class Change:
    """One pure function on one row. Do not alter it once it is made.

    A store may call the function several times (a transaction may be retried), so it must have no side effects.
    """

    name: str
    """The row's name."""
    event: Callable[[Record | None], Record | None] | Callable[[Record], Record | None]
    """From the old row to the new one: the same object for "nothing to write", None for "remove it"."""
    creates: bool = False
    """Whether the row may not exist yet: only then is ``event`` called with None."""
    size: int = 512
    """Approximate bytes that it adds to a batch, besides what it appends."""
    guard: tuple[str, Callable[[Record], object]] | None = None
    """(name, check): another row, read in the same transaction. What the check raises refuses the change."""
    claims: bool = False
    """Whether it is a claim. Claims have a lane of their own: one may wait for a lock that a dead process holds."""
    appends: tuple[Entry, ...] = ()
    """What it appends to the row's journal, unless the event raises or removes the row. What is there already stays as
    it is: a lost answer, a message that comes twice."""
    most_entries: int = MOST_ENTRIES
    """Entries that the journal may have then."""
    made: tuple[Record, ...] = ()
    """Rows that it made besides its own, when it was run last: the deliveries of an event."""
    rests: tuple[Rest, ...] = ()
    """Queues, or keys of them, that it puts to rest."""
    takes: Take | None = None
    """The place that a step of the row wants."""
    gives: tuple[str, ...] = ()
    """Steps of the row that need their places no longer."""
    stands: tuple[str, ...] = ()
    """Steps of the row that wait in line from here on. Others leave it when the run ends."""

    @property
    def names(self) -> tuple[str, ...]:
        """The rows that a store must read for it: its own, and the guard's."""
        return (self.name,) if self.guard is None else (self.name, self.guard[0])

    def apply(self, row: Record | None) -> Record | None:
        """The row after the change.

        Raises:
            OperationNotFoundError: There is no such row and the change does not create one.
            LroError: The transition refused the change.
        """
        if row is None and not self.creates:
            raise OperationNotFoundError(self.name)
        return self.event(row)  # type: ignore[arg-type]  # None is passed to creating events only


def names_of(changes: Collection[Change]) -> dict[str, None]:
    """The rows that a store must read for these changes, each once and in order."""
    names = dict.fromkeys([change.name for change in changes])
    names.update(dict.fromkeys([change.guard[0] for change in changes if change.guard is not None]))
    return names


def run(
    changes: Iterable[Change],
    rows: dict[str, Record | None],
    journal: Appending | None = None,
    places: StepPlaces | None = None,
) -> list[Outcome]:
    """Apply changes in order to ``rows``, in place; return their outcomes in the same order.

    A change that raises is refused alone: its exception is its outcome, and its row stays as it was. One that ends an
    operation with webhooks puts the rows of their deliveries into ``rows`` too: they are to be written with it.

    Args:
        changes: What to apply.
        rows: The rows by name, as stored; one that does not exist is absent or None.
        journal: Takes what the changes append. None: none of them appends anything.
        places: Has the queues in which the rows wait. None: none of them waits in any.
    """
    return [_outcome(change, rows, journal, places) for change in changes]


def _outcome(
    change: Change, rows: dict[str, Record | None], journal: Appending | None, places: StepPlaces | None
) -> Outcome:
    change.made = ()
    try:
        if change.guard is not None:
            name, check = change.guard
            guarding = rows.get(name)
            if guarding is None:
                raise OperationNotFoundError(name)
            check(guarding)
        before = rows.get(change.name)
        row = change.apply(before)
        if row is not None and row.name != change.name:
            raise ValueError(f"a change of {change.name!r} returned the row {row.name!r}")
        if change.appends and row is not None:
            assert journal is not None
            row = journal.append(row, change.appends, change.most_entries)
        if places is not None:
            row = _placed(change, before, row, places)
        if row is not None and row is not before and (row.paused or row.done):
            row, change.made = told(before, row)
    except Exception as exc:  # noqa: BLE001 - whatever a change raises is its outcome
        # Without this frame: the outcome may live long, and must not keep every row of the batch alive.
        return exc.with_traceback(exc.__traceback__ and exc.__traceback__.tb_next)
    rows[change.name] = row
    if change.made:
        rows.update((delivery.name, delivery) for delivery in change.made)
    return row


def _placed(change: Change, before: Record | None, row: Record | None, places: StepPlaces) -> Record | None:
    """What the queues make of the row. They are not asked for one that has nothing to do with any, as most have not."""
    seated = (row is not None and row.seat is not None) or (before is not None and before.seat is not None)
    if seated or change.rests:
        row = places.settled(before, row, rests=change.rests, gives=change.gives, stands=change.stands)
    if change.takes is not None and row is not None:
        places.take(row, change.takes)
    return row
