"""Queues in a file beside an older release: it knows of none, ends operations as it always did, and tells no queue."""

from __future__ import annotations

import pytest

from lro_aio.stores.sqlite import SqliteStore, places
from lro_aio.testing._store_queues import bounded, claim, finish, next_in_line, seated, status, take
from lro_aio.testing._store_rows import NOW, create_all, name_of, row

from ..large_limits import check_that_they_hold_nobody_up


def end_as_an_older_release(store: SqliteStore) -> None:
    """Whatever runs."""
    with store._writing() as connection:
        connection.execute("UPDATE operations SET state = 'SUCCEEDED', outcome = 1 WHERE owner <> ''")


def keys(store: SqliteStore) -> list[str]:
    """The keys of which something is remembered."""
    with store._reading() as connection:
        return [key for (key,) in connection.execute("SELECT key FROM queue_keys ORDER BY key")]


def test_a_place_of_what_it_ended_comes_back_with_the_next_purge(store: SqliteStore) -> None:
    bounded(store, running=2)
    create_all(store, seated(0), row(1))
    assert claim(store, 0, 1) == [0, 1]
    assert take(store, 1, "step")
    create_all(store, seated(2))
    end_as_an_older_release(store)
    assert claim(store, 2) == []
    store.purge(now=NOW, limit=10)
    assert status(store).running == 0
    assert claim(store, 2) == [2]


def test_who_stands_behind_it_in_a_key_is_next(store: SqliteStore) -> None:
    bounded(store, per_key=1)
    create_all(store, *(seated(n, "a") for n in range(3)))
    assert claim(store, 0) == [0]
    end_as_an_older_release(store)
    assert next_in_line(store) == []
    store.purge(now=NOW, limit=10)
    assert next_in_line(store) == [name_of(1)]
    assert claim(store, 1, 2) == [1]


@pytest.mark.parametrize("last", [False, True])
def test_what_it_ended_in_line_is_in_nobodys_way(store: SqliteStore, last: bool) -> None:
    """Its turn comes, and nobody takes it; where nobody else waits there, its key is forgotten."""
    bounded(store, per_key=1)
    create_all(store, *(seated(n, "a") for n in range(2 if last else 3)))
    assert claim(store, 0) == [0]
    with store._writing() as connection:
        connection.execute("UPDATE operations SET state = 'CANCELLED', outcome = 2 WHERE name = ?", (name_of(1),))
    finish(store, 0)
    assert next_in_line(store) == []
    store.purge(now=NOW, limit=10)
    assert next_in_line(store) == ([] if last else [name_of(2)])
    assert status(store).waiting == (0 if last else 1)
    store.purge(now=NOW + 1, limit=10)
    assert keys(store) == ([] if last else ["a"])


def test_those_whom_it_ended_behind_each_other_are_in_nobodys_way(store: SqliteStore) -> None:
    """Also of the first ones nobody decides: they were READY never."""
    bounded(store, per_key=1)
    create_all(store, *(seated(n, "a") for n in range(4)))
    assert claim(store, 0) == [0]
    with store._writing() as connection:
        connection.execute("UPDATE operations SET state = 'CANCELLED', outcome = 2 WHERE name <> ?", (name_of(3),))
    for _ in range(3):
        store.purge(now=NOW, limit=10)
    assert next_in_line(store) == [name_of(3)]
    assert claim(store, 3) == [3]


@pytest.mark.parametrize("left", [[], ["a"]])
def test_a_key_in_which_nobody_is_left_is_forgotten(store: SqliteStore, left: list[str]) -> None:
    """And nobody looks at it: it would stand in the way of others whose time has come."""
    bounded(store, per_key=2)
    create_all(store, *(seated(n, "a") for n in range(2)))
    assert claim(store, 0) == [0]
    end_as_an_older_release(store)
    if left:
        assert claim(store, 1) == [1]
    else:
        with store._writing() as connection:
            connection.execute("DELETE FROM operations WHERE name = ?", (name_of(1),))
    store.purge(now=NOW + 1, limit=10)
    with store._reading() as connection:
        assert connection.execute("SELECT count(*) FROM queue_keys WHERE wakes IS NOT NULL").fetchone() == (0,)
    assert keys(store) == left


@pytest.mark.parametrize("window", [1, 100])
def test_who_stands_behind_what_it_removed_goes_on(
    store: SqliteStore, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge looks at some keys, and the next one at those behind them."""
    monkeypatch.setattr(places, "LOOKED_AT", window)
    bounded(store, per_key=1)
    create_all(store, seated(0, "a"), seated(1, "b"), seated(2, "b"), seated(3, "c"), seated(4, "c"))
    assert claim(store, 0, 1, 3) == [0, 1, 3]
    with store._writing() as connection:
        connection.execute("DELETE FROM operations WHERE name IN (?, ?)", (name_of(0), name_of(3)))
    assert next_in_line(store) == []
    for _ in range(1 if window > 3 else 4):
        store.purge(now=NOW, limit=10)
    assert next_in_line(store) == [name_of(4)]
    assert keys(store) == ["b", "c"]


def test_limits_that_an_older_release_let_be_too_large_hold_nobody_up(store: SqliteStore) -> None:
    def write(text: str) -> None:
        with store._writing() as connection:
            connection.execute("UPDATE queues SET bounds = ?, override = ?", (text, text))

    check_that_they_hold_nobody_up(store, write)
