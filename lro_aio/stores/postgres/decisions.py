"""What a transaction does, as far as it can be told without the server: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lro_aio.core.change import Change, Outcome, run
from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.journal import Appending, Entry, Place
from lro_aio.core.record import Record
from lro_aio.core.step_places import StepPlaces
from lro_aio.stores.postgres import places, rows, writes
from lro_aio.stores.postgres.entries import encode_entry
from lro_aio.stores.postgres.kept import KeptRows
from lro_aio.stores.postgres.places import PlacesReader, Wanted
from lro_aio.stores.postgres.queries import Call, Statements

__all__ = ["Decision", "Guess", "guess"]


class Decision:
    """What becomes of the rows. It is made anew where something more is known.

    Args:
        changes: What to apply.
        before: The rows as they are stored.
        stored: Of what the changes append, what is there already.
        reader: Reads queues.
    """

    def __init__(
        self, changes: Sequence[Change], before: Mapping[str, Record], stored: Iterable[Place], reader: PlacesReader
    ) -> None:
        self._before = before
        self.after: dict[str, Record | None] = dict(before)
        """The rows as they are to be, by name. None: it is removed."""
        self._journal = Appending(stored)
        self._places = StepPlaces(reader)
        self.outcomes = run(changes, self.after, self._journal, self._places)

    def calls(self, texts: Statements) -> tuple[list[Call], bool]:
        """What stores it, and whether it is news for others: not that a claim got no place."""
        calls = writes.statements(texts, self._before, self.after)
        calls += writes.entries(texts, [entry for _, entry in self.entries()])
        told = bool(calls or self.tickets())
        return calls + places.statements(texts, self._places), told

    def tickets(self) -> bool:
        """Whether anybody's place changes."""
        return bool(self._places.tickets())

    def entries(self) -> list[tuple[str, Entry]]:
        """What is appended, each with the name of its operation."""
        return self._journal.left(self.after)


@dataclass(frozen=True)
class Guess:
    """What changes do if all rows are as this process knows them, or are not there."""

    outcomes: list[Outcome]
    """Of the changes, where the guess is right for their row."""
    rows: dict[str, Record]
    """The rows as they are to be, by name: each differs from what is known."""
    before: dict[str, Record]
    """The rows as they are known, by name."""
    entries: list[tuple[str, Entry]]
    """What is appended to their journals, each with the name of its operation."""
    calls: list[Call]
    """What stores those of which the guess is right. It returns their names and versions."""

    def found(self, there: Mapping[str, Record], stored: Collection[Place]) -> set[str]:
        """The names of the rows that it has written, where its answer was lost.

        A row that is as it was to be counts as written. Another process may have made the same of it, but only where
        that means the same: what counts, a claim or a revision, comes with a time or an owner.

        Args:
            there: The rows as they are stored.
            stored: Of what it appends, what is there. The row alone does not tell: two messages make the same of it.

        Raises:
            StoreUnavailableError: Others have changed one since: nobody can tell on top of what.
        """
        lacking = {name for name, entry in self.entries if (entry.uid, entry.kind, entry.key) not in stored}
        found = set()
        for name, row in self.rows.items():
            now, known = there.get(name), self.before.get(name)
            if now == row and name not in lacking:
                found.add(name)
            elif known is None or now == known:
                continue  # nothing was there, as for a start: it finds its row; or it is as it was
            elif now is None or now.uid != known.uid or name not in lacking:
                raise StoreUnavailableError(f"{name}: others have changed it, and a change of it may be written or not")
        return found


def guess(texts: Statements, changes: Sequence[Change], kept: KeptRows, wanted: Wanted) -> Guess | None:
    """None where anything else would have to be read: a guard, a queue, a row that is not known.

    Args:
        texts: For the tables.
        changes: What to apply.
        kept: The rows that are known.
        wanted: Takes what is asked for of queues: who decides with them need not find that out again.
    """
    names = dict.fromkeys([change.name for change in changes])
    known = kept.known(names)
    if not all(change.guard is None and (change.creates or change.name in known) for change in changes):
        return None
    before = {name: row for name, (row, _) in known.items()}
    # Nothing that is appended is there: where the same comes again, the journal's key refuses it.
    decision = Decision(changes, before, (), PlacesReader(before, wanted))
    after = {name: row for name, row in decision.after.items() if row is not None}
    if wanted or decision.tickets() or after.keys() != names.keys():
        return None
    if any(row is after[name] or not rows.same_row(row, after[name]) for name, row in before.items()):
        return None
    calls: list[Call] = []
    if known:
        calls.append(writes.change(texts, [(*found, after[name]) for name, found in known.items()]))
    if new := [row for name, row in after.items() if name not in before]:
        calls.append(writes.insertion(texts.make, map(rows.encode, new)))
    entries = decision.entries()
    if entries:
        calls.append(texts.follow.of([(name, *encode_entry(entry)) for name, entry in entries]))
    return Guess(decision.outcomes, after, before, entries, calls)
