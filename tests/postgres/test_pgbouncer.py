"""The store behind PgBouncer in transaction mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing._store_rows import create_all, name_of, only, row, update
from lro_aio.testing.store_contract import StoreContract

from .pooler import MISSING, PROGRAM, Pooler
from .server import Server

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture(scope="module")
def pooler(database: str) -> Iterator[Pooler]:
    with Pooler(database) as started:
        yield started


@pytest.fixture
def behind(pooler: Pooler, database: str) -> Callable[[str], str]:
    """The same URL, by way of the pooler."""
    return lambda url: url.replace(database, pooler.url)


@pytest.mark.slow
class TestBehindPgBouncer(StoreContract):
    @pytest.fixture
    def make_store(self, emptied: str, behind: Callable[[str], str]) -> Callable[[], PostgresStore]:
        return lambda: PostgresStore(behind(emptied), timeout=20, pooled=True)


@pytest.mark.asyncio
async def test_operations_of_two_clients_that_share_two_connections(url: str, behind: Callable[[str], str]) -> None:
    """More lanes than connections: they take turns, and nobody waits for ever."""
    handlers = lro.Handlers()

    @handlers.handler("add")
    async def add(op: lro.Operation[int]) -> int:
        first = await op.step("one", lambda: op.state + 1)
        return first + await op.receive("more", int)

    through = behind(url)
    async with (
        lro.Client(PostgresStore(through, pooled=True, lanes=4), handlers=[handlers]) as first,
        lro.Client(
            PostgresStore(through, pooled=True, lanes=4, listen_dsn=url.partition("?")[0]), worker=False
        ) as other,
        asyncio.timeout(60),
    ):
        started = await asyncio.gather(*(first.start(add, number) for number in range(100)))
        await asyncio.gather(*(other.send(op.name, "more", 1000) for op in started))
        results = await asyncio.gather(*(other.wait_operation(op.name, 60) for op in started))
        assert all(operation.HasField("response") for operation in results)
        assert [await op.result(int) for op in started] == [number + 1001 for number in range(100)]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_queue_of_two_clients_that_share_two_connections(url: str, behind: Callable[[str], str]) -> None:
    """Who holds a queue has a connection until it commits: those that wait for it do not stand in its way."""
    handlers = lro.Handlers()
    running = most = 0

    @handlers.handler("work", queue=lro.Queue("q", running=3, per_key=2), queue_key=lambda number: f"k{number % 3}")
    async def work(op: lro.Operation[int]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return op.state

    stores = [PostgresStore(behind(url), pooled=True, lanes=4, listen_dsn=url.partition("?")[0]) for _ in range(2)]
    async with (
        lro.Client(stores[0], handlers=[handlers]) as first,
        lro.Client(stores[1], handlers=[handlers]) as second,
        asyncio.timeout(60),
    ):
        clients = [first, second]
        started = await asyncio.gather(*(clients[number % 2].start(work, number) for number in range(60)))
        assert await asyncio.gather(*(op.result(int) for op in started)) == list(range(60))
        assert 0 < most <= 3
        seen = await first.queues.get("q")
        assert (seen.running, seen.waiting) == (0, 0)


@pytest.mark.slow
def test_what_a_server_has_lost_is_not_relied_on_though_the_connection_outlives_it() -> None:
    """As a failover loses it. The number of the transaction that wrote it is given to another one."""
    count = Change(name_of(1), lambda record: record.evolve(claim=record.claim + 1))
    with (
        Server(synchronous_commit="off", wal_writer_delay="10s") as server,
        Pooler(server.url) as pooler,
        closing(PostgresStore(pooler.url, pooled=True, timeout=20)) as store,
        closing(PostgresStore(server.url)) as other,
    ):
        store.open()
        create_all(store, row())
        with psycopg.connect(server.url, autocommit=True) as sql:
            sql.execute("CHECKPOINT")
        store.apply([count])
        server.restart()
        other.open()
        assert only(other, name_of(1)) == row(), "the server has lost nothing"
        other.apply([update(name_of(1), owner="other")])
        assert store.apply([count]) == [row(owner="other", claim=1)]
