"""The contract of ``lro_aio.ports.Store``, as tests.

Subclass ``StoreContract`` in a test module, and say how a client of your store is made::

    from lro_aio.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "data")

``make_store`` gives a function. Each call of it makes one more client, not yet opened, of the *same* rows. A test
begins without any row.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lro_aio.ports import Store
from lro_aio.testing._store_apply import ApplyContract, ReadContract, RoundTripContract
from lro_aio.testing._store_journal import JournalContract, NoJournalContract
from lro_aio.testing._store_life import LifeContract, RaceContract
from lro_aio.testing._store_looks import LookContract
from lro_aio.testing._store_queues import NoQueuesContract, QueuesContract
from lro_aio.testing._store_scans import ListContract, PurgeContract, UnfinishedContract
from lro_aio.testing._store_stats import StatsContract

__all__ = ["StoreContract", "WriteContract"]


class WriteContract(
    ApplyContract, RoundTripContract, LifeContract, RaceContract, PurgeContract, JournalContract, QueuesContract
):
    """The part of ``StoreContract`` in which rows change: what a run with injected faults can break.

    A subclass has a fixture ``make_store``, as this module's docstring says.
    """

    separate_clients = True
    """False for a store whose rows live in the one object that made them: that object is then both clients."""

    @pytest.fixture
    def clients(self, make_store: Callable[[], Store]) -> Iterator[tuple[Store, Store]]:
        """Two open clients of the same rows. At the end they are closed, and must have left no thread behind."""
        threads = set(threading.enumerate())
        first = make_store()
        opened: list[Store] = []
        try:
            first.open()
            opened.append(first)
            second = make_store() if self.separate_clients else first
            if second is not first:
                second.open()
                opened.append(second)
            yield first, second
        finally:
            for store in opened:
                store.close()
        _check_threads(threads)

    @pytest.fixture
    def store(self, make_store: Callable[[], Store]) -> Iterator[Store]:
        """One open client, closed and checked in the same way."""
        threads = set(threading.enumerate())
        store = make_store()
        store.open()
        try:
            yield store
        finally:
            store.close()
        _check_threads(threads)


class StoreContract(
    WriteContract,
    NoJournalContract,
    NoQueuesContract,
    ReadContract,
    LookContract,
    UnfinishedContract,
    ListContract,
    StatsContract,
):
    """Every sentence of the docstrings of ``Store`` and ``ListQuery``; plain pytest, no event loop.

    A subclass has a fixture ``make_store``, as the docstring of this module says.
    """


def _check_threads(before: set[threading.Thread]) -> None:
    """Fail if a thread outlives the store that started it by more than a second.

    Those of the fakes of this package may: a server starts its threads when calls come.
    """
    deadline = time.monotonic() + 1
    left = {thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("fake-")}
    while left and time.monotonic() < deadline:
        for thread in left:
            thread.join(0.05)
        left = {thread for thread in left if thread.is_alive()}
    assert not left, f"threads that outlived the store: {sorted(thread.name for thread in left)}"
