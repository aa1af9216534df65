"""The rows of a batch in a handful of statements, however many there are.

``sqlite3`` gives the interpreter's lock away in every step of a statement. Beside an event loop that is busy, it comes
back a switch interval later (5 ms, ``sys.setswitchinterval``): a hundred statements would take half a second there.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping
from itertools import chain
from typing import Any

from lro_aio.core.record import Record
from lro_aio.stores.sqlite import queries, rows

__all__ = ["MOST", "write"]

MOST = 128
"""Rows to a statement. Beyond it, a row costs no less, and each size of statement keeps its memory."""

_SQL = queries.load()


def write(connection: sqlite3.Connection, before: Mapping[str, Record], after: Mapping[str, Record | None]) -> None:
    """Write the rows that differ, each with the statement that touches the fewest indexes.

    Args:
        connection: In a transaction that began before ``before`` was read.
        before: The rows that are stored, by name.
        after: What is to be stored. None: nothing.
    """
    removed: list[tuple[str]] = []
    written: list[tuple[Any, ...]] = []
    progressed: list[tuple[Any, ...]] = []
    for name, new in after.items():
        old = before.get(name)
        if new is old:
            continue
        if old is not None and (new is None or not rows.same_row(old, new)):
            removed.append((name,))
            old = None
        if new is None:
            continue
        if old is not None and rows.ended_alike(old, new):
            progressed.append(rows.encode(new))
        else:
            written.append(rows.encode(new))
    if removed:
        connection.executemany(_SQL["remove"], removed)
    _put(connection, written, ended=True)
    _put(connection, progressed, ended=False)


def _put(connection: sqlite3.Connection, values: list[tuple[Any, ...]], *, ended: bool) -> None:
    """In statements of 128, 64, 32 ... rows: few texts, so that all of them stay prepared."""
    values.sort()  # by name: neighbours share pages of the index on it
    most = min(MOST, connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(rows.WRITTEN))
    done = 0
    while done < len(values):
        count = 1 << min(most, len(values) - done).bit_length() - 1
        cursor = connection.execute(_text(count, ended), tuple(chain.from_iterable(values[done : done + count])))
        if cursor.rowcount != count:
            raise sqlite3.IntegrityError("a row that was made just now is another one's")
        done += count


@functools.cache
def _text(count: int, ended: bool) -> str:
    row = f"({', '.join('?' * len(rows.WRITTEN))})"
    columns = (*rows.ENDED, *rows.PROGRESS) if ended else rows.PROGRESS
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return _SQL["write"].replace("{rows}", ", ".join([row] * count)).replace("{changes}", changes)
