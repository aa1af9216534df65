"""A batch is a handful of statements: each of its steps may wait for the interpreter's lock."""

from __future__ import annotations

import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from lro_aio.core.change import Change
from lro_aio.core.record import Record, State
from lro_aio.stores.sqlite import SqliteStore, rows, writes
from lro_aio.stores.sqlite.writes import write
from lro_aio.testing._store_rows import create_all, name_of, put, row, update


def _written(store: SqliteStore, *changes: Change) -> list[str]:
    """The statements that write rows, and what they begin with."""
    ran: list[str] = []
    writer, _ = store._opened()
    with writer.use() as connection:
        connection.set_trace_callback(ran.append)
    store.apply(list(changes))
    with writer.use() as connection:
        connection.set_trace_callback(None)
    return [statement for statement in ran if statement.startswith(("INSERT", "UPDATE", "DELETE"))]


@pytest.mark.parametrize(("count", "statements"), [(1, 1), (2, 1), (100, 3), (127, 7), (128, 1), (1000, 10)])
def test_a_batch_is_few_statements_whatever_its_size(store: SqliteStore, count: int, statements: int) -> None:
    made = [row(number, handler="job") for number in range(count)]
    assert len(_written(store, *(put(record) for record in made))) == statements
    ended = [update(name_of(number), state=State.SUCCEEDED, response=b"r%d" % number) for number in range(count)]
    assert len(_written(store, *ended)) == statements
    found = {record.name: record for record in store.read([record.name for record in made])}
    assert len(found) == count
    for number, record in enumerate(made):
        assert found[record.name] == record.evolve(state=State.SUCCEEDED, response=b"r%d" % number)


@pytest.mark.parametrize("alone", [True, False], ids=["with UPDATE FROM", "SQLite before 3.33"])
def test_new_rows_ends_moves_and_progress_in_one_batch_are_all_what_they_should_be(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setattr(writes, "_CHANGES_ALONE", alone)
    create_all(store, *(row(number, handler="job", state=State.RUNNING) for number in range(30)))
    changes = [
        *(put(row(number, handler="new")) for number in range(30, 37)),
        *(
            update(name_of(number), state=State.FAILED, error=b"e", end_time=5.0, expire_time=9.0)
            for number in range(11)
        ),
        *(update(name_of(number), lease_expire_time=7.0, check_time=7.0) for number in range(11, 20)),
        *(update(name_of(number), metadata=b"m", retries=3) for number in range(20, 25)),
        *(update(name_of(number), metadata=b"m", expire_time=9.0) for number in range(25, 30)),
    ]
    store.apply(changes)
    found = {record.name: record for record in store.read([name_of(number) for number in range(37)])}
    for number in range(37):
        expected = row(number, handler="new")
        if number < 30:
            expected = row(number, handler="job", state=State.RUNNING, metadata=b"m", expire_time=9.0)
        if number < 25:
            expected = row(number, handler="job", state=State.RUNNING, metadata=b"m", retries=3)
        if number < 20:
            expected = row(number, handler="job", state=State.RUNNING, lease_expire_time=7.0, check_time=7.0)
        if number < 11:
            expected = row(number, handler="job", state=State.FAILED, error=b"e", end_time=5.0, expire_time=9.0)
        assert found[name_of(number)] == expected


def test_a_library_that_takes_few_values_gets_smaller_statements(store: SqliteStore) -> None:
    """SQLite before 3.32 takes 999 values to a statement."""
    writer, _ = store._opened()
    with writer.use() as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    made = [row(number) for number in range(100)]
    written = _written(store, *(put(record) for record in made))
    assert len(written) > 100 * len(rows.WRITTEN) // 999
    assert sorted(store.read([record.name for record in made]), key=lambda record: record.name) == sorted(
        made, key=lambda record: record.name
    )


def test_a_row_that_was_taken_for_new_is_never_written_over_another_ones(store: SqliteStore) -> None:
    create_all(store, row(1, uid="theirs"))
    with pytest.raises(sqlite3.IntegrityError), store._writing() as connection:
        write(connection, {}, {name_of(1): row(1, uid="ours")})
    assert store.read([name_of(1)]) == [row(1, uid="theirs")]


@pytest.fixture
def busy() -> Iterator[None]:
    """Another thread computes without a pause, as an event loop under load does."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_batch_beside_a_busy_thread_waits_for_the_lock_a_few_times_not_once_a_row(
    store: SqliteStore, busy: None
) -> None:
    """As many times as for a single row, whose time is the measure; once a row would be hundreds of times."""

    def ended(record: Record | None) -> Record:
        assert record is not None
        return record.evolve(state=State.SUCCEEDED)

    def seconds(numbers: range) -> float:
        made = [row(number, handler="job") for number in numbers]
        began = time.monotonic()
        create_all(store, *made)
        store.apply([Change(record.name, ended) for record in made])
        return time.monotonic() - began

    # Where the other thread finds no core, a single row waits for nothing: then the measure is a wait for each row.
    one = statistics.median(seconds(range(number, number + 1)) for number in range(9))
    limit = max(40 * one, 400 * sys.getswitchinterval())
    # The best of three: other processes may take the cores away from any one of them.
    assert min(seconds(range(first, first + 400)) for first in (1000, 2000, 3000)) < limit
