"""Back-ups: made under load, put back after a crash, and never over a store that is open."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lro_aio.core.errors import StoreSchemaError, StoreUnavailableError
from lro_aio.core.record import Record
from lro_aio.ports import ListQuery
from lro_aio.stores.sqlite import SqliteStore, backup
from lro_aio.stores.sqlite.location import Location
from lro_aio.testing._store_rows import NOW, create_all, name_of, names, row, update

BATCH = 10

STREAM = """
import sys
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing._store_rows import name_of, put, row, update
store = SqliteStore(sys.argv[1])
store.open()
number = 0
while True:
    store.apply([put(row(number * 10 + i)) for i in range(10)])
    print(number, flush=True)
    number += 1
"""


@contextmanager
def opened(path: Path, mode: str = "") -> Iterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{path}{mode}")
    store.open()
    try:
        yield store
    finally:
        store.close()


def at(path: Path) -> Location:
    return Location(path=str(path))


def rows_of(path: Path, mode: str = "") -> list[Record]:
    with opened(path, mode) as store:
        return store.list(ListQuery(now=NOW, limit=100_000))


def leftovers(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


@contextmanager
def stream(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that commits batch after batch, and says which it has."""
    child = subprocess.Popen([sys.executable, "-c", STREAM, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def acknowledged(child: subprocess.Popen[str], count: int) -> None:
    assert child.stdout is not None
    for _ in range(count):
        assert child.stdout.readline()


@pytest.mark.slow
def test_a_back_up_under_load_has_whole_batches_and_all_that_was_acknowledged(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    with stream(path) as child:
        acknowledged(child, 20)
        backup.back_up(at(path), target)
        acknowledged(child, 5)
    found = len(rows_of(target))
    assert found >= 20 * BATCH
    assert found % BATCH == 0


@pytest.mark.slow
def test_after_a_crash_the_log_of_the_old_file_is_not_replayed_over_the_back_up(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    with stream(path) as child:
        acknowledged(child, 10)
        backup.back_up(at(path), target)
        acknowledged(child, 20)
        with pytest.raises(StoreUnavailableError, match="is open in another process: stop all that use it, and repeat"):
            backup.restore(target, at(path))
        acknowledged(child, 5)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert path.with_name("operations.db-wal").stat().st_size > 0, "the crash left a log"
    saved = rows_of(target, "?mode=ro")  # anything else would make it a file with a log
    backup.restore(target, at(path))
    assert leftovers(tmp_path) == {"backup.db", "operations.db"}
    assert rows_of(path) == saved


@pytest.mark.parametrize("mode", ["", "?mode=ro"])
def test_a_store_that_is_open_is_not_replaced(path: Path, tmp_path: Path, mode: str) -> None:
    with opened(path) as store:
        create_all(store, row(1))
    backup.back_up(at(path), tmp_path / "backup.db")
    with opened(path, mode) as store:
        with pytest.raises(StoreUnavailableError, match="is open in another process"):
            backup.restore(tmp_path / "backup.db", at(path))
        assert names(store.list(ListQuery(now=NOW, limit=9))) == [name_of(1)]
    backup.restore(tmp_path / "backup.db", at(path))


def test_a_damaged_store_is_replaced_by_its_back_up(path: Path, tmp_path: Path) -> None:
    with opened(path) as store:
        create_all(store, row(1))
    backup.back_up(at(path), tmp_path / "backup.db")
    for damage in (b"nothing of a database" * 500, b""):
        path.write_bytes(damage)
        for suffix in ("-wal", "-journal"):
            path.with_name(path.name + suffix).write_bytes(b"old" * 1000)
        backup.restore(tmp_path / "backup.db", at(path))
        assert leftovers(tmp_path) == {"backup.db", "operations.db"}
        assert names(rows_of(path)) == [name_of(1)]


def test_a_log_without_its_file_is_not_replayed(path: Path, tmp_path: Path) -> None:
    """Somebody removed the file by hand, as they thought that a restore needs."""
    with opened(path) as store:
        create_all(store, row(1))
        backup.back_up(at(path), tmp_path / "backup.db")
        store.apply([update(name_of(1), owner="later")])
        shutil.copy(path.with_name("operations.db-wal"), tmp_path / "log")
    path.unlink()
    (tmp_path / "log").rename(path.with_name("operations.db-wal"))
    backup.restore(tmp_path / "backup.db", at(path))
    assert rows_of(path) == [row(1)]


def test_a_store_can_be_made_from_a_back_up_and_is_a_store_as_before(path: Path, tmp_path: Path) -> None:
    with opened(path) as store:
        create_all(store, row(1))
    backup.back_up(at(path), tmp_path / "backup.db")
    new = tmp_path / "new.db"
    backup.restore(tmp_path / "backup.db", at(new))
    with opened(new) as store:
        create_all(store, row(2))
    with contextlib.closing(sqlite3.connect(new)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert names(rows_of(tmp_path / "backup.db")) == [name_of(1)], "the back-up stays as it is"


def test_a_link_to_a_store_stays_a_link(path: Path, tmp_path: Path) -> None:
    with opened(path) as store:
        create_all(store, row(1))
    link = tmp_path / "link.db"
    link.symlink_to(path)
    backup.back_up(at(link), tmp_path / "backup.db")
    backup.restore(tmp_path / "backup.db", at(link))
    assert link.is_symlink()
    assert names(rows_of(path)) == [name_of(1)]


def test_a_back_up_is_as_private_as_the_store(path: Path, tmp_path: Path) -> None:
    with opened(path):
        path.chmod(0o640)
        backup.back_up(at(path), tmp_path / "backup.db")
    assert stat.S_IMODE((tmp_path / "backup.db").stat().st_mode) == 0o640
    (tmp_path / "backup.db").chmod(0o600)
    backup.restore(tmp_path / "backup.db", at(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_back_up_overwrites_nothing(path: Path, tmp_path: Path) -> None:
    with opened(path) as store:
        create_all(store, row(1))
    for target in (path, tmp_path / "notes"):
        target.touch()
        with pytest.raises(FileExistsError, match="give the back-up another name"):
            backup.back_up(at(path), target)
    assert names(rows_of(path)) == [name_of(1)]


def test_what_is_no_back_up_of_a_store_is_refused_and_changes_nothing(path: Path, tmp_path: Path) -> None:
    with opened(path) as store:
        create_all(store, row(1))
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    (tmp_path / "empty.db").touch()
    (tmp_path / "notes.txt").write_text("dear diary, " * 100)
    torn = tmp_path / "torn.db"
    shutil.copy(path, torn)
    with torn.open("rb+") as file:
        file.truncate(torn.stat().st_size // 2)
    for name, problem in {
        "other.db": "is the database of another application",
        "empty.db": "is empty",
        "notes.txt": "is not a SQLite file",
        "torn.db": "is damaged",
        "missing.db": "does not exist",
    }.items():
        with pytest.raises(StoreSchemaError, match=problem):
            backup.restore(tmp_path / name, at(path))
    with pytest.raises(ValueError, match="is the store itself"):
        backup.restore(path, at(path))
    assert names(rows_of(path)) == [name_of(1)]
    assert not [name for name in leftovers(tmp_path) if name.startswith(".")]


def test_a_disk_that_fails_leaves_the_store_as_it_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the rename the old store is there, whole, and from then on the back-up."""
    with opened(path) as store:
        create_all(store, row(1))
    backup.back_up(at(path), tmp_path / "backup.db")
    with opened(path) as store:
        create_all(store, row(2))

    def fail(source: object, target: object) -> None:
        raise OSError("input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="input/output error"):
            backup.restore(tmp_path / "backup.db", at(path))
    assert names(rows_of(path)) == [name_of(1), name_of(2)]
    assert leftovers(tmp_path) == {"backup.db", "operations.db"}


def test_paths_may_be_relative(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with opened(path) as store:
        create_all(store, row(1))
    backup.back_up(at(Path("operations.db")), Path("backup.db"))
    backup.restore(Path("backup.db"), at(Path("operations.db")))
    assert rows_of(path) == [row(1)]
