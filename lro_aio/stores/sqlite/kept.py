"""Rows that need not be read back: this connection wrote them last, and no other connection has committed since."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

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
    """The running rows of one writer's connection, as they are in the file.

    A running row is changed again soon, usually by the process that runs it. Use this only inside a transaction of the
    connection: nothing else can commit then, and the version tells whether anything did before the transaction began.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Record] = {}
        self._version = -1

    def before(
        self,
        connection: sqlite3.Connection,
        names: Iterable[str],
        read: Callable[[sqlite3.Connection, Sequence[str]], list[Record]],
    ) -> dict[str, Record]:
        """The rows with these names: from memory, the others by ``read``."""
        version = data_version(connection)
        if version != self._version:
            self._rows.clear()
            self._version = version
        found: dict[str, Record] = {}
        unknown: list[str] = []
        for name in names:
            row = self._rows.get(name)
            if row is None:
                unknown.append(name)
            else:
                found[name] = row
        if unknown:
            found.update((row.name, row) for row in read(connection, unknown))
        return found

    def written(self, rows: Mapping[str, Record | None]) -> None:
        """Note what is about to be committed. Call ``forget`` if it is not."""
        for name, row in rows.items():
            if row is not None and row.state is State.RUNNING and row.size <= LARGEST:
                self._rows[name] = row
            else:
                self._rows.pop(name, None)
        while len(self._rows) > MOST:
            del self._rows[next(iter(self._rows))]  # the row that has run for longest

    def forget(self) -> None:
        """Forget every row. The transaction failed, so it is not known what the file holds."""
        self._rows.clear()
