"""What the tests of the engine share: clients over a store with fault points, and the row behind an operation."""

import asyncio
import contextlib

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.testing import FaultyStore


@pytest.fixture
def store():
    """An in-memory store with fault points."""
    return FaultyStore(lro.SqliteStore("sqlite://"))


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


@pytest.fixture
def loop_watch():
    """Fails a test in which the event loop stood still for more than 0.2 s between two turns."""

    @contextlib.asynccontextmanager
    async def watch(limit=0.2):
        worst = 0.0
        loop = asyncio.get_running_loop()

        async def beat():
            nonlocal worst
            while True:
                before = loop.time()
                await asyncio.sleep(0.01)
                worst = max(worst, loop.time() - before - 0.01)

        task = asyncio.create_task(beat())
        try:
            yield
            await asyncio.sleep(0.02)
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert worst < limit, f"the event loop was blocked for {worst:.2f} s"

    return watch
