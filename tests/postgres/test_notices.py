"""One process is told of another's commits: soon, once, and also after the connection was lost."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.engine import engine as engine_module
from lro_aio.stores.postgres import PostgresStore, notices
from lro_aio.stores.postgres import store as store_module
from lro_aio.testing._store_rows import create_all, name_of, row

from ..waiting import PATIENCE, block_until, until
from .proxy import Proxy


@pytest.fixture
def url(emptied: str) -> str:
    """Tables that the tests here share."""
    return emptied


@pytest.fixture
def opened(url: str) -> Iterator[Callable[..., PostgresStore]]:
    """``opened(url)``: an open store, closed at the end."""
    stores: list[PostgresStore] = []

    def open_(at: str = url, **options: object) -> PostgresStore:
        stores.append(PostgresStore(at, **options))
        stores[-1].open()
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def told(store: PostgresStore) -> None:
    """Return when the store says that something has changed elsewhere."""
    block_until(store.changed_elsewhere)


def caught_up(store: PostgresStore) -> None:
    """Return when the store has taken every notice of what was committed: since then it has asked its server twice."""
    for _ in range(2):
        before = store._notices._checked
        block_until(lambda before=before: store._notices._checked > before)


async def ends_there(here: lro.Client, there: lro.Client, *, times: int) -> None:
    """What one process ends, another that waits for it sees."""
    for _ in range(times):
        op = await here.create(lease=False)
        waiting = asyncio.create_task(there.wait_operation(op.name))
        await until(lambda: there.engine.feed._subscriptions)
        await op.done(wrappers_pb2.StringValue(value="x"))
        assert (await asyncio.wait_for(waiting, PATIENCE)).done


def test_each_commit_of_another_process_is_told(
    opened: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of its own or of another table's, nor what another process reads or refuses."""
    monkeypatch.setattr(notices, "HEARTBEAT", 0.02)
    first, second, apart = opened(), opened(), opened(table="others")
    for number in range(3):
        create_all(second, row(number))
        told(first)
    create_all(apart, row(1))
    second.read([row(1).name])
    second.purge(now=0.0, limit=1)
    create_all(first, row(9))
    caught_up(first)
    assert first.changed_elsewhere() is False


def test_what_is_told_while_the_server_is_asked_whether_it_is_there_is_heard_too(
    opened: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "HEARTBEAT", 0.0)  # all the time
    first, second = opened(), opened()
    create_all(second, row())
    caught_up(first)
    monkeypatch.setattr(notices, "HEARTBEAT", 3600.0)
    told(first)


@pytest.mark.slow
def test_many_commits_are_told_as_a_few_signs(
    opened: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits reads again at each. Of the last it is told, too."""
    monkeypatch.setattr(notices, "LEAST", 0.05)
    monkeypatch.setattr(notices, "MOST", 0.05)
    first, second = opened(), opened()
    seen: list[float] = []
    told = threading.Semaphore(0)

    def tell() -> None:
        seen.append(time.monotonic())
        told.release()

    def wait() -> bool:
        while not first.read([name_of(99)]):
            if not told.acquire(timeout=PATIENCE):
                return False
        return True

    first.join("first", tell)
    began = time.monotonic()
    signs = 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        for number in range(100):
            create_all(second, row(number))
            signs += first.changed_elsewhere()
        committed = time.monotonic()
        assert waiting.result(), "of the last it was told, too"
    assert 0 < signs <= 2 + (committed - began) / notices.LEAST
    assert len(seen) <= 2 + (time.monotonic() - began) / notices.LEAST


def test_a_commit_is_told_at_once_though_another_was_told_just_before(opened: Callable[..., PostgresStore]) -> None:
    """Somebody makes an operation and ends it, and makes the next one: whoever waits for the end hears of it then."""
    first, second = opened(), opened()
    heard = threading.Semaphore(0)
    first.join("first", heard.release)
    took = []
    for number in range(24):
        create_all(second, row(number))
        began = time.monotonic()
        assert heard.acquire(timeout=PATIENCE)
        took.append(time.monotonic() - began)
        time.sleep(0.01)
    assert sorted(took[12:])[3] < 0.02, took  # of a busy machine, no more is asked


def test_while_there_are_more_all_the_time_nobody_looks_at_each(opened: Callable[..., PostgresStore]) -> None:
    """Also of a process's own, which it hears too. After a pause, each counts again."""
    store = opened()
    numbers = itertools.count()

    def commit() -> float:
        create_all(store, row(next(numbers)))
        return store._notices._gap

    block_until(lambda: commit() == notices.MOST)
    time.sleep(3 * notices.MOST)
    commit()
    block_until(lambda: store._notices._gap == notices.LEAST)


@pytest.mark.asyncio
async def test_who_waits_is_told_without_a_poll(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Straight from the connection that listens: nobody looks at a flag a hundred times a second."""
    monkeypatch.setattr(store_module, "_TOLD_INTERVAL", 3600.0)
    monkeypatch.setattr(engine_module, "POLL_AGAIN", 3600.0)
    async with lro.Client(url) as first, lro.Client(url, worker=False) as second:
        await ends_there(first, second, times=3)


@pytest.mark.asyncio
async def test_who_cannot_listen_looks_for_himself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once when the connection breaks, and then by polls."""
    monkeypatch.setattr(notices, "PAUSE", 3600.0)
    monkeypatch.setattr(engine_module, "POLL_AGAIN", 3600.0)
    with Proxy(url) as proxy:
        async with lro.Client(url) as first, lro.Client(proxy.url) as deaf:
            proxy.reset()
            await until(lambda: not deaf.engine.batcher.store._notices._listening)
            await ends_there(first, deaf, times=2)


def test_whoever_is_told_is_told_that_the_connection_broke_and_that_it_is_back(
    opened: Callable[..., PostgresStore], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything may have been committed meanwhile."""
    monkeypatch.setattr(notices, "PAUSE", 0.05)
    with Proxy(url) as proxy:
        store = opened(proxy.url)
        heard = threading.Semaphore(0)
        store.join("me", heard.release)
        proxy.reset()
        assert heard.acquire(timeout=PATIENCE)
        assert heard.acquire(timeout=PATIENCE)
        assert store._notices._listening
        store.close()


def test_what_was_committed_while_nothing_could_be_heard_is_told_afterwards(
    opened: Callable[..., PostgresStore], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "PAUSE", 0.05)
    with Proxy(url) as proxy:
        deaf = opened(proxy.url)
        other = opened()
        proxy.reset()
        create_all(other, row())
        told(deaf)
        block_until(lambda: deaf._notices._listening)
        told(deaf)  # once more: what was missed in between
        create_all(other, row(2))
        told(deaf)
        deaf.close()


@pytest.mark.slow
def test_a_listener_whose_server_is_silent_does_not_trust_the_silence(
    opened: Callable[..., PostgresStore], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut cable sends no word of it: whoever waits here looks for himself until the server answers again."""
    monkeypatch.setattr(notices, "HEARTBEAT", 0.1)
    with Proxy(url) as proxy:
        deaf = opened(proxy.url)
        deaf._notices._timeout = 0.1
        proxy.open.clear()
        told(deaf)
        told(deaf)


def test_a_notice_is_short_and_names_no_operation(
    url: str, database: str, opened: Callable[..., PostgresStore]
) -> None:
    """Anybody who may connect to the database may listen."""
    store = opened()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"LISTEN {store._notice[0]}".encode())
        create_all(store, *(row(i) for i in range(50)))
        (notice,) = connection.notifies(timeout=PATIENCE, stop_after=1)
    assert notice.payload == store._notice[1]
    assert len(notice.payload) == 16


def test_behind_a_pooler_readers_poll_unless_there_is_a_way_past_it(
    opened: Callable[..., PostgresStore], url: str
) -> None:
    """LISTEN needs a session of its own."""
    pooled, direct, other = opened(pooled=True), opened(pooled=True, listen_dsn=url.partition("?")[0]), opened()
    assert pooled.foreign_poll_interval is None
    create_all(other, row())
    told(direct)
    assert pooled.changed_elsewhere() is False


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_wait_ends_when_another_process_ends_the_operation(url: str) -> None:
    """Through two clients, as two processes have them; nobody polls, but for once in a lease."""
    took = []
    async with lro.Client(url) as first, lro.Client(url) as second:
        for number in range(11):
            op = await first.create(lease=False)
            waiting = asyncio.create_task(second.wait_operation(op.name, PATIENCE))
            await until(lambda: second.engine.rows._feed._all)
            began = time.monotonic()
            await op.done(wrappers_pb2.Int64Value(value=number))
            await waiting
            took.append(time.monotonic() - began)
    print(f"told within {statistics.median(took) * 1000:.1f} ms (median of {len(took)})")
