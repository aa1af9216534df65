"""A batch of changes as one read-write transaction: read the rows, run the changes, commit what differs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1 import types
from google.protobuf import struct_pb2

from lro_aio.core.change import Change, Outcome, names_of, run
from lro_aio.core.errors import StoreDataError, StoreUnavailableError
from lro_aio.core.journal import Appending
from lro_aio.core.record import Record
from lro_aio.core.step_places import StepPlaces
from lro_aio.stores.spanner import rows
from lro_aio.stores.spanner.budgets import Budget
from lro_aio.stores.spanner.connection import Connection, Rows, Transaction
from lro_aio.stores.spanner.entries import Stored, insertions
from lro_aio.stores.spanner.errors import AbortedError, SessionLostError, SlowError
from lro_aio.stores.spanner.places import Ask, PlacesReader, Settled, mutations
from lro_aio.stores.spanner.table import journal_of
from lro_aio.stores.spanner.values import values_of

__all__ = ["DivideError", "Writer", "deletions"]

T = TypeVar("T")

FREE_ABORTS = 2
"""Attempts without locks: after so many aborts, the next one locks what it reads. Locks have a price. Those of a killed
process, or of a transaction whose answer was lost, keep everybody else out until the server forgets them after 10 s.
But only among transactions that lock does Spanner let the oldest one win
(https://cloud.google.com/spanner/docs/concurrency-control)."""
MAX_ABORTS = 5
"""Aborts of one batch before it is divided, so that one hot row does not hold up the others."""
MAX_ABORTS_OF_PART = 2
"""The same for a part: the hot row is in one of them, and the others commit at once."""
PARTS = 8
"""How many parts a batch is divided into: of 1,000 rows, each is alone after four divisions."""

_Mutation: Any = types.Mutation.pb()

_RACED = (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND)
"""How an insert or an update fails if the row was not locked and somebody else was faster. With locks, these codes mean
that something is wrong."""


class _Decision:
    """What becomes of the rows: pure, and made anew where something more is known.

    Args:
        changes: What to apply.
        before: The rows as they are stored.
        journal: Takes what is appended.
        reader: Reads queues; None where the table has none.
    """

    def __init__(
        self, changes: Sequence[Change], before: dict[str, Record], journal: Appending, reader: PlacesReader | None
    ) -> None:
        self.after: dict[str, Record | None] = dict(before)
        self.journal = journal
        self._places = None if reader is None else StepPlaces(reader)
        self.outcomes = run(changes, self.after, journal, self._places)
        self._settled = None if reader is None or self._places is None else Settled.of(self._places, reader)

    def mutations(self, table: str, reader: PlacesReader | None) -> list[Any]:
        """What stores it of queues."""
        if reader is None or self._places is None or self._settled is None:
            return []
        return mutations(table, self._places, self._settled, reader)


class DivideError(Exception):
    """The batch must be divided: it is aborted too often, waits too long for a lock, or is too large for one read."""

    def __init__(self, *, too_large: bool = False) -> None:
        super().__init__()
        self.too_large = too_large


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Applies changes to one table.

    Args:
        connection: To its database.
        table: Its name.
        generated_key: Whether ``key`` and ``Outcome`` are generated from a PROTO column ``Operation``.
        missing_journal: Why operations have no journal; "" where they have.
        queues: Whether they can wait in queues.
        wrote: Told of the rows that were written, or may have been.
    """

    connection: Connection
    table: str
    generated_key: bool
    missing_journal: str = ""
    queues: bool = True
    wrote: Callable[[Collection[Record]], None] = lambda _: None

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of a row."""
        if self.missing_journal:
            return rows.BARE
        return rows.COLUMNS if self.queues else rows.SEATLESS

    def apply(self, changes: Sequence[Change], budget: Budget) -> list[Outcome]:
        """Apply changes, in one transaction if conflicts allow it.

        Raises:
            StoreUnavailableError: It is not known whether any of them was committed.
            google.api_core.exceptions.GoogleAPICallError: Spanner refused them for good; nothing was committed.
        """
        together: set[str] = set()
        try:
            several = len({change.name for change in changes}) > 1
            return self._apply(changes, budget, together, patience=MAX_ABORTS if several else math.inf)
        except DivideError as exc:
            outcomes = self._in_parts(changes, budget, together, exc)
        unavailable = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailableError)]
        if len(unavailable) == len(outcomes):  # as for an undivided batch
            raise unavailable[0]
        return outcomes

    def _apply(
        self, changes: Sequence[Change], budget: Budget, together: set[str], *, patience: float
    ) -> list[Outcome]:
        """One transaction. It can be divided if ``patience`` is finite.

        Adds to ``together`` the rows that stand in queues: they would meet at the rows of these queues again.

        Raises:
            DivideError: The patience ran out.
            Exception: As ``transact``.
        """
        names = list(names_of(changes))
        written: list[Record] = []
        stored = Stored(partial(self.connection.read, budget=budget, tag="lro-apply", table=journal_of(self.table)))

        def decide(found: Rows, ask: Ask) -> tuple[list[Any], list[Outcome]]:
            before: dict[str, Record] = {}
            refused: dict[str, StoreDataError] = {}
            for row in found:
                try:
                    record = rows.decode(row)
                except StoreDataError as exc:
                    refused[exc.name] = exc
                else:
                    before[record.name] = record
            unreadable = [next((refused[name] for name in change.names if name in refused), None) for change in changes]
            readable = [change for change, error in zip(changes, unreadable) if error is None]
            reader = PlacesReader(self.table, before) if self.queues else None
            while True:
                decision = _Decision(readable, before, Appending(stored.places, missing=self.missing_journal), reader)
                # Perhaps there are not too many entries, since some are there; and it asks for queues.
                known = not stored.find(decision.journal.too_many)
                if not (reader is not None and reader.fetch(ask)) and known:
                    break
            after = decision.after
            if reader is not None and reader.queues:
                together.update(row.name for row in (*before.values(), *after.values()) if row is not None and row.seat)
            stored.wanted = decision.journal.left(after)
            written.extend(new for name, new in after.items() if new is not None and new is not before.get(name))
            outcomes = map(self._as_stored, decision.outcomes)
            changed = [*self._mutations(before, after), *insertions(self.table, stored.wanted)]
            changed += decision.mutations(self.table, reader)
            return changed, [error or next(outcomes) for error in unreadable]

        try:
            return self.transact(
                self.columns,
                names,
                decide,
                budget,
                tag="lro-apply",
                patience=patience,
                # A row that is alone lets the others go first; those that meet at a queue meet there again.
                helps=lambda: not together or len(_divide(changes, range(len(changes)), together)) > 1,
                hot=lambda: bool(together),
                look_again=stored.look_again,
            )
        finally:
            self.wrote(written)

    def _as_stored(self, outcome: Outcome) -> Outcome:
        """What became of a change: without what the table has no columns for."""
        there = self.columns
        return rows.as_kept(outcome, there) if there is not rows.COLUMNS and isinstance(outcome, Record) else outcome

    def _in_parts(
        self, changes: Sequence[Change], budget: Budget, together: set[str], because: DivideError
    ) -> list[Outcome]:
        """Several transactions instead of one. Some parts may commit and others not, so failures are outcomes.

        Parts are divided level by level. A row that is alone and still conflicts comes last: the other rows are
        committed before it uses up the rest of the time. So do rows that stand in queues, in one part.
        """
        outcomes: list[Outcome] = [None] * len(changes)
        parts = deque(_divide(changes, range(len(changes)), () if because.too_large else together))
        while parts:
            places = parts.popleft()
            part = [changes[place] for place in places]
            single = _divide(changes, places)
            try:
                others = len(single) > 1 or bool(parts)
                done = self._apply(part, budget, together, patience=MAX_ABORTS_OF_PART if others else math.inf)
            except DivideError as exc:
                parts.extend(single if exc.too_large else _divide(changes, places, together))
                continue
            except StoreUnavailableError as exc:
                done = [exc] * len(part)
            except Exception as exc:  # noqa: BLE001 - refused for good: find the change that is to blame
                if len(single) > 1:
                    parts.extend(single)
                    continue
                done = [exc] * len(part)
            for place, outcome in zip(places, done, strict=True):
                outcomes[place] = outcome
        return outcomes

    def transact(
        self,
        columns: Sequence[str],
        names: Sequence[str],
        decide: Callable[[Rows, Ask], tuple[list[Any], T]],
        budget: Budget,
        *,
        tag: str,
        table: str = "",
        patience: float = math.inf,
        helps: Callable[[], bool] = lambda: True,
        hot: Callable[[], bool] = lambda: False,
        look_again: Callable[[], bool] = lambda: False,
    ) -> T:
        """Read rows, decide, commit. Two calls; run again if the server aborts the transaction.

        Args:
            columns: To read.
            names: Keys of the rows, which nobody else changes between read and commit.
            decide: Takes the rows that exist, and what runs statements in the transaction; returns mutations and a
                result. May be called several times.
            budget: The budget of the store's call.
            tag: For Spanner's statistics.
            table: "" is that of the operations.
            patience: Aborts that are tolerated. A finite number also means that the caller can divide the rows: an
                attempt that takes too long is then given up early.
            helps: Whether that would help against conflicts, as far as ``decide`` has found out.
            hot: Whether it wants rows that many want, likewise: then it locks after the first abort.
            look_again: Called where a row was there, or missing, against what ``decide`` knew; whether it knows more.

        Raises:
            DivideError: The patience ran out.
            StoreUnavailableError: It is not known whether it was committed.
            google.api_core.exceptions.GoogleAPICallError: Spanner refused it for good; nothing was committed.
        """
        several = patience < math.inf
        previous = b""
        aborts = 0
        while True:
            known = self.connection.emulator
            try:
                transaction = self.connection.begin(
                    columns, names, locks=aborts >= FREE_ABORTS, previous=previous, budget=budget, tag=tag, table=table
                )
                previous = transaction.id
                return self._finish(transaction, decide, budget, divisible=lambda: several and helps())
            except AbortedError as exc:
                aborts += 1
                if aborts >= patience and helps():
                    raise DivideError from exc
                if hot():
                    aborts = max(aborts, FREE_ABORTS)
                budget.pause(exc.delay, exc)
            except SlowError as exc:
                raise DivideError from exc
            except SessionLostError:
                previous = b""  # the next attempt runs in another session
            except GoogleAPICallError as exc:
                if not self.connection.learns(exc, known=known):
                    aborts = _again(exc, aborts, look_again, divisible=several and len(names) > 1)

    def _finish(
        self,
        transaction: Transaction,
        decide: Callable[[Rows, Ask], tuple[list[Any], T]],
        budget: Budget,
        *,
        divisible: Callable[[], bool],
    ) -> T:
        try:
            changed, result = decide(transaction.rows, partial(self.connection.ask, transaction, budget=budget))
            if changed:
                self.connection.commit(transaction, changed, budget=budget, divisible=divisible())
            elif transaction.locks:
                self.connection.rollback(transaction, budget.for_rollback)
        except (AbortedError, SessionLostError, SlowError, StoreUnavailableError) as exc:
            self.connection.end(transaction, exc)  # it is over, or the server cannot be reached
            raise
        except BaseException:
            if transaction.locks:
                # Its locks would block everybody's next attempt.
                self.connection.rollback(transaction, budget.for_rollback)
            self.connection.end(transaction)
            raise
        self.connection.end(transaction)
        return result

    def _mutations(self, before: dict[str, Record], after: dict[str, Record | None]) -> list[Any]:
        batch = _Batch(self.table)
        for name, new in after.items():
            old = before.get(name)
            if new is old:
                continue
            if old is not None and (new is None or not rows.same_row(old, new)):
                batch.deleted.append(name)
                old = None
            if new is None:
                continue
            if not new.foreign:  # another program's row may have any size, and can still be cancelled here
                rows.check_size(new)
            if old is None:
                columns = rows.insert_columns(new, generated_key=self.generated_key, there=self.columns)
                batch.add("insert", columns, rows.values(new, columns))
            else:
                columns = rows.changed_columns(
                    old,
                    new,
                    generated_key=self.generated_key,
                    emulator=self.connection.emulator,
                    there=self.columns,
                )
                batch.add("update", columns, rows.values(new, columns))
        return batch.mutations()


def _again(exc: GoogleAPICallError, aborts: int, look_again: Callable[[], bool], *, divisible: bool) -> int:
    """For how many aborts a refusal counts, where the transaction is to be run again.

    Raises:
        DivideError: It is too large.
        google.api_core.exceptions.GoogleAPICallError: The refusal, for it is to last.
    """
    raced = exc.grpc_status_code in _RACED
    if raced and look_again():
        return aborts
    if raced and aborts < FREE_ABORTS:
        return FREE_ABORTS
    if divisible and exc.grpc_status_code is grpc.StatusCode.FAILED_PRECONDITION:  # for an answer of more than 10 MB
        raise DivideError(too_large=True) from exc
    raise exc


def _divide(changes: Sequence[Change], places: Sequence[int], together: Collection[str] = ()) -> list[list[int]]:
    """Divide these positions into up to ``PARTS`` parts of about as many rows each. No row is in two of them.

    The rows of the names in ``together`` are one part, the last one.
    """
    names = dict.fromkeys(changes[place].name for place in places if changes[place].name not in together)
    part_of = {name: index * PARTS // max(PARTS, len(names)) for index, name in enumerate(names)}
    parts: list[list[int]] = [[] for _ in range(min(PARTS, len(names)))]
    last: list[int] = []
    for place in places:
        part = part_of.get(changes[place].name)
        (last if part is None else parts[part]).append(place)
    return [*parts, last] if last else parts


@dataclass(slots=True)
class _Batch:
    """Mutations: rows that write the same columns share one."""

    table: str
    deleted: list[str] = field(default_factory=list)
    writes: dict[tuple[str, tuple[str, ...]], list[struct_pb2.ListValue]] = field(default_factory=dict)

    def add(self, kind: str, columns: tuple[str, ...], row: struct_pb2.ListValue) -> None:
        self.writes.setdefault((kind, columns), []).append(row)

    def mutations(self) -> list[Any]:
        found = deletions(self.table, self.deleted)  # first: a row may be made again under its name
        for (kind, columns), values in self.writes.items():
            mutation = _Mutation()
            write = getattr(mutation, kind)
            write.table = self.table
            write.columns.extend(columns)
            write.values.extend(values)
            found.append(mutation)
        return found


def deletions(table: str, names: Sequence[str]) -> list[Any]:
    """The mutations that remove these rows."""
    if not names:
        return []
    mutation = _Mutation()
    mutation.delete.table = table
    mutation.delete.key_set.keys.extend(values_of(name) for name in names)
    return [mutation]
