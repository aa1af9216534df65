"""Connections with a deadline, and a pool of them. All are closed with the store."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.generators import send
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from lro_aio.core.errors import StoreUnavailableError
from lro_aio.stores.postgres.errors import DeadlineError, UnusableError
from lro_aio.stores.postgres.location import Location

__all__ = ["CLOSE_PATIENCE", "Connector", "Link", "Pool", "cut"]

T = TypeVar("T")

CLOSE_PATIENCE = 0.2
"""Seconds for which close waits for calls under way: before it cuts their connections, and again after."""

OLDEST = 13_00_00
"""The oldest server, as ``server_version`` counts."""

_GREETING = (
    "SELECT extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery(),"
    " current_setting('transaction_read_only') = 'on'"
)
_SETTINGS = {
    # Of a transaction that has no BEGIN. Under a stricter one, two writers of one row refuse each other.
    "default_transaction_isolation": "read committed",
    # Every statement here finds its rows by an index, however little the planner knows of the table yet. Without this,
    # a table that has grown since it was last analyzed is read from end to end.
    "enable_seqscan": "off",
    # Nor are all rows of a range collected and sorted where the first few of an index in this order are wanted.
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # So a plan need not be made for the values of a call: for those of a few rows, that takes as long as to read them.
    "plan_cache_mode": "force_generic_plan",
}


class _Pipeline(psycopg.Pipeline):
    """Sends what is queued at its syncs, all at once.

    psycopg waits for the socket before each command, and again before each sync: a sixth of the CPU of a transaction.

    Nor does it ask for a flush behind its last sync, as psycopg does. Behind the end of a transaction, a pooler lends a
    server for it, and gets no answer by which it could tell that the server is free again: it stays lent until the
    connection's next call.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._link = link

    def _communicate_gen(self) -> PQGen[None]:
        return
        yield

    def _sync_gen(self) -> PQGen[None]:
        self._enqueue_sync()
        while self.command_queue:
            self.command_queue.popleft()()
        yield from send(self.pgconn)
        if self.pgconn.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the connection is lost")  # to fetch would only find nothing
        yield from self._fetch_gen(flush=False)  # the sync has the server send all there is

    _exit_gen = _sync_gen

    def end(self) -> None:
        """Queue the end of a transaction that has no BEGIN: a sync commits what is queued since the one before."""
        self._enqueue_sync()

    def _process_results(self, queued: Any, results: list[PGresult]) -> None:
        try:
            super()._process_results(queued, results)
        except psycopg.Error:
            self._link.synced = bool(self._link.synced)
            raise
        if self._link.synced is None and results[-1].status == ExecStatus.PIPELINE_SYNC:
            self._link.synced = True


class Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for its server until ``deadline`` (``time.monotonic``), and no longer."""

    deadline = math.inf
    used = False
    """Whether it has served a call before: it may have died since."""
    synced: bool | None = None
    """Whether the server has carried out all that comes before the first sync of the last pipeline. None: it has not
    said so yet."""
    committing = False
    """Whether a commit may be under way: a connection that breaks now leaves an unknown outcome."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Drive libpq: psycopg's own way to wait, with an end to it.

        Raises:
            DeadlineError: No answer in time. The connection is closed: an answer may still come.
        """
        try:
            return super().wait(_bounded(gen, self.deadline), *args, **options)
        except DeadlineError:
            self.close()
            raise

    @contextmanager
    def pipeline(self) -> Iterator[_Pipeline]:
        """As psycopg's, but they do not nest."""
        self._pipeline = pipeline = _Pipeline(self)
        self.synced = None
        with super().pipeline():
            yield pipeline


def _bounded(gen: Generator[Any, Any, T], deadline: float) -> Generator[Any, Any, T]:
    """The same generator, which also ends at the deadline. It is sent a zero whenever nothing happened for a while."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if time.monotonic() >= deadline:
                raise DeadlineError("no answer in time")
            wanted = gen.send(ready)
    except StopIteration as stop:
        value: T = stop.value
        return value


class Connector:
    """Makes connections to the one server that takes writes, and measures its clock.

    Args:
        location: The store's.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self.clock_offset = 0.0
        """Seconds by which the server's clock was ahead when it was looked at last."""

    def connect(self, deadline: float, *, listening: bool = False) -> Link:
        """A new connection, in autocommit mode.

        Args:
            deadline: ``time.monotonic``; libpq takes two seconds at least for each host.
            listening: For LISTEN: past the pooler.

        Raises:
            UnusableError: The server takes no writes, is too old, or has another encoding than UTF8.
            psycopg.Error: It does not answer, or refused.
        """
        location = self._location
        direct = not location.pooled or listening
        dsn = (location.listen_dsn if listening else None) or location.dsn
        conninfo = location.conninfo(dsn, deadline - time.monotonic())
        link = Link.connect(conninfo, autocommit=True, prepare_threshold=0 if direct else None)
        try:
            link.deadline = deadline
            if link.info.server_version < OLDEST:
                raise UnusableError(f"PostgreSQL {link.info.server_version // 10_000} is too old: 13 is the first")
            encoding = link.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise UnusableError(f"the database has the encoding {encoding}: make one with ENCODING 'UTF8'")
            self.check(link, self._limits() if direct else "")
        except BaseException:
            link.close()
            raise
        return link

    def check(self, link: Link, more: str = "") -> None:
        """One round trip: measure the server's clock, and make sure that it takes writes.

        Args:
            link: A connection.
            more: More columns for the statement, each behind a comma.

        Raises:
            UnusableError: It does not.
        """
        sent = time.time()
        row = link.execute((_GREETING + more).encode(), prepare=False).fetchone()
        received = time.time()
        assert row is not None
        there, standby, read_only = row[:3]
        if standby or read_only:
            what = "is a standby" if standby else "is set to read only (default_transaction_read_only)"
            raise UnusableError(
                f"the server {what}, and takes no writes: name the primary, or all hosts, of which it then takes the"
                " one with target_session_attrs=read-write"
            )
        self.clock_offset = there - min(max(there, sent), received)

    def _limits(self) -> str:
        """Columns that set the limits of a session."""
        whole = f"{math.ceil(self._location.timeout * 1000)}ms"
        # Who stands still between two statements of a transaction holds rows that others wait for.
        half = f"{math.ceil(self._location.timeout * 500)}ms"
        settings = {
            **_SETTINGS,
            "statement_timeout": whole,
            "lock_timeout": whole,
            "idle_in_transaction_session_timeout": half,
        }
        return "".join(f", set_config('{name}', '{value}', false)" for name, value in settings.items())


class Pool:
    """Connections for threads: no more than ``limit`` at a time, made when they are needed.

    It has no threads of its own: who needs a connection makes it, within the deadline of the call, and is told what
    went wrong.

    Args:
        connect: Makes one, by a deadline.
        limit: Most connections.
        where: The URL, for the error.
    """

    def __init__(self, connect: Callable[[float], Link], limit: int, where: str) -> None:
        self._connect = connect
        self._where = where
        self._free = limit
        self._changed = threading.Condition()
        self._idle: deque[Link] = deque()
        self._busy: set[Link] = set()
        self._closed = False

    def take(self, deadline: float) -> Link:
        """A connection: the one that was used last.

        Raises:
            StoreUnavailableError: All are in use until the deadline, or the store is closed.
            psycopg.Error: None could be made.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._free or self._closed, deadline - time.monotonic()):
                raise StoreUnavailableError(f"{self._where}: other calls of this process use all connections")
            self._check()
            self._free -= 1
            link = self._idle.pop() if self._idle else None
        if link is None:
            try:
                link = self._connect(deadline)
            except BaseException:
                self._release()
                raise
        with self._changed:
            self._busy.add(link)
            closed = self._closed
        if closed:
            self.give(link)
            self._check()
        link.deadline = deadline
        link.committing = False
        return link

    def give(self, link: Link) -> None:
        """Give one back. It is kept if it is in order."""
        kept = _settled(link)
        link.used = True
        with self._changed:
            self._busy.discard(link)
            kept = kept and not self._closed
            if kept:
                self._idle.append(link)
        if not kept:
            link.close()
        self._release()

    def forget(self) -> None:
        """Close what is idle: one connection has died, and most likely these have too."""
        with self._changed:
            idle, self._idle = self._idle, deque()
        for link in idle:
            link.close()

    def close(self) -> None:
        """Close idle connections and cut busy ones; the threads that use them close them."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.forget()
        with self._changed:
            if self._changed.wait_for(lambda: not self._busy, CLOSE_PATIENCE):
                return
            for link in self._busy:
                cut(link)
            self._changed.wait_for(lambda: not self._busy, CLOSE_PATIENCE)

    def _release(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def _check(self) -> None:
        if self._closed:
            raise StoreUnavailableError(f"{self._where} was closed while the call was under way")


def cut(link: Link) -> None:
    """Break a connection that another thread waits on: that thread gets an error at once."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(link.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)  # an error: it was closed just now


def _settled(link: Link) -> bool:
    """Whether no transaction is open on it any more."""
    if link.closed or link.pgconn.transaction_status == TransactionStatus.ACTIVE:
        return False
    try:
        link.rollback()
    except psycopg.Error:
        return False
    return True
