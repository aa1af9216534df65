"""Fills a store with rows as the engine would have left them: finished a while ago, or asleep for long."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

from google.protobuf import any_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.core import names, transitions
from lro_aio.core.codes import Code
from lro_aio.core.journal import Entry, Kind, key_of
from lro_aio.core.record import Record, State, Wait
from lro_aio.core.status import make_status
from lro_aio.stores.sqlite.writes import append, write

SPAN = 365 * 86400.0
"""Seconds over which the rows were made, up to now."""
STEPS = 3
"""Entries in the journal of each finished operation."""
SLEEP = 30 * 86400.0
"""Seconds for which the suspended ones still sleep, at least."""
RETENTION = 400 * 86400.0
"""Seconds for which they are kept: longer than they are old."""
BATCH = 10_000
REASONS = ("SOURCE_GONE", "DISK_FULL", "OPERATION_FAILED")
"""Of the failed ones, in turns."""


def fill(path: Path, *, finished: int, suspended: int, failed: int = 0) -> None:
    """Put so many rows into a store, and so many failed ones.

    The rows are written with the store's own statement, yet without waiting for the disk: nothing is measured here.
    """
    store = lro.SqliteStore(path)
    store.open()
    store.close()
    _write(path, _records(finished, suspended, failed))


def expire(path: Path, count: int) -> None:
    """Put so many rows into a store that have expired: of a day before all others, since what expires is the oldest."""
    now, terms = time.time(), _terms(retention=1.0)
    _write(path, (_trivial(now - SPAN - 86400.0 * (1 - index / count), terms) for index in range(count)))


def _write(path: Path, records: Iterator[Record]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")  # KiB
        while batch := {record.name: record for record in islice(records, BATCH)}:
            connection.execute("BEGIN")
            write(connection, {}, batch)
            append(connection, [entry for record in batch.values() for entry in _steps(record)])
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _records(finished: int, suspended: int, failed: int) -> Iterator[Record]:
    """Of the kind of ``lro_runs``; the sleepers are spread evenly among the others, and so are the failed ones."""
    total, now = finished + suspended + failed, time.time()
    terms, left = _terms(RETENTION), failed
    for index in range(total):
        asleep = (index + 1) * suspended // total > index * suspended // total
        made = now - SPAN * (1 - index / total)
        if left and not asleep and left * total >= failed * (total - index):
            left -= 1
            yield _failed(made, terms, REASONS[left % len(REASONS)])
        else:
            yield _sleeper(made, now, terms) if asleep else _trivial(made, terms)


def _terms(retention: float) -> transitions.Claimant:
    return transitions.Claimant(owner="benchmark:1:0", lease=30.0, max_attempts=5, retention=retention)


def _trivial(made: float, terms: transitions.Claimant) -> Record:
    row = _claimed("trivial", made, terms)
    response = any_pb2.Any()
    response.Pack(wrappers_pb2.StringValue(value=row.name.rpartition("/")[2]))
    ended = _held(transitions.finish, row, retention=terms.retention, response=response.SerializeToString())
    assert ended is not None
    return ended.evolve(entries=STEPS)


def _steps(record: Record) -> Iterator[Entry]:
    if record.entries == 0:
        return
    for number in range(1, STEPS + 1):
        yield Entry(
            kind=Kind.STEP,
            key=key_of("same", str(number)),
            time=record.create_time,
            payload=str(number).encode(),
            codec="json;v=1",
            uid=record.uid,
            number=number,
        )


def _failed(made: float, terms: transitions.Claimant, reason: str) -> Record:
    row = _claimed("trivial", made, terms)
    error = make_status(Code.NOT_FOUND, "what it needs is not there", reason=reason)
    ended = _held(transitions.finish, row, retention=terms.retention, error=error)
    assert ended is not None
    return ended


def _sleeper(made: float, now: float, terms: transitions.Claimant) -> Record:
    row = _claimed("sleeper", made, terms)
    wait = Wait(token=names.new_id(), sleep_until=made - now + SPAN + now + SLEEP)
    asleep = _held(transitions.suspend, row, retention=terms.retention, wait=wait, resume_point="woken")
    assert asleep is not None
    return asleep.evolve(state_data=str(wait.sleep_until).encode(), state_codec="json;v=1")


def _claimed(handler: str, made: float, terms: transitions.Claimant) -> Record:
    row = Record(
        name=f"operations/{names.ordered_id(made)}",
        uid=names.new_id(),
        state=State.PENDING,
        create_time=made,
        update_time=made,
        check_time=made,
        handler=handler,
    )
    claimed = transitions.claim(row, now=made, by=terms)
    assert claimed is not None
    return claimed


def _held(event: partial[Record | None] | object, row: Record, **arguments: object) -> Record | None:
    holder = transitions.Holder(row.uid, row.claim)
    return event(row, holder=holder, now=row.create_time + 0.001, **arguments)  # type: ignore[operator]
