"""The store on Cloud Spanner."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.protobuf import struct_pb2

from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import StoreDataError, StoreUnavailableError
from lro_aio.core.journal import Entry, by_name
from lro_aio.core.logs import event
from lro_aio.core.policies import Duration
from lro_aio.core.queues import InLine, QueueStatus, QueueTerms
from lro_aio.core.record import Record
from lro_aio.core.stats import Stats
from lro_aio.core.unreadable import UnreadableRecord
from lro_aio.ports import ListQuery, Look, Route, StatsQuery, Store
from lro_aio.stores.spanner import counts, pages, queries, queue_queries, queues, rows, schema
from lro_aio.stores.spanner.budgets import Budget
from lro_aio.stores.spanner.connection import LOW, Connection, Rows
from lro_aio.stores.spanner.entries import decode_entry
from lro_aio.stores.spanner.errors import Kind, kind_of, refused_at_open
from lro_aio.stores.spanner.floors import Floors
from lro_aio.stores.spanner.found import Found, read_schema
from lro_aio.stores.spanner.location import TIMEOUT, Location
from lro_aio.stores.spanner.looks import Sight
from lro_aio.stores.spanner.pages import MAX_KEYS, Answers, in_order, readable
from lro_aio.stores.spanner.places import Ask
from lro_aio.stores.spanner.transactions import Writer, deletions
from lro_aio.stores.spanner.values import moment, number

__all__ = ["SpannerStore"]

logger = logging.getLogger("lro_aio")

GIVE_BACK_TIMEOUT = 3.0
"""Seconds in which places that were left are looked for and given back: somebody waits for the answer meanwhile."""

MANY = 1_000
"""Keys that may be more than one answer holds."""


class SpannerStore(Store):
    """Keeps rows in a table of a Cloud Spanner database, which ``lro spanner migrate`` creates.

    A get is one call; a list or a batch of changes is two, or three where it touches a queue. Every method may be
    called from any thread. A store does not survive a fork: create a new one in the child.

    Args:
        project: Google Cloud project id.
        instance: Spanner instance id.
        database: Database id.
        table: The table of the operations.
        database_role: Role for fine-grained access control.
        host: "HOST:PORT" of an emulator, without TLS or credentials. Default: ``SPANNER_EMULATOR_HOST``.
        endpoint: A regional endpoint of Google's, instead of the global one.
        credentials: ``google.auth`` credentials. Default: the application's default ones, found at ``open``.
        timeout: Seconds, or a timedelta, that one call of the store may take, including retries. Keep it below a third
            of the lease (rule 4).
        lanes: Batches of changes that may be under way at the same time.

    Raises:
        ValueError: An argument is malformed.
    """

    max_row = rows.MAX_ROW

    no_queues_reason = ""

    def __init__(
        self,
        *,
        project: str,
        instance: str,
        database: str,
        table: str = "Operations",
        database_role: str | None = None,
        host: str | None = None,
        endpoint: str | None = None,
        credentials: Any = None,
        timeout: Duration = TIMEOUT,
        lanes: int = 4,
    ) -> None:
        self._location = Location.of(
            project=project,
            instance=instance,
            database=database,
            table=table,
            host=host,
            endpoint=endpoint,
            database_role=database_role,
            timeout=timeout,
        )
        if isinstance(lanes, bool) or not isinstance(lanes, int) or lanes < 1:
            raise ValueError(f"lanes must be a whole number of 1 or more, not {lanes!r}")
        self.url = self._location.url
        self.lanes = lanes
        self._credentials = credentials
        self._connection: Connection | None = None
        self._writer: Writer | None = None
        self._floors = Floors()
        self._half_woken: set[str] = set()
        """Queues of which other bounds were committed, and not all who wait there woken."""
        self._pid = 0

    @classmethod
    def from_url(cls, url: str) -> SpannerStore:
        """The store that a "spanner:" URL names.

        Raises:
            ValueError: It is malformed.
        """
        location = Location.parse(url)
        return cls(**{name: getattr(location, name) for name in Location.__dataclass_fields__})

    def __repr__(self) -> str:
        return f"SpannerStore({self.url!r})"

    @property
    def clock_offset(self) -> float:  # type: ignore[override]  # measured, not set
        """Seconds by which Spanner's clock was ahead at the last commit."""
        return 0.0 if self._connection is None else self._connection.clock_offset

    def open(self) -> None:
        """Connect, and check that this release can use the table.

        Raises:
            StoreSchemaError: No such database or table, missing columns, no permission, no credentials.
            StoreUnavailableError: Spanner does not answer.
            RuntimeError: The store is already open.
        """
        if self._connection is not None:
            raise RuntimeError(f"{self!r} is already open")
        connection = Connection(self._location, self._credentials)
        try:
            connection.open()
            found = self._prepared(connection)
        except BaseException:
            connection.close()
            raise
        policy = found.other_policy
        self.expires_rows = bool(found.policy) and policy is None
        if policy is not None:
            column, days = policy
            self.max_wait = days * 86400.0
            self.max_wait_reason = (
                f"the table {self._location.table} has ROW DELETION POLICY ({found.policy}), which removes rows"
                f" {days} days after their {column}; replace it with"
                f" `lro spanner migrate {shlex.quote(self.url)} --replace-ttl`"
            )
            logger.warning(
                "rows go whether or not their operation has ended: %s",
                self.max_wait_reason,
                extra=event("other_row_deletion_policy"),
            )
        self.keeps_journal = found.keeps_journal
        self.no_journal_reason = "" if self.keeps_journal else schema.missing_journal(self._location.table, self.url)
        self.no_queues_reason = schema.missing_queues(found, self._location.table, self.url)
        self._floors = Floors()
        self._pid = os.getpid()
        self._connection = connection
        self._writer = Writer(
            connection=connection,
            table=self._location.table,
            generated_key=found.variant == "proto",
            missing_journal=self.no_journal_reason,
            queues=not self.no_queues_reason,
            wrote=self._floors.wrote,
        )

    def close(self) -> None:
        """Cancel the calls under way and close the connection, within a second."""
        connection, self._connection, self._writer = self._connection, None, None
        if connection is not None and self._pid == os.getpid():
            connection.close()

    def read(self, names: Sequence[str]) -> list[Record]:
        """The rows with these names: one unary read, unless they are too much for one answer."""
        connection, writer = self._opened()
        return list(map(_record, self._read(writer.columns, names, connection.budget())))

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Apply changes in one transaction of two calls, or of three and more where they touch queues.

        A batch that Spanner aborts again and again is divided, so that one hot row does not hold up the others. Each
        part is then a transaction of its own.

        Raises:
            StoreUnavailableError: No answer, or no commit, within the timeout.
            google.api_core.exceptions.GoogleAPICallError: Spanner refuses the batch for good; nothing was committed.
        """
        if not changes:
            return []
        connection, writer = self._opened()
        return writer.apply(changes, connection.budget())

    def journal(self, names: Sequence[str], kinds: Collection[str] | None = None) -> dict[str, list[Entry]]:
        """The journals of these rows: one statement, for up to 10,000 of them. Of a table without journals, none."""
        connection, _ = self._opened()
        names = list(dict.fromkeys(names))
        if not self.keeps_journal or not names or (kinds is not None and not kinds):
            return {}
        budget = connection.budget()
        found: list[tuple[str, Entry]] = []
        for start in range(0, len(names), MAX_KEYS):
            query = queries.journal(self._location.table, names[start : start + MAX_KEYS], kinds)
            found += map(decode_entry, connection.query(query, budget=budget, tag="lro-journal", streamed=True))
        return by_name(found)

    def unfinished(self, names: Sequence[str]) -> set[str]:
        """The names whose rows have not ended and are not deleted: one read without payloads."""
        connection, writer = self._opened()
        budget = connection.budget()
        found: set[str] = set()
        unclear: list[str] = []
        for row in self._read(("key", "Outcome", "Deleted"), names, budget):
            key, outcome, deleted = row.values
            if not outcome.string_value:  # another program's row in the variant `bytes`: only Operation can tell
                unclear.append(key.string_value)
            elif number(outcome) == 0 and not deleted.bool_value:
                found.add(key.string_value)
        found.update(
            record.name
            for record in map(_record, self._read(writer.columns, unclear, budget))
            if not record.done and not record.deleted
        )
        return found

    def look(
        self,
        *,
        now: float,
        routes: Sequence[Route],
        limit: int,
        owner: str,
        own: bool = False,
        overdue: float | None = None,
    ) -> Look:
        """What a sweep needs to know: one statement on the index, and a read if something is due."""
        connection, writer = self._opened()
        budget = connection.budget()
        ran = frozenset(routes)
        seek = self._floors.seek_due(now, owner, ran)
        before = now if overdue is None else overdue
        seek_unknown = self._floors.seek_unknown(before, owner, ran)
        query = queries.look(
            self._location.table,
            now=now,
            routes=list(dict.fromkeys(routes)),
            limit=max(0, limit),
            owner=owner,
            own=own,
            overdue=overdue,
            since=seek.since,
            unknown_since=seek_unknown.since,
        )
        seen = Sight.of(connection.query(query, budget=budget, tag="lro-look", priority=LOW))
        if own and limit > 0:  # otherwise there may be rows that it was not to show
            self._floors.due.clear(seek, now if seen.first is None else seen.first, (owner, ran))
        if overdue is not None:
            clear = before if seen.first_unknown is None else seen.first_unknown
            self._floors.unknown.clear(seek_unknown, clear, (owner, ran))
        names = list(seen.due)[: max(0, limit)]
        found = readable(self._read(writer.columns, names, budget, tag="lro-look", priority=LOW))
        outlines = [record.outline() for record in found]  # only now: the message tells whether it has ended
        return Look(sorted(outlines, key=lambda record: seen.due[record.name]), seen.next_check, seen.unknown)

    def list(self, query: ListQuery) -> list[Record]:
        """One page of rows, newest first: a statement for the keys, and a read for the rows."""
        connection, writer = self._opened()
        if not queries.outcomes(query) or (query.paused and not self.keeps_journal):
            return []
        budget = connection.budget()

        def places(limit: int, after: tuple[float, str] | None, by_state: bool) -> list[tuple[float, str]]:
            statement = queries.listed(
                self._location.table, query, limit=limit, after=after, by_state=by_state, paused=self.keeps_journal
            )
            found = connection.query(statement, budget=budget, tag="lro-list", priority=LOW, streamed=limit > MANY)
            return [(moment(row.values[0]) or 0.0, row.values[1].string_value) for row in found]

        def answers(names: Sequence[str]) -> Answers:
            return self._answers(writer.columns, names, budget, tag="lro-list", priority=LOW)

        return pages.page(query, places, answers)

    def stats(self, query: StatsQuery) -> Stats:
        """Counts from the indexes, some statements for each handler; what has not ended is looked at in part.

        Of each handler, a tenth of ``query.most`` live rows are told apart by their state, the newest ones. Rows of
        other programs, which have no handler, do not count.
        """
        connection, _ = self._opened()
        budget = connection.budget()

        def execute(statement: queries.Query) -> Rows:
            return connection.query(statement, budget=budget, tag="lro-stats", priority=LOW, streamed=True)

        def read(columns: Sequence[str], names: Sequence[str]) -> Iterator[struct_pb2.ListValue]:
            return in_order(self._answers(columns, names, budget, tag="lro-stats", priority=LOW))

        seek = self._floors.counted.seek(query.now)
        found = counts.gather(execute, read, self._location.table, query, paused=self.keeps_journal, since=seek.since)
        self._floors.counted.clear(seek, min((route.since for route in found.due), default=query.now))
        return found

    def line(self, *, now: float, routes: Sequence[Route], limit: int) -> Look:
        """Who is next in line: one statement, and another one and a read where there are places."""
        connection, writer = self._opened()
        if self.no_queues_reason:
            return super().line(now=now, routes=routes, limit=limit)
        budget = connection.budget()
        table = self._location.table

        def execute(query: queries.Query) -> Rows:
            return connection.query(query, budget=budget, tag="lro-line", priority=LOW)

        def read(names: Sequence[str]) -> Iterator[Record]:
            found = self._read(writer.columns, names, budget, tag="lro-line", priority=LOW)
            return (record.outline() for record in readable(found))

        handlers = list(dict.fromkeys(handler for handler, _ in routes if handler))
        lines = queues.Lines(execute(queue_queries.served(table, handlers, now)), now, limit)
        found = lines.look(routes, execute(lines.wanted(table)) if lines.free else (), read)
        if lines.waited and self._floors.stale.due():
            self._give_back(lines.waited, now)
        return found

    def _give_back(self, waited: Sequence[str], now: float) -> None:
        """Give back what a program that knows of no queues has left in these. What fails is tried another time."""
        connection, writer = self._opened()
        budget = connection.budget(GIVE_BACK_TIMEOUT)
        table = self._location.table
        ask = partial(connection.query, budget=budget, tag="lro-line", priority=LOW)
        try:
            ((near, first),) = (row.values for row in ask(queue_queries.stale(table, waited, now)))
            ended = [name.string_value for name in (*near.list_value.values, *first.list_value.values)]
            queues.give_back(writer, ended, budget)
            stranded = ask(queue_queries.stranded(table, waited))
            queues.wake_stranded(writer, [row.values[0].string_value for row in stranded], budget)
        except StoreUnavailableError as exc:
            logger.warning("places that were left are kept for now: %s", exc, extra=event("left_places_kept"))
        except Exception:  # whoever asks who is next has an answer already
            logger.exception("places that were left are kept for now", extra=event("left_places_kept"))

    def queues(self, *, now: float, names: Sequence[str] | None = None) -> Sequence[QueueStatus]:
        """How it goes with the queues: a statement, and one on an index, for no more than 10,000 who wait in each."""
        connection, _ = self._opened()
        if self.no_queues_reason:
            return super().queues(now=now, names=names)
        ask = partial(connection.query, budget=connection.budget(), tag="lro-queues", priority=LOW)
        every = ask(queue_queries.every_queue(self._location.table, now, names))
        counted = ask(queue_queries.counted(self._location.table, names), streamed=True) if every else []
        return queues.statuses(every, counted, now)

    def in_line(self, name: str, uid: str, *, now: float) -> Sequence[InLine]:
        """Where an operation and its steps stand: one statement, on an index, for no more than 10,000 who wait."""
        connection, _ = self._opened()
        if self.no_queues_reason:
            return super().in_line(name, uid, now=now)
        query = queue_queries.standings(self._location.table, name, uid)
        return queues.standings(
            connection.query(query, budget=connection.budget(), tag="lro-queues", priority=LOW), now
        )

    def change_queue(self, name: str, change: Callable[[QueueTerms], QueueTerms]) -> tuple[QueueTerms, QueueTerms]:
        """Change what holds of a queue, in one transaction of two calls, or three where keys are woken."""
        connection, writer = self._opened()
        if self.no_queues_reason:
            return super().change_queue(name, change)
        return queues.change_terms(writer, name, change, connection.budget, self._half_woken)

    def purge(self, *, now: float, limit: int) -> int:
        """Remove up to ``limit`` expired rows. Not needed if the table's row deletion policy does it."""
        if limit <= 0:
            return 0
        connection, writer = self._opened()
        budget = connection.budget()
        table = self._location.table
        seek = self._floors.expired.seek(now)
        query = queries.expired(table, now=now, limit=limit, since=seek.since)
        names = [
            row.values[0].string_value for row in connection.query(query, budget=budget, tag="lro-purge", priority=LOW)
        ]

        def decide(found: Rows, _: Ask) -> tuple[list[Any], int]:
            # Check again in the transaction: there may be a new row of the same name.
            times = {row.values[0].string_value: moment(row.values[1]) for row in found}
            gone = [name for name, when in times.items() if when is not None and when <= now]
            return deletions(table, gone), len(gone)

        gone = writer.transact(("key", "ExpireTime"), names, decide, budget, tag="lro-purge") if names else 0
        if len(names) < limit:
            self._floors.expired.clear(seek, now)
        return gone

    def _read(
        self, columns: Sequence[str], names: Sequence[str], budget: Budget, *, tag: str = "lro-read", **options: Any
    ) -> Iterator[struct_pb2.ListValue]:
        """The rows, in no order: of many large ones, no more than one answer is in memory."""
        for _, found in self._answers(columns, names, budget, tag=tag, **options):
            yield from found

    def _answers(
        self, columns: Sequence[str], names: Sequence[str], budget: Budget, *, tag: str, **options: Any
    ) -> Answers:
        """The same answer by answer, each with the names that it was asked for."""
        connection, _ = self._opened()
        names = list(dict.fromkeys(names))
        if not names:
            return
        if len(names) > MAX_KEYS:
            parts = [names[i : i + MAX_KEYS] for i in range(0, len(names), MAX_KEYS)]
        else:
            try:
                answer = connection.read(columns, names, budget=budget, tag=tag, **options)
            except GoogleAPICallError as exc:
                if exc.grpc_status_code is not grpc.StatusCode.FAILED_PRECONDITION or len(names) == 1:
                    raise
            else:
                yield names, answer
                return
            half = len(names) // 2  # more than the 10 MB of one answer
            parts = [names[:half], names[half:]]
        for part in parts:
            yield from self._answers(columns, part, budget, tag=tag, **options)

    def _opened(self) -> tuple[Connection, Writer]:
        if self._connection is None or self._writer is None:
            raise RuntimeError(f"{self!r} is not open: call open() first, or enter the client that owns it")
        if self._pid != os.getpid():
            raise RuntimeError(
                f"{self!r} was opened in process {self._pid}, before a fork; create a new store in this process"
            )
        return self._connection, self._writer

    def _prepared(self, connection: Connection) -> Found:
        """The schema of the table, checked."""
        budget = connection.budget()

        def execute(sql: str, params: Mapping[str, str]) -> Rows:
            return connection.query(queries.Query(sql).text(**params), budget=budget, tag="lro-open", timed=True)

        try:
            found = read_schema(execute, self._location.table)
        except StoreUnavailableError as exc:
            cause = exc.__cause__
            if isinstance(cause, GoogleAPICallError) and kind_of(cause) is Kind.SETUP:
                raise refused_at_open(self._location, cause) from cause
            raise
        schema.check(found, self._location.table, url=self.url)
        assert found is not None
        return found


def _record(row: struct_pb2.ListValue) -> Record:
    """The record of a row. One that cannot be decoded is an error only for its own readers."""
    try:
        return rows.decode(row)
    except StoreDataError as exc:
        return UnreadableRecord.of(exc)
