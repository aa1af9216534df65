"""What happened to an operation, as one list: from its row, its trail and its journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge

from google.rpc import status_pb2

from lro_aio.core import trail
from lro_aio.core.codes import Code
from lro_aio.core.journal import Entry, parts_of
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State
from lro_aio.core.status import reason_of
from lro_aio.core.webhooks import described

__all__ = ["HistoryEntry", "history_of"]

CREATED = "CREATED"
LONGEST = 160
"""Characters of a payload that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One thing that happened to an operation. For operators: it may tell more than clients are to see."""

    time: float
    """Epoch seconds. An entry that came after another may have an earlier time: clocks are set."""
    kind: str
    """CREATED; CLAIMED, SUSPENDED, WOKEN, RETRIED, RELEASED, LEASE_LOST, HANDED_OVER, CANCEL, FAILURE, PAUSED, QUEUED,
    UNPAUSED, RERUN, WEBHOOKS, WEBHOOK; STEP, RETRY, TIMER, DEADLINE, TIMEOUT, MESSAGE, RECEIVED; at the end
    SUCCEEDED, FAILED or CANCELLED. A later release may have more."""
    name: str = ""
    """Of the handler, the step, the sleep or the topic."""
    key: str = ""
    """Tells steps of one name apart, or messages of one topic."""
    text: str = ""
    """What the operation waits for, which process claimed it, what a step gave: for people, and cut."""
    error: str = ""
    """Why it runs again, or why it failed."""


def history_of(record: Record, journal: Sequence[Entry]) -> list[HistoryEntry]:
    """The history of an operation, oldest first.

    Args:
        record: The row.
        journal: Its journal, in order.
    """
    made = HistoryEntry(time=record.create_time, kind=CREATED, name=record.handler)
    between = merge(_from_trail(record), _from_journal(record, journal), key=lambda entry: entry.time)
    return [made, *between, *_end(record)]


def _from_trail(record: Record) -> Iterator[HistoryEntry]:
    for moment, kind, text in trail.happenings(record.trail):
        if kind in (trail.RETRIED, trail.FAILURE):
            yield HistoryEntry(time=moment, kind=kind, error=text)
        elif kind == trail.WEBHOOKS:
            yield HistoryEntry(time=moment, kind=kind, text=described(record))
        else:
            yield HistoryEntry(time=moment, kind=kind, text=text)


def _from_journal(record: Record, journal: Sequence[Entry]) -> Iterator[HistoryEntry]:
    for entry in journal:
        if entry.uid == record.uid:  # else the name had another operation when the row was read
            name, key = parts_of(entry.key)
            yield HistoryEntry(time=entry.time, kind=str(entry.kind), name=name, key=key, text=_shown(entry))


def _shown(entry: Entry) -> str:
    """The beginning of a payload that is text; of any other, how to read it."""
    if not entry.codec.startswith("json"):
        return entry.codec
    text = entry.payload[: 4 * LONGEST].decode("utf-8", "replace")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _end(record: Record) -> Iterator[HistoryEntry]:
    if not record.done:
        return
    error = "" if record.state is State.SUCCEEDED else _told(status_pb2.Status.FromString(record.error))
    yield HistoryEntry(time=record.ended, kind=record.state.value, error=error)


def _told(status: status_pb2.Status) -> str:
    words = dict.fromkeys(filter(None, (Code.of(status.code).name, reason_of(status))))
    return f"{' '.join(words)}: {status.message}"
