"""What operators see of all rows together, beyond the store contract."""

from __future__ import annotations

from contextlib import closing

import pytest

from lro_aio.core.codes import Code
from lro_aio.core.record import State
from lro_aio.core.stats import Count
from lro_aio.core.status import make_status
from lro_aio.ports import StatsQuery
from lro_aio.stores.postgres import PostgresStore, stats
from lro_aio.testing._store_rows import NOW, create_all, ended


def test_of_large_errors_only_some_are_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand of the largest would be 256 MB. The groups say that there are more."""
    monkeypatch.setattr(stats, "_MOST_BYTES", 10_000)
    error = make_status(Code.INTERNAL, "x" * 4_000, reason="").SerializeToString()
    with closing(PostgresStore(url)) as store:
        store.open()
        create_all(store, *(ended(i, state=State.FAILED, error=error, create_time=NOW + i) for i in range(5)))
        (group,) = store.stats(StatsQuery(now=NOW)).failures
    assert group.count == Count(3, more=True)
