"""The life of one operation as spans of time, from its row, its trail and its journal: for a chart of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lro_aio.core import trail
from lro_aio.core.journal import Entry, Kind, parts_of
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State
from lro_aio.core.trail import Happening

__all__ = ["Span", "spans"]

QUEUED, SEGMENT, WAIT, PAUSE = "QUEUED", "SEGMENT", "WAIT", "PAUSE"
STEP, SLEEP, MESSAGE, CRASH, CANCEL = "STEP", "SLEEP", "MESSAGE", "CRASH", "CANCEL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of the life of an operation. For operators: it may tell more than clients are to see."""

    start: float
    """Epoch seconds. Of a STEP, the earliest moment at which it may have begun."""
    end: float | None
    """Epoch seconds; the same as ``start`` for what takes no time, None while it goes on."""
    kind: str
    """QUEUED: waits for a process. SEGMENT: a process runs it. WAIT: suspended. PAUSE. STEP, SLEEP. MESSAGE, CRASH and
    CANCEL take no time. A later release may have more."""
    label: str = ""
    """The resume point of a SEGMENT ("" is the start), what a WAIT is for, the reason of a PAUSE or a CANCEL, the name
    of a STEP or a SLEEP, the topic of a MESSAGE, the process of a CRASH."""
    outcome: str = ""
    """How it ended: SUSPENDED, RETRIED, RELEASED, CRASHED, FAILED, SUCCEEDED or CANCELLED for a SEGMENT, why it is over
    for a WAIT; "" while it goes on."""
    owner: str = ""
    """The process that ran a SEGMENT."""
    error: str = ""
    """Why a SEGMENT has failed or is tried again."""
    attempts: int = 1
    """Tries of a STEP, as far as they were told durably."""


def spans(record: Record, journal: Sequence[Entry]) -> list[Span]:
    """The spans of an operation, in the order in which they began. Its trail tells of the last things alone.

    Args:
        record: The row.
        journal: Its journal, in order.
    """
    life = _Life(record)
    for happening in trail.happenings(record.trail):
        life.see(happening)
    found = life.finished()
    found += _of_journal(record, journal, [span for span in found if span.kind == SEGMENT])
    return sorted(found, key=lambda span: span.start)


class _Life:
    """Reads a trail line by line. Of the spans of a life, one is open at a time; a pause is beside them."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._found: list[Span] = []
        whole = record.trail.count("\n") < trail.MOST - 1
        begins = QUEUED if record.handler else SEGMENT  # its creator drives it from the start
        self._open = Span(start=record.create_time, end=None, kind=begins, owner=record.owner) if whole else None
        self._pause: Span | None = None
        self._point = ""

    def see(self, happening: Happening) -> None:
        """Take the next line."""
        when, kind, text = happening
        match kind:
            case trail.CLAIMED:
                self._next(when, SEGMENT, self._point, owner=text)
            case trail.SUSPENDED:
                label, self._point = trail.parted(text)
                self._next(when, WAIT, label, outcome=kind)
            case trail.RETRIED:
                self._next(when, WAIT, "the next try", outcome=kind, error=text)
            case trail.FAILURE:
                self._next(when, QUEUED, outcome=State.FAILED.value, error=text)
            case trail.RELEASED:
                self._next(when, QUEUED, outcome=kind)
            case trail.WOKEN:
                self._next(when, QUEUED, outcome=text)
            case trail.QUEUED:
                self._next(when, QUEUED, text)
            case trail.LEASE_LOST:
                self._next(when, QUEUED, outcome="CRASHED")
                self._point_in_time(when, CRASH, text)
            case trail.CANCEL:
                self._point_in_time(when, CANCEL, text)
            case trail.PAUSED:
                self._end_pause(when)
                self._pause = Span(start=when, end=None, kind=PAUSE, label=text)
            case trail.UNPAUSED:
                self._end_pause(when)

    def finished(self) -> list[Span]:
        """All of them, the open ones ended with the operation."""
        record = self._record
        if record.done:
            ended = record.ended
            self._close(ended, record.state.value, "")
            self._end_pause(ended)
        return [*self._found, *(span for span in (self._open, self._pause) if span is not None)]

    def _next(
        self, when: float, kind: str, label: str = "", *, outcome: str = "", owner: str = "", error: str = ""
    ) -> None:
        self._close(when, outcome, error)
        self._open = Span(start=when, end=None, kind=kind, label=label, owner=owner)

    def _close(self, when: float, outcome: str, error: str) -> None:
        span, self._open = self._open, None
        if span is None or (span.kind == QUEUED and when - span.start < 0.001):  # claimed in the write that made it
            return
        self._found.append(replace(span, end=max(when, span.start), outcome=outcome, error=error))  # clocks are set

    def _end_pause(self, when: float) -> None:
        if self._pause is not None:
            self._found.append(replace(self._pause, end=max(when, self._pause.start)))
            self._pause = None

    def _point_in_time(self, when: float, kind: str, label: str) -> None:
        self._found.append(Span(start=when, end=when, kind=kind, label=label))


def _of_journal(record: Record, journal: Sequence[Entry], segments: Sequence[Span]) -> Iterator[Span]:
    mine = [entry for entry in journal if entry.uid == record.uid]
    tries: dict[str, list[Entry]] = {}
    for entry in mine:
        if entry.kind == Kind.RETRY:  # its key ends with the number of the try
            tries.setdefault(entry.key.rpartition("#")[0], []).append(entry)
    before = record.create_time
    for entry in mine:
        name, key = parts_of(entry.key)
        label = f"{name} {key}".rstrip()
        if entry.kind == Kind.STEP:
            begun = max((span.start for span in segments if span.start <= entry.time), default=record.create_time)
            start = min(max(begun, before), entry.time)
            attempts = 1 + len(tries.pop(f"{name}\n{key}", ()))
            yield Span(start=start, end=entry.time, kind=STEP, label=label, outcome="SUCCEEDED", attempts=attempts)
            before = entry.time
        elif entry.kind == Kind.TIMER:
            yield Span(start=entry.time, end=_until(entry, record), kind=SLEEP, label=label)
        elif entry.kind == Kind.MESSAGE:
            yield Span(start=entry.time, end=entry.time, kind=MESSAGE, label=name)
    for entries in tries.values():
        yield _unfinished(record, entries)


def _unfinished(record: Record, tries: Sequence[Entry]) -> Span:
    """A step that has failed so far."""
    name, key = parts_of(tries[0].key.rpartition("#")[0])
    told = _json(tries[-1])
    return Span(
        start=tries[0].time,
        end=record.ended if record.done else None,
        kind=STEP,
        label=f"{name} {key}".rstrip(),
        outcome=State.FAILED.value if record.done else "",
        error=str(told.get("error", "")) if isinstance(told, dict) else "",
        attempts=len(tries),
    )


def _until(entry: Entry, record: Record) -> float | None:
    """When a sleep ends, which is with the operation at the latest; None where that cannot be read."""
    until = _json(entry)
    if not isinstance(until, int | float):
        return None
    return min(float(until), record.ended) if record.done else float(until)


def _json(entry: Entry) -> object:
    """A payload of our own; None where a newer release wrote something else."""
    try:
        return json.loads(entry.payload)
    except ValueError:
        return None
