"""The journal on SQLite: what it costs, and the processes of the release before it."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lro_aio.core.change import Change
from lro_aio.core.journal import Entry, Kind
from lro_aio.stores.sqlite import SqliteStore, queries, schema, writes
from lro_aio.testing._store_rows import NOW, create_all, ended, name_of, only, put, remove, row, update

SQL = queries.load()


def appending(number: int, *keys: str) -> Change:
    entries = tuple(Entry(kind=Kind.STEP, key=key, time=NOW) for key in keys)
    return Change(name_of(number), lambda record: record, appends=entries)


def statements(store: SqliteStore, *changes: Change) -> list[str]:
    """The statements of one ``apply``, without their values; those of triggers too."""
    ran: list[str] = []
    writer, _ = store._opened()
    with writer.use() as connection:
        connection.set_trace_callback(ran.append)
    store.apply(list(changes))
    with writer.use() as connection:
        connection.set_trace_callback(None)
    return ran


def test_a_batch_that_appends_nothing_runs_no_statement_of_the_journal(store: SqliteStore) -> None:
    """From the first write to the removal."""
    create_all(store, row(1), row(2))
    ran = statements(store, put(row(3)), update(name_of(1), owner="x"), remove(name_of(2)))
    assert not [statement for statement in ran if "journal" in statement]
    # The removal is traced once more when its trigger begins, which finds that the row has no entries.
    began = [statement.split(maxsplit=1)[0] for statement in dict.fromkeys(ran)]
    assert began == ["BEGIN", "PRAGMA", "SELECT", "DELETE", "INSERT", "UPDATE", "COMMIT"]
    create_all(store, ended(4, expire_time=NOW))
    writer, _ = store._opened()
    with writer.use() as connection:
        connection.set_trace_callback(ran.append)
    assert store.purge(now=NOW, limit=1) == 1
    assert not [statement for statement in ran if "journal" in statement]


def test_a_thousand_entries_are_few_statements(store: SqliteStore) -> None:
    create_all(store, *(row(i) for i in range(100)))
    ran = statements(store, *(appending(i, *map(str, range(10))) for i in range(100)))
    assert len([statement for statement in ran if "journal" in statement]) == 10  # seven of 128, and the rest
    assert {len(entries) for entries in store.journal([name_of(i) for i in range(100)]).values()} == {10}


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (writes._appended_text(2), ("u", "k", "a") * 2),
        (SQL["journal"], {"names": "[]", "kinds": None}),
        (SQL["journal"], {"names": "[]", "kinds": "[]"}),
    ],
    ids=["appended", "journal", "journal of kinds"],
)
def test_a_journal_is_found_by_the_key(store: SqliteStore, statement: str, values: Any) -> None:
    with store._reading() as connection:
        plan = [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    (found,) = [line for line in plan if "journal" in line]
    assert found.startswith("SEARCH journal"), plan
    assert "INDEX sqlite_autoindex_journal_1 (uid=?" in found
    assert not [line for line in plan if re.match(r"SCAN (journal|operations)", line)]


def test_no_statement_numbers_its_parameters() -> None:
    """Python 3.12.0 to 3.12.3 warn of that."""
    assert [name for name, statement in SQL.items() if re.search(r"\?\d", statement)] == []


def test_a_process_of_the_release_before_goes_on_with_the_file(tmp_path: Path) -> None:
    """It has the file open while another one upgrades it: it writes rows, changes them and removes them."""
    path = tmp_path / "operations.db"
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    old.executescript(schema.migrations()[1])
    old.execute("PRAGMA user_version = 1")
    old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    columns = [name for _, name, *_ in old.execute("PRAGMA table_info(operations)")]
    store = SqliteStore(path)
    store.open()
    try:
        create_all(store, row(1), row(2))
        store.apply([appending(1, "a"), appending(2, "b")])
        old.execute(
            f"INSERT INTO operations ({', '.join(columns)}) SELECT"
            f" {', '.join('?' if column in ('name', 'uid') else column for column in columns)}"
            " FROM operations WHERE name = ?",
            (name_of(3), "uid-3", name_of(1)),
        )
        old.execute("UPDATE operations SET owner = 'old' WHERE name = ?", (name_of(1),))
        old.execute("DELETE FROM operations WHERE name = ?", (name_of(2),))
        assert only(store, name_of(3)) == row(3)
        assert only(store, name_of(1)) == row(1, owner="old", entries=1)
        create_all(store, row(2))
        assert store.journal([name_of(1), name_of(2)]).keys() == {name_of(1)}
    finally:
        store.close()
        old.close()
