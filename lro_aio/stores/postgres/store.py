"""The store on PostgreSQL."""

from __future__ import annotations

import itertools
import logging
import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.journal import Entry, by_name
from lro_aio.core.logs import event
from lro_aio.core.policies import Duration
from lro_aio.core.queues import InLine, QueueStatus, QueueTerms
from lro_aio.core.record import Record
from lro_aio.core.stats import Stats
from lro_aio.ports import ListQuery, Look, Route, StatsQuery, Store
from lro_aio.stores.postgres import lists, queues, rows, schema, stats
from lro_aio.stores.postgres.commits import Commit, execute
from lro_aio.stores.postgres.connections import Connector, Link, Pool
from lro_aio.stores.postgres.entries import decode_entry
from lro_aio.stores.postgres.errors import Kind, kind_of, translate
from lro_aio.stores.postgres.kept import KeptRows
from lro_aio.stores.postgres.location import LANES, TIMEOUT, Location
from lro_aio.stores.postgres.notices import DEAF, Notices
from lro_aio.stores.postgres.orphans import Orphans
from lro_aio.stores.postgres.queries import Statements

if TYPE_CHECKING:
    from lro_aio.stores.postgres.neighbours import Neighbours

__all__ = ["PostgresStore"]

logger = logging.getLogger("lro_aio")

T = TypeVar("T")
Found = dict[str, list[tuple[Any, ...]]]
"""The rows of statements, by their names."""

READERS = 4
"""Connections for reads. Writers have their own: a slow read never costs a lease."""
_POLL_INTERVAL = 0.01
"""Seconds between looks at a flag of this process, which the listening thread sets."""
_TOLD_INTERVAL = DEAF
"""Seconds, where that thread tells whoever waits: for the time in which it cannot listen."""
_LOOK_INTERVAL = 0.15
"""Seconds between looks at who has died, where the processes of this machine know each other."""
_PAUSE = 0.005
"""Seconds before a transaction that met a conflict is tried again; up to 32 times as much, and at random."""


class PostgresStore(Store):
    """Keeps rows in a table of a PostgreSQL database (13 and later), which it makes by itself.

    A read is one round trip, and so is a batch of changes of rows that are new, or that this process wrote last; any
    other batch is two. Every method may be called from any thread. A store does not survive a fork: the child must make
    its own.

    Args:
        dsn: "postgresql://USER@HOST/DATABASE", with several hosts if there are, or libpq's "host=... dbname=...". A URL
            may carry the other arguments: ``?table=jobs&schema=app``.
        table: The table of the operations; lower-case letters, digits and _. Its journal is TABLE_journal.
        schema: The schema of the tables. None: what the server's ``search_path`` says.
        timeout: Seconds, or a timedelta, that one call of the store may take, including retries. Keep it below a third
            of the lease (rule 4).
        lanes: Batches of changes that may be under way at the same time.
        pooled: Whether the DSN is that of a pooler in transaction mode, such as PgBouncer.
        listen_dsn: For ``pooled``: the database itself, for LISTEN. None: readers of other processes' changes poll.
        migrate: Whether ``open`` makes or upgrades the tables. False: `lro postgres migrate` does.
        neighbours: Whether the processes of this machine know at once which of them has died, by locks on files in a
            directory of this user's. True: among the temporary files. A path: there; processes must name the same.

    Raises:
        ValueError: An argument is malformed.
    """

    ordered_names = True
    no_queues_reason = ""

    def __init__(
        self,
        dsn: str,
        *,
        table: str = "operations",
        schema: str | None = None,
        timeout: Duration = TIMEOUT,
        lanes: int = LANES,
        pooled: bool = False,
        listen_dsn: str | None = None,
        migrate: bool = True,
        neighbours: bool | str | os.PathLike[str] = True,
    ) -> None:
        self._location = location = Location.of(
            dsn,
            timeout=timeout,
            table=table,
            schema=schema,
            lanes=lanes,
            pooled=pooled,
            listen_dsn=listen_dsn,
            migrate=migrate,
            neighbours=neighbours if isinstance(neighbours, bool) else os.fspath(neighbours),
        )
        self.url = location.url
        self.lanes = location.lanes
        self._listens = not location.pooled or location.listen_dsn is not None
        self.foreign_poll_interval = _POLL_INTERVAL if self._listens else None
        self._texts = Statements(location)
        self._connector = Connector(location)
        self._pools: tuple[Pool, Pool] | None = None
        self._notices: Notices | None = None
        self._notice = "", ""
        self._neighbours: Neighbours | None = None
        self._orphans = Orphans(self._location.timeout)
        self._looked_at = "", ""  # the last key of a queue that a purge has looked at
        self._forget()
        self._pid = 0

    @classmethod
    def from_url(cls, url: str) -> PostgresStore:
        """The store that a "postgresql:" or "postgres:" URL names.

        Raises:
            ValueError: It is malformed.
        """
        if not url.startswith(("postgresql://", "postgres://")):
            raise ValueError(f"{url.partition(':')[0]!r} is not the scheme of a PostgreSQL store")
        return cls(url)

    def __repr__(self) -> str:
        return f"PostgresStore({self.url!r})"

    @property
    def clock_offset(self) -> float:  # type: ignore[override]  # measured, not set
        """Seconds by which the server's clock was ahead when it was looked at last: every few seconds."""
        return self._connector.clock_offset

    def open(self) -> None:
        """Connect, and make or upgrade the tables where that is wanted.

        Raises:
            StoreSchemaError: The table is missing, newer, or another application's; no permission; the server takes no
                writes.
            StoreUnavailableError: The server does not answer, or knows no such database or role.
            RuntimeError: The store is already open.
        """
        if self._pools is not None:
            raise RuntimeError(f"{self!r} is already open")
        writers = Pool(self._connector.connect, self.lanes + 2, self.url)
        readers = Pool(self._connector.connect, READERS, self.url)
        notices = Notices(
            partial(self._connector.connect, listening=True), self._connector.check, self._location.timeout
        )
        try:
            link = writers.take(self._deadline())
            try:
                schema.prepare(link, self._location)
                (oid,) = link.execute("SELECT to_regclass(%s)::oid", [self._location.qualified]).fetchone() or (0,)
            finally:
                writers.give(link)
            if self._listens:
                notices.open(f"lro_aio_{oid}")
        except BaseException as exc:
            writers.close()
            if isinstance(exc, psycopg.Error):
                raise translate(exc, self._location, opening=True) from exc
            raise
        self._notice = f"lro_aio_{oid}", notices.own
        self._pid = os.getpid()
        self._forget()
        self._notices = notices
        self._pools = writers, readers

    def join(self, owner: str, heard: Callable[[], None]) -> None:
        """Take a lock where only this machine can have it, and hear of commits from the thread that listens."""
        if self._notices is not None and self._listens:
            self._notices.join(heard)
            self.foreign_poll_interval = _TOLD_INTERVAL
        if not self._location.neighbours:
            return
        try:
            from lro_aio.stores.postgres.neighbours import Neighbours  # not to be had on every system

            neighbours = Neighbours(self.url, self._table(), self._location.folder)
        except (ImportError, OSError) as exc:  # the latter: there is no directory for temporary files
            logger.debug("other processes on %s are not known: %s", self.url, exc, extra=event("no_neighbours"))
            return
        if neighbours.join(owner, None):
            self._neighbours, self._orphans = neighbours, Orphans(self._location.timeout)
            if self._listens:
                self.foreign_poll_interval = _LOOK_INTERVAL

    def close(self) -> None:
        """Close all connections, within a second; calls under way end with an error."""
        pools, self._pools = self._pools, None
        if pools is None or self._notices is None or self._pid != os.getpid():
            return  # after a fork they are the parent's: to close them here would end its sessions
        self._notices.close()
        if self._neighbours is not None:
            self._neighbours.leave()
            self._neighbours = None
        for pool in pools:
            pool.close()

    def read(self, names: Sequence[str]) -> list[Record]:
        """The rows with these names, in one statement."""
        return list(map(rows.decode, self._reading("read", {"names": list(dict.fromkeys(names))})))

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Apply changes in one transaction of two round trips, or of three where they touch queues.

        Where all that they change is new, or as this process wrote it last, they are one round trip. If some rows turn
        out to be otherwise, theirs are carried out in a second transaction; if it fails, the error is their outcome.

        Rows are locked in the order of their names, and after them queues in the order of theirs. Where another process
        made one of the rows first, or the server gave the transaction up, it is repeated until the timeout.

        Raises:
            StoreUnavailableError: No answer, or no commit, within the timeout.
            psycopg.Error: PostgreSQL does not accept a value; nothing was committed.
        """
        if not changes:
            return []
        commit = Commit(self._texts, changes, self._notice)
        try:
            return self._repeated(0, lambda link: commit(link, self._kept))
        except (StoreUnavailableError, psycopg.Error) as exc:
            if not commit.made:
                raise
            return commit.outcomes(itertools.repeat(exc))

    def journal(self, names: Sequence[str], kinds: Collection[str] | None = None) -> dict[str, list[Entry]]:
        """The journals of these rows, in one statement."""
        chosen = None if kinds is None else [str(kind) for kind in kinds]
        wanted = {"names": list(dict.fromkeys(names)), "kinds": chosen}
        return by_name((name, decode_entry(entry)) for name, *entry in self._reading("journal", wanted))

    def unfinished(self, names: Sequence[str]) -> set[str]:
        """The names whose rows have not ended and are not deleted, in one statement."""
        return {name for (name,) in self._reading("unfinished", {"names": list(names)})}

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
        """Scan for what is due: up to three statements on one index, in one snapshot and one round trip.

        After a death on this machine, there are one or two more before it.
        """
        orphans = self._look_after_dead(routes, limit)
        values: dict[str, Any] = {
            "now": now,
            "handlers": [handler for handler, _ in routes],
            "points": [point for _, point in routes],
            "limit": limit - len(orphans),
            "owner": owner,
            "skipped": "" if own else owner,
            "overdue": overdue,
        }
        wanted = {"due": limit > len(orphans), "next_check": True, "unknown": overdue is not None}
        found = self._snapshot([name for name, on in wanted.items() if on], values)
        (next_check,) = found["next_check"][0]
        unknown = [(handler, point) for handler, point in found.get("unknown", ())]
        due = {record.name: record for record in (*orphans, *map(rows.decode, found.get("due", ())))}
        dead = frozenset(record.owner for record in orphans)
        return Look([*due.values()], next_check, unknown[0] if unknown else None, dead)

    def list(self, query: ListQuery) -> list[Record]:
        """One page of rows, newest first: a range of one index."""
        return self._repeated(1, lambda link: _page(link, self._texts, query))

    def purge(self, *, now: float, limit: int) -> int:
        """Remove up to ``limit`` expired rows, those that expired first, and of queues what nobody needs any more."""
        if limit <= 0:
            return 0
        after = self._looked_at
        removed, self._looked_at = self._repeated(
            0, lambda link: queues.purge(link, self._texts, now, limit, self._notice, after)
        )
        return removed

    def line(self, *, now: float, routes: Sequence[Route], limit: int) -> Look:
        """Who is next in line: one round trip, and another one where there are places."""
        values = queues.line_values(now, routes)
        lines = queues.Lines(self._snapshot(queues.LINE, values), now, limit)
        if not lines.free:
            return lines.look(routes, {})
        return lines.look(routes, self._snapshot(queues.NEXT, lines.wanted()))

    def queues(self, *, now: float, names: Sequence[str] | None = None) -> Sequence[QueueStatus]:
        """How it goes with the queues, in one snapshot and one round trip."""
        return queues.statuses(self._snapshot(queues.STATUS, queues.status_values(now, names)), now)

    def in_line(self, name: str, uid: str, *, now: float) -> Sequence[InLine]:  # noqa: ARG002 (the uid tells)
        """Where an operation and its steps stand, in one statement."""
        return queues.standings(list(self._reading("in_line", queues.standing_values(uid))), now)

    def change_queue(self, name: str, change: Callable[[QueueTerms], QueueTerms]) -> tuple[QueueTerms, QueueTerms]:
        """Change what holds of a queue, in one transaction of two round trips."""
        return self._repeated(0, lambda link: queues.change_terms(link, self._texts, name, change, self._notice))

    def stats(self, query: StatsQuery) -> Stats:
        """Counts, each from an index: four statements in one snapshot and one round trip."""
        return stats.gather(query, self._snapshot(stats.STATEMENTS, stats.values(query)))

    def changed_elsewhere(self) -> bool:
        """Whether another process has committed since the last call, as far as this one has been told, or has died."""
        neighbours, notices = self._neighbours, self._notices
        died = neighbours is not None and neighbours.look()
        again = neighbours is not None and self._orphans.changed()
        told = notices is not None and self._listens and notices.changed()
        return died or again or told

    def _look_after_dead(self, routes: Sequence[Route], limit: int) -> Sequence[Record]:
        """What processes of this machine hold that are dead."""
        neighbours = self._neighbours
        if neighbours is None:
            return ()
        if not self._listens:  # nobody calls `changed_elsewhere`
            neighbours.look()
        dead = neighbours.dead
        if not dead or limit <= 0:
            return ()
        found, gone = self._orphans.look(self._reading, dead, routes, limit)
        if gone:
            neighbours.forget(gone)
        return found

    def _table(self) -> str:
        """The table, as all who use it know it, however they reach it."""
        try:
            ((server, database),) = self._repeated(0, lambda link: execute(link, self._texts["server"], {}).fetchall())
        except (StoreUnavailableError, psycopg.Error):  # its like, which does not tell: those with the same URL
            return self.url
        return f"{server} {database} {self._notice[0]}"

    def _reading(self, name: str, values: dict[str, Any]) -> Iterable[tuple[Any, ...]]:
        return self._repeated(1, lambda link: execute(link, self._texts[name], values).fetchall())

    def _snapshot(self, names: Sequence[str], values: dict[str, Any]) -> Found:
        """The rows of several statements, as of one moment."""

        def scan(link: Link) -> Found:
            with link.pipeline():
                link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursors = {name: execute(link, self._texts[name], values) for name in names}
                link.execute("COMMIT")
            return {name: cursor.fetchall() for name, cursor in cursors.items()}

        return self._repeated(1, scan)

    def _repeated(self, pool: int, attempt: Callable[[Link], T]) -> T:
        """Carry out one call, and do it again where nothing can have come of it, until the timeout.

        Args:
            pool: 0 for writers, 1 for readers.
            attempt: The call.
        """
        chosen = self._opened()[pool]
        deadline = self._deadline()
        pause = _PAUSE
        while True:
            try:
                link = chosen.take(deadline)
            except psycopg.Error as exc:
                raise translate(exc, self._location) from exc
            if not link.used:
                self._forget()  # it may lead to another server than the one before: to one that has lost something
            try:
                return attempt(link)
            except psycopg.Error as exc:
                kind = kind_of(exc, self._location.table)
                if kind in (Kind.LOST, Kind.SETUP):
                    link.close()  # the server may have become a standby: the next call looks for the primary
                    chosen.forget()
                lost = kind is Kind.LOST and link.used and not link.committing
                if not lost and (kind is not Kind.CONFLICT or time.monotonic() + pause >= deadline):
                    raise translate(exc, self._location) from exc
            finally:
                chosen.give(link)
            if not lost:
                time.sleep(pause * random.random())  # noqa: S311 - spreads those that met each other
                pause = min(pause * 2, 32 * _PAUSE)

    def _forget(self) -> None:
        """Know no rows any more. What is under way goes on with those from before, which nobody asks again.

        Behind a pooler, none are kept: it does not say when it has gone over to another server.
        """
        self._kept = KeptRows(0) if self._location.pooled else KeptRows()

    def _deadline(self) -> float:
        return time.monotonic() + self._location.timeout

    def _opened(self) -> tuple[Pool, Pool]:
        if self._pools is None:
            raise RuntimeError(f"{self!r} is not open: call open() first, or enter the client that owns it")
        if self._pid != os.getpid():
            raise RuntimeError(
                f"{self!r} was opened in process {self._pid}, before a fork; make a new store in this process"
            )
        return self._pools


def _page(link: Link, texts: Statements, query: ListQuery) -> list[Record]:
    page: list[Record] = []
    for conditions, values in lists.parts(query):
        left = None if query.max_bytes is None else query.max_bytes - sum(record.size for record in page)
        if len(page) >= query.limit or (left is not None and left <= 0 and page):
            break
        name = "list" if left is None else "list_up_to"
        text = texts.list(name, outline=query.outline, conditions=conditions)
        values |= {"limit": query.limit - len(page), "most": left}
        page += map(rows.decode, execute(link, text, values))
    return page
