"""The store on one SQLite file, or in memory."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from lro_aio.core.change import Change, Outcome, names_of, run
from lro_aio.core.errors import StoreSchemaError
from lro_aio.core.journal import Appending, Entry, by_name
from lro_aio.core.policies import Duration
from lro_aio.core.queues import InLine, QueueStatus, QueueTerms
from lro_aio.core.record import Record, State
from lro_aio.core.step_places import StepPlaces
from lro_aio.ports import ListQuery, Look, Route, StatsQuery, Store
from lro_aio.stores.sqlite import due, lists, places, queries, rows, schema
from lro_aio.stores.sqlite.connections import Exclusive, Pool, connect
from lro_aio.stores.sqlite.entries import decode_entry
from lro_aio.stores.sqlite.epochs import begin_epoch
from lro_aio.stores.sqlite.errors import translated
from lro_aio.stores.sqlite.kept import KeptRows, data_version
from lro_aio.stores.sqlite.location import BUSY_TIMEOUT, Location
from lro_aio.stores.sqlite.neighbours import Neighbours
from lro_aio.stores.sqlite.orphans import Orphans
from lro_aio.stores.sqlite.presence import Presence
from lro_aio.stores.sqlite.writes import append, appended, write

if TYPE_CHECKING:
    from lro_aio.core.stats import Stats

__all__ = ["SqliteStore"]

_SQL = queries.load()

_POLL_INTERVAL = 0.05
"""Seconds: a change of another process is seen within a tenth of a second, by 20 reads of shared memory a second."""
_RUNG_INTERVAL = 0.1
"""Seconds, where the others ring for each commit: for those of an older release, and for what a ring did not reach."""
_NO_OTHERS = 3600.0
"""Seconds: no other process shares the memory, so the notices of this one are enough."""


class SqliteStore(Store):
    """Rows in one SQLite file (write-ahead log, ``synchronous=FULL``), or in memory.

    The processes of one host may share a file on a local disk. One of them writes at a time; a writer waits up to
    ``busy_timeout`` for the others. Every method may be called from any thread. A store does not survive a fork: the
    child must make its own.

    Args:
        path_or_url: A path, "sqlite:///relative.db", "sqlite:////absolute.db", or "sqlite://" for memory. A URL may
            carry ``?mode=ro`` (reads only), ``busy_timeout=SECONDS`` and ``max_page_count=N`` (the file stops growing
            there, as on a full disk).
        busy_timeout: Seconds, or a timedelta. Keep it below a third of the lease (rule 4).

    Raises:
        ValueError: The URL or path is malformed.
    """

    lanes = 1
    ordered_names = True
    no_queues_reason = ""

    def __init__(self, path_or_url: str | os.PathLike[str], *, busy_timeout: Duration = BUSY_TIMEOUT) -> None:
        self._location = Location.of(path_or_url, busy_timeout=busy_timeout)
        self.url = self._location.url
        self.foreign_poll_interval = _NO_OTHERS if self._location.path is None else _POLL_INTERVAL
        self._where = "the database in memory" if self._location.path is None else self._location.path
        self._writer: Exclusive | None = None
        self._readers: Exclusive | Pool | None = None
        self._pid = 0
        self._data_version = 0
        self._looked_at = "", ""  # the last key of a queue that a purge has looked at
        self._kept = KeptRows()
        self._presence = Presence(None)
        self._neighbours = Neighbours(None)
        self._orphans = Orphans()

    @classmethod
    def from_url(cls, url: str) -> SqliteStore:
        """The store that a "sqlite:" URL names.

        Raises:
            ValueError: Malformed, or another scheme.
        """
        Location.parse(url)
        return cls(url)

    def __repr__(self) -> str:
        return f"SqliteStore({self.url!r})"

    @property
    def busy_timeout(self) -> float:
        """Seconds to wait for another writer."""
        return self._location.busy_timeout

    def open(self) -> None:
        """Open the file; create it, or upgrade its schema, where needed.

        Raises:
            StoreSchemaError: The file is not SQLite's, is another application's or of a newer release, or cannot be
                read.
            StoreUnavailableError: Another process keeps it locked or replaces it, or the disk failed.
            RuntimeError: The store is already open.
        """
        if self._writer is not None:
            raise RuntimeError(f"{self!r} is already open")
        location = self._location.resolved()
        presence = Presence(location.path)
        with self._translated(opening=True):
            connection = connect(location, writer=True)
            try:
                schema.prepare(
                    connection,
                    self._where,
                    read_only=location.read_only,
                    memory=location.path is None,
                    timeout=location.busy_timeout,
                )
                self._data_version = data_version(connection)
                presence.opened()
            except BaseException:
                connection.close()
                raise
        self._pid = os.getpid()
        self._kept = KeptRows()  # data versions belong to one connection
        self._presence = presence
        self._neighbours = Neighbours(location.path)
        self._orphans = Orphans()
        self._writer = Exclusive(connection, self._where, location.busy_timeout)
        # A second connection to ":memory:" would be another, empty database.
        self._readers = self._writer if location.path is None else Pool(lambda: connect(location, writer=False))

    def join(self, owner: str, heard: Callable[[], None]) -> None:
        """Take a lock and hang a bell beside the file, where only this machine can have it. See ``neighbours``."""
        if self._location.path is None:
            return
        joined = not self._location.read_only and self._neighbours.join(owner, heard)
        self.foreign_poll_interval = _RUNG_INTERVAL if joined else _POLL_INTERVAL

    def close(self) -> None:
        """Close all connections, within a second; a read that is under way is interrupted."""
        writer, readers = self._writer, self._readers
        if writer is None or readers is None:
            return
        if self._pid != os.getpid():
            return  # they are the parent's: closing them here could drop its locks
        self._writer = self._readers = None
        self._presence.close()
        self._neighbours.leave()
        if readers is not writer:
            readers.close()
        writer.close()  # last: the last connection to close copies the log into the file

    def read(self, names: Sequence[str]) -> list[Record]:
        """The rows with these names, in one statement."""
        # As ``_reading``, whose generator would cost a tenth of it all.
        with self._translated(), self._presence, self._opened()[1].use() as connection:
            return _read(connection, names)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Apply changes in one transaction.

        Raises:
            StoreUnavailableError: Locked by another writer, disk full, the disk failed, or the file is not there any
                more.
            StoreSchemaError: The store was opened with ``mode=ro``.
            sqlite3.Error: SQLite does not accept a value; nothing was committed.
        """
        if not changes:
            return []
        with self._writing() as connection:
            before = self._kept.before(connection, names_of(changes), _read)
            after: dict[str, Record | None] = dict(before)
            appending = [change for change in changes if change.appends]
            journal = Appending(appended(connection, appending, before)) if appending else None
            taken = StepPlaces(places.SqliteReader(connection, before))
            outcomes = run(changes, after, journal, taken)
            write(connection, before, after)
            if journal is not None:
                append(connection, [entry for _, entry in journal.left(after)])
            places.write_places(connection, taken)
            self._kept.written(after)
        if any(_is_news(before.get(name), row) for name, row in after.items()):
            self._neighbours.committed()
        return outcomes

    def journal(self, names: Sequence[str], kinds: Collection[str] | None = None) -> dict[str, list[Entry]]:
        """The journals of these rows, in one statement."""
        wanted = {"names": json.dumps(list(names)), "kinds": None if kinds is None else json.dumps(list(kinds))}
        with self._reading() as connection:
            found = connection.execute(_SQL["journal"], wanted)
            return by_name((name, decode_entry(entry)) for name, *entry in found)

    def unfinished(self, names: Sequence[str]) -> set[str]:
        """The names whose rows have not ended and are not deleted, in one statement."""
        with self._reading() as connection:
            return {name for (name,) in connection.execute(_SQL["unfinished"], (json.dumps(list(names)),))}

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
        """Scan for what is due: two seeks per route, then the due rows, all in one snapshot.

        A route of all resume points is one for each that its rows have. With ``overdue``, two more seeks for each route
        that any row has. The first after a death reads the index of what is due from end to end.
        """
        dead = self._neighbours.dead  # before the snapshot, which then has all that they wrote
        orphans: list[Record] = []
        forgotten: frozenset[str] = frozenset()
        with self._kept.looking() as whole, self._reading() as connection, _snapshot(connection):
            asked = dict.fromkeys(due.single(connection, routes))
            if dead and limit > 0:
                orphans, forgotten = self._orphans.look(connection, dead, asked, limit)
            found = {record.name: record for record in orphans}
            skipped, left = "" if own else owner, limit - len(orphans)
            for record in due.due(connection, now, asked, left, skipped=skipped, whole=whole):
                found.setdefault(record.name, record)
            look = Look(
                due=list(found.values()),
                next_check=due.next_check(connection, now, asked, owner),
                unknown=None if overdue is None else due.unknown(connection, overdue, asked, owner),
                dead=frozenset(record.owner for record in orphans),
            )
        if forgotten:
            self._neighbours.forget(forgotten)
        return look

    def list(self, query: ListQuery) -> list[Record]:
        """One page of rows, newest first."""
        page: list[Record] = []
        most = query.max_bytes
        row = ", ".join(rows.OUTLINE if query.outline else rows.COLUMNS)
        with self._reading() as connection, _snapshot(connection):
            few = _few(connection, query)
            for index, conditions, values in lists.statements(query, few=few is not None) if few != 0 else ():
                statement = _SQL["list"].format(row=row, index=index, conditions=conditions)
                values["limit"] = query.limit - len(page)
                with closing(connection.execute(statement, values)) as cursor:  # one left open would keep the snapshot
                    page += map(rows.decode, cursor) if most is None else _up_to(most, map(rows.decode, cursor))
                if most is not None and sum(record.size for record in page) >= most:
                    break
        return page

    def purge(self, *, now: float, limit: int) -> int:
        """Remove up to ``limit`` expired rows, those that expired first.

        Raises:
            StoreSchemaError: The store was opened with ``mode=ro``.
        """
        if limit <= 0:
            return 0
        with self._writing() as connection:
            self._looked_at = places.forget_idle(connection, now, limit, self._looked_at)
            return connection.execute(_SQL["purge"], (now, limit)).rowcount

    def line(self, *, now: float, routes: Sequence[Route], limit: int) -> Look:
        """Who is next in line, in one snapshot."""
        with self._reading() as connection, _snapshot(connection):
            return places.line(connection, now, routes, limit)

    def queues(self, *, now: float, names: Sequence[str] | None = None) -> Sequence[QueueStatus]:
        """How it goes with the queues, in one snapshot."""
        with self._reading() as connection, _snapshot(connection):
            return places.statuses(connection, now, names)

    def in_line(self, name: str, uid: str, *, now: float) -> Sequence[InLine]:  # noqa: ARG002 (the uid tells)
        """Where an operation and its steps stand, in one snapshot."""
        with self._reading() as connection, _snapshot(connection):
            return places.standings(connection, uid, now)

    def change_queue(self, name: str, change: Callable[[QueueTerms], QueueTerms]) -> tuple[QueueTerms, QueueTerms]:
        """Change what holds of a queue, in one transaction.

        Raises:
            StoreSchemaError: The store was opened with ``mode=ro``.
        """
        with self._writing() as connection:
            terms = places.change_terms(connection, name, change)
        self._neighbours.committed()
        return terms

    def stats(self, query: StatsQuery) -> Stats:
        """Counts, each from an index, in one snapshot."""
        from lro_aio.stores.sqlite.stats import gather

        with self._reading() as connection, _snapshot(connection):
            return gather(connection, query)

    def changed_elsewhere(self) -> bool:
        """Whether another connection has committed, or a process has died. The writer's own commits do not count."""
        if self._location.path is None:
            return False
        with self._translated(), self._presence, self._opened()[0].use() as connection:
            version = data_version(connection)
            changed = version != self._data_version
            self._data_version = version
        return self._neighbours.look() or changed

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), self._presence, self._opened()[1].use() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed at the end, rolled back at an exception."""
        writer, _ = self._opened()
        if self._location.read_only:
            raise StoreSchemaError(f"{self._where} was opened with mode=ro: open it without mode=ro to write")
        if self._presence.gone:
            with self._translated():
                self._presence.check()  # write nothing more into a file that was seen to be gone
        with self._translated(), self._presence, writer.use() as connection:
            turn = self._neighbours.take_turn()
            try:
                # IMMEDIATE: two transactions that read first and write later would both claim a row.
                connection.execute("BEGIN IMMEDIATE")
                if self._presence.needs_epoch:
                    self._presence.needs_epoch = False
                    begin_epoch(connection)
                yield connection
                connection.execute("COMMIT")
                self._kept.committed()
            except BaseException:
                self._kept.forget()
                self._presence.needs_epoch = self._location.path is not None
                if connection.in_transaction:  # a full disk ends it by itself
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise
            finally:
                if turn:
                    self._neighbours.end_turn()

    def _opened(self) -> tuple[Exclusive, Exclusive | Pool]:
        if self._writer is None or self._readers is None:
            raise RuntimeError(f"{self!r} is not open: call open() first, or enter the client that owns it")
        if self._pid != os.getpid():
            raise RuntimeError(
                f"{self!r} was opened in process {self._pid}, before a fork; make a new store in this process"
            )
        return self._writer, self._readers

    def _translated(self, *, opening: bool = False) -> Any:
        return translated(self._where, busy_timeout=self._location.busy_timeout, opening=opening)


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several statements that see the same rows."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _is_news(old: Record | None, new: Record | None) -> bool:
    """Whether another process may be waiting for it: not for a lease that is taken or renewed."""
    if new is old:
        return False
    if new is None or new.state is not State.RUNNING:
        return True
    return old is not None and old.state is State.RUNNING and old.revision != new.revision


def _few(connection: sqlite3.Connection, query: ListQuery) -> int | None:
    """How many rows are looked for, where they may be few among many others, and are: no more than ``lists.FEW``."""
    asked = lists.few(query)
    if asked is None:
        return None
    index, conditions, values = asked
    statement = _SQL["count_few"].format(index=index, conditions=conditions)
    (found,) = connection.execute(statement, {**values, "most": lists.FEW + 1}).fetchone()
    return int(found) if found <= lists.FEW else None


def _up_to(most: int, found: Iterable[Record]) -> Iterator[Record]:
    """Rows until their size comes to so many bytes: SQLite loads none before it is asked for."""
    for record in found:
        yield record
        most -= record.size
        if most <= 0:
            return


def _read(connection: sqlite3.Connection, names: Sequence[str]) -> list[Record]:
    if len(names) == 1:
        found = connection.execute(_SQL["read_one"], tuple(names))
    else:
        found = connection.execute(_SQL["read"], (json.dumps(list(names)),))
    return list(map(rows.decode, found))
