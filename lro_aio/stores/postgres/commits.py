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

__all__ = ["Cursor", "check_committed", "commit", "ending", "execute"]

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


def commit(link: Link, texts: Statements, changes: Sequence[Change], notice: tuple[str, str]) -> list[Outcome]:
    """Apply changes: what is there, then what becomes of it. Where all of them make rows, these first."""
    made = _made(link, texts, changes, notice)
    left = [change for change in changes if change.name not in made]
    changed = iter(_changed(link, texts, left, notice) if left else ())
    return [made.get(change.name) or next(changed) for change in changes]


def _made(link: Link, texts: Statements, changes: Sequence[Change], notice: tuple[str, str]) -> Mapping[str, Record]:
    """The rows that were not there and are now, in one round trip: where nothing is there, there is nothing to read.

    Most starts are such. What turns out to be there is left as it is, and so are changes that need more than a row.
    """
    if not all(change.creates and change.guard is None and not change.appends for change in changes):
        return {}
    wanted = Wanted()
    decision = Decision(changes, {}, (), PlacesReader({}, wanted))
    new = decision.rows()
    if wanted or [row.name for row in new] != [change.name for change in changes]:
        return {}
    ended: list[Cursor] = []
    answers: list[Cursor] = []
    try:
        with link.pipeline():
            link.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            answers += ending(link, texts, [writes.insertion(texts.make, map(rows.encode, new))], notice, ended)
    except psycopg.Error as exc:
        check_committed(ended, exc)
    stored = {name for answer in answers for (name,) in answer}
    return {row.name: row for row in new if row.name in stored}


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
