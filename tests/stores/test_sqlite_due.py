"""What a look has found is not read again, and is all the same what the file holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from lro_aio.core import bookkeeping
from lro_aio.core.record import Record, State, Wait
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.stores.sqlite.due import has_mark, mark
from lro_aio.testing._store_looks import due, look
from lro_aio.testing._store_rows import NOW, apply_one, create_all, name_of, row, update
from tests.core.test_transitions_stateful import OneRow

WAIT = Wait(token="t", sleep_until=NOW)


def sleeper(number: int, **fields: object) -> Record:
    return row(number, **{"state": State.SUSPENDED, "wait": WAIT, "check_time": NOW - 100 + number, **fields})


def steps_of_a_look(store: SqliteStore) -> int:
    """Instructions of SQLite's machine."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    with store._reading() as connection:
        connection.set_progress_handler(step, 1)
    try:
        look(store, limit=1000)
    finally:
        with store._reading() as connection:
            connection.set_progress_handler(None, 0)
    return count


def test_what_the_last_look_found_is_not_read_again(store: SqliteStore) -> None:
    create_all(store, *(sleeper(number) for number in range(50)))
    look(store, limit=0)  # the first use of a reader's connection loads the schema
    first = steps_of_a_look(store)
    assert steps_of_a_look(store) < first / 2


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.evolve(revision=r.revision + 1, attempt=2),
        lambda r: bookkeeping.handed_over(r, now=NOW, token="t", check_time=NOW - 1, handle="h"),
        lambda r: bookkeeping.cascaded(r, now=NOW),
        lambda r: r.evolve(state=State.RUNNING, owner="x", lease_expire_time=NOW - 1, check_time=NOW - 1),
        lambda r: r.evolve(check_time=NOW - 0.5),
    ],
    ids=["another revision", "handed over", "cancel passed on", "claimed", "later"],
)
def test_a_change_of_another_process_is_seen(
    store: SqliteStore, path: Path, change: Callable[[Record], Record | None]
) -> None:
    """Also one that leaves the revision as it is."""
    create_all(store, *(sleeper(number, cancel_children=True) for number in range(3)))
    before = {record.name: record for record in look(store).due}
    other = SqliteStore(path)
    other.open()
    try:
        changed = apply_one(other, name_of(1), change)
    finally:
        other.close()
    assert isinstance(changed, Record)
    found = {record.name: record for record in look(store).due}
    assert found == before | {name_of(1): changed.outline()}
    assert found[name_of(1)] != before[name_of(1)]


def test_a_row_that_takes_the_place_of_another_is_not_taken_for_it(store: SqliteStore) -> None:
    """SQLite gives the rowid of a removed row to the next."""
    create_all(store, sleeper(1, uid="a"))
    assert [record.uid for record in look(store).due] == ["a"]
    apply_one(store, name_of(1), lambda _: None)
    create_all(store, sleeper(1, uid="b"))
    assert [record.uid for record in look(store).due] == ["b"]


def test_known_and_new_rows_come_in_the_order_of_their_moments(store: SqliteStore) -> None:
    """Large ones too, whose payloads are not read."""
    create_all(store, *(sleeper(number) for number in (2, 4, 6)))
    look(store)
    create_all(store, *(sleeper(number, state_data=b"x" * 5000 * (number == 3)) for number in (1, 3, 5, 7)))
    store.apply([update(name_of(4), check_time=NOW)])
    assert due(store) == [name_of(number) for number in (1, 2, 3, 5, 6, 7, 4)]


class OneMarkedRow(OneRow):
    """Each change that an outline shows changes the mark of a row that waits before and after."""

    def judge(self, name: str, before: Record, after: Record) -> None:
        super().judge(name, before, after)
        if has_mark(before) and has_mark(after) and before.outline() != after.outline():
            assert mark(before) != mark(after), f"a look would not see the {name}"


TestOneMarkedRow = OneMarkedRow.TestCase
TestOneMarkedRow.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
