"""The connections that threads use: one for the writer, a few for readers. All are closed with the store."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from lro_aio.core.errors import StoreSchemaError, StoreUnavailableError
from lro_aio.stores.sqlite.errors import not_a_database
from lro_aio.stores.sqlite.location import Location

__all__ = ["CLOSE_PATIENCE", "Exclusive", "Pool", "connect"]

CLOSE_PATIENCE = 0.2
"""Seconds for which close waits for a read or a write under way: before it interrupts it, and again after."""

_SMALLEST = 512
"""Bytes of the smallest page, and so of the smallest SQLite file."""

_CHECKPOINT_PAGES = 4000
"""Pages in the write-ahead log at which they are copied into the file: a page that was written often is copied once.

Of the settings measured on a table of 200,000 rows (page size, cache, memory map, this one), only this was worth it.
"""

_JOURNAL_LIMIT = 64 * 1024 * 1024
"""Bytes that the write-ahead log keeps after a burst."""


def connect(location: Location, *, writer: bool) -> sqlite3.Connection:
    """Open a connection that any thread may use, one at a time.

    Only a writer's connection creates the file: a reader that finds none must not leave an empty one behind.

    Raises:
        StoreSchemaError: The path cannot be that of a file.
        sqlite3.Error: SQLite refused.
    """
    if location.path is not None:
        _check_path(Path(location.path), must_exist=location.read_only)
    mode = "ro" if location.read_only else "rwc" if writer else "rw"
    connection = sqlite3.connect(
        location.uri(mode), uri=True, timeout=location.busy_timeout, isolation_level=None, check_same_thread=False
    )
    try:
        # A file that somebody else prepared must not run functions of their choice through views or triggers.
        connection.execute("PRAGMA trusted_schema = OFF")
        if writer and not location.read_only:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT}")
            if location.max_page_count is not None:
                connection.execute(f"PRAGMA max_page_count = {location.max_page_count}")
        else:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_path(path: Path, *, must_exist: bool) -> None:
    """Say in plain words what SQLite would call "unable to open database file"."""
    if path.is_dir():
        raise StoreSchemaError(f"{path} is a directory; use the path of a file in it")
    if not path.parent.is_dir():
        raise StoreSchemaError(f"{path} cannot be created: the directory {path.parent} does not exist; create it first")
    if must_exist and not path.exists():
        raise StoreSchemaError(f"{path} does not exist, and mode=ro does not create it")
    with suppress(OSError):
        # SQLite takes a file of one byte for an empty one, and would overwrite it. Its size is enough; opening it here
        # would do harm. Closing any descriptor of a file drops all locks that this process has on it (POSIX). Without
        # them, another process that closes the file removes the log, and this one's commits with it.
        if 0 < path.stat().st_size < _SMALLEST:
            raise StoreSchemaError(not_a_database(str(path)))


class Exclusive:
    """One connection that threads take turns with."""

    def __init__(self, connection: sqlite3.Connection, where: str, timeout: float) -> None:
        self._connection = connection
        self._where = where
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closing = False

    def use(self) -> Self:
        """The connection, for one thread, as a context manager. A generator would cost two microseconds more."""
        return self

    def __enter__(self) -> sqlite3.Connection:
        """Wait for the other threads.

        Raises:
            StoreUnavailableError: They used it for longer than the busy timeout, or it is closed.
        """
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreUnavailableError(f"other calls of this process kept {self._where} busy for {self._timeout:g} s")
        if self._closing:
            self._give_back()
            raise StoreUnavailableError(f"{self._where} was closed while the call was under way")
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()

    def _give_back(self) -> None:
        self._lock.release()
        if self._closing:
            self._close_if_free(0)

    def close(self) -> None:
        """Close now; if a thread is using the connection, that thread closes it when it is done."""
        self._closing = True
        if not self._close_if_free(CLOSE_PATIENCE):
            self._connection.interrupt()
            self._close_if_free(CLOSE_PATIENCE)

    def _close_if_free(self, patience: float) -> bool:
        if not self._lock.acquire(timeout=patience):
            return False
        try:
            self._connection.close()
        finally:
            self._lock.release()
        return True


class _Use:
    """A connection of a pool, for one thread, as a context manager. A generator would cost a microsecond more."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __enter__(self) -> sqlite3.Connection:
        self._connection = self._pool.take()
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.give_back(self._connection)


class Pool:
    """Connections for readers: as many as there are threads reading at a time."""

    def __init__(self, make: Callable[[], sqlite3.Connection], *, idle: int = 8) -> None:
        self._make = make
        self._keep = idle
        self._changed = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._busy: set[sqlite3.Connection] = set()
        self._closed = False

    def use(self) -> _Use:
        """A connection as a context manager: the one used last, whose cache is warm."""
        return _Use(self)

    def take(self) -> sqlite3.Connection:
        """A connection that its thread gives back."""
        with self._changed:
            connection = self._idle.pop() if self._idle else None
            if connection is not None:
                self._busy.add(connection)
                return connection
        connection = self._make()
        with self._changed:
            self._busy.add(connection)
        return connection

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Keep it for the next thread, or close it."""
        with self._changed:
            self._busy.discard(connection)
            if self._closed or len(self._idle) >= self._keep:
                connection.close()
            else:
                self._idle.append(connection)
            if self._closed:  # only close() waits
                self._changed.notify_all()

    def close(self) -> None:
        """Close idle connections and interrupt busy ones; one that does not stop in time is closed by its thread."""
        with self._changed:
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            if self._changed.wait_for(lambda: not self._busy, CLOSE_PATIENCE):
                return
            for connection in self._busy:
                with suppress(sqlite3.Error):
                    connection.interrupt()
            self._changed.wait_for(lambda: not self._busy, CLOSE_PATIENCE)
