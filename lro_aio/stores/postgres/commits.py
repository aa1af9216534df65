"""One transaction of changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg

from lro_aio.core.change import Change, Outcome, names_of, run
from lro_aio.core.journal import Appending, Place
from lro_aio.core.logs import event
from lro_aio.core.record import Record
from lro_aio.core.step_places import StepPlaces
from lro_aio.stores.postgres import places, rows, writes
from lro_aio.stores.postgres.connections import Link
from lro_aio.stores.postgres.places import PlacesReader, Wanted
from lro_aio.stores.postgres.queries import Call, Statements

__all__ = ["Commit", "Cursor", "check_committed", "ending", "execute"]

logger = logging.getLogger("lro_aio")

Cursor = psycopg.Cursor[tuple[Any, ...]]


def execute(link: Link, text: bytes, values: Any, *, last: bool = False) -> Cursor:
    """Send a statement; its rows come in the binary format. ``last``: nothing else follows in the call."""
    link.committing = link.committing or last
    return link.cursor(binary=True).execute(text, values)


class Decision:
    """What becomes of the rows: pure, and made anew where something more is known.

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
        self._after: dict[str, Record | None] = dict(before)
        self._journal = Appending(stored)
        self._places = StepPlaces(reader)
        self.outcomes = run(changes, self._after, self._journal, self._places)

    def rows(self) -> list[Record]:
        """The rows as they are to be."""
        return [row for row in self._after.values() if row is not None]

    def calls(self, texts: Statements) -> tuple[list[Call], bool]:
        """What stores it, and whether it is news for others: not that a claim got no place."""
        calls = writes.statements(texts, self._before, self._after)
        calls += writes.entries(texts, [entry for _, entry in self._journal.left(self._after)])
        told = bool(calls or self._places.tickets())
        return calls + places.statements(texts, self._places), told


class Commit:
    """Applies changes, on as many connections as it takes. What one of them has made, no other makes again.

    Where all of them make rows, these come first, in a transaction of their own.

    Args:
        texts: For the tables.
        changes: What to apply.
        notice: What other processes are told.
    """

    def __init__(self, texts: Statements, changes: Sequence[Change], notice: tuple[str, str]) -> None:
        self._texts = texts
        self._changes = changes
        self._notice = notice
        self._new = _new(changes)
        self._doubtful = False
        """Whether a try has not learned what it has made."""
        self.made: dict[str, Record] = {}
        """The rows that are committed, whatever becomes of the rest."""

    def __call__(self, link: Link) -> list[Outcome]:
        """The outcomes.

        Raises:
            psycopg.Error: Nothing but ``made`` is committed, or nobody knows.
        """
        if len(self.made) < len(self._new):
            self._make(link)
        left = [change for change in self._changes if change.name not in self.made]
        changed = iter(_changed(link, self._texts, left, self._notice) if left else ())
        return [self.made.get(change.name) or next(changed) for change in self._changes]

    def _make(self, link: Link) -> None:
        """Make the rows that are not there, in one round trip: where nothing is there, there is nothing to read.

        Most starts are such. What turns out to be there is left as it is.
        """
        new = [row for row in self._new if row.name not in self.made]
        doubtful, self._doubtful = self._doubtful, True
        ended: list[Cursor] = []
        answers: list[Cursor] = []
        try:
            with link.pipeline():
                link.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                call = writes.insertion(self._texts.make, map(rows.encode, new))
                answers += ending(link, self._texts, [call], self._notice, ended)
                # All of it is sent at once: most likely, a connection that breaks was dead before, and what was made
                # in spite of that is found.
                link.committing = False
        except psycopg.Error as exc:
            check_committed(ended, exc)
        stored = {name for answer in answers for (name,) in answer}
        self.made |= {row.name: row for row in new if row.name in stored}
        if doubtful and len(stored) < len(new):
            there = execute(link, self._texts["read"], {"names": [row.name for row in new]})
            found = {row.name: row for row in map(rows.decode, there)}
            self.made |= {row.name: row for row in new if found.get(row.name) == row}
        self._doubtful = False


def _new(changes: Sequence[Change]) -> list[Record]:
    """The rows that changes make where nothing is there. None where one of them does, or may do, anything else."""
    if not all(change.creates and change.guard is None and not change.appends for change in changes):
        return []
    wanted = Wanted()
    new = Decision(changes, {}, (), PlacesReader({}, wanted)).rows()
    return [] if wanted or [row.name for row in new] != [change.name for change in changes] else new


def _changed(link: Link, texts: Statements, changes: Sequence[Change], notice: tuple[str, str]) -> list[Outcome]:
    """The outcomes of changes.

    Queues are locked once in a transaction, so that all of them are locked in one order. One that finds only then that
    it needs more, because a release has put an operation into another queue, begins again.
    """
    wanted = Wanted()
    while True:
        outcomes = _attempt(link, texts, changes, notice, wanted)
        if outcomes is not None:
            return outcomes


def _attempt(
    link: Link, texts: Statements, changes: Sequence[Change], notice: tuple[str, str], wanted: Wanted
) -> list[Outcome] | None:
    """One transaction; None where it knows only now what it needs."""
    outcomes: list[Outcome] = []
    ended: list[Cursor] = []
    try:
        with link.pipeline() as pipeline:
            link.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            names = sorted(names_of(changes))
            locked = execute(link, texts["lock"], {"names": names})
            there = [execute(link, *call) for call in writes.appended(texts, changes)]
            # Not by leaving the pipeline: psycopg asks for a flush then, behind the end of the first half, and a server
            # that has been asked for one forgets how long it lets a transaction stand idle.
            pipeline.sync()
            before = {record.name: record for record in map(rows.decode, locked)}
            stored = [(uid, kind, bytes(key).decode()) for cursor in there for uid, kind, key in cursor]
            reader = PlacesReader(before, wanted)
            decision = Decision(changes, before, stored, reader)
            if wanted:
                reader.fetch(link, pipeline, texts)
                decision = Decision(changes, before, stored, reader)
                if reader.misses:
                    # Not as a statement: psycopg would clear what is prepared behind the first one of what comes next.
                    link.rollback()
                    return None
            outcomes = decision.outcomes
            calls, told = decision.calls(texts)
            ending(link, texts, calls, notice if told else None, ended)
    except psycopg.Error as exc:
        check_committed(ended, exc)
    return outcomes


def ending(
    link: Link, texts: Statements, calls: Sequence[Call], notice: tuple[str, str] | None, ended: list[Cursor]
) -> list[Cursor]:
    """The second half of a transaction: what it writes, and its commit. Returns the answers to the calls.

    Args:
        link: In a pipeline.
        texts: For the tables.
        calls: What writes.
        notice: What other processes are told. None: nothing.
        ended: Takes the commit.
    """
    answers = [execute(link, *call) for call in calls]
    link.committing = bool(calls)
    ended.append(link.execute("COMMIT"))
    if notice is not None:
        # In the same round trip, but behind the commit: transactions that notify commit one at a time, and each
        # would wait for the disk of the one before. With eight writers that costs three quarters of the rate.
        execute(link, texts["notify"], notice)
    return answers


def check_committed(ended: Sequence[Cursor], exc: psycopg.Error) -> None:
    """After an error: what is committed is committed, and others find it without the notice.

    Raises:
        psycopg.Error: It is not committed.
    """
    if not ended or ended[0].statusmessage != "COMMIT":
        raise exc
    logger.warning("a commit could not be told to other processes: %s", exc, extra=event("notice_failed"))
