"""The store contract over SQLite, on a file and in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing.store_contract import StoreContract


class TestSqliteFile(StoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Callable[[], SqliteStore]:
        return lambda: SqliteStore(tmp_path / "operations.db", busy_timeout=20)


class TestSqliteMemory(StoreContract):
    separate_clients = False

    @pytest.fixture
    def make_store(self) -> Callable[[], SqliteStore]:
        return lambda: SqliteStore("sqlite://", busy_timeout=20)
