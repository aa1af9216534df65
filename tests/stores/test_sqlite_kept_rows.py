"""A running row is not read back by who wrote it last, and is all the same the row that is in the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lro_aio.core.change import Change
from lro_aio.core.errors import OperationNotFoundError, StoreUnavailableError
from lro_aio.core.record import Record, State
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.stores.sqlite.kept import LARGEST, MOST
from lro_aio.stores.sqlite.writes import write
from lro_aio.testing._store_rows import NOW, apply_one, create_all, name_of, only, put, remove, row, update


def running(number: int = 1, **fields: object) -> Record:
    return row(number, **{"state": State.RUNNING, "owner": "me", **fields})


@contextmanager
def statements(store: SqliteStore) -> Iterator[list[str]]:
    """What the writer's connection runs."""
    ran: list[str] = []
    writer, _ = store._opened()
    with writer.use() as connection:
        connection.set_trace_callback(ran.append)
    yield ran
    with writer.use() as connection:
        connection.set_trace_callback(None)


def reads(ran: list[str]) -> int:
    return sum(statement.startswith("SELECT") for statement in ran)


@contextmanager
def another(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    store.open()
    try:
        yield store
    finally:
        store.close()


def seen_by(store: SqliteStore, number: int = 1) -> Record | None:
    """The row that the next change of it is given, which is then left alone."""
    seen: list[Record | None] = []

    def look(record: Record | None) -> Record | None:
        seen.append(record)
        return record

    store.apply([Change(name_of(number), look, creates=True)])
    return seen[-1]


def test_a_change_of_a_row_that_runs_costs_no_read(store: SqliteStore) -> None:
    create_all(store, running())
    with statements(store) as ran:
        store.apply([update(name_of(1), revision=2)])
        store.apply([update(name_of(1), revision=3)])
    assert reads(ran) == 0
    assert only(store, name_of(1)) == running(revision=3)


def test_a_row_that_does_not_run_is_read(store: SqliteStore) -> None:
    """Those that sleep are many, and wake seldom."""
    create_all(store, row(1, state=State.SUSPENDED), running(2))
    store.apply([update(name_of(2), state=State.SUCCEEDED)])
    with statements(store) as ran:
        assert seen_by(store, 1) == row(1, state=State.SUSPENDED)
        assert seen_by(store, 2) == running(2, state=State.SUCCEEDED)
    assert reads(ran) == 2


def test_what_another_process_wrote_is_what_the_next_change_gets(store: SqliteStore, path: Path) -> None:
    """A cancel that another process stored must not be written over."""
    create_all(store, running())
    with another(path) as other:
        other.apply([update(name_of(1), cancel_requested=True)])
        assert seen_by(store) == running(cancel_requested=True)
        store.apply([update(name_of(1), revision=2)])
        assert only(other, name_of(1)) == running(cancel_requested=True, revision=2)


def test_a_row_that_another_process_removed_is_gone(store: SqliteStore, path: Path) -> None:
    create_all(store, running())
    with another(path) as other:
        other.apply([remove(name_of(1))])
    with pytest.raises(OperationNotFoundError):
        apply_one(store, name_of(1), lambda record: record)


def test_what_any_program_wrote_is_seen(store: SqliteStore, path: Path) -> None:
    """Also where it knows nothing of this package."""
    create_all(store, running())
    foreign = sqlite3.connect(path)
    with foreign:
        foreign.execute("UPDATE operations SET owner = 'somebody' WHERE name = ?", (name_of(1),))
    foreign.close()
    assert seen_by(store) == running(1).evolve(owner="somebody")


def test_a_notice_of_another_process_is_given_all_the_same(store: SqliteStore, path: Path) -> None:
    """The look inside of a transaction does not use up the one that wakes those who wait."""
    create_all(store, running())
    store.changed_elsewhere()
    with another(path) as other:
        other.apply([put(row(2))])
    store.apply([update(name_of(1), revision=2)])
    assert store.changed_elsewhere()
    assert not store.changed_elsewhere()


def test_after_a_transaction_that_failed_rows_are_read_again(path: Path) -> None:
    """What was not committed is not taken for stored."""
    store = SqliteStore(f"sqlite:///{path}?max_page_count=60")
    store.open()
    try:
        create_all(store, running())
        with pytest.raises(StoreUnavailableError, match="the disk is full"):
            store.apply([update(name_of(1), revision=2), put(row(2, response=b"x" * 10**6))])
        assert seen_by(store) == running()
    finally:
        store.close()


def test_a_commit_that_fails_leaves_nothing_to_be_taken_for_stored(store: SqliteStore) -> None:
    """The last moment at which it can fail: all has been written, and `COMMIT` is refused."""
    create_all(store, running())
    writer, _ = store._opened()

    def refuse(action: int, first: str | None, *_: object) -> int:
        commits = action == sqlite3.SQLITE_TRANSACTION and first == "COMMIT"
        return sqlite3.SQLITE_DENY if commits else sqlite3.SQLITE_OK

    with writer.use() as connection:
        connection.set_authorizer(refuse)
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        store.apply([update(name_of(1), revision=2)])
    with writer.use() as connection:
        connection.set_authorizer(None)
    assert seen_by(store) == running() == only(store, name_of(1))


def test_a_store_that_is_opened_again_begins_anew(store: SqliteStore, path: Path) -> None:
    """The version of one connection means nothing to another."""
    create_all(store, running())
    store.close()
    with another(path) as other:
        other.apply([update(name_of(1), revision=7)])
    store.open()
    assert seen_by(store) == running(revision=7)


def test_a_refused_change_leaves_the_row_as_it_was(store: SqliteStore) -> None:
    create_all(store, running())

    def refuse(_record: Record) -> Record:
        raise OperationNotFoundError(name_of(1))

    (outcome,) = store.apply([Change(name_of(1), refuse)])
    assert isinstance(outcome, OperationNotFoundError)
    assert seen_by(store) == running()


def test_what_is_kept_is_bounded(store: SqliteStore) -> None:
    """By the number of rows, and by the size of each."""
    create_all(store, *(running(number) for number in range(MOST)))
    create_all(store, running(MOST), running(MOST + 1, state_data=b"x" * LARGEST))
    assert len(store._kept._rows) == MOST
    with statements(store) as ran:
        assert seen_by(store, 0) == running(0)  # the one that had run for longest
        assert seen_by(store, MOST + 1) == running(MOST + 1, state_data=b"x" * LARGEST)
    assert reads(ran) == 2


def due_rows(store: SqliteStore) -> list[Record]:
    return store.look(now=NOW, routes=[("job", "")], limit=10, owner="me").due


def sleeping(number: int = 1, **fields: object) -> Record:
    return row(number, **{"state": State.SUSPENDED, "check_time": NOW, "state_data": b"whole", **fields})


def test_a_claim_of_what_a_look_found_costs_no_read(store: SqliteStore) -> None:
    create_all(store, sleeping())
    assert due_rows(store) == [sleeping().outline()]
    with statements(store) as ran:
        assert seen_by(store) == sleeping()
    assert reads(ran) == 0


def test_a_large_row_that_a_look_found_is_read_again(store: SqliteStore) -> None:
    """Most that is found is not for this process: its payloads would fill the memory."""
    large = sleeping(state_data=b"x" * 10_000)
    create_all(store, large, sleeping(2))
    assert sorted(due_rows(store), key=lambda found: found.name) == [large.outline(), sleeping(2).outline()]
    with statements(store) as ran:
        assert seen_by(store) == large
    assert reads(ran) == 1


def test_what_another_process_wrote_after_a_look_is_what_the_claim_gets(store: SqliteStore, path: Path) -> None:
    create_all(store, sleeping())
    due_rows(store)
    with another(path) as other:
        other.apply([update(name_of(1), cancel_requested=True)])
    assert seen_by(store) == sleeping(cancel_requested=True)


def test_what_another_process_wrote_before_a_look_is_what_the_claim_gets(store: SqliteStore, path: Path) -> None:
    create_all(store, sleeping())
    with another(path) as other:
        other.apply([update(name_of(1), cancel_requested=True)])
        due_rows(store)
        other.apply([update(name_of(1), owner="another")])
    assert seen_by(store) == sleeping(cancel_requested=True, owner="another")


def test_what_is_written_during_a_look_is_what_the_claim_gets(store: SqliteStore) -> None:
    """The look's snapshot is older; the next transaction must not take it for what is stored."""
    create_all(store, sleeping())
    with store._kept.looking() as found:
        found += [sleeping()]
        store.apply([update(name_of(1), handover=7)])
    assert seen_by(store) == sleeping(handover=7)


def test_what_a_transaction_writes_while_a_look_begins_is_what_the_claim_gets(store: SqliteStore) -> None:
    """The look began before the commit, and after the transaction had noted what it wrote."""
    create_all(store, sleeping())
    with store._writing() as connection:
        before = store._kept.before(connection, [name_of(1)], lambda _, names: store.read(names))
        changed = before[name_of(1)].evolve(handover=7)
        write(connection, before, {name_of(1): changed})
        store._kept.written({name_of(1): changed})
        due_rows(store)
    assert seen_by(store) == sleeping(handover=7)


def test_nothing_of_a_look_is_kept_where_a_transaction_failed_meanwhile(store: SqliteStore) -> None:
    create_all(store, sleeping())
    with store._kept.looking() as found:
        found += [sleeping()]
        with pytest.raises(RuntimeError), store._writing() as connection:
            store._kept.before(connection, [name_of(1)], lambda _, names: store.read(names))
            raise RuntimeError
    with statements(store) as ran:
        seen_by(store)
    assert reads(ran) == 1
