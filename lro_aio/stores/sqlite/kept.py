"""Rows that need not be read back: as this process wrote or found them, and no other connection has committed since."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from lro_aio.core.record import Record, State

__all__ = ["KeptRows", "data_version"]

MOST = 4096
"""Most rows that are kept."""
LARGEST = 8192
"""Bytes of a row's payloads beyond which it is not worth its memory."""


def data_version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection has committed."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


class KeptRows:
    """Rows as they are in the file, for one writer's connection: those that run, and those that were found due.

    A running row is changed again soon, usually by the process that runs it, and a due row is claimed. Use this only
    inside a transaction of the connection, but for ``looking``: nothing else can commit then, and the version tells
    whether anything did before the transaction began.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Record] = {}
        self._version = -1
        self._changing: Iterable[str] = ()
        """Names in the transaction under way: a look that begins now may not see it yet."""
        self._looks: dict[int, set[str]] = {}
        """For each look that is under way, the names that it cannot be trusted with."""
        self._lock = threading.Lock()

    def before(
        self,
        connection: sqlite3.Connection,
        names: Collection[str],
        read: Callable[[sqlite3.Connection, Sequence[str]], list[Record]],
    ) -> dict[str, Record]:
        """The rows with these names, which are about to be changed: from memory, the others by ``read``."""
        version = data_version(connection)
        with self._lock:
            if version != self._version:
                self._rows.clear()
                self._version = version
            self._changing = names
            for touched in self._looks.values():
                touched.update(names)
            found = {name: row for name in names if (row := self._rows.get(name)) is not None}
        if len(found) < len(names):
            unknown = [name for name in names if name not in found]
            found.update((row.name, row) for row in read(connection, unknown))
        return found

    def written(self, rows: Mapping[str, Record | None]) -> None:
        """Note what is about to be committed. Call ``forget`` if it is not."""
        with self._lock:
            for name, row in rows.items():
                if row is not None and row.state is State.RUNNING and row.size <= LARGEST:
                    self._rows[name] = row
                else:
                    self._rows.pop(name, None)
            self._bound()

    def committed(self) -> None:
        """The transaction has ended well: a look that begins now sees it."""
        self._changing = ()

    @contextmanager
    def looking(self) -> Iterator[list[Record]]:
        """Another connection looks for rows, in a snapshot that begins within, and adds those that it read.

        They are kept where they are certain to be what the writer would read: no other process has committed since
        before the look, and the writer did not touch them meanwhile.
        """
        found: list[Record] = []
        with self._lock:
            version, touched = self._version, set(self._changing)
            self._looks[id(touched)] = touched
        try:
            yield found
        finally:
            with self._lock:
                del self._looks[id(touched)]
                if version == self._version:
                    self._rows.update((row.name, row) for row in found if row.name not in touched)
                    self._bound()

    def forget(self) -> None:
        """Forget every row. The transaction failed, so it is not known what the file holds."""
        with self._lock:
            self._rows.clear()

    def _bound(self) -> None:
        while len(self._rows) > MOST:
            del self._rows[next(iter(self._rows))]  # the row that was kept first
