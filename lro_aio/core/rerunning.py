"""An operation that has ended, once more: another operation with its handler, the state it began with, and its steps.

Nothing re-opens the one that has ended (rule 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lro_aio.core import trail
from lro_aio.core.errors import InvalidTransitionError, OperationNotDoneError
from lro_aio.core.journal import Entry, Kind
from lro_aio.core.record import NO_STATE, NOT_KEPT, Record, Seat, State
from lro_aio.core.webhooks import as_at_the_start

__all__ = ["again", "linked", "links", "portions", "steps_of"]

MOST_ENTRIES = 500
"""Entries that one transaction copies at most."""
MOST_BYTES = 2 * 1024 * 1024
"""Bytes of entries that one transaction copies, about."""


def again(source: Record, *, name: str, uid: str, now: float, fingerprint: str, reason: str = "") -> Record:
    """The row of a rerun.

    Args:
        source: The row of the operation that has ended.
        name: Of the new one.
        uid: Of the new one.
        now: Epoch seconds.
        fingerprint: Of the request for it.
        reason: That was given.

    Raises:
        OperationNotDoneError: It has not ended.
        InvalidTransitionError: It has no handler: its creator drove it, or another program. Or its first state was
            changed, and was too large to be kept.
    """
    if not source.done:
        raise OperationNotDoneError(source.name)
    if not source.handler or source.foreign:
        raise InvalidTransitionError(source.name, f"{source.state} without a handler", "rerun")
    if source.initial_codec == NOT_KEPT:
        raise InvalidTransitionError(source.name, f"{source.state}, and its first state was too large to keep", "rerun")
    data, codec = source.state_data, source.state_codec
    if source.initial_codec:
        data, codec = source.initial_data, source.initial_codec
    return Record(
        name=name,
        uid=uid,
        state=State.PENDING,
        create_time=now,
        update_time=now,
        handler=source.handler,
        state_data=data,
        state_codec="" if codec == NO_STATE else codec,
        check_time=now,
        fingerprint=fingerprint,
        traceparent=source.traceparent,
        trail=trail.noted(as_at_the_start(source, now), now, trail.RERUN, _link("of", source.name, reason)),
        # In the queue that its handler has by now: the first claim knows it.
        seat=None if source.seat is None else Seat(queue="", key=source.seat.key, priority=source.seat.priority),
        deadline=None if source.deadline is None else now + (source.deadline - source.create_time),
    )


def linked(record: Record, *, now: float, to: str, reason: str = "") -> Record:
    """Note in the row of an operation that has ended that it was run again, as the operation ``to``."""
    if to[: trail.LONGEST - len("as ")] in links(record.trail, "as"):
        return record
    return record.evolve(trail=trail.noted(record.trail, now, trail.RERUN, _link("as", to, reason)))


def links(told: str, word: str) -> tuple[str, ...]:
    """The operations that a trail links to: those that ran it again ("as"), or the one that it runs again ("of")."""
    texts = (one.text.split(" ") for one in trail.happenings(told) if one.kind == trail.RERUN)
    return tuple(text[1] for text in texts if text[0] == word and len(text) > 1)


def _link(word: str, name: str, reason: str) -> str:
    return f"{word} {name} ({reason})" if reason else f"{word} {name}"


def steps_of(journal: Iterable[Entry]) -> list[Entry]:
    """The steps that a rerun takes over: their results are what the journal keeps of them."""
    return [replace(entry, uid="", number=0) for entry in journal if entry.kind == Kind.STEP]


def portions(entries: Iterable[Entry]) -> Iterator[tuple[Entry, ...]]:
    """The entries in parts that one transaction can take; one without entries where there are none."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        if part and (len(part) >= MOST_ENTRIES or size + entry.size > MOST_BYTES):
            yield tuple(part)
            part, size = [], 0
        part.append(entry)
        size += entry.size
    yield tuple(part)
