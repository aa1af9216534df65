"""Two processes that write one file take turns: a hint, which keeps nobody from writing."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from lro_aio.stores.sqlite import SqliteStore, neighbours
from lro_aio.testing._store_rows import create_all, name_of, row, update

from .neighbours import folder_of

FOREVER = 3600.0
PATIENCE = 20.0
Join = Callable[[int], list[SqliteStore]]


@pytest.fixture
def join(path: Path) -> Iterator[Join]:
    """Open some stores that know each other, as so many processes do."""
    with ExitStack() as stack:

        def joined(number: int) -> list[SqliteStore]:
            stores = [SqliteStore(path) for _ in range(number)]
            for i, store in enumerate(stores):
                store.open()
                stack.push(lambda *_, store=store: store.close())
                store.join(f"host:{i}:aaaa", lambda: None)
            create_all(stores[0], row(1))  # from a commit on, it is known how many there are
            return stores

        yield joined


@pytest.fixture
def turn(path: Path) -> Iterator[int]:
    """Another process that has the turn, until it gives this descriptor's lock back."""
    folder_of(path).mkdir()
    descriptor = os.open(folder_of(path), os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called: whoever waits for a turn now waits for longer than a test may take."""
    return lambda: monkeypatch.setattr(neighbours, "TURN", FOREVER)


def take(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write(store: SqliteStore, number: int) -> None:
    [outcome] = store.apply([update(name_of(1), metadata=str(number).encode())])
    assert not isinstance(outcome, Exception)


def test_one_of_two_writes_when_the_other_has_given_the_turn_back(
    turn: int, join: Join, patient: Callable[[], None]
) -> None:
    store, _ = join(2)
    patient()
    take(turn)
    writing = threading.Thread(target=write, args=(store, 1), daemon=True)
    writing.start()
    writing.join(0.2)  # real time: SQLite's own lock is free all the while
    assert writing.is_alive()
    fcntl.flock(turn, fcntl.LOCK_UN)
    writing.join(PATIENCE)
    assert not writing.is_alive()


def test_one_that_stands_still_with_the_turn_holds_nobody_up(
    turn: int, join: Join, patient: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "NO_TURNS", FOREVER)
    store, _ = join(2)
    take(turn)
    write(store, 1)
    patient()
    write(store, 2)  # waits for no turn any more


@pytest.mark.parametrize("number", [1, 3, 4])
def test_only_two_take_turns(turn: int, join: Join, patient: Callable[[], None], number: int) -> None:
    """Of more, the one that goes on keeps the cores busy; and one has nobody to take turns with."""
    store, *_ = join(number)
    patient()
    take(turn)
    write(store, 1)


def test_the_one_that_is_left_of_two_takes_no_turns(turn: int, join: Join, patient: Callable[[], None]) -> None:
    store, other = join(2)
    other.close()
    write(store, 1)
    patient()
    take(turn)
    write(store, 2)


def test_a_turn_is_given_back_whatever_becomes_of_the_transaction(turn: int, join: Join, path: Path) -> None:
    store, _ = join(2)
    write(store, 1)
    take(turn)
    fcntl.flock(turn, fcntl.LOCK_UN)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER no BEFORE UPDATE ON operations BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(sqlite3.Error):
        write(store, 2)
    take(turn)


def test_a_turn_that_is_had_does_not_outlive_the_store(turn: int, join: Join) -> None:
    store, _ = join(2)
    assert store._neighbours.take_turn()
    with pytest.raises(BlockingIOError):
        take(turn)
    store.close()
    take(turn)
    store._neighbours.end_turn()
