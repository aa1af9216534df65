"""What the tables of the queues have in common, whichever database they are in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lro_aio.core.counts import Count
from lro_aio.core.journal import parts_of
from lro_aio.core.queueing import KeyRow, QueueRow, Standing, Starts, Ticket, room
from lro_aio.core.queues import MOST_COUNTED, Bounds, InLine, KeyStatus, QueueStatus, QueueTerms
from lro_aio.core.record import Record, State
from lro_aio.core.step_places import step_of
from lro_aio.ports import Look, Route

__all__ = [
    "KEY",
    "KEYS",
    "LOOKED_AT",
    "MOST",
    "QUEUE",
    "RIPE",
    "SPARE",
    "TICKET",
    "TOLD",
    "free_places",
    "in_line",
    "in_order",
    "look",
    "next_in_line",
    "queue_row",
    "status",
    "terms_of",
    "ticket_of_row",
]

RIPE = 32
"""Keys whose time has come of which one look takes the first."""
SPARE = 16
"""Rows that a look reads more than it needs, for those that this process cannot go on with."""
MOST = MOST_COUNTED
"""Up to which those who wait are counted."""
TOLD = 10
"""Tickets of one operation and its steps that are told of."""
LOOKED_AT = 1_000
"""Keys of which a purge looks whether anybody stands behind nobody: the next one looks at those behind them."""
KEYS = 100
"""Keys of a queue that are told of."""

TICKET = tuple(item.name for item in dataclasses.fields(Ticket))
"""The columns of the tickets, in the order of the fields."""
KEY = tuple(item.name for item in dataclasses.fields(KeyRow))
"""The columns of the keys."""
QUEUE = ("name", "bounds", "paused", "turn", "last", "number", "starts", "clock", "rests_until")
"""The columns of the queues that make a ``QueueRow``."""


def ticket_of_row(row: Sequence[Any]) -> Ticket:
    """The ticket of a row of ``TICKET``, whose uid is a text."""
    values = dict(zip(TICKET, row, strict=True))
    return Ticket(**values | {"standing": Standing(values["standing"])})


def queue_row(row: Sequence[Any]) -> QueueRow:
    """The queue of a row of ``QUEUE``; its bounds are "" where nobody has said what it allows."""
    values = dict(zip(QUEUE, row, strict=True))
    bounds = values["bounds"]
    known = {"bounds": Bounds.from_json(bounds or "{}"), "known": bounds != "", "paused": bool(values["paused"])}
    return QueueRow(**values | known)


def terms_of(override: str | None, declared: str, paused: int) -> QueueTerms:
    """The terms of a queue, of the columns of the same names."""
    return QueueTerms(
        override=None if override is None else Bounds.from_json(override),
        declared=QueueTerms.declared_of(declared),
        paused=bool(paused),
    )


def in_order(ticket: Ticket) -> tuple[int, int, int]:
    """By what a line is sorted."""
    return ticket.priority, ticket.turn, ticket.number


def free_places(
    row: QueueRow, held: int, starts: Sequence[tuple[int, float]], wakes: float | None, now: float
) -> tuple[int | None, list[float]]:
    """How many may begin, None for all, and when there will be more without anybody giving back a place.

    Args:
        row: The queue.
        held: Places that are taken.
        starts: The first that its rate still counts, as ``Reader.starts`` gives them.
        wakes: When the next of its keys wakes.
        now: Epoch seconds, by the queue's time.
    """
    rate = row.bounds.rate
    known = None if rate is None else Starts(rate, row.starts, starts)
    later = [row.rests_until if row.rests_until > now else None, None if known is None else known.next(now), wakes]
    moments = [] if row.paused else [moment for moment in later if moment is not None]
    return room(row, held, known, now), moments


def next_in_line(
    tickets: Iterable[Ticket], rows: Iterable[Record], routes: Iterable[Route], wanted: int, now: float
) -> list[tuple[Record, str]]:
    """Of the first tickets of a line, those that a process can go on with, each with its step.

    Args:
        tickets: In any order.
        rows: Outlines of their operations, without those that are paused or have ended.
        routes: What the process runs.
        wanted: As many as there are places for.
        now: Epoch seconds, by the queue's time.
    """
    known = set(routes)
    by_name = {row.name: row for row in rows}
    first = sorted(tickets, key=in_order)
    there = ((by_name[ticket.name], step_of(ticket)) for ticket in first if ticket.name in by_name)
    served = [(record, step) for record, step in there if _is_served(record, step, known)][:wanted]
    return [(record, step) for record, step in served if step or not _on_its_way(record, now)]


def look(first: Sequence[tuple[Record, str]], moments: Iterable[float], limit: int) -> Look:
    """The answer of ``Store.line``."""
    due = [record for record, step in first if not step]
    return Look(due[:limit], min(moments, default=None), called=[(record, step) for record, step in first if step])


def _is_served(record: Record, step: str, routes: set[Route]) -> bool:
    """Whether this process can go on with a row."""
    fits = (record.state is State.PENDING) != bool(step)
    return fits and ((record.handler, None) in routes or (record.handler, record.resume_point) in routes)


def _on_its_way(record: Record, now: float) -> bool:
    """Whether a scheduler has it already."""
    return record.handover > 0 and record.check_time is not None and record.check_time > now


def status(
    name: str,
    bounds: str,
    terms: QueueTerms,
    rests: float,
    *,
    now: float,
    lines: Mapping[str, tuple[int, int]],
    resting: Mapping[str, float],
) -> QueueStatus:
    """How it goes with a queue.

    Args:
        name: Of the queue.
        bounds: What holds, as it is stored.
        terms: Who says so.
        rests: Until when the queue as a whole rests.
        now: Epoch seconds.
        lines: Of each key, how many wait and how many have places.
        resting: Until when keys rest.
    """
    keys = [
        KeyStatus(key=key, waiting=waiting, running=running, rests_until=resting.get(key))
        for key in lines.keys() | resting.keys()
        for waiting, running in (lines.get(key, (0, 0)),)
    ]
    keys.sort(key=lambda status: (-status.waiting, -status.running, status.key))
    return QueueStatus(
        name=name,
        bounds=Bounds.from_json(bounds),
        declared=terms.strictest,
        override=terms.override,
        paused=terms.paused,
        waiting=sum(waiting for waiting, _ in lines.values()),
        running=sum(running for _, running in lines.values()),
        rests_until=rests if rests > now else None,
        keys=tuple(keys[:KEYS]),
    )


def in_line(
    ticket: Ticket, *, paused: bool, rests: Iterable[float | None], ahead: int, seen: int, now: float
) -> InLine:
    """Where a ticket stands.

    Args:
        ticket: See above.
        paused: Whether its queue is.
        rests: Until when the queue and the key rest, as far as anything is kept of it.
        ahead: Of those that were looked at, how many stand before it.
        seen: How many were looked at: up to one more than ``MOST``.
        now: Epoch seconds.
    """
    step, step_key = parts_of(step_of(ticket))
    return InLine(
        queue=ticket.queue,
        key=ticket.key,
        step=step,
        step_key=step_key,
        priority=ticket.priority,
        held=ticket.held,
        since=ticket.since,
        ahead=Count(0 if ticket.held else min(ahead, MOST), more=not ticket.held and seen > MOST),
        paused=paused,
        rests_until=max((until for until in rests if until is not None and until > now), default=None),
    )
