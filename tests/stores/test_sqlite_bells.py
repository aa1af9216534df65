"""A commit rings the bells of the other processes: at once, never blocking, and not too often."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lro_aio.core.change import Change
from lro_aio.core.record import State
from lro_aio.stores import _bells as bells
from lro_aio.stores._bells import Bell
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing._store_rows import NOW, create_all, name_of, put, remove, row, update

from ..waiting import PATIENCE, block_until
from .neighbours import die, folder_of

ME, OTHER, DEAD = "host:1:aaaa", "host:2:bbbb", "host:3:cccc"


@pytest.fixture
def rung() -> queue.SimpleQueue[str]:
    return queue.SimpleQueue()


@pytest.fixture
def other(store: SqliteStore, path: Path, rung: queue.SimpleQueue[str]) -> Iterator[SqliteStore]:
    """A second store on the file, whose bell is heard in ``rung``; both have joined."""
    other = SqliteStore(path)
    other.open()
    other.join(OTHER, lambda: rung.put(OTHER))
    store.join(ME, lambda: rung.put(ME))
    yield other
    other.close()


def test_a_commit_is_heard_by_the_others_alone(
    store: SqliteStore, other: SqliteStore, rung: queue.SimpleQueue[str]
) -> None:
    create_all(store, row(1))
    assert rung.get(timeout=PATIENCE) == OTHER
    assert other.changed_elsewhere()
    create_all(other, row(2))
    assert rung.get(timeout=PATIENCE) == ME
    assert rung.empty()


def test_a_lease_that_is_taken_or_renewed_is_no_news(store: SqliteStore, other: SqliteStore) -> None:
    def rings(*changes: Change) -> bool:
        bell._rung, bell._owed = 0.0, False
        store.apply(changes)
        return bell._rung > 0

    bell = store._neighbours._bell
    assert bell is not None
    name = name_of(1)
    taken: dict[str, Any] = {"state": State.RUNNING, "owner": ME, "claim": 1, "lease_expire_time": NOW + 30}
    assert rings(put(row(1)))
    assert not rings(update(name, **taken, revision=1))
    assert not rings(update(name, lease_expire_time=NOW + 60))
    assert not rings(put(row(2, **taken)))
    assert not rings(update(name))
    assert rings(update(name, revision=2)), "progress, or a request to cancel"
    assert rings(update(name, claim=2, revision=3)), "it was taken from somebody"
    assert rings(update(name, state=State.SUCCEEDED, check_time=None, revision=4))
    assert rings(remove(name))


def test_the_last_commit_of_many_is_heard(store: SqliteStore, other: SqliteStore, rung: queue.SimpleQueue[str]) -> None:
    """Those that come soon after a ring are rung for together, at the end of the gap."""
    for number in range(200):
        create_all(store, row(number))
    seen: set[str] = set()
    while name_of(199) not in seen:
        rung.get(timeout=PATIENCE)
        seen |= {record.name for record in other.read([name_of(199)])}


def test_many_commits_ring_once_in_a_gap(
    store: SqliteStore, other: SqliteStore, rung: queue.SimpleQueue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bells, "GAP", 0.2)
    began = time.monotonic()
    for number in range(20):
        create_all(store, row(number))
    gaps = (time.monotonic() - began) / bells.GAP  # many on a machine that is busy, else not one
    for _ in range(2):
        assert rung.get(timeout=PATIENCE) == OTHER
    assert rung.qsize() <= gaps


def test_nobody_waits_for_one_who_does_not_listen(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stands still: its buffer is full after some ten rings."""
    store.join(ME, lambda: None)
    monkeypatch.chdir(folder_of(path))  # the path of a socket must be short
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deaf.bind(f"{OTHER}.bell")
    die(path, OTHER)
    bell = store._neighbours._bell
    assert bell is not None
    for _ in range(500):
        bell._ring()
    deaf.close()
    bell._ring()


def test_a_bell_whose_buffer_is_full_still_rings_for_what_it_owes(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    heard, gate = threading.Event(), threading.Event()
    rung: list[str] = []

    def hear() -> None:
        heard.set()
        gate.wait(PATIENCE)

    first = Bell("a.bell", folder, mode=0o600, heard=hear, others=lambda: ["b.bell"])
    second = Bell("b.bell", folder, mode=0o600, heard=lambda: rung.append("b"), others=lambda: ["a.bell"])
    second.ring()
    assert heard.wait(PATIENCE)
    for _ in range(50):
        second._ring()  # nobody takes them: the buffer fills
    first.ring()
    block_until(lambda: rung)
    rung.clear()
    first._rung = float("inf")  # within the gap
    first.ring()
    gate.set()
    block_until(lambda: rung)
    first.close()
    second.close()
    os.close(folder)


def test_a_closed_bell_leaves_nothing_and_its_thread_has_ended(
    store: SqliteStore, other: SqliteStore, path: Path, rung: queue.SimpleQueue[str]
) -> None:
    store.close()
    assert sorted(os.listdir(folder_of(path))) == [f"{OTHER}.bell", f"{OTHER}.lock"]
    assert sum(thread.name == "lro-aio-bell" for thread in threading.enumerate()) == 1
    create_all(other, row(1))
    assert rung.empty()


def test_a_ring_from_somebody_who_sends_nothing_is_one_too(
    store: SqliteStore,
    other: SqliteStore,
    path: Path,
    rung: queue.SimpleQueue[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder_of(path))
    stranger = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for what in (b"", b"x" * 1000):
        stranger.sendto(what, f"{OTHER}.bell")
        assert rung.get(timeout=PATIENCE) == OTHER
    stranger.close()
    create_all(store, row(1))
    assert rung.get(timeout=PATIENCE) == OTHER


PROGRAM = """
import os, sys
from lro_aio.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
store.open()
store.join("host:9:abcd", lambda: None)
child = os.fork()
if not child:
    own = SqliteStore(sys.argv[1])
    own.open()
    own.join("host:10:abcd", lambda: print("heard", flush=True))
    store.close()
    print("ready", flush=True)
    sys.stdin.read()
    own.close()
os.waitpid(child, 0) if child else None
store.close()
"""


@pytest.mark.slow
def test_a_child_that_opens_its_own_store_hears_for_itself(store: SqliteStore, path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        store.join(ME, lambda: None)
        assert len(os.listdir(folder_of(path))) == 6
        create_all(store, row(1))
        assert process.stdout.readline() == "heard\n"
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert len(os.listdir(folder_of(path))) == 2
