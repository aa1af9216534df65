"""The rows of a batch in a handful of statements, however many there are."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lro_aio.core.change import Change
from lro_aio.core.journal import Entry
from lro_aio.core.record import Record
from lro_aio.stores.postgres import rows
from lro_aio.stores.postgres.entries import encode_entry
from lro_aio.stores.postgres.queries import Call, Given, Statements, columns_of

__all__ = ["appended", "change", "entries", "insertion", "statements"]

_PLACE = {column: index for index, column in enumerate(rows.WRITTEN)}


def statements(texts: Statements, before: Mapping[str, Record], after: Mapping[str, Record | None]) -> list[Call]:
    """What writes the rows that differ.

    Args:
        texts: For the table.
        before: The rows that are stored and locked, by name.
        after: What is to be stored. None: nothing.
    """
    removed: list[str] = []
    made: list[tuple[Any, ...]] = []
    changed: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for name, new in after.items():
        old = before.get(name)
        if new is old:
            continue
        if old is not None and (new is None or not rows.same_row(old, new)):
            removed.append(name)
            old = None
        if new is None:
            continue
        if old is None:
            made.append(rows.encode(new))
        else:
            changed.setdefault(rows.differing(old, new), []).append(rows.encode(new))
    calls: list[Call] = [(texts["remove"], [removed])] if removed else []
    for large, values in changed.items():
        chosen = _chosen(large)
        calls.append(texts.update(large).of([chosen(written) for written in values]))
    if made:
        calls.append(insertion(texts.insert, made))
    return calls


def change(texts: Statements, changed: Iterable[tuple[Record, str, Record]]) -> Call:
    """What changes rows that are still as they are known.

    Args:
        texts: For the table.
        changed: Each row as it is known, its version, and as it is to be.
    """
    found = sorted(changed, key=lambda one: one[0].name)  # as everybody locks; so it is one statement, too
    differing = {column for old, _, new in found for column in rows.differing(old, new)}
    large = tuple(column for column in rows.LARGE if column in differing)
    chosen = _chosen(large)
    return texts.change(large).of([(*chosen(rows.encode(new)), version) for _, version, new in found])


def insertion(statement: Given, made: Iterable[tuple[Any, ...]]) -> Call:
    """What stores new rows."""
    return statement.of(sorted(made))  # by the name: two processes that make the same rows do not wait for each other


def _chosen(large: tuple[str, ...]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """From an encoded row to the values of ``Statements.update`` and ``change``."""
    return operator.itemgetter(*(_PLACE[column] for column in ("name", *rows.SMALL, *large)))


def entries(texts: Statements, appended: Sequence[Entry]) -> list[Call]:
    """What stores entries that are not there yet."""
    return [texts.append.of([encode_entry(entry) for entry in appended])] if appended else []


def appended(texts: Statements, changes: Iterable[Change]) -> list[Call]:
    """What finds, of all that the changes append, what is there already. Nothing where none of them appends."""
    wanted = [(change.name, str(entry.kind), entry.key.encode()) for change in changes for entry in change.appends]
    if not wanted:
        return []
    names, kinds, keys = columns_of(wanted)
    return [(texts["appended"], {"names": names, "kinds": kinds, "keys": keys})]
