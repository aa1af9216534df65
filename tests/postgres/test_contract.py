"""The store contract over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing.store_contract import StoreContract


class TestPostgres(StoreContract):
    @pytest.fixture
    def make_store(self, url: str) -> Callable[[], PostgresStore]:
        return lambda: PostgresStore(url, timeout=20)
