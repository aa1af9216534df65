"""What the engine costs on Spanner, in calls: each number here is a promise of the documentation."""

import asyncio
import contextlib
from collections import Counter

import pytest
import pytest_asyncio
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.testing import FakeSpanner

from ..waiting import PATIENCE

both_variants = pytest.mark.parametrize("fake", ["proto", "bytes"], indirect=True)


@pytest.fixture
def fake(request):
    with FakeSpanner(variant=getattr(request, "param", "proto")) as started:
        yield started


@pytest_asyncio.fixture
async def open_client(fake, lro_clock):
    """``await open_client(**options)``: a client on the manual clock whose first sweep is over."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(url=fake.url, **options):
            options = {"clock": lro_clock, "drain_timeout": 0, **options}
            client = await stack.enter_async_context(lro.Client(url, **options))
            await lro_clock.settle()
            return client

        yield make


class Calls:
    """The calls that arrived since it was made, or since the last look at ``taken``."""

    def __init__(self, fake):
        self.fake = fake
        self.taken()

    def taken(self):
        found = Counter(self.fake.rpcs)
        found, self.before = found - getattr(self, "before", Counter()), found
        return found


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
@both_variants
async def test_a_create_alone_is_a_read_and_a_commit(fake, open_client):
    client = await open_client()
    calls = Calls(fake)
    op = await client.create(wrappers_pb2.StringValue(value="to do"))
    assert calls.taken() == {"Read": 1, "Commit": 1}
    assert op.name, "kept until here: the lease of one that nobody keeps is given back, which takes calls of its own"
    await client.create(lease=False, request_id="again")
    assert calls.taken() == {"Read": 1, "Commit": 1}


@pytest.mark.asyncio
@both_variants
async def test_a_start_is_one_transaction_claim_included(fake, open_client, lro_clock):
    client = await open_client()
    gate = asyncio.Event()

    @client.handler("work")
    async def work(op):
        await gate.wait()

    calls = Calls(fake)
    op = await client.start("work")
    await lro_clock.settle()
    assert calls.taken() == {"Read": 1, "Commit": 1}
    gate.set()
    await lro_clock.settle()
    assert calls.taken() == {"Read": 1, "Commit": 1}
    assert (await op.fetch()).done
    assert calls.taken() == {"Read": 1}


@pytest.mark.asyncio
async def test_a_change_that_is_refused_or_changes_nothing_commits_nothing(fake, open_client):
    client = await open_client()
    op = await client.create()
    await op.done()
    calls = Calls(fake)
    with pytest.raises(lro.OperationDoneError):
        await op.fail("late")
    assert calls.taken() == {"Read": 1}


@pytest.mark.slow
@pytest.mark.asyncio
@both_variants
async def test_a_thousand_gets_at_a_time_are_four_reads_at_most(fake, open_client):
    client = await open_client()
    made = await asyncio.gather(
        *(client.create(wrappers_pb2.Int64Value(value=i), lease=False, operation_id=f"op-{i}") for i in range(1000))
    )
    calls = Calls(fake)
    found = await asyncio.gather(*(client.get_operation(op.name) for op in made))
    counted = calls.taken()
    assert set(counted) == {"Read"}
    assert 1 <= counted["Read"] <= 4
    assert found == [op.proto for op in made]
    await asyncio.gather(*(client.get_operation(made[0].name) for _ in range(1000)))
    assert 1 <= calls.taken().total() <= 4


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("latency", [0.0, 0.005])
async def test_256_operations_at_a_time_cost_a_tenth_of_a_call_for_each_change(fake, latency):
    """Start, claim, end and the result that the starter waits for. In real time, with all that runs besides."""
    async with lro.Client(fake.url) as client:

        @client.handler("work")
        async def work(op):
            return wrappers_pb2.StringValue(value=op.name)

        async def whole():
            op = await client.start("work")
            return (await op.result(wrappers_pb2.StringValue)).value == op.name

        await until(lambda: any(call.tag == "lro-look" for call in fake.calls))  # the first sweep
        fake.latency = latency
        calls = Calls(fake)
        assert all(await asyncio.gather(*(whole() for _ in range(256))))
        counted = calls.taken()
    changes = 2 * 256
    assert counted.total() <= 0.1 * changes, counted
    assert len(fake.rows()) == 256


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_thousand_children_cost_who_waits_two_calls_a_round(fake, open_client, lro_clock):
    """A look at what has not ended, and a read of what has. Another process ends them: no notice tells of it."""
    client, other = await open_client(), await open_client(worker=False)
    parent = await client.create(lease=False)
    children = await asyncio.gather(*(other.create(lease=False) for _ in range(1000)))
    waiting = asyncio.create_task(parent.wait(children=children, poll_interval=3, timeout=None))
    await lro_clock.settle()
    calls = Calls(fake)
    for _ in range(5):
        await lro_clock.advance(3)
        assert calls.taken() == {"Read": 1}
    for first in (0, 500):
        await asyncio.gather(*(child.done() for child in children[first : first + 500]))
        calls.taken()
        await lro_clock.advance(3)
        assert calls.taken() == {"Read": 2}
    ended = await asyncio.wait_for(waiting, 5)
    assert [operation.name for operation in ended] == [child.name for child in children]
    assert all(operation.done for operation in ended)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_thousand_children_cost_who_is_suspended_on_them_one_call_a_round(fake, open_client, lro_clock):
    client, other = await open_client(), await open_client(worker=False)
    children = await asyncio.gather(*(other.create(lease=False) for _ in range(1000)))

    @client.handler("collect", resume_points=("collected",))
    async def collect(op):
        if op.resume_point == "":
            return op.suspend(resume_at="collected", children=children)
        return wrappers_pb2.Int64Value(value=sum(child.done for child in op.children))

    op = await client.start("collect")
    await lro_clock.settle()
    scheduler = client.scheduler
    calls = Calls(fake)
    for _ in range(3):
        scheduler._elsewhere()  # what its timer does every few real seconds
        await until(lambda: fake.rpcs["Read"] > calls.before["Read"])
        await lro_clock.settle()
        assert calls.taken() == {"Read": 1}
    await asyncio.gather(*(child.done() for child in children))
    scheduler._elsewhere()
    assert (await asyncio.wait_for(op.result(wrappers_pb2.Int64Value), 10)).value == 1000


@pytest.mark.asyncio
async def test_an_idle_client_scans_once_per_sweep_interval(fake):
    """In real time: 100 operations that sleep for an hour cost nothing but that scan."""
    interval = 0.15
    async with lro.Client(fake.url, sweep=lro.SweepPolicy(interval=interval)) as client:

        @client.handler("nap", resume_points=("on",))
        async def nap(op):
            return op.suspend(resume_at="on", sleep=3600) if op.resume_point == "" else None

        await asyncio.gather(*(client.start("nap") for _ in range(100)))
        await until(lambda: [row["Status"] for row in fake.rows()] == ["SUSPENDED"] * 100)
        loop, calls = asyncio.get_running_loop(), Calls(fake)

        async def scans(number):
            before = fake.rpcs["ExecuteSql"]
            await until(lambda: fake.rpcs["ExecuteSql"] - before >= number)
            return calls.taken()

        async with asyncio.timeout(PATIENCE):  # the pass that finds the new times, and the lanes that still answer
            while set(await scans(2)) != {"ExecuteSql"}:
                pass
        began = loop.time()
        counted, took = await scans(6), loop.time() - began
    assert set(counted) == {"ExecuteSql"}
    assert took >= (counted["ExecuteSql"] - 2) * interval, "the first and the last may be counted late"


@pytest.mark.asyncio
async def test_an_idle_front_end_calls_nobody(fake, open_client, lro_clock):
    client = await open_client(worker=False)
    await client.create(lease=False)
    calls = Calls(fake)
    await lro_clock.advance(3600)
    assert not calls.taken()


@pytest.mark.asyncio
@both_variants
async def test_calls_that_somebody_waits_for_come_first(fake, open_client, lro_clock):
    """Gets and changes are HIGH, sweeps and lists LOW; every one has a tag for Spanner's statistics."""
    client = await open_client()

    @client.handler("work", resume_points=("on",))
    async def work(op):
        return op.suspend(resume_at="on", sleep=5) if op.resume_point == "" else None

    before = len(fake.calls)
    op = await client.start("work")
    await client.get_operation(op.name)
    await client.list_operations("done = false")
    await client.list_operations("handler = work", parent="-")
    await client.cancel_operation((await client.create(lease=False)).name)
    await lro_clock.advance(10)
    await client.sweep()
    await client.delete_operation(op.name)
    arrived = {(call.tag, call.priority) for call in list(fake.calls)[before:] if call.rpc != "Rollback"}
    assert arrived == {("lro-apply", "HIGH"), ("lro-read", "HIGH"), ("lro-list", "LOW"), ("lro-look", "LOW")}
    assert all(len(tag) <= 50 for tag, _ in arrived)


@pytest.mark.asyncio
async def test_a_purge_is_as_low_as_the_sweep(fake, open_client, lro_clock):
    """Where the table has somebody else's policy, and expired rows are the sweep's to remove."""
    fake.execute_ddl(
        "ALTER TABLE Operations REPLACE ROW DELETION POLICY (OLDER_THAN(CreateTime, INTERVAL 365 DAY))",
    )
    client = await open_client(retention=lro.RetentionPolicy(10))
    op = await client.create(lease=False)
    await op.done()
    await lro_clock.advance(11)
    before = len(fake.calls)
    await client.sweep()
    assert not fake.rows()
    scans = [call for call in list(fake.calls)[before:] if call.rpc == "ExecuteSql"]
    assert {(call.tag, call.priority) for call in scans} == {("lro-look", "LOW"), ("lro-purge", "LOW")}
