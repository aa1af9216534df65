"""Lists, reads and the sweep have threads of their own, and what a list costs is bounded."""

import asyncio
import math

import pytest
import pytest_asyncio
from google.protobuf import struct_pb2

import lro_aio as lro
from lro_aio.engine.readers import Work

from ..waiting import PATIENCE, until

CALLERS = 60


@pytest_asyncio.fixture
async def client(store):
    """On the clock of the machine: one that is driven waits for the lists, too."""
    handlers = lro.Handlers()

    @handlers.handler("sleeper", resume_points=("awake",))
    async def sleeper(op):
        return op.suspend(resume_at="awake", sleep=0.05) if op.resume_point == "" else None

    async with lro.Client(store, handlers=[handlers], drain_timeout=0) as opened:
        yield opened


def note(text):
    made = struct_pb2.Struct()
    made.update({"text": text})
    return made


async def ended(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.asyncio
async def test_sixty_lists_that_take_their_time_do_not_keep_a_sleeper_from_waking_up(client, store):
    known = await client.create(lease=False)
    let_go = store.hold("list")
    lists = [asyncio.create_task(client.list_operations("metadata.text=x")) for _ in range(CALLERS)]
    await until(lambda: store.calls["list"])
    await (await client.start("sleeper")).result(timeout=PATIENCE)
    assert (await client.get_operation(known.name)).name == known.name
    assert not any(task.done() for task in lists)
    let_go()
    await asyncio.gather(*lists)


@pytest.mark.asyncio
async def test_a_list_that_nobody_waits_for_any_more_is_not_begun(client, store):
    let_go = store.hold("list")
    lists = [asyncio.create_task(client.list_operations("metadata.text=x")) for _ in range(CALLERS)]
    _, threads = Work.LIST.value
    await until(lambda: store.calls["list"] == threads)
    await ended(lists)
    let_go()
    await client.list_operations()
    assert store.calls["list"] == threads + 1 < 10


@pytest.mark.asyncio
async def test_a_look_that_takes_its_time_keeps_no_reader_waiting(client, store):
    known = await client.create(lease=False)
    before, let_go = store.calls["look"], store.hold("look")
    sweeps = [asyncio.create_task(client.sweep()) for _ in range(3)]
    await until(lambda: store.calls["look"] > before)
    assert (await client.get_operation(known.name)).name == known.name
    assert len((await client.list_operations()).operations) == 1
    let_go()
    await asyncio.gather(*sweeps)


@pytest.mark.asyncio
async def test_reads_that_take_their_time_keep_the_sweep_from_nothing(client, store, row):
    known = await client.create(lease=False)
    let_go = store.hold("read")
    reads = [asyncio.create_task(client.get_operation(known.name)) for _ in range(CALLERS)]
    await until(lambda: store.calls["read"])
    op = await client.start("sleeper")
    await until(lambda: row(op.name).done)
    let_go()
    await asyncio.gather(*reads)


class Counted(lro.SqliteStore):
    """Counts the rows that lists load."""

    rows = most_bytes = 0

    def list(self, query):
        found = super().list(query)
        self.rows += len(found)
        self.most_bytes = max(self.most_bytes, sum(row.size for row in found))
        return found


async def page_of(client, filter_, token=""):
    client.store.rows = 0
    page = await client.list_operations(filter_, page_token=token)
    return page, client.store.rows


@pytest.mark.asyncio
async def test_a_filter_of_many_conditions_scans_fewer_rows_a_page(open_client):
    client = await open_client(Counted("sqlite://"), limits=lro.Limits(scan_rows=100))
    for n in range(120):
        await client.create(metadata=note(str(n)), lease=False)
    page, rows = await page_of(client, 'metadata.text="none"')
    assert (rows, len(page.operations)) == (100, 0)
    assert page.next_page_token
    filter_ = " OR ".join(["metadata.text=no"] * 50)
    page, rows = await page_of(client, filter_)
    assert rows == math.floor(100 / 6)
    seen = rows
    while page.next_page_token:
        page, rows = await page_of(client, filter_, page.next_page_token)
        seen += rows
    assert seen == 120, "the tokens lead through all of them"


@pytest.mark.asyncio
async def test_a_list_of_large_rows_has_a_few_of_them_in_memory_at_a_time(open_client):
    client = await open_client(Counted("sqlite://"), limits=lro.Limits(scan_rows=2000))
    names = [(await client.create(metadata=note("x" * 60_000), lease=False)).name for _ in range(300)]
    _, rows = await page_of(client, 'metadata.text="none"')
    assert rows <= 2000 / 4 + 1
    assert client.store.most_bytes < 9 * 1024 * 1024
    found = [op.name async for op in client.iter_operations("metadata.text:*")]
    assert sorted(found) == sorted(names)


@pytest.mark.asyncio
async def test_the_less_a_filter_finds_the_fewer_times_it_goes_to_a_thread_and_back(client, store):
    for _ in range(300):
        await client.create(lease=False)
    before = store.calls["list"]
    await client.list_operations("metadata.text = none", page_size=10)
    assert store.calls["list"] - before == 4  # 40, 80, 160 and the rest
