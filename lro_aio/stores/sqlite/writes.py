"""The rows of a batch in a handful of statements, however many there are.

``sqlite3`` gives the interpreter's lock away in every step of a statement. Beside an event loop that is busy, it comes
back a switch interval later (5 ms, ``sys.setswitchinterval``): a hundred statements would take half a second there.
"""

from __future__ import annotations

import functools
import operator
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from lro_aio.core.change import Change
from lro_aio.core.journal import Entry, Place
from lro_aio.core.record import Record
from lro_aio.stores.sqlite import queries, rows
from lro_aio.stores.sqlite.entries import ENTRY, encode_entry

__all__ = ["MOST", "append", "appended", "write"]

MOST = 128
"""Rows to a statement. Beyond it, a row costs no less, and each size of statement keeps its memory."""

_SQL = queries.load()
_ENDED = (*rows.MOVED, *rows.ENDED)
_CHANGES_ALONE = sqlite3.sqlite_version_info >= (3, 33)
"""UPDATE FROM: what a row keeps need not be written with what changes."""


def write(connection: sqlite3.Connection, before: Mapping[str, Record], after: Mapping[str, Record | None]) -> None:
    """Write the rows that differ, each with the statement that touches the fewest indexes.

    Args:
        connection: In a transaction that began before ``before`` was read.
        before: The rows that are stored, by name.
        after: What is to be stored. None: nothing.
    """
    removed: list[tuple[str]] = []
    written, progressed, ended, moved = [list[tuple[Any, ...]]() for _ in range(4)]
    for name, new in after.items():
        old = before.get(name)
        if new is old:
            continue
        if old is not None and (new is None or not rows.same_row(old, new)):
            removed.append((name,))
            old = None
        if new is None:
            continue
        if old is None:
            written.append(rows.encode(new))
        elif not (_CHANGES_ALONE and rows.only_moved(old, new)):
            (progressed if rows.ended_alike(old, new) else written).append(rows.encode(new))
        elif rows.ended_alike(old, new):
            moved.append(rows.encode_moved(new))
        else:
            ended.append(rows.encode_ended(new))
    if removed:
        connection.executemany(_SQL["remove"], removed)
    _put(connection, written, len(rows.WRITTEN), _written_text)
    _put(connection, progressed, len(rows.WRITTEN), _progress_text)
    _put(connection, ended, len(_ENDED) + len(rows.KEY), _ended_text, name=-2)
    _put(connection, moved, len(rows.MOVED) + len(rows.KEY), _moved_text, name=-2)


def appended(connection: sqlite3.Connection, changes: Iterable[Change], before: Mapping[str, Record]) -> list[Place]:
    """Of what the changes append, the places of what is there already. No statement where that is nothing."""
    wanted = [
        (row.uid, str(entry.kind), entry.key)
        for change in changes
        if (row := before.get(change.name)) is not None and row.entries
        for entry in change.appends
    ]
    found: list[Place] = []
    for count, values in _parts(connection, wanted, 3):
        found += connection.execute(_appended_text(count), values)
    return found


def append(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Store entries that are not there yet."""
    _put(connection, [encode_entry(entry) for entry in entries], len(ENTRY), _entries_text)


def _put(
    connection: sqlite3.Connection,
    values: list[tuple[Any, ...]],
    width: int,
    text: Callable[[int], str],
    *,
    name: int = 0,
) -> None:
    """Write rows, in statements of 128, 64, 32 ... of them: few texts, so that all of them stay prepared."""
    if not values:
        return
    values.sort(key=operator.itemgetter(name))  # neighbours share pages of the index on it
    for count, part in _parts(connection, values, width):
        cursor = connection.execute(text(count), part)
        if cursor.rowcount != count:
            raise sqlite3.IntegrityError("a row that was made just now is another one's")


def _parts(
    connection: sqlite3.Connection, values: Sequence[tuple[Any, ...]], width: int
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Rows of so many values, in parts for one statement each: their number, and the values one after the other."""
    most = min(MOST, connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width)
    done = 0
    while done < len(values):
        count = 1 << min(most, len(values) - done).bit_length() - 1
        yield count, tuple(chain.from_iterable(values[done : done + count]))
        done += count


@functools.cache
def _written_text(count: int) -> str:
    return _changing(count, (*rows.ENDED, *rows.PROGRESS))


@functools.cache
def _progress_text(count: int) -> str:
    return _changing(count, rows.PROGRESS)


@functools.cache
def _ended_text(count: int) -> str:
    return _moving(count, _ENDED)


@functools.cache
def _moved_text(count: int) -> str:
    return _moving(count, rows.MOVED)


@functools.cache
def _appended_text(count: int) -> str:
    return _SQL["appended"].replace("{rows}", _places(count, 3))


@functools.cache
def _entries_text(count: int) -> str:
    return _SQL["append"].replace("{rows}", _places(count, len(ENTRY)))


def _changing(count: int, columns: Iterable[str]) -> str:
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return _SQL["write"].replace("{rows}", _places(count, len(rows.WRITTEN))).replace("{changes}", changes)


def _moving(count: int, columns: Sequence[str]) -> str:
    if count == 1:
        return _SQL["move_one"].replace("{changes}", ", ".join(f"{column} = ?" for column in columns))
    *moved, name, uid = (f"new.column{n}" for n in range(1, len(columns) + len(rows.KEY) + 1))
    changes = ", ".join(f"{column} = {value}" for column, value in zip(columns, moved, strict=True))
    text = _SQL["move"].replace("{name}", name).replace("{uid}", uid).replace("{changes}", changes)
    return text.replace("{rows}", _places(count, len(columns) + len(rows.KEY)))


def _places(count: int, width: int) -> str:
    return ", ".join([f"({', '.join('?' * width)})"] * count)
