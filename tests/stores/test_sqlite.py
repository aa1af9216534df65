"""What is SQLite's own: URLs, the files it refuses, locks, closing, crashes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lro_aio.core.change import Change
from lro_aio.core.errors import StoreSchemaError, StoreUnavailableError
from lro_aio.core.record import Record
from lro_aio.ports import ListQuery
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing._store_rows import NOW, create_all, name_of, names, only, put, row, update

# Where the file is


@pytest.mark.parametrize(
    ("given", "url", "file"),
    [
        ("sqlite://", "sqlite://", None),
        ("sqlite:///:memory:", "sqlite://", None),
        (":memory:", "sqlite://", None),
        ("sqlite:///some.db", "sqlite:///some.db", "some.db"),
        ("sqlite:///sub/some.db", "sqlite:///sub/some.db", "sub/some.db"),
        ("sqlite:////tmp/some.db", "sqlite:////tmp/some.db", "/tmp/some.db"),
        ("some.db", "sqlite:///some.db", "some.db"),
        (Path("/tmp/what?#100%.db"), "sqlite:////tmp/what?#100%.db", "/tmp/what?#100%.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(given: str | Path, url: str, file: str | None) -> None:
    store = SqliteStore(given)
    assert store.url == url
    assert store._location.path == file
    assert repr(store) == f"SqliteStore({url!r})"


def test_options_of_a_url() -> None:
    store = SqliteStore.from_url("sqlite:///o.db?mode=ro&busy_timeout=1.5&max_page_count=30")
    assert store.busy_timeout == 1.5
    assert store._location.read_only
    assert store._location.max_page_count == 30
    assert SqliteStore("sqlite:///o.db").busy_timeout == 5
    assert SqliteStore("o.db", busy_timeout=timedelta(seconds=2)).busy_timeout == 2
    assert SqliteStore("sqlite:///o.db", busy_timeout=3).busy_timeout == 3
    assert SqliteStore("sqlite://?busy_timeout=1").busy_timeout == 1


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite:o.db",
        "sqlite:/o.db",
        "sqlite://host/o.db",
        "sqlite:///",
        "sqlite:///o.db?mode=rw",
        "sqlite:///o.db?mode",
        "sqlite:///o.db?cache=shared",
        "sqlite:///o.db?mode=ro&mode=ro",
        "sqlite:///o.db?busy_timeout=soon",
        "sqlite:///o.db?busy_timeout=-1",
        "sqlite:///o.db?busy_timeout=nan",
        "sqlite:///o.db?max_page_count=-1",
        "sqlite:///o.db?max_page_count=1.5",
        "sqlite://?mode=ro",
        "sqlite:///o\0.db",
        "spanner://p/i/d",
        "",
    ],
)
def test_a_malformed_url_is_a_value_error_that_names_the_form(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected 'sqlite:///relative\.db', 'sqlite:////absolute\.db'"):
        SqliteStore(url)


def test_only_sqlite_urls_are_taken_as_urls() -> None:
    with pytest.raises(ValueError, match="is not the URL of a SQLite store"):
        SqliteStore.from_url("o.db")


def test_construction_touches_nothing(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "missing" / "o.db")
    SqliteStore(tmp_path / "o.db")
    assert list(tmp_path.iterdir()) == []


def test_a_change_of_directory_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers, whose connections are opened later, find the same file."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("sqlite:///o.db")
    store.open()
    try:
        monkeypatch.chdir(tmp_path / "elsewhere")
        create_all(store, row(1))
        assert only(store, name_of(1)) == row(1)
    finally:
        store.close()
    assert (tmp_path / "o.db").exists()


def test_odd_characters_in_a_path(tmp_path: Path) -> None:
    path = tmp_path / "what? #1 100%20 ü.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    assert path.exists()


# Files that it refuses


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreSchemaError, match="is a directory; use the path of a file in it"):
        SqliteStore(tmp_path).open()


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreSchemaError, match=r"the directory .*nowhere does not exist; create it first"):
        SqliteStore(tmp_path / "nowhere" / "o.db").open()
    assert list(tmp_path.iterdir()) == []


def test_reading_what_does_not_exist_is_refused_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreSchemaError, match=r"o\.db does not exist, and mode=ro does not create it"):
        SqliteStore(f"sqlite:///{tmp_path}/o.db?mode=ro").open()
    assert list(tmp_path.iterdir()) == []


def test_reading_an_empty_file_is_refused(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreSchemaError, match="open it once without mode=ro"):
        SqliteStore(f"sqlite:///{path}?mode=ro").open()
    assert path.read_bytes() == b""


def test_read_only_reads_and_writes_nothing(path: Path, store: SqliteStore) -> None:
    """``mode=ro`` is for looking at a file that others write."""
    create_all(store, row(1))
    reader = SqliteStore(f"sqlite:///{path}?mode=ro")
    reader.open()
    try:
        assert only(reader, name_of(1)) == row(1)
        assert names(reader.list(ListQuery(now=NOW, limit=9))) == [name_of(1)]
        for write in (
            lambda: reader.apply([put(row(2))]),
            lambda: reader.purge(now=NOW, limit=1),
        ):
            with pytest.raises(
                StoreSchemaError, match=r"operations\.db was opened with mode=ro: open it without mode=ro to write"
            ):
                write()
        reader.changed_elsewhere()
        create_all(store, row(3))
        assert reader.changed_elsewhere()
        assert names(reader.list(ListQuery(now=NOW, limit=9))) == [name_of(1), name_of(3)]
    finally:
        reader.close()


# Locks, disks, closing


def test_a_lock_that_lasts_is_an_outage_and_then_over(path: Path) -> None:
    store = SqliteStore(path, busy_timeout=0.05)
    store.open()
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            StoreUnavailableError, match=r"operations\.db has been locked by another writer for more than 0.05"
        ):
            store.apply([put(row(1))])
        with pytest.raises(StoreUnavailableError, match="locked by another writer"):
            store.purge(now=NOW, limit=1)
        assert store.read([name_of(1)]) == []  # readers are not in a writer's way
        opened = SqliteStore(path, busy_timeout=0.05)
        opened.open()  # nor is opening a file that has its schema
        opened.close()
    finally:
        other.execute("ROLLBACK")
        other.close()
    create_all(store, row(1))
    assert only(store, name_of(1)) == row(1)
    store.close()


def test_a_new_file_that_is_locked_is_an_outage(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        store = SqliteStore(path, busy_timeout=0.05)
        with pytest.raises(StoreUnavailableError, match="locked by another writer"):
            store.open()
    finally:
        other.execute("ROLLBACK")
        other.close()
    store.open()
    store.close()


def test_a_full_disk_is_an_outage_that_loses_nothing(path: Path) -> None:
    store = SqliteStore(f"sqlite:///{path}?max_page_count=60")
    store.open()
    try:
        create_all(store, row(1))
        with pytest.raises(StoreUnavailableError, match=r"the disk is full: .*operations\.db cannot grow"):
            store.apply([update(name_of(1), revision=2), put(row(2, response=b"x" * 10**6))])
        assert only(store, name_of(1)) == row(1)
        assert store.read([name_of(2)]) == []
        store.apply([update(name_of(1), revision=2)])
        assert only(store, name_of(1)).revision == 2
    finally:
        store.close()


def test_use_before_open_and_after_close_says_what_to_do(path: Path) -> None:
    store = SqliteStore(path)
    calls = (
        lambda: store.read([name_of(1)]),
        lambda: store.apply([put(row(1))]),
        lambda: store.unfinished([name_of(1)]),
        lambda: store.look(now=NOW, routes=[("job", "")], limit=1, owner="me"),
        lambda: store.list(ListQuery(now=NOW, limit=1)),
        lambda: store.purge(now=NOW, limit=1),
        lambda: store.changed_elsewhere(),
    )
    for call in calls:
        with pytest.raises(RuntimeError, match=r"is not open: call open\(\) first"):
            call()
    store.open()
    with pytest.raises(RuntimeError, match="is already open"):
        store.open()
    store.close()
    for call in calls:
        with pytest.raises(RuntimeError, match="is not open"):
            call()
    store.open()
    store.close()


@pytest.mark.parametrize("url", ["sqlite:///{path}", "sqlite://"])
def test_close_interrupts_a_busy_reader(url: str, path: Path) -> None:
    """Which would never end; the reader is told that the store was closed."""
    store = SqliteStore(url.format(path=path))
    store.open()
    started = threading.Event()
    endless = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t"

    def read() -> None:
        with store._reading() as connection:
            started.set()
            connection.execute(endless)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert started.wait(10)
        store.close()
        with pytest.raises(StoreUnavailableError, match="was closed while the call was under way"):
            reading.result(10)


def test_close_does_not_wait_for_a_writer_that_waits_for_a_lock(path: Path) -> None:
    """The writer closes its connection itself when it gives up, and the file is free."""
    store = SqliteStore(path, busy_timeout=3)
    store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(store.apply, [put(row(1))])
            writer = store._writer
            assert writer is not None
            while not writer._lock.locked():
                assert not writing.done()
            store.close()
            assert not writing.done()
            with pytest.raises(StoreUnavailableError):
                writing.result(30)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            writer._connection.execute("SELECT 1")
    finally:
        other.close()


def test_many_readers_leave_a_few_connections(store: SqliteStore) -> None:
    create_all(store, row(1))
    gate = threading.Barrier(20)

    def read(_: int) -> int:
        with store._reading():
            gate.wait(10)
        return len(store.read([name_of(1)]))

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(read, range(20), timeout=30)) == 20
    pool_of_readers: Any = store._readers
    assert len(pool_of_readers._idle) <= 8
    assert not pool_of_readers._busy


def test_an_interrupted_change_rolls_back(store: SqliteStore) -> None:
    """Ctrl-C in the middle of a batch commits none of it and leaves the store usable."""

    def interrupt(_: Record | None) -> Record:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.apply([put(row(1)), Change(name_of(2), interrupt, creates=True)])
    assert store.read([name_of(1)]) == []
    create_all(store, row(1))


@pytest.mark.parametrize(
    "bad",
    [
        {"owner": "\ud800"},
        {"claim": 2**63},
        {"metadata": "text \ud800"},
        {"create_time": None},
        {"owner": object()},
    ],
)
def test_values_that_sqlite_does_not_take_refuse_the_batch_with_a_plain_error(
    store: SqliteStore, bad: dict[str, Any]
) -> None:
    with pytest.raises(Exception) as caught:
        store.apply([put(row(1)), put(row(2, **bad))])
    assert not isinstance(caught.value, StoreUnavailableError)
    assert store.read([name_of(1), name_of(2)]) == []
    create_all(store, row(1))


def test_a_change_that_returns_another_row_is_refused(store: SqliteStore) -> None:
    (outcome,) = store.apply([Change(name_of(1), lambda _: row(2), creates=True)])
    assert isinstance(outcome, ValueError)
    assert store.read([name_of(1), name_of(2)]) == []


def test_refusals_do_not_keep_the_batch_alive(store: SqliteStore) -> None:
    """The traceback of an outcome does not reach the frame that has every row of the batch."""
    (outcome,) = store.apply([update(name_of(1))])
    assert isinstance(outcome, Exception)
    frames = []
    traceback = outcome.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "apply" in frames  # Change.apply
    assert "_outcome" not in frames


# Connections


def test_what_is_committed_is_synced(store: SqliteStore) -> None:
    with store._writing() as connection:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0}


def test_a_reader_cannot_write(store: SqliteStore) -> None:
    with store._reading() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM operations")


_FORK = """
import os, sys
from lro_aio.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
store.open()
store.read([])
child = os.fork()
if child == 0:
    try:
        store.read([])
    except RuntimeError as exc:
        print(exc, flush=True)
    store.close()
    own = SqliteStore(sys.argv[1])
    own.open()
    own.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
store.read([])
store.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.slow
def test_a_forked_child_is_told_to_open_its_own(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORK, str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "before a fork; make a new store in this process" in done.stdout


_STREAM = """
import sys
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing._store_rows import name_of, put, row, update
store = SqliteStore(sys.argv[1])
store.open()
number = int(sys.argv[2])
while True:
    store.apply([put(row(number * 10 + i)) for i in range(10)])
    store.apply([update(name_of(number * 10 + i), owner="finished") for i in range(10)])
    print(number, flush=True)
    number += 1
"""


@pytest.mark.slow
def test_what_was_acknowledged_survives_sigkill(path: Path) -> None:
    """Three times a process is killed in a stream of commits. What it said is there, and the rest is whole batches."""
    number = 0
    for lines in (3, 40, 150):
        child = subprocess.Popen(
            [sys.executable, "-c", _STREAM, str(path), str(number)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None
            for _ in range(lines):
                assert child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
            rest, _ = child.communicate(timeout=30)
        finally:
            child.kill()
            child.wait()
        assert child.returncode == -signal.SIGKILL
        acknowledged = number + lines + len(rest.split())
        store = SqliteStore(path)
        store.open()
        found = {r.name: r for r in store.read([name_of(i) for i in range((acknowledged + 2) * 10)])}
        store.close()
        for i in range(acknowledged * 10):
            assert found[name_of(i)].owner == "finished"
        last = [found.get(name_of(acknowledged * 10 + i)) for i in range(10)]
        assert len({record and record.owner for record in last}) == 1
        number = acknowledged
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
