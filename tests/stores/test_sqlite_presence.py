"""Files that go away under a running process: noticed before anything more is acknowledged."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lro_aio.core.errors import StoreUnavailableError
from lro_aio.ports import ListQuery
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.stores.sqlite.presence import Presence
from lro_aio.testing._store_rows import NOW, create_all, name_of, only, put, row

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
    """Whether the next check looks at the directory alone."""
    presence.check()
    return presence._settled is not None


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_file_that_goes_away_later_is_noticed_by_the_time_of_its_directory(
    store: SqliteStore, path: Path, suffix: str
) -> None:
    presence = store._presence
    while not settled(presence):
        os.utime(path.parent, (NOW, NOW))
    replace_with_a_copy(Path(f"{path}{suffix}"))
    with pytest.raises(StoreUnavailableError, match=GONE):
        store.apply([put(row(1))])
    with pytest.raises(StoreUnavailableError, match=GONE):
        store.apply([put(row(2))])


def test_a_directory_that_changed_just_now_is_not_trusted(store: SqliteStore, path: Path) -> None:
    """Its time has steps: a second change within the same one would not show."""
    presence = store._presence
    path.with_name("another file").touch()
    assert not settled(presence)
    moment = path.parent.stat().st_mtime_ns
    replace_with_a_copy(path)
    os.utime(path.parent, ns=(moment, moment))
    with pytest.raises(StoreUnavailableError, match=GONE):
        presence.check()
