"""A file-backed SQLite store for the tests of what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lro_aio.stores.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    store.open()
    yield store
    store.close()
