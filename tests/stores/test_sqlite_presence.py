"""Files that go away under a running process: noticed before anything more is acknowledged."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lro_aio.core.errors import StoreUnavailableError
from lro_aio.ports import ListQuery
from lro_aio.stores.sqlite import SqliteStore, backup, connections, presence
from lro_aio.stores.sqlite.epochs import epoch_of
from lro_aio.stores.sqlite.location import Location
from lro_aio.stores.sqlite.presence import Presence
from lro_aio.testing._store_rows import NOW, create_all, name_of, names, only, put, row

from ..waiting import PATIENCE

GONE = r"was deleted or replaced while it was in use; put it back, or restart all processes that use it"


def remove(path: Path) -> None:
    path.unlink()


def replace_with_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def replace_with_something_else(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("not a database, " * 100)
    other.replace(path)


def replace_with_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize(
    "accident", [remove, replace_with_a_copy, replace_with_something_else, replace_with_a_directory]
)
def test_nothing_is_acknowledged_that_went_into_a_file_that_is_gone(
    store: SqliteStore, path: Path, suffix: str, accident: Callable[[Path], None]
) -> None:
    create_all(store, row(1))
    accident(Path(f"{path}{suffix}"))
    calls = (
        lambda: store.apply([put(row(2))]),
        lambda: store.read([name_of(1)]),
        lambda: store.list(ListQuery(now=NOW, limit=9)),
        lambda: store.unfinished([name_of(1)]),
        lambda: store.look(now=NOW, routes=[("job", "")], limit=1, owner="me"),
        lambda: store.purge(now=NOW, limit=1),
        lambda: store.changed_elsewhere(),
    )
    for call in calls:
        with pytest.raises(StoreUnavailableError, match=GONE):
            call()


def test_a_critical_message_says_so_once(store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also in a process that asks for nothing: the poll for commits of others finds out."""
    path.unlink()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match=GONE):
            store.changed_elsewhere()
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.__dict__["event"] == "store_gone"
    assert str(path) in record.getMessage()


def test_a_file_that_is_put_back_is_used_again(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        away = path.rename(path.with_name("away"))
        with pytest.raises(StoreUnavailableError, match=GONE):
            store.apply([put(row(number))])
        with pytest.raises(StoreUnavailableError, match=GONE):
            store.apply([put(row(number + 10))])
        away.rename(path)
        create_all(store, row(number + 20))
    assert len(caplog.records) == 2
    assert store.read([name_of(12)]) == [], "after the first refusal, nothing is written"


def test_a_directory_that_is_moved_takes_the_file_away(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    store = SqliteStore(folder / "o.db")
    store.open()
    try:
        folder.rename(tmp_path / "moved")
        with pytest.raises(StoreUnavailableError, match=GONE):
            store.apply([put(row(1))])
    finally:
        store.close()


def test_a_link_that_points_elsewhere_is_another_file(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "one.db")
    store = SqliteStore(link)
    store.open()
    try:
        create_all(store, row(1))
        other = tmp_path / "new"
        other.symlink_to(tmp_path / "two.db")
        other.replace(link)
        with pytest.raises(StoreUnavailableError, match=GONE):
            store.apply([put(row(2))])
    finally:
        store.close()


def test_the_log_beside_the_target_of_a_link_is_watched(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    (tmp_path / "data").mkdir()
    link.symlink_to(tmp_path / "data" / "one.db")
    store = SqliteStore(link)
    store.open()
    try:
        create_all(store, row(1))
        (tmp_path / "data" / "one.db-wal").unlink()
        with pytest.raises(StoreUnavailableError, match=r"one\.db-wal was deleted"):
            store.apply([put(row(2))])
    finally:
        store.close()


def test_closing_does_not_touch_the_file_that_took_the_place(path: Path, store: SqliteStore) -> None:
    """Its log, above all, which has the same name as ours."""
    create_all(store, row(1))
    for file in path.parent.iterdir():
        file.unlink()
    other = SqliteStore(path)
    other.open()
    try:
        create_all(other, row(2))
        store.close()
        create_all(other, row(3))
        log = path.with_name(f"{path.name}-wal")
        assert log.exists()
    finally:
        other.close()
    other.open()
    try:
        assert only(other, name_of(2)) == row(2)
        assert only(other, name_of(3)) == row(3)
        assert other.read([name_of(1)]) == []
    finally:
        other.close()


def test_a_file_that_is_replaced_while_it_is_opened_is_not_used(path: Path) -> None:
    """Whoever waits for the lock of a restore gets it once the file has another successor."""
    path.write_bytes(b"old")
    presence = Presence(str(path))
    os.replace(shutil.copy(path, path.with_name("new")), path)
    with pytest.raises(StoreUnavailableError, match="was replaced while it was being opened"):
        presence.opened()


def test_a_database_in_memory_cannot_go_away() -> None:
    store = SqliteStore("sqlite://")
    store.open()
    create_all(store, row(1))
    store.close()


def test_processes_that_come_and_go_do_not_take_the_files_away(store: SqliteStore, path: Path) -> None:
    """Only the last one that closes removes the log and the shared memory."""
    for number in range(3):
        other = SqliteStore(path)
        other.open()
        create_all(other, row(number))
        other.close()
        reader = SqliteStore(f"sqlite:///{path}?mode=ro")
        reader.open()
        assert only(reader, name_of(number)) == row(number)
        create_all(store, row(number + 10))
        reader.read([])
        reader.close()
    assert only(store, name_of(2)) == row(2)


def test_a_call_that_outlives_the_store_does_not_take_the_files_for_gone(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last connection that closes removes the log and the shared memory."""
    with store._reading():
        store.close()
        path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    assert caplog.records == []


def settled(presence: Presence) -> bool:
    """Whether the next check looks at the database and its directory alone."""
    presence.check()
    return presence._present is not None


def long_ago(path: Path) -> None:
    """As if the file had been at rest for a while."""
    os.utime(path, (NOW, NOW))


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_file_that_goes_away_later_is_noticed_by_the_time_of_its_directory(
    store: SqliteStore, path: Path, suffix: str
) -> None:
    presence = store._presence
    long_ago(path)
    long_ago(path.parent)
    assert settled(presence)
    replace_with_a_copy(Path(f"{path}{suffix}"))
    with pytest.raises(StoreUnavailableError, match=GONE):
        store.apply([put(row(1))])
    with pytest.raises(StoreUnavailableError, match=GONE):
        store.apply([put(row(2))])


def test_a_directory_that_changed_just_now_is_not_trusted(store: SqliteStore, path: Path) -> None:
    """Its time has steps: a second change within the same one would not show."""
    presence = store._presence
    now = time.time_ns() + 3600 * 10**9  # "just now" for as long as the test takes
    for file in (path, path.parent):
        os.utime(file, ns=(now, now))
    assert not settled(presence)
    replace_with_a_copy(path)
    for file in (path, path.parent):
        os.utime(file, ns=(now, now))
    with pytest.raises(StoreUnavailableError, match=GONE):
        presence.check()


# Overwritten: the same file with an older content


def checkpoint(path: Path, how: str = "FULL") -> None:
    """Somebody else moves the log into the file, as every process does now and then."""
    connection = sqlite3.connect(path)
    assert connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()[0] == 0
    connection.close()


def back_up_by_sqlite(path: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def back_up_by_ours(path: Path, target: Path) -> None:
    backup.back_up(Location(path=str(path)), target)


@pytest.mark.parametrize("back_up", [shutil.copyfile, back_up_by_sqlite, back_up_by_ours])
@pytest.mark.parametrize("at_rest", [True, False])
def test_a_back_up_that_is_copied_over_the_open_file_is_noticed(
    path: Path, tmp_path: Path, back_up: Callable[[Path, Path], object], at_rest: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite would go on, with the log of one state and the pages of another."""
    store = SqliteStore(path)
    store.open()
    create_all(store, row(1))
    store.close()
    back_up(path, tmp_path / "backup.db")
    store.open()
    try:
        create_all(store, row(2))
        checkpoint(path)
        create_all(store, row(3))
        if at_rest:
            long_ago(path)
            create_all(store, row(4))
        shutil.copyfile(tmp_path / "backup.db", path)
        for number in (5, 6):
            with pytest.raises(StoreUnavailableError, match=r"was overwritten while it was in use; stop all processes"):
                store.apply([put(row(number))])
        with pytest.raises(StoreUnavailableError, match="was overwritten"):
            store.read([name_of(1)])
    finally:
        store.close()
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


@pytest.mark.parametrize("content", [b"", b"dear diary, " * 1000])
def test_an_open_file_that_is_emptied_or_overwritten_with_something_else_is_noticed(
    store: SqliteStore, path: Path, content: bytes
) -> None:
    create_all(store, row(1))
    checkpoint(path)
    create_all(store, row(2))
    path.write_bytes(content)
    with pytest.raises(StoreUnavailableError, match="was overwritten"):
        store.apply([put(row(3))])


def test_what_other_programs_may_do_to_an_open_file_is_no_alarm(
    store: SqliteStore, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints of any kind, VACUUM, a restore through SQLite, which is a transaction like others."""
    create_all(store, row(1))
    back_up_by_sqlite(path, tmp_path / "backup.db")
    for number, how in enumerate(("PASSIVE", "FULL", "RESTART", "TRUNCATE") * 2):
        create_all(store, row(10 + number))
        checkpoint(path, how)
        create_all(store, row(20 + number))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("VACUUM")
        create_all(store, row(30))
        checkpoint(path, "TRUNCATE")
        create_all(store, row(31))
    back_up_by_sqlite(tmp_path / "backup.db", path)
    create_all(store, row(40))
    checkpoint(path)
    create_all(store, row(41))
    assert sorted(names(store.list(ListQuery(now=NOW, limit=9)))) == [name_of(n) for n in (1, 40, 41)]
    assert caplog.records == []


def test_a_look_that_checkpoints_overtake_is_no_alarm(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that was put aside in it, as on a busy machine, knows an older number than the others by now."""
    looked, go_on = threading.Event(), threading.Event()

    def slow(file: str) -> int:
        found = epoch_of(file)
        if threading.current_thread() is not threading.main_thread():
            looked.set()
            assert go_on.wait(PATIENCE)
        return found

    create_all(store, row(1))
    checkpoint(path)
    monkeypatch.setattr(presence, "epoch_of", slow)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.read, [name_of(1)])
        assert looked.wait(PATIENCE)
        before = epoch_of(str(path))
        for number in (2, 3):
            create_all(store, row(number))
            checkpoint(path)
            store.read([name_of(number)])
        assert epoch_of(str(path)) > before
        go_on.set()
        assert reading.result()
    create_all(store, row(4))
    assert caplog.records == []


def test_processes_that_write_and_checkpoint_in_turn_do_not_alarm_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "_CHECKPOINT_PAGES", 3)
    stores = [SqliteStore(path) for _ in range(3)]
    for store in stores:
        store.open()
    epochs = set()
    for number in range(60):
        create_all(stores[number % 3], row(number))
        stores[(number + 1) % 3].changed_elsewhere()
        epochs.add(epoch_of(str(path)))
    for store in stores:
        store.close()
    assert len(epochs) > 5, "each checkpoint writes another one"
    assert caplog.records == []


def test_a_checkpoint_that_is_under_way_or_was_cut_is_not_taken_for_another_file(tmp_path: Path) -> None:
    """The first page says how many there are, and is written before the last ones."""
    path = tmp_path / "operations.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")
        connection.execute("PRAGMA schema_version = 7")
    presence = Presence(str(path))
    presence.opened()
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(28)
        file.write((int.from_bytes(whole[28:32], "big") + 5).to_bytes(4, "big"))
    assert epoch_of(str(path)) is None
    presence.check()
    path.write_bytes(whole)
    presence.check()
    with path.open("r+b") as file:
        file.seek(40)
        file.write((6).to_bytes(4, "big"))
    with pytest.raises(StoreUnavailableError, match="overwritten"):
        presence.check()
