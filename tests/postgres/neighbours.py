"""Owners that die, for tests: what their process leaves is made here, without a process."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from lro_aio.stores.postgres import PostgresStore
from tests.stores.neighbours import leave_dead


def folder_of(url: str, parent: Path) -> Path:
    """Where the processes on a table have their files, of those that are told this directory."""
    with closing(PostgresStore(url)) as store:
        store.open()
        store.join("host:1:0000", lambda: None)
        assert store._neighbours is not None
        found = Path(store._neighbours._path())
    assert found.parent == parent / f"lro-aio-{os.geteuid()}"
    return found


def die(folder: Path, *owners: str) -> None:
    """Leave what processes leave that held locks in a directory and were killed."""
    folder.parent.mkdir(0o700, exist_ok=True)
    folder.mkdir(0o700, exist_ok=True)
    leave_dead(folder, *owners)
