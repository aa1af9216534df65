"""Opening, draining, closing, and use at the wrong time or place."""

import asyncio
import math
import os
import threading

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.engine import worker
from lro_aio.testing import FaultyStore, ManualClock

from ..waiting import PATIENCE, all_blocked, reached, until


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch):
    monkeypatch.setattr(worker, "STOP_GRACE", 0.3)


@pytest.fixture
def forever():
    handlers = lro.Handlers()
    handlers.log = []

    @handlers.handler("forever", resume_points=("on",))
    async def run(op):
        handlers.log.append((op.attempt, op.claim))
        try:
            await asyncio.Event().wait()
        finally:
            handlers.log.append(op.cancel_reason)

    return handlers


CALLS = {
    "start": lambda c: c.start("x"),
    "create": lambda c: c.create(),
    "get": lambda c: c.get_operation("operations/a"),
    "list": lambda c: c.list_operations(),
    "wait": lambda c: c.wait_operation("operations/a"),
    "cancel": lambda c: c.cancel_operation("operations/a"),
    "delete": lambda c: c.delete_operation("operations/a"),
    "operation": lambda c: c.operation("operations/a"),
    "watch": lambda c: anext(c.watch("operations/a")),
    "resume": lambda c: c.resume("operations/a", "t"),
    "sweep": lambda c: c.sweep(),
    "drain": lambda c: c.drain(),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@calls
@pytest.mark.asyncio
async def test_use_before_and_after_async_with_gets_a_sentence_that_says_what_to_do(call):
    client = lro.Client("sqlite://")
    client.handler("x")(_nothing)
    with pytest.raises(RuntimeError, match="use it inside 'async with client:'"):
        await call(client)
    async with client:
        pass
    with pytest.raises(RuntimeError, match="'async with' block has ended"):
        await call(client)


async def _nothing(op):
    return None


@calls
@pytest.mark.asyncio
async def test_use_from_another_event_loop_is_refused_and_breaks_nothing(client, call):
    client.handler("x")(_nothing)

    async def elsewhere():
        with pytest.raises(RuntimeError, match="one client per loop"):
            await call(client)
        with pytest.raises(RuntimeError, match="one client per loop"):
            await client.aclose()

    await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    op = await client.start("x")
    await asyncio.wait_for(op.result(), 5)


@pytest.mark.asyncio
async def test_a_client_is_open_once_at_a_time_and_closed_as_often_as_you_like():
    client = lro.Client("sqlite://")
    await client.aclose()
    async with client:
        with pytest.raises(RuntimeError, match="open already"):
            await client.__aenter__()
        await client.create()
    await client.aclose()
    await client.aclose()


def test_a_client_can_be_opened_again_in_another_event_loop_too(tmp_path):
    """As two ``TestClient`` blocks of one application do. Each life is an owner of its own, and runs what it finds."""
    client = lro.Client(f"sqlite:///{tmp_path}/ops.db", drain_timeout=0)
    owners, ran = [], []

    @client.handler("nap", resume_points=("up",))
    async def nap(op):
        if op.resume_point == "":
            return op.suspend(resume_at="up", sleep=0.1)
        ran.append(op.record.owner)
        return None

    async def life():
        async with client:
            op = await client.start("nap", operation_id="one" if not owners else None)
            owners.append(client.engine.settings.owner)
            await op.result(timeout=10)
            assert (await client.get_operation("operations/one")).done

    for _ in range(3):
        asyncio.run(life())
    assert ran == owners
    assert len(set(owners)) == 3


def test_clients_that_were_constructed_before_a_fork_are_owners_of_their_own(tmp_path):
    """As the workers of a pre-forking server: one request is one run, whichever of them it comes to."""
    client = lro.Client(f"sqlite:///{tmp_path}/ops.db", drain_timeout=0)
    runs = tmp_path / "runs"

    @client.handler("charge")
    async def charge(op):
        with runs.open("a") as log:
            log.write(f"{op.claim}\n")
        await asyncio.sleep(0.5)  # real time: the other processes ask meanwhile

    async def worker():
        async with client:
            await (await client.start("charge", request_id="order-7")).result(timeout=20)

    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                asyncio.run(worker())
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert runs.read_text() == "1\n"


@pytest.mark.asyncio
async def test_a_client_that_was_opened_before_a_fork_refuses_in_the_child(tmp_path):
    client = lro.Client(f"sqlite:///{tmp_path}/ops.db", drain_timeout=0)
    async with client:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            said = "nothing"
            try:
                asyncio.run(client.create())
            except RuntimeError as exc:
                said = str(exc)
            finally:
                os.write(write, said.encode())
                os._exit(0)
        os.waitpid(pid, 0)
        assert "before this process was forked" in os.read(read, 1000).decode()
        os.close(read)
        os.close(write)


@pytest.mark.asyncio
async def test_a_client_that_could_not_be_opened_can_be_opened_later():
    store = FaultyStore(lro.SqliteStore("sqlite://"))
    client = lro.Client(store)
    store.fail("open")
    with pytest.raises(lro.StoreUnavailableError):
        await client.__aenter__()
    async with client:
        await client.create()


@pytest.mark.asyncio
async def test_a_scheduler_that_does_not_open_leaves_nothing_open():
    class Broken(lro.LocalScheduler):
        async def open(self, host):
            raise lro.SchedulerUnavailableError("no credentials")

    before = set(threading.enumerate())
    with pytest.raises(lro.SchedulerUnavailableError):
        await lro.Client("sqlite://", scheduler=Broken()).__aenter__()
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("lro-aio")]


@pytest.mark.asyncio
async def test_closing_leaves_no_thread_and_no_task(tmp_path, forever):
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with lro.Client(f"sqlite:///{tmp_path}/ops.db", handlers=[forever], drain_timeout=0) as client:
        await client.start("forever")
        await client.create()
        await until(lambda: forever.log)
    assert [t for t in set(threading.enumerate()) - threads if t.name.startswith("lro-aio")] == []
    assert asyncio.all_tasks() <= tasks


@pytest.mark.asyncio
async def test_a_close_gives_the_lease_back_so_that_another_process_goes_on_at_once(open_client, tmp_path, forever):
    url = f"sqlite:///{tmp_path}/ops.db"
    client = await open_client(url, handlers=[forever], max_attempts=3)
    op = await client.start("forever")
    for claim in range(1, 11):
        await until(lambda claim=claim: (1, claim) in forever.log)
        await client.aclose()
        client = await open_client(url, handlers=[forever], max_attempts=3)
    await until(lambda: (1, 11) in forever.log)
    assert forever.log.count(lro.CancelReason.SHUTDOWN) == 10
    assert not (await client.get_operation(op.name)).done


@pytest.mark.asyncio
async def test_a_drain_lets_runs_end_and_takes_no_more(client, lro_clock, row):
    gate = asyncio.Event()

    @client.handler("work")
    async def work(op):
        await gate.wait()
        return wrappers_pb2.Int64Value(value=1)

    op = await client.start("work")
    await lro_clock.settle()
    draining = asyncio.create_task(client.drain(5))
    await all_blocked()
    late = await client.start("work")
    gate.set()
    await asyncio.wait_for(draining, 5)
    assert (await client.get_operation(op.name)).HasField("response")
    assert row(late.name).state is State.PENDING
    await client.sweep()
    assert row(late.name).state is State.PENDING


@pytest.mark.asyncio
async def test_on_drain_whoever_waits_gets_the_latest_state_early(client, forever, lro_clock):
    client.handlers.include(forever)
    op = await client.start("forever")
    await lro_clock.settle()
    waiting = asyncio.create_task(client.wait_operation(op.name))
    result = asyncio.create_task(op.result())
    await lro_clock.settle()
    draining = asyncio.create_task(client.drain(60))
    assert not (await asyncio.wait_for(waiting, PATIENCE)).done
    with pytest.raises(lro.WorkerUnavailableError):
        await asyncio.wait_for(result, PATIENCE)
    assert not draining.done()
    draining.cancel()
    await asyncio.wait([draining])


@pytest.mark.asyncio
@pytest.mark.parametrize("together", [False, True])
async def test_a_drain_does_not_fail_a_handler_that_waits_for_another_operation(
    client, forever, lro_clock, row, together
):
    client.handlers.include(forever)

    @client.handler("asks")
    async def asks(op):
        other = await client.start("forever", operation_id="other")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2 if together else 1):
                tasks.create_task(other.result())

    op = await client.start("asks")
    await lro_clock.settle()
    await asyncio.wait_for(client.drain(0.5), 20)
    left = row(op.name)
    assert (left.state, left.owner, left.attempt, left.retries) == (State.PENDING, "", 0, 0)


@pytest.mark.asyncio
async def test_a_drain_ends_a_visitors_wait_for_children(client, forever, lro_clock):
    client.handlers.include(forever)
    child, visited = await client.start("forever"), await client.create()
    visitor = await client.operation(visited.name)
    waiting = asyncio.create_task(visitor.wait(children=[child.name]))
    await lro_clock.settle()
    draining = asyncio.create_task(client.drain(60))
    with pytest.raises(lro.WorkerUnavailableError):
        await asyncio.wait_for(waiting, 20)
    draining.cancel()
    await asyncio.wait([draining])


@pytest.mark.asyncio
async def test_a_wait_that_begins_during_a_drain_is_held_and_hears_of_the_end(client, lro_clock):
    op = await client.create()
    await client.drain(0)
    waits = [asyncio.create_task(client.wait_operation(op.name)) for _ in range(3)]
    watch = client.watch(op.name)
    assert not (await anext(watch)).done
    later = asyncio.create_task(anext(watch))
    await all_blocked()
    assert not any(task.done() for task in (*waits, later)), "nobody is sent away at once, to ask again"
    await op.done()
    assert all(answer.done for answer in await asyncio.gather(*waits, later))


@pytest.mark.asyncio
async def test_a_wait_that_begins_during_a_drain_is_not_held_for_long(client, lro_clock):
    """In real time: the clock of the test stands still."""
    op = await client.create(lease=False)
    await client.drain(0)
    assert not (await asyncio.wait_for(client.wait_operation(op.name), 20)).done
    assert [operation.done async for operation in client.watch(op.name)] == [False]


@pytest.mark.asyncio
async def test_a_close_does_not_give_handlers_the_time_of_a_drain_again(tmp_path, forever):
    client = lro.Client(f"sqlite:///{tmp_path}/ops.db", handlers=[forever], drain_timeout=3600)
    async with client:
        op = await client.start("forever")
        await reached(client, op.name, "RUNNING")
        long = asyncio.create_task(client.drain(3600))
        await all_blocked()
        await client.drain(0)
        await asyncio.wait_for(client.aclose(), 20)
        await asyncio.wait_for(long, 20)


@pytest.mark.asyncio
async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_the_close(
    client, store, lro_clock, row, caplog
):
    stop = asyncio.Event()

    @client.handler("deaf")
    async def deaf(op):
        while not stop.is_set():
            try:
                await stop.wait()
            except asyncio.CancelledError:
                continue

    op = await client.start("deaf")
    await lro_clock.settle()
    await asyncio.wait_for(client.drain(0), 5)
    left = row(op.name)
    assert (left.state, left.owner, left.attempt) == (State.PENDING, "", 0)
    assert "ignore their cancellation" in caplog.text
    stop.set()
    await client.engine.batcher.settle()
    assert row(op.name).state is State.PENDING, "what it does afterwards is not written"


@pytest.mark.asyncio
async def test_a_claim_that_is_under_way_when_the_client_closes_is_given_back(tmp_path, forever, lro_clock):
    path = tmp_path / "ops.db"
    async with lro.Client(lro.SqliteStore(path), worker=False, clock=lro_clock) as front:
        op = await front.start("forever")
    store = FaultyStore(lro.SqliteStore(path))
    let_go = store.hold("apply")
    client = lro.Client(store, handlers=[forever], clock=lro_clock, drain_timeout=0)
    await client.__aenter__()
    await until(lambda: store.calls["apply"])  # the sweep claims
    closing = asyncio.create_task(client.aclose())
    await all_blocked()
    let_go()
    await asyncio.wait_for(closing, 5)
    left = lro.SqliteStore(path)
    left.open()
    (row,) = left.read([op.name])
    left.close()
    assert (row.state, row.owner, row.attempt) == (State.PENDING, "", 0)


@pytest.mark.asyncio
async def test_a_start_that_is_under_way_when_the_client_closes_is_given_back(store, forever, lro_clock, tmp_path):
    path = tmp_path / "ops.db"
    store = FaultyStore(lro.SqliteStore(path))
    client = lro.Client(store, handlers=[forever], clock=lro_clock, drain_timeout=0)
    await client.__aenter__()
    let_go = store.hold("apply")
    starting = asyncio.create_task(client.start("forever"))
    await until(lambda: store.calls["apply"])
    closing = asyncio.create_task(client.aclose())
    await all_blocked()
    let_go()
    await asyncio.wait_for(closing, 5)
    op = await starting
    left = lro.SqliteStore(path)
    left.open()
    (row,) = left.read([op.name])
    left.close()
    assert (row.state, row.owner, row.attempt) == (State.PENDING, "", 0)


@pytest.mark.asyncio
async def test_a_close_that_is_cancelled_still_gives_the_leases_back(tmp_path, lro_clock):
    path = tmp_path / "ops.db"
    client = lro.Client(lro.SqliteStore(path), clock=lro_clock, drain_timeout=60)

    @client.handler("forever")
    async def forever(op):
        await asyncio.Event().wait()

    await client.__aenter__()
    op = await client.start("forever")
    await lro_clock.settle()
    closing = asyncio.create_task(client.aclose())
    await lro_clock.settle()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(closing, 5)
    left = lro.SqliteStore(path)
    left.open()
    (row,) = left.read([op.name])
    left.close()
    assert (row.state, row.owner) == (State.PENDING, "")


@pytest.mark.parametrize("moment", ["the handlers", "the sweep"])
@pytest.mark.asyncio
async def test_a_close_that_is_cancelled_leaves_no_thread_and_no_task(tmp_path, forever, moment):
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    client = lro.Client(f"sqlite:///{tmp_path}/ops.db", handlers=[forever], drain_timeout=60)
    await client.__aenter__()
    await client.start("forever")
    await until(lambda: forever.log)
    closing = asyncio.create_task(client.aclose())
    if moment == "the handlers":
        await client.engine.batcher.settle()
    else:
        await asyncio.sleep(0)  # one turn, which begins the close
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(closing, 5)
    assert forever.log[-1] is lro.CancelReason.SHUTDOWN
    assert [t for t in set(threading.enumerate()) - threads if t.name.startswith("lro-aio")] == []
    assert asyncio.all_tasks() <= tasks


@pytest.mark.asyncio
async def test_an_open_that_is_cancelled_leaves_no_thread_and_closes_the_store(store):
    threads, closed = set(threading.enumerate()), []
    close = store.inner.close
    store.inner.close = lambda: (closed.append(True), close())
    let_go = store.hold("open")
    opening = asyncio.create_task(lro.Client(store).__aenter__())
    await until(lambda: store.calls["open"])
    opening.cancel()
    await all_blocked()
    let_go()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(opening, 5)
    assert closed
    assert [t for t in set(threading.enumerate()) - threads if t.name.startswith("lro-aio")] == []


@pytest.mark.asyncio
async def test_closing_during_an_outage_ends(tmp_path, forever):
    store = FaultyStore(lro.SqliteStore(tmp_path / "ops.db"))
    client = lro.Client(store, handlers=[forever], clock=ManualClock(), drain_timeout=0)
    await client.__aenter__()
    await client.start("forever")
    await until(lambda: forever.log)
    for method in ("read", "apply", "look", "list", "purge"):
        store.fail(method, times=math.inf)
    await asyncio.wait_for(client.aclose(), 5)


@pytest.mark.parametrize("drain_timeout", [0, 5], ids=["ended before the drain", "ends in the drain"])
@pytest.mark.asyncio
async def test_what_a_handler_has_done_is_stored_by_a_drain_whose_store_answers_again(
    store, lro_clock, row, drain_timeout, monkeypatch
):
    """It had been left to its lease at the first answer that did not come: another process did it again."""
    monkeypatch.setattr(worker, "STOP_GRACE", PATIENCE)
    client = lro.Client(store, clock=lro_clock, drain_timeout=drain_timeout)
    gate = asyncio.Event()

    @client.handler("work")
    async def work(op):
        await gate.wait()
        return wrappers_pb2.Int64Value(value=1)

    async with client:
        op = await client.start("work")
        await until(lambda: client.engine.worker.running)
        store.fail("apply", times=math.inf)
        if drain_timeout:
            draining = asyncio.create_task(client.drain())
            await all_blocked()
        gate.set()
        await until(lambda: store.calls["apply"] >= 2)
        if not drain_timeout:  # its next try is due in engine time, which stands still
            draining = asyncio.create_task(client.drain())
        await until(lambda: store.calls["apply"] >= 4)
        store.fail("apply", times=0)
        await asyncio.wait_for(draining, PATIENCE)
        assert row(op.name).state is State.SUCCEEDED


@pytest.mark.asyncio
async def test_what_no_drain_could_store_is_left_to_its_lease_and_not_given_back(store, lro_clock, row, caplog):
    """Its handler has done everything. A process that goes on at once would do it again, maybe beside the commit."""
    client = lro.Client(store, clock=lro_clock, drain_timeout=0)

    @client.handler("work")
    async def work(op):
        store.fail("apply", times=math.inf)

    async with client:
        op = await client.start("work")
        await until(lambda: store.calls["apply"] >= 2)
        await asyncio.wait_for(client.drain(), PATIENCE)
        store.fail("apply", times=0)
        await client.engine.batcher.settle()
        await until(lambda: not client.engine.worker.running)
        assert (row(op.name).state, row(op.name).owner) == (State.RUNNING, client.engine.settings.owner)
    assert "is left to its lease" in caplog.text
    assert "ignore their cancellation" not in caplog.text


class SilentStore(FaultyStore):
    """Its looks end when it is closed."""

    def __init__(self, inner):
        super().__init__(inner)
        self.asked, self.closed = threading.Event(), threading.Event()

    def look(self, **options):
        self.asked.set()
        assert self.closed.wait(PATIENCE)
        raise lro.StoreUnavailableError("closed")

    def close(self):
        self.closed.set()
        super().close()


@pytest.mark.asyncio
async def test_a_close_gives_a_look_that_is_not_answered_a_moment_too(tmp_path):
    store = SilentStore(lro.SqliteStore(tmp_path / "ops.db"))
    client = lro.Client(store, clock=ManualClock(), drain_timeout=0)
    await client.__aenter__()
    await until(store.asked.is_set)
    await asyncio.wait_for(client.aclose(), PATIENCE / 2)
    assert store.closed.is_set()


@pytest.mark.asyncio
async def test_a_creators_operation_is_ended_by_another_process_after_the_close(open_client, tmp_path, lro_clock):
    url = f"sqlite:///{tmp_path}/ops.db"
    first, second = await open_client(url), await open_client(url)
    op = await first.create()
    await first.aclose()
    await lro_clock.advance(1)
    ended = await asyncio.wait_for(second.wait_operation(op.name), 5)
    assert ended.error.code == lro.Code.ABORTED


@pytest.mark.asyncio
async def test_the_end_of_the_event_loop_without_a_close_gives_the_runs_back(tmp_path, forever):
    """``asyncio.run`` cancels every task. That is no cancel, but costs the attempt: nobody said it is a shutdown."""
    path = tmp_path / "ops.db"

    async def main():
        client = await lro.Client(lro.SqliteStore(path), handlers=[forever], drain_timeout=0).__aenter__()
        op = await client.start("forever")
        await until(lambda: forever.log)
        tasks = [run.task for run in client.engine.worker.running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await client.aclose()
        return op.name

    name = await asyncio.to_thread(lambda: asyncio.run(main()))
    store = lro.SqliteStore(path)
    store.open()
    (row,) = store.read([name])
    store.close()
    assert (row.state, row.attempt, row.owner) == (State.PENDING, 1, "")
