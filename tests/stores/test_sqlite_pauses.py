"""Pauses in a SQLite file that a process of the release before has open."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from lro_aio.core.change import Change
from lro_aio.core.pausing import pause
from lro_aio.core.record import Record, State, Wait
from lro_aio.stores.sqlite import SqliteStore, schema
from lro_aio.testing._store_rows import NOW, create_all, name_of, only, row

DUE = "SELECT name FROM operations WHERE check_time <= ? AND (owner = '' OR owner <> 'me')"


def paused(record: Record) -> Record | None:
    return pause(record, now=NOW, reason="why")


def test_it_finds_no_paused_row_due_has_no_token_of_it_and_leaves_the_pause_alone(tmp_path: Path) -> None:
    path = tmp_path / "operations.db"
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    for number in (1, 2):
        old.executescript(schema.migrations()[number])
    old.execute("PRAGMA user_version = 2")
    old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    store = SqliteStore(path)
    store.open()
    try:
        waits = row(1, state=State.SUSPENDED, wait=Wait(token="given out", sleep_until=NOW), check_time=NOW)
        create_all(store, waits, row(2, state=State.PENDING, check_time=NOW))
        assert len(old.execute(DUE, (NOW,)).fetchall()) == 2
        store.apply([Change(name_of(number), paused) for number in (1, 2)])
        assert old.execute(DUE, (NOW + 1e9,)).fetchall() == []
        assert "given out" not in old.execute("SELECT wait FROM operations WHERE name = ?", (name_of(1),)).fetchone()[0]
        old.execute("UPDATE operations SET metadata = x'00', revision = revision + 1")
        for number in (1, 2):
            record = only(store, name_of(number))
            assert (record.paused, record.metadata, record.trail.split()[1]) == (True, b"\0", "PAUSED")
    finally:
        store.close()
        old.close()
