"""The rows that dead processes held: found by one scan for each death, from then on by their rowids."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable

from lro_aio.core.record import Record
from lro_aio.ports import Route
from lro_aio.stores.sqlite import queries, rows

__all__ = ["Orphans"]

_SQL = queries.load()


class Orphans:
    """What is left of dead owners. They take no more rows, so what one scan finds is all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scanned: frozenset[str] = frozenset()
        self._rowids: list[int] = []

    def look(
        self, connection: sqlite3.Connection, dead: frozenset[str], routes: Iterable[Route], limit: int
    ) -> tuple[list[Record], frozenset[str]]:
        """Their rows of these routes, without payloads; and the owners who have none left, of whatever route.

        Args:
            connection: In a transaction that began after they were known to be dead.
            dead: The owners.
            routes: The (handler, resume point) pairs that are asked for.
            limit: Most rows to return.
        """
        with self._lock:
            self._scanned &= dead
            if new := dead - self._scanned:
                self._rowids += [rowid for (rowid,) in connection.execute(_SQL["held_by"], (json.dumps(list(new)),))]
                self._scanned = dead
            owners = json.dumps(list(dead))
            held = connection.execute(_SQL["still_held"], (owners, json.dumps(self._rowids))).fetchall()
            self._rowids = [rowid for rowid, _ in held]
            asked = (owners, json.dumps(self._rowids), json.dumps(list(routes)), limit)
            left = list(map(rows.decode, connection.execute(_SQL["orphans"], asked))) if held else []
        return left, dead - {owner for _, owner in held}
