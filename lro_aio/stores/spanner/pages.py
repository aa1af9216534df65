"""One page of a list: its keys from an index, and then its rows by key.

A statement that joins both would leave to the optimizer how, and with it whether a page reads its rows or the table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from google.protobuf import struct_pb2

from lro_aio.core.errors import StoreDataError
from lro_aio.core.logs import event
from lro_aio.core.record import Record
from lro_aio.ports import ListQuery
from lro_aio.stores.spanner import rows

__all__ = ["MAX_KEYS", "Answers", "in_order", "page", "readable"]

logger = logging.getLogger("lro_aio")

MAX_KEYS = 10_000
"""The most keys in one read."""

Place = tuple[float, str]
"""Where a row stands in a list: its time of creation and its key."""
Places = Callable[[int, Place | None, bool], list[Place]]
"""The next so many places after this one; with True, only of rows in the states that the query asks for."""
Answers = Iterator[tuple[Sequence[str], Sequence[struct_pb2.ListValue]]]
"""Keys that were asked for together, and the rows that there are, in any order. The key is their first column."""


def page(query: ListQuery, places: Places, answers: Callable[[Sequence[str]], Answers]) -> list[Record]:
    """The rows of one page.

    Between the two a row may change: one that is no longer what the query asks for is left out.

    Args:
        query: What to list.
        places: Asks an index.
        answers: Reads rows, in answers of which each follows on the one before it.
    """
    found: list[Record] = []
    size = 0
    after = query.after
    by_state = False  # No index has the state, but the first rows may all be in it.
    while len(found) < query.limit:
        part = min(query.limit - len(found), MAX_KEYS)
        asked = places(part, after, by_state)
        created = {key: moment for moment, key in asked}
        for record in readable(in_order(answers(list(created)))):
            if not _belongs(record, query) or record.create_time != created[record.name]:
                continue
            found.append(record.outline() if query.outline else record)
            size += found[-1].size
            if query.max_bytes is not None and size >= query.max_bytes:
                return found
        if len(asked) < part:
            break
        after, by_state = asked[-1], True
    return found


def in_order(answers: Answers) -> Iterator[struct_pb2.ListValue]:
    """The rows in the order of the keys that were asked for, with no more than one answer in memory."""
    for names, found in answers:
        by_key = {row.values[0].string_value: row for row in found}
        yield from (by_key[name] for name in names if name in by_key)


def readable(found: Iterable[struct_pb2.ListValue]) -> Iterator[Record]:
    """The records of the rows, without those that cannot be decoded: they must not stop a sweep or a list."""
    for row in found:
        try:
            yield rows.decode(row)
        except StoreDataError as exc:
            logger.error("row skipped: %s", exc, extra=event("row_unreadable", operation=exc.name))


def _belongs(record: Record, query: ListQuery) -> bool:
    return (
        not record.hidden(query.now)
        and (query.states is None or record.state in query.states)
        and query.done in (None, record.done)
        and query.paused in (None, record.paused)
    )
