"""Queues outside of changes of rows: who is next in line, and what operators see and change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from google.protobuf import struct_pb2

from lro_aio.core.change import Change
from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.queues import InLine, QueueStatus, QueueTerms
from lro_aio.core.record import Record
from lro_aio.ports import Look, Route
from lro_aio.stores._places import (
    MOST,
    SPARE,
    TOLD,
    free_places,
    in_line,
    in_order,
    look,
    next_in_line,
    status,
    terms_of,
)
from lro_aio.stores.spanner import queue_queries
from lro_aio.stores.spanner.budgets import Budget
from lro_aio.stores.spanner.places import Ask, decode_queue, decode_started, decode_ticket, items, write
from lro_aio.stores.spanner.queries import Query
from lro_aio.stores.spanner.queue_queries import QUEUE, TICKET
from lro_aio.stores.spanner.queue_tables import KEYS, QUEUES
from lro_aio.stores.spanner.transactions import Writer
from lro_aio.stores.spanner.values import moment, number, values_of

__all__ = ["Lines", "change_terms", "give_back", "standings", "statuses", "wake_stranded"]

Rows = Iterable[struct_pb2.ListValue]

WOKEN = 5_000
"""Keys that one transaction wakes: Spanner bounds what one changes."""

_TERMS = ("Name", "Bounds", "Rate", "KeyRate", "Override", "Declared", "Paused")
_REST = ("Turn", "Last", "Number", "Starts", "Clock", "RestsUntil")
"""The other columns of a queue's row."""


class Lines:
    """The queues in which a process may have somebody.

    Args:
        found: The answer to ``queue_queries.served``.
        now: Epoch seconds.
        limit: Most rows of each.
    """

    def __init__(self, found: Rows, now: float, limit: int) -> None:
        self._limit = limit
        self._handlers: dict[str, list[str]] = {}
        self._moments: list[float] = []
        self._now: dict[str, float] = {}
        self.free: dict[str, int] = {}
        """Of the queues in which any may begin, how many."""
        for found_row in found:
            held, wakes, started, handlers = found_row.values[len(QUEUE) :]
            if not handlers.list_value.values:
                continue
            row = decode_queue(found_row.values)
            self._handlers[row.name] = [handler.string_value for handler in handlers.list_value.values]
            self._now[row.name] = max(now, row.clock)
            first = next((moment(one) for one in wakes.list_value.values), None)
            free, moments = free_places(row, number(held), decode_started(started), first, self._now[row.name])
            self._moments += moments
            if free != 0 and limit > 0:
                self.free[row.name] = limit if free is None else min(free, limit)

    @property
    def waited(self) -> list[str]:
        """The queues in which somebody waits."""
        return list(self._handlers)

    def wanted(self, table: str) -> Query:
        """Asks who is next, where there are places."""
        return queue_queries.next_in_line(
            table,
            lines=[(queue, handler) for queue in self.free for handler in self._handlers[queue]],
            ripe=[(queue, self._now[queue]) for queue in self.free],
            most=max(self.free.values()) + SPARE,
        )

    def look(self, routes: Sequence[Route], found: Rows, read: Callable[[Sequence[str]], Iterable[Record]]) -> Look:
        """The answer.

        Args:
            routes: What the process runs.
            found: The answer to ``wanted``; nothing where there are no places.
            read: Gives outlines of operations by their names, also of those that are paused or have ended.
        """
        tickets = {}
        for line, heads in (row.values for row in found):
            tickets = {ticket.uid: ticket for ticket in map(decode_ticket, items(line))}
            first: dict[tuple[str, str], Any] = {}
            for ticket in sorted(map(decode_ticket, items(heads)), key=in_order):
                first.setdefault((ticket.queue, ticket.key), ticket)
            tickets |= {head.uid: head for head in first.values() if head.handler in self._handlers[head.queue]}
        names = sorted({ticket.name for ticket in tickets.values()})
        operations = [record for record in read(names) if not record.done and not record.paused]
        served: list[tuple[Record, str]] = []
        for queue, free in self.free.items():
            own = [ticket for ticket in tickets.values() if ticket.queue == queue]
            served += next_in_line(own, operations, routes, free, self._now[queue])
        return look(served, self._moments, self._limit)


def statuses(queues: Rows, tickets: Rows, now: float) -> list[QueueStatus]:
    """How it goes with the queues.

    Args:
        queues: The answer to ``queue_queries.every_queue``.
        tickets: The answer to ``queue_queries.counted``. No more than ``MOST`` that wait are counted of each queue.
        now: Epoch seconds.
    """
    lines: dict[str, dict[str, tuple[int, int]]] = {}
    waiting: dict[str, int] = {}
    for row in tickets:
        name, key, standing = row.values
        queue = name.string_value
        line = lines.setdefault(queue, {})
        behind, held = line.get(key.string_value, (0, 0))
        if number(standing) == 2:
            line[key.string_value] = behind, held + 1
        elif waiting.setdefault(queue, 0) < MOST:
            waiting[queue] += 1
            line[key.string_value] = behind + 1, held
    found = []
    for row in queues:
        name, bounds, override, declared, paused, rests, keys = row.values
        terms = terms_of(_text(override), declared.string_value, int(paused.bool_value))
        resting = {key.string_value: moment(until) or 0.0 for key, until in items(keys)}
        found.append(
            status(
                name.string_value, bounds.string_value, terms, moment(rests) or 0.0, now=now,
                lines=lines.get(name.string_value, {}), resting=resting,
            )
        )  # fmt: skip
    return found


def give_back(writer: Writer, names: Iterable[str], budget: Budget) -> None:
    """Give back what operations that have ended still have of queues.

    A release that knows of no queues has ended them. What cannot be read, or is gone meanwhile, is left to others.
    """
    # Of an ended row, another one that is the same: a change that changes nothing else, so that its queue is asked.
    again = [Change(name, lambda row: row.evolve() if row.done else row) for name in dict.fromkeys(names)]
    if again:
        writer.apply(again, budget)


def wake_stranded(writer: Writer, names: Iterable[str], budget: Budget) -> None:
    """Wake keys of which a row was removed by a program that knows of no queues: its tickets went with it."""
    table = QUEUES.name(writer.table)
    for name in dict.fromkeys(names):

        def decide(found: Sequence[struct_pb2.ListValue], ask: Ask, name: str = name) -> tuple[list[Any], None]:
            keys = [row.values[1].string_value for row in ask(queue_queries.stranded(writer.table, [name]))]
            if not found or not keys:
                return [], None
            again = _written(writer, name, _terms(found[0].values), known=True)
            return [again, _waking(writer, name, keys)], None

        writer.transact(_TERMS, [name], decide, budget, tag="lro-queues", table=table)


def standings(found: Rows, now: float) -> list[InLine]:
    """Where an operation and its steps stand, those that wait first: of the answer to ``queue_queries.standings``."""
    lines = [(decode_ticket(row.values[: len(TICKET)]), row.values[len(TICKET) :]) for row in found]
    lines.sort(key=lambda line: (line[0].held, in_order(line[0])))
    told = []
    for ticket, (queues, keys, ahead, seen) in lines[:TOLD]:
        terms = items(queues)
        rests = [*(moment(until) for _, until in terms), *map(moment, keys.list_value.values)]
        paused = any(stopped.bool_value for stopped, _ in terms)
        told.append(in_line(ticket, paused=paused, rests=rests, ahead=number(ahead), seen=number(seen), now=now))
    return told


def change_terms(
    writer: Writer,
    name: str,
    change: Callable[[QueueTerms], QueueTerms],
    budget: Callable[[], Budget],
    cut: set[str],
) -> tuple[QueueTerms, QueueTerms]:
    """Change what holds of a queue; gives what held before, and what holds now.

    Where its bounds have changed, all keys in which somebody waits are looked at once more: the first of them are woken
    in the same transaction, more than ``WOKEN`` in others behind it. Where these fail, the bounds are committed all the
    same: a change that is repeated, which changes nothing any more, wakes those who are left.

    Args:
        writer: Of the store.
        name: Of the queue.
        change: See above.
        budget: Gives a new budget, for each of the transactions.
        cut: The queues of which this process has not woken all; kept from one call to the next.
    """
    again = name in cut
    table = QUEUES.name(writer.table)

    def decide(found: Sequence[struct_pb2.ListValue], ask: Ask) -> tuple[list[Any], tuple[QueueTerms, QueueTerms, int]]:
        before = _terms(found[0].values) if found else QueueTerms()
        after = change(before)
        changed = [_written(writer, name, after, known=bool(found))]
        woken: list[Any] = []
        if again or after.bounds != before.bounds or (found and after == before):
            woken = _sleeping(writer, name, ask)
            changed.append(_waking(writer, name, woken))
        return [mutation for mutation in changed if mutation is not None], (before, after, len(woken))

    def wake(found: Sequence[struct_pb2.ListValue], ask: Ask) -> tuple[list[Any], int]:
        woken = _sleeping(writer, name, ask)
        again = _written(writer, name, _terms(found[0].values), known=True)
        return ([again, _waking(writer, name, woken)] if woken else []), len(woken)

    try:
        before, after, woken = writer.transact(_TERMS, [name], decide, budget(), tag="lro-queues", table=table)
        while woken >= WOKEN:
            woken = writer.transact(_TERMS, [name], wake, budget(), tag="lro-queues", table=table)
    except StoreUnavailableError:  # the bounds may be committed
        cut.add(name)
        raise
    cut.discard(name)
    return before, after


def _sleeping(writer: Writer, name: str, ask: Ask) -> list[str]:
    found = ask(queue_queries.sleeping_keys(writer.table, name, WOKEN))
    return [row.values[0].string_value for row in found]


def _waking(writer: Writer, name: str, keys: Sequence[str]) -> Any | None:
    rows = (values_of(name, key, 0.0) for key in keys)
    return write("update", KEYS, writer.table, ("Queue", "QueueKey", "Wakes"), rows)


def _written(writer: Writer, name: str, terms: QueueTerms, *, known: bool) -> Any | None:
    bounds = terms.bounds
    values = (
        name,
        bounds.to_json(),
        None if bounds.rate is None else bounds.rate.count,
        None if bounds.rate_per_key is None else bounds.rate_per_key.count,
        None if terms.override is None else terms.override.to_json(),
        terms.declared_json(),
        terms.paused,
    )
    if known:
        return write("update", QUEUES, writer.table, _TERMS, [values_of(*values)])
    return write("insert", QUEUES, writer.table, (*_TERMS, *_REST), [values_of(*values, 0, 0, 0, 0, 0.0, 0.0)])


def _terms(values: Sequence[struct_pb2.Value]) -> QueueTerms:
    """Of values of ``_TERMS``."""
    _, _, _, _, override, declared, paused = values
    return terms_of(_text(override), declared.string_value, int(paused.bool_value))


def _text(value: struct_pb2.Value) -> str | None:
    return value.string_value if value.HasField("string_value") else None
