"""The database behind the fake: its clock, its sessions, and every change to its rows, under one lock."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from lro_aio.testing.spanner.catalog import Catalog
from lro_aio.testing.spanner.ddl import parse_statement
from lro_aio.testing.spanner.messages import CommitResponse
from lro_aio.testing.spanner.mutations import MAX_MUTATIONS, Changes, plan
from lro_aio.testing.spanner.problems import SpannerError, invalid, missing_resource
from lro_aio.testing.spanner.storage import Touched
from lro_aio.testing.spanner.transactions import Session, Transaction, Transactions

__all__ = ["Database"]

MAX_COMMIT = 100 * 1024 * 1024

_TOO_MANY = (
    "The transaction contains too many mutations. Insert and update operations count with the multiplicity of the"
    " number of columns they affect. For example, inserting values into one key column and four non-key columns count"
    " as five mutations total for the insert. Delete and delete range operations count as one mutation regardless of"
    " the number of columns affected. The total mutation count includes any changes to indexes that the transaction"
    " generates. Please reduce the number of writes, or use fewer indexes. (Maximum number: 80000)"
)
_TOO_LARGE = (
    "The transaction exceeds the maximum total bytes-size that can be handled by Spanner. Please reduce the size or"
    f" number of the writes, or use fewer indexes. (Maximum size: {MAX_COMMIT})"
)


class Database:
    """One database. ``condition`` is its lock, held wherever ``catalog`` or ``transactions`` are read or written."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.instance = path.partition("/databases/")[0]
        self.condition = threading.Condition(threading.RLock())
        self.catalog = Catalog()
        self.transactions = Transactions(self.condition)
        self.sessions: dict[str, Session] = {}
        self.work: Counter[str] = Counter()
        """What ``FakeSpanner.work`` tells."""
        self.clock_offset = 0.0
        self.commit_retry = False
        self._numbers = itertools.count(1)
        self._last = 0

    def now(self) -> int:
        """Nanoseconds since the epoch, by the database's clock."""
        return time.time_ns() + round(self.clock_offset * 1e9)

    def read_timestamp(self) -> int:
        """The timestamp of a strong read, in nanoseconds: at or after every commit."""
        return max(self.now() // 1000 * 1000, self._last)

    def check(self, path: str) -> None:
        """Raise NOT_FOUND unless ``path`` is this database."""
        if not path.startswith("projects/") or path.count("/") < 5:
            raise invalid(f"Invalid database uri: {path}")
        if path.partition("/databases/")[0] != self.instance:
            raise missing_resource("Instance", path.partition("/databases/")[0])
        if path != self.path:
            raise missing_resource("Database", path)

    def create_session(self, *, multiplexed: bool) -> Session:
        """A new session."""
        name = f"{self.path}/sessions/{next(self._numbers)}"
        session = self.sessions[name] = Session(name, multiplexed=multiplexed)
        return session

    def session(self, name: str) -> Session:
        """A session by its name.

        Raises:
            SpannerError: NOT_FOUND, of it or of the database.
        """
        found = self.sessions.get(name)
        if found is None:
            path, separator, _ = name.partition("/sessions/")
            if not separator:
                raise invalid(f"Invalid session uri: {name}")
            self.check(path)
            raise missing_resource("Session", name)
        return found

    def lose_session(self, name: str) -> None:
        """Forget a session and its transactions."""
        session = self.sessions.pop(name, None)
        if session is not None:
            self.transactions.forget(session)

    def change_schema(self, statements: Sequence[str], descriptors: bytes) -> tuple[list[int], SpannerError | None]:
        """Carry out DDL statements in order, up to the first that does not fit.

        Returns:
            The commit timestamps of those that were carried out, and the error of the one that was not.

        Raises:
            SpannerError: INVALID_ARGUMENT: one does not parse; nothing was changed.
        """
        parsed = []
        for text in statements:
            try:
                parsed.append(parse_statement(text.strip().removesuffix(";")))
            except ValueError as exc:
                raise invalid(f"Error parsing Spanner DDL statement: {text} : {exc}") from exc
        stamps: list[int] = []
        for statement in parsed:
            stamp = self._next_timestamp()
            try:
                self.catalog.apply(statement, descriptors, stamp)
            except SpannerError as exc:
                return stamps, exc
            self._last = stamp
            stamps.append(stamp)
        return stamps, None

    def commit(
        self,
        transaction: Transaction,
        mutations: Sequence[Any],
        alive: Callable[[], bool],
        *,
        ask_again: bool = False,
    ) -> Any:
        """Apply a transaction's mutations, or none of them.

        Args:
            transaction: An active one.
            mutations: ``google.spanner.v1.Mutation`` messages.
            alive: Whether the caller is still there.
            ask_again: Check and lock, but answer with a precommit token instead.

        Returns:
            The ``CommitResponse``.

        Raises:
            SpannerError: As Spanner refuses it.
        """
        try:
            timestamp, changes = self._locked(transaction, mutations, alive)
            if ask_again:
                return self._ask_again(transaction, mutations)
            self._apply(changes)
            self.transactions.changed(changes.rows)
        except SpannerError as exc:
            if exc.code not in (grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED):
                self.transactions.fail(transaction, exc)
            raise
        self._last = timestamp
        response = CommitResponse()
        response.commit_timestamp.FromNanoseconds(timestamp)
        self.transactions.commit(transaction, response)
        return response

    def write(self, mutations: Sequence[Any]) -> int:
        """Commit mutations as another program does; conflicting transactions are aborted. Returns the timestamp."""
        response = self.commit(self.transactions.outside(), mutations, lambda: True)
        timestamp: int = response.commit_timestamp.ToNanoseconds()
        return timestamp

    def expire(self, now: int) -> int:
        """Delete the rows that their row deletion policy has expired. Returns how many."""
        gone = 0
        for table in self.catalog.tables.values():
            policy = table.declared.row_deletion_policy
            if policy is None:
                continue
            limit = now - policy.days * 86_400 * 10**9
            keys = [
                key for key, row in table.rows.items() if (at := row.values[policy.column]) is not None and at < limit
            ]
            below = [place for key in keys for place in self.catalog.below(table, key)]
            for owner, key in [*((table, key) for key in keys), *below]:
                owner.put(key, None)
                self.transactions.changed([(owner.name, key)])
            gone += len(keys)
        return gone

    def _locked(
        self, transaction: Transaction, mutations: Sequence[Any], alive: Callable[[], bool]
    ) -> tuple[int, Changes]:
        if sum(mutation.ByteSize() for mutation in mutations) > MAX_COMMIT:
            raise invalid(_TOO_LARGE)
        while True:
            timestamp = self._next_timestamp()
            self.transactions.validate(transaction)  # first: a conflict may be why a row is missing or a duplicate
            changes = plan(mutations, self.catalog, timestamp)
            if changes.cells > MAX_MUTATIONS:
                raise invalid(_TOO_MANY)
            if self.transactions.own(transaction, set(changes.rows), alive):
                return timestamp, changes

    def _ask_again(self, transaction: Transaction, mutations: Sequence[Any]) -> Any:
        response = CommitResponse()
        given = self.transactions.give_token(transaction)
        if given is not None:
            transaction.pending = list(mutations)
            response.precommit_token.precommit_token, response.precommit_token.seq_num = given
        return response

    def _apply(self, changes: Changes) -> None:
        """Write the rows, or none of them if they are too many."""
        undo: list[tuple[Any, bytes, Any]] = []
        touched: list[Touched] = []
        for (name, key), row in changes.rows.items():
            table = self.catalog.table(name)
            undo.append((table, key, table.rows.get(key)))
            touched += table.put(key, row)
        if changes.cells + sum(one.written + one.deleted for one in touched) > MAX_MUTATIONS:
            for table, key, row in reversed(undo):
                table.put(key, row)
            raise invalid(_TOO_MANY)
        self._count(changes, touched)

    def _count(self, changes: Changes, touched: Sequence[Touched]) -> None:
        """A row lies with those that are interleaved in it; the entries of an index with those of the same shard."""
        places: set[Any] = {(one.name, one.first) for one in touched}
        for (name, key), row in changes.rows.items():
            table = self.catalog.table(name)
            if row is not None:
                places.add(self.catalog.above(table, row))
            elif not table.declared.parent:
                places.add((name, key))
        self.work += Counter(
            commits=1,
            columns_written=changes.cells,
            entries_written=sum(one.written for one in touched),
            entries_deleted=sum(one.deleted for one in touched),
            participants=len(places),
        )

    def _next_timestamp(self) -> int:
        """Commit timestamps rise, in whole microseconds."""
        return max(self.now() // 1000 * 1000, self._last + 1000)
