"""One transaction of changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from lro_aio.core.change import Change, Outcome, names_of
from lro_aio.core.logs import event
from lro_aio.stores.postgres import rows, writes
from lro_aio.stores.postgres.connections import Link
from lro_aio.stores.postgres.decisions import Decision, Guess, guess
from lro_aio.stores.postgres.errors import Kind, kind_of
from lro_aio.stores.postgres.kept import KeptRows
from lro_aio.stores.postgres.places import PlacesReader, Wanted
from lro_aio.stores.postgres.queries import Call, Statements

__all__ = ["Commit", "Cursor", "check_committed", "ending", "execute"]

logger = logging.getLogger("lro_aio")

Cursor = psycopg.Cursor[tuple[Any, ...]]


def execute(link: Link, text: bytes, values: Any) -> Cursor:
    """Send a statement; its rows come in the binary format."""
    return link.cursor(binary=True).execute(text, values)


class Commit:
    """Applies changes, on as many connections as it takes.

    Where this process knows what is there, it first writes what follows from that, in one round trip: there is nothing
    to lock and read. Where the guess is wrong, nothing is written, and the long way is taken.

    Args:
        texts: For the tables.
        changes: What to apply.
        notice: What other processes are told.
    """

    def __init__(self, texts: Statements, changes: Sequence[Change], notice: tuple[str, str]) -> None:
        self._texts = texts
        self._changes = changes
        self._notice = notice
        self._guess: Guess | None = None
        self._tried = False
        self._doubtful: Guess | None = None
        """What may have been written as guessed: a connection broke before it said so."""
        self.made: set[str] = set()
        """The rows that are committed as guessed, whatever becomes of the rest. No other try makes them again."""

    def __call__(self, link: Link, kept: KeptRows) -> list[Outcome]:
        """The outcomes.

        Args:
            link: To the server.
            kept: The rows of it that are known.

        Raises:
            psycopg.Error: Nothing but ``made`` is committed, or nobody knows.
        """
        wanted = Wanted()
        if not self._tried:
            self._tried = True
            self._guess = guess(self._texts, self._changes, kept, wanted)
            if self._guess is not None:
                self._write(link, kept, self._guess)
        outcomes: list[Outcome] | None = []
        # Queues are locked once in a transaction, so that all of them are locked in one order. One that finds only then
        # that it needs more, because a release has put an operation into another queue, begins again.
        while self._left():
            outcomes = self._change(link, kept, wanted)
            if outcomes is not None:
                break
        return self.outcomes(outcomes or ())

    def outcomes(self, others: Iterable[Outcome]) -> list[Outcome]:
        """All outcomes: of changes whose rows are made, as guessed, and these of the others."""
        if self._guess is None:
            return list(others)
        left = iter(others)
        pairs = zip(self._changes, self._guess.outcomes, strict=True)
        return [guessed if change.name in self.made else next(left) for change, guessed in pairs]

    def _left(self) -> list[Change]:
        return [change for change in self._changes if change.name not in self.made]

    def _write(self, link: Link, kept: KeptRows, guessed: Guess) -> None:
        """Write what is guessed. Rows of which it is not right are left as they are.

        It does not count as ``committing``: all of it is sent at once. Most likely, a connection that breaks was dead
        before, and what was written in spite of that is found.
        """
        answers: list[Cursor] = []
        try:
            with link.pipeline() as pipeline:
                try:
                    answers += [execute(link, *call) for call in guessed.calls]
                except BaseException:
                    link.close()  # a value cannot be sent: the pipeline's end would send, and commit, those before it
                    raise
                pipeline.end()
                execute(link, self._texts["notify"], self._notice)
        except psycopg.errors.UniqueViolation:  # of the journal: an entry is there already. The long way passes over it
            answers = []
        except psycopg.Error as exc:
            if not link.synced:
                if kind_of(exc) is Kind.LOST:  # else the server has said that nothing came of it
                    self._doubtful = guessed
                raise
            _warn(exc)
        versions = _versions(answers)
        self.made = guessed.rows.keys() & versions.keys()
        kept.written(guessed.rows, versions)

    def _change(self, link: Link, kept: KeptRows, wanted: Wanted) -> list[Outcome] | None:
        """One transaction that locks and reads first; None where it knows only now what it needs."""
        decision: Decision | None = None
        ended: list[Cursor] = []
        answers: list[Cursor] = []
        try:
            with link.pipeline() as pipeline:
                decision = self._decide(link, pipeline, wanted)
                if decision is None:
                    # Not as a statement: psycopg would clear what is prepared behind the first one of what comes next.
                    link.rollback()
                else:
                    calls, told = decision.calls(self._texts)
                    answers += ending(link, self._texts, calls, self._notice if told else None, ended)
        except psycopg.Error as exc:
            check_committed(ended, exc)
        if decision is None:
            return None
        kept.written(decision.after, _versions(answers))
        return decision.outcomes

    def _decide(self, link: Link, pipeline: psycopg.Pipeline, wanted: Wanted) -> Decision | None:
        """The first half of a transaction: lock what is there, and see what becomes of it. None: see ``_change``."""
        link.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        left = self._left()
        locked = execute(link, self._texts["lock"], {"names": sorted(names_of(left))})
        there = [execute(link, *call) for call in writes.appended(self._texts, left)]
        # Not by leaving the pipeline: psycopg asks for a flush then, behind the end of the first half, and a server
        # that has been asked for one forgets how long it lets a transaction stand idle.
        pipeline.sync()
        before = {record.name: record for record in map(rows.decode, locked)}
        stored = {(uid, kind, bytes(key).decode()) for cursor in there for uid, kind, key in cursor}
        if self._doubtful is not None:
            self.made |= self._doubtful.found(before, stored)
            left = self._left()
        reader = PlacesReader(before, wanted)
        decision = None if wanted else Decision(left, before, stored, reader)
        if wanted:
            reader.fetch(link, pipeline, self._texts)
            decision = Decision(left, before, stored, reader)
        return None if reader.misses else decision


def _versions(answers: Iterable[Cursor]) -> dict[str, str]:
    """The rows that were written, and the transaction that did."""
    return {name: version for answer in answers if answer.description for name, version in answer}


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
    _warn(exc)


def _warn(exc: psycopg.Error) -> None:
    logger.warning("a commit could not be told to other processes: %s", exc, extra=event("notice_failed"))
