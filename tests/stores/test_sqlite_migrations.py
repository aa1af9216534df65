"""The schema of a SQLite file: made, upgraded, compared, or left alone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lro_aio.core.errors import StoreSchemaError
from lro_aio.stores.sqlite import SqliteStore, schema
from lro_aio.testing._store_rows import create_all, name_of, only, row, update

SNAPSHOT = Path(__file__).with_name("sqlite_schema.sql")


def raw(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def shape(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Every table and index, without the blanks of its text."""
    rows = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master")
    return {(kind, name, " ".join(sql.split())) for kind, name, sql in rows}


def make(path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    create_all(store, row(1))
    store.close()


def test_all_migrations_together_give_the_schema(tmp_path: Path) -> None:
    make(tmp_path / "migrated.db")
    migrated, direct = raw(tmp_path / "migrated.db"), sqlite3.connect(":memory:")
    try:
        direct.executescript(SNAPSHOT.read_text("utf-8"))
        assert shape(migrated) == shape(direct)
    finally:
        migrated.close()
        direct.close()


def test_migrations_count_from_one_without_a_gap() -> None:
    assert list(schema.migrations()) == list(range(1, schema.latest() + 1))


def test_every_database_in_memory_is_a_new_one_with_the_same_schema() -> None:
    snapshot = sqlite3.connect(":memory:")
    snapshot.executescript(SNAPSHOT.read_text("utf-8"))
    first, second = SqliteStore("sqlite://"), SqliteStore("sqlite://")
    try:
        first.open()
        create_all(first, row(1))
        second.open()
        assert second.read([name_of(1)]) == []
        with second._reading() as connection:
            assert shape(connection) == shape(snapshot)
            assert schema.version_of(connection, "memory") == schema.latest()
    finally:
        first.close()
        second.close()
        snapshot.close()


def test_a_file_is_marked_as_ours_with_its_version(tmp_path: Path) -> None:
    make(tmp_path / "o.db")
    connection = raw(tmp_path / "o.db")
    try:
        assert connection.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.latest(),)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    finally:
        connection.close()


def test_an_upgrade_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "o.db")
    scripts = {**schema.migrations(), schema.latest() + 1: "CREATE TABLE more (x);\nCREATE INDEX most ON more (x);\n"}
    monkeypatch.setattr(schema, "migrations", lambda: scripts)
    store = SqliteStore(tmp_path / "o.db")
    store.open()
    try:
        assert only(store, name_of(1)) == row(1)
    finally:
        store.close()
    connection = raw(tmp_path / "o.db")
    try:
        assert {name for _, name, _ in shape(connection)} >= {"operations", "more", "most"}
        assert connection.execute("PRAGMA user_version").fetchone() == (len(scripts),)
    finally:
        connection.close()


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "o.db")
    scripts = {**schema.migrations(), schema.latest() + 1: "CREATE TABLE more (x);\nCREATE TABLE operations (x);\n"}
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: scripts)
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            SqliteStore(tmp_path / "o.db").open()
    connection = raw(tmp_path / "o.db")
    try:
        assert "more" not in {name for _, name, _ in shape(connection)}
    finally:
        connection.close()
    store = SqliteStore(tmp_path / "o.db")
    store.open()
    assert only(store, name_of(1)) == row(1)
    store.close()


def test_a_newer_schema_is_refused_and_both_versions_are_named(tmp_path: Path) -> None:
    make(tmp_path / "o.db")
    newer = schema.latest() + 41
    connection = raw(tmp_path / "o.db")
    connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    before = (tmp_path / "o.db").read_bytes()
    with pytest.raises(StoreSchemaError, match=rf"o\.db has schema version {newer}.*up to {schema.latest()}; upgrade"):
        SqliteStore(tmp_path / "o.db").open()
    assert (tmp_path / "o.db").read_bytes() == before


@pytest.mark.parametrize(
    "mark", ["CREATE TABLE operations (x)", "PRAGMA application_id = 7", "PRAGMA user_version = 1"]
)
def test_a_database_of_another_application_is_refused_and_not_changed(tmp_path: Path, mark: str) -> None:
    connection = raw(tmp_path / "theirs.db")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(mark)
    connection.close()
    before = (tmp_path / "theirs.db").read_bytes()
    with pytest.raises(StoreSchemaError, match=r"theirs\.db is the database of another application"):
        SqliteStore(tmp_path / "theirs.db").open()
    assert (tmp_path / "theirs.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.db"]


@pytest.mark.parametrize("content", [b"no database at all, just some text\n" * 400, b"buy milk", b"x"])
def test_a_file_that_is_not_sqlite_is_refused_and_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StoreSchemaError, match=r"notes\.txt is not a SQLite file"):
        SqliteStore(path).open()
    assert path.read_bytes() == content


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "o.db")
    whole = (tmp_path / "o.db").read_bytes()
    (tmp_path / "o.db").write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    with pytest.raises(StoreSchemaError, match=r"o\.db is damaged \(SQLITE_CORRUPT.*restore it"):
        SqliteStore(tmp_path / "o.db").open()


def test_an_empty_file_is_taken_as_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "o.db").touch()
    make(tmp_path / "o.db")


class _Busy:
    """A connection that is told twice that the file is locked, as two are that switch it at the same time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.refusals = 2

    def execute(self, statement: str) -> sqlite3.Cursor:
        if self.refusals:
            self.refusals -= 1
            refusal = sqlite3.OperationalError("database is locked")
            refusal.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
            raise refusal
        return self._connection.execute(statement)


def test_a_switch_to_wal_that_meets_another_is_tried_again(tmp_path: Path) -> None:
    connection = raw(tmp_path / "o.db")
    busy = _Busy(connection)
    try:
        schema._set_wal(busy, "o.db", 10)  # type: ignore[arg-type]  # a stand-in
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        busy.refusals = 2
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            schema._set_wal(busy, "o.db", -1)  # type: ignore[arg-type]  # as above
    finally:
        connection.close()


def test_threads_may_open_a_new_file_at_the_same_time(tmp_path: Path) -> None:
    """Each with a store of its own, as processes would; five rounds of eight."""

    def work(path: Path, number: int) -> None:
        store = SqliteStore(path)
        store.open()
        try:
            create_all(store, row(number))
            store.apply([update(name_of(number), revision=2)])
        finally:
            store.close()

    for attempt in range(5):
        path = tmp_path / f"o{attempt}.db"
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number, path=path: work(path, number), range(8), timeout=30))
        store = SqliteStore(path)
        store.open()
        assert {record.revision for record in store.read([name_of(i) for i in range(8)])} == {2}
        store.close()


_OPEN = """
import sys
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing._store_rows import create_all, row
store = SqliteStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
store.open()
create_all(store, row(int(sys.argv[2])))
store.close()
"""


@pytest.mark.slow
def test_processes_may_open_a_new_file_at_the_same_time(tmp_path: Path) -> None:
    path = str(tmp_path / "o.db")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, path, str(i)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for i in range(2)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            child.communicate(timeout=30)
            assert child.returncode == 0
    finally:
        for child in children:
            child.kill()
            child.communicate()
    store = SqliteStore(path)
    store.open()
    assert len(store.read([name_of(0), name_of(1)])) == 2
    store.close()
