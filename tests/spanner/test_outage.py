"""A Spanner that goes away and comes back: nothing spins, nothing is lost, stolen or doubled, nobody has to be told."""

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections import Counter

import grpc
import pytest
import pytest_asyncio
from google.cloud.spanner_v1 import types
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
from google.protobuf import struct_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.stores.spanner.transactions import FREE_ABORTS
from lro_aio.testing import FakeSpanner

from ..waiting import PATIENCE, until

pytestmark = pytest.mark.skipif(bool(os.environ.get("SPANNER_EMULATOR_HOST")), reason="outages of the fake")


@pytest.fixture
def fake():
    with FakeSpanner() as started:
        yield started


@pytest_asyncio.fixture
async def open_client(fake, lro_clock):
    """Clients on the manual clock that give a call up after a second: a live server answers sooner, also if busy."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(**options):
            options = {"clock": lro_clock, "drain_timeout": 0, **options}
            return await stack.enter_async_context(lro.Client(f"{fake.url}&timeout=1", **options))

        yield make


async def again(call):
    """What a caller does in an outage: the same again until it is answered."""
    while True:
        try:
            return await call()
        except lro.StoreUnavailableError:
            await asyncio.sleep(0.1)


def text(value):
    return wrappers_pb2.StringValue(value=value)


def threads():
    """The client's own: those that read, which come as they are needed, and the others."""
    names = (thread.name for thread in threading.enumerate())
    return Counter("reads" if "reader" in name else "lro" for name in names if name.startswith("lro-aio"))


# Leases, on the manual clock


@pytest.mark.slow
@pytest.mark.asyncio
async def test_nothing_is_stolen_or_doubled_after_an_outage_longer_than_a_lease(fake, open_client, lro_clock):
    """Rule 4: everybody gets the length of a lease to renew before anybody claims."""
    gate, runs = asyncio.Event(), []
    handlers = lro.Handlers()

    @handlers.handler("work")
    async def work(op):
        runs.append(op.name)
        await gate.wait()
        return text("done")

    first, second = await open_client(handlers=[handlers]), await open_client(handlers=[handlers])
    made = [await first.start("work") for _ in range(20)]
    driven = await first.create()
    await lro_clock.settle()
    before = {row["key"]: (row["Claim"], row["Owner"]) for row in fake.rows()}
    fake.stop()
    for _ in range(4):
        await lro_clock.advance(10)
        with pytest.raises(lro.StoreUnavailableError):
            await second.sweep()
    await fake.start()
    assert len(runs) == 20
    for _ in range(3):
        await again(second.sweep)  # the leases have been over for ten seconds, and nobody has renewed them
    assert {row["key"]: (row["Claim"], row["Owner"]) for row in fake.rows()} == before
    for _ in range(6):
        await lro_clock.advance(10)
        await second.sweep()
    assert {row["key"]: (row["Claim"], row["Owner"]) for row in fake.rows()} == before
    gate.set()
    await driven.done(text("driven"))
    for op in made:
        assert (await asyncio.wait_for(op.result(wrappers_pb2.StringValue), 10)).value == "done"
    assert sorted(runs) == sorted(op.name for op in made)
    assert (await driven.result(wrappers_pb2.StringValue)).value == "driven"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_died_in_an_outage_is_taken_over_once_the_living_had_time_to_renew(fake, open_client, lro_clock):
    """The other half of rule 4: they are not waited for for ever."""
    runs = []
    handlers = lro.Handlers()

    @handlers.handler("work")
    async def work(op):
        runs.append(op.name)
        if len(runs) == 1:
            await asyncio.Event().wait()
        return text("done")

    first, second = await open_client(handlers=[handlers]), await open_client(handlers=[handlers])
    op = await first.start("work")
    await lro_clock.settle()
    fake.stop()
    first.engine.leases.close()  # it dies: no renewals any more
    await lro_clock.advance(40)
    with pytest.raises(lro.StoreUnavailableError):
        await second.sweep()
    await fake.start()
    await again(second.sweep)
    await lro_clock.advance(14)
    await second.sweep()
    assert len(runs) == 1
    await lro_clock.advance(2)
    await second.sweep()
    await lro_clock.settle()
    assert len(runs) == 2
    visitor = await second.operation(op.name)
    assert (await asyncio.wait_for(visitor.result(wrappers_pb2.StringValue), 10)).value == "done"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_ends_in_an_outage_is_committed_after_it(fake, open_client, lro_clock):
    gate, runs = asyncio.Event(), []
    client = await open_client()

    @client.handler("work")
    async def work(op):
        runs.append(op.name)
        await gate.wait()
        return text("done")

    made = [await client.start(work) for _ in range(3)]
    await lro_clock.settle()
    fake.stop()
    gate.set()
    await lro_clock.advance(1)
    assert client.engine.leases.held == 3
    await fake.start()
    await lro_clock.advance(6)
    assert [row["Status"] for row in fake.rows()] == ["SUCCEEDED"] * 3
    assert sorted(runs) == sorted(op.name for op in made)
    assert client.engine.leases.held == 0


# In real time


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("down", "timeout", "each"),
    [
        pytest.param(1.0, 0.3, 10, id="a second"),
        pytest.param(10.0, 2.0, 60, id="ten seconds", marks=[pytest.mark.slow, pytest.mark.timeout(120)]),
    ],
)
async def test_an_outage_under_load_costs_no_cpu_and_no_thread_and_everything_ends_once(fake, down, timeout, each):
    """Operations that start, run, wait, sleep and end in it; callers that ask again and again."""
    runs, gate = Counter(), asyncio.Event()
    retry = lro.RetryPolicy(on=(lro.StoreUnavailableError,), max_attempts=1000, initial_delay=0.1, max_delay=1)
    handlers = lro.Handlers()

    @handlers.handler("runs")
    async def runs_through(op):
        runs[op.name] += 1
        await gate.wait()
        return text(op.name)

    @handlers.handler("writes", retry=retry)
    async def writes(op):
        while not gate.is_set():
            await op.set_metadata(text("still here"))
            await asyncio.sleep(0.02)
        runs[op.name] += 1
        return text(op.name)

    @handlers.handler("sleeps", resume_points=("on",))
    async def sleeps(op):
        if op.resume_point == "":
            return op.suspend(resume_at="on", sleep=0.5 + 0.8 * down)
        runs[op.name] += 1
        return text(op.name)

    async with lro.Client(f"{fake.url}&timeout={timeout}", handlers=[handlers]) as client:
        kinds = ("runs", "writes", "sleeps")
        made = [await client.start(kind) for kind in kinds for _ in range(each)]
        late = [asyncio.create_task(start_late(client, i)) for i in range(each)]
        results = [asyncio.create_task(again(op.result)) for op in made]
        await asyncio.sleep(0.2)

        lanes = threads()["lro"]
        fake.stop()
        gc.disable()  # a full collection walks through the objects of the whole session
        try:
            cpu, began = time.process_time(), time.monotonic()
            await asyncio.sleep(0.5 * down)
            gate.set()  # half of them end while nobody can write it down
            await asyncio.sleep(0.5 * down)
            used, took = time.process_time() - cpu, time.monotonic() - began
        finally:
            gc.enable()
        assert threads()["lro"] == lanes
        assert threads()["reads"] <= 4
        await fake.start()
        back = time.monotonic()

        async with asyncio.timeout(40):
            ended = await asyncio.gather(*results)
            made += await asyncio.gather(*late)
            ended += await asyncio.gather(*(again(op.result) for op in made[len(ended) :]))
        took_back = time.monotonic() - back
        # A waiter may hear of an end a moment before the run that committed it does.
        await until(lambda: client.engine.leases.held == 0)
    assert used < 0.2 * took, f"{used:.2f} s of CPU in {took:.2f} s"
    values = []
    for answer in ended:
        assert isinstance(answer, wrappers_pb2.StringValue)
        values.append(answer.value)
    assert values == [op.name for op in made]
    assert runs == Counter(values), "each ended once, in one run"
    assert Counter(row["Status"] for row in fake.rows()) == {"SUCCEEDED": 4 * each}
    assert took_back < 30
    assert not threads()


async def start_late(client, number):
    """Starts in the outage; the request id makes repeats the same operation."""
    await asyncio.sleep(0.3)
    return await again(lambda: client.start("runs", request_id=f"late-{number}"))


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("known", [True, False], ids=["after a failed call", "at once"])
async def test_a_client_closes_promptly_in_an_outage(fake, known):
    """Its leases go by themselves; nobody waits for the timeout of a call, which is 24 seconds here."""
    client = lro.Client(f"{fake.url}&timeout=24", drain_timeout=0)

    @client.handler("work")
    async def work(op):
        await asyncio.Event().wait()

    async with asyncio.timeout(120):
        await client.__aenter__()
        for _ in range(5):
            await client.start(work)
        await client.create()
        fake.stop()
        if known:
            with pytest.raises(lro.StoreUnavailableError):
                await client.get_operation("operations/none")
        began = time.monotonic()
        await client.aclose()
        took = time.monotonic() - began
    assert took < 16, "two seconds for the handlers' ends, two for the leases, and some for a busy machine"
    assert not threads()


# One row that is in everybody's way


class Rival:
    """Another program that has read a row in a transaction, and neither commits nor lets go."""

    def __init__(self, fake):
        self.fake = fake
        self.channel = grpc.insecure_channel(fake.host)
        self.client = SpannerClient(transport=SpannerGrpcTransport(channel=self.channel))
        request = types.CreateSessionRequest(database=fake.database_path)
        self.session = self.client.create_session(request=request, retry=None, timeout=5).name

    def hold(self, name):
        request = types.ReadRequest(session=self.session, table="Operations", columns=["key"])
        pb = types.ReadRequest.pb(request)
        pb.key_set.keys.append(struct_pb2.ListValue(values=[struct_pb2.Value(string_value=name)]))
        pb.transaction.begin.read_write.SetInParent()
        self.client.read(request=request, retry=None, timeout=5)

    def close(self):
        self.channel.close()


@pytest.mark.asyncio
async def test_a_transaction_that_is_given_up_leaves_no_lock(fake):
    """The next one is another writer's: it would wait for the ten seconds after which Spanner forgets the first."""
    async with (
        lro.Client(f"{fake.url}&timeout=1.5", drain_timeout=0) as first,
        lro.Client(f"{fake.url}&timeout=3", drain_timeout=0) as second,
    ):
        op = await first.create(lease=False)
        fake.fail("Commit", grpc.StatusCode.ABORTED, times=FREE_ABORTS)  # from then on it locks
        fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, times=1000)
        with pytest.raises(lro.StoreUnavailableError):
            await op.set_metadata(text("lost"))
        fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, times=0)
        await (await second.operation(op.name)).set_metadata(text("kept"))
        found = wrappers_pb2.StringValue()
        assert (await op.fetch()).metadata.Unpack(found)
        assert found.value == "kept"


async def renewed(fake, made, *, until):
    """Wait until the leases of all have been renewed so far that they end later. A busy machine may be late with it."""
    fake.idle_limit = 60.0  # nobody takes the row from who holds it meanwhile
    names = {op.name for op in made}
    async with asyncio.timeout(PATIENCE):
        while min(row["LeaseExpireTime"] for row in fake.rows() if row["key"] in names) / 1e9 < until:
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_a_row_that_somebody_holds_costs_no_other_rows_lease(fake):
    """Its own changes wait, and those of its lane; renewals and claims go by a lane of their own."""
    lease = lro.LeasePolicy(1.5)
    async with lro.Client(f"{fake.url}&timeout=0.4", lease=lease, drain_timeout=0) as client:
        # A busy machine may need longer than the timeout.
        made = await asyncio.gather(*(again(lambda index=index: client.create(lease=index > 0)) for index in range(30)))
        hot, others = made[0], made[1:]
        rival = Rival(fake)
        rival.hold(hot.name)
        writing = asyncio.create_task(again(lambda: hot.set_metadata(text("hot"))))
        await renewed(fake, others, until=time.time() + 2 * 1.5)
        assert not writing.done()
        rival.close()
        fake.lose_sessions()  # its transaction ends
        await asyncio.wait_for(writing, PATIENCE)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_leased_row_that_somebody_holds_costs_no_other_rows_lease(fake):
    """The renewal of the held row is one of the batch, and must not take the others down with it."""
    lease = lro.LeasePolicy(3)
    async with lro.Client(f"{fake.url}&timeout=0.9", lease=lease, drain_timeout=0) as client:
        made = await asyncio.gather(*(client.create() for _ in range(30)))
        hot, others = made[0], made[1:]
        rival = Rival(fake)
        rival.hold(hot.name)
        await renewed(fake, others, until=time.time() + 2 * 3)
        rival.close()
        fake.lose_sessions()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_leased_row_that_somebody_writes_all_the_time_costs_no_other_rows_lease(fake):
    """Every transaction with that row in it is aborted; the batch is split until it is alone."""
    lease, stop = lro.LeasePolicy(3), threading.Event()
    async with lro.Client(f"{fake.url}&timeout=0.9", lease=lease, drain_timeout=0) as client:
        made = await asyncio.gather(*(client.create() for _ in range(30)))
        fake.latency = 0.005
        hot, others = made[0], made[1:]

        def write():
            while not stop.wait(0.003):
                fake.write("Operations", "update", ["key", "Retries"], [[hot.name, 0]])

        writing = asyncio.create_task(asyncio.to_thread(write))
        try:
            await renewed(fake, others, until=time.time() + 2 * 3)
        finally:
            stop.set()
            await writing
