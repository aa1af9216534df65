"""What the tests of the engine share: clients over a store with fault points, and the row behind an operation."""

import contextlib
import os

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.testing import FaultyStore

from ..loop_guard import loop_guard  # noqa: F401 (for every test here)
from ..postgres.schemas import a_store_of_its_own


@pytest.fixture
def queues(store):
    """For tests that need queues: skipped over a store that has none."""
    if store.inner.no_queues_reason:
        pytest.skip(f"{store.inner.no_queues_reason}")


@pytest.fixture
def store(request):
    """An in-memory store with fault points, or one on the PostgreSQL server of ``make test-postgres``."""
    if getattr(request, "param", "") == "spanner":
        from lro_aio.testing import FakeSpanner

        with FakeSpanner() as fake:
            yield FaultyStore(lro.SpannerStore.from_url(fake.url))
    elif "LRO_TEST_POSTGRES" in os.environ:
        with a_store_of_its_own() as store:
            yield FaultyStore(store)
    else:
        yield FaultyStore(lro.SqliteStore("sqlite://"))


@pytest_asyncio.fixture
async def open_client(lro_clock):
    """``await open_client(store, **options)``: an open client on the manual clock, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(store, **options):
            options = {"clock": lro_clock, "drain_timeout": 0, **options}
            return await stack.enter_async_context(lro.Client(store, **options))

        yield make


@pytest_asyncio.fixture
async def client(open_client, store):
    """An open client on ``store`` and ``lro_clock``; tests register handlers with it."""
    return await open_client(store)


@pytest.fixture
def row(store):
    """``row(name)``: the stored row, or None."""

    def read(name, store=store):
        found = store.inner.read([name])
        return found[0] if found else None

    return read


@pytest.fixture
def abandon():
    """``abandon(client)``: the process of this client dies, as far as the store and its leases can tell."""

    def kill(client):
        def gone(changes):
            raise lro.StoreUnavailableError("a process that died writes nothing", retry_after=0.0)

        client.store.apply = gone
        client.engine.leases.close()  # no renewals

    return kill
