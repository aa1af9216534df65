"""The metrics of operations: what they count, and that no operation's name is in them."""

import asyncio

import pytest

import lro_aio as lro
from lro_aio import moments

from ..waiting import PATIENCE, until


@pytest.fixture
def lro_handlers():
    handlers = lro.Handlers()

    @handlers.handler("nap", resume_points=("awake",))
    async def nap(op):
        return op.suspend(resume_at="awake", sleep=3600) if not op.resume_point else None

    @handlers.handler("fail")
    async def fail(op):
        raise lro.OperationNotFoundError("operations/secret")

    return handlers


def told(points):
    """The value of each point, and the attributes by which it is told from others."""
    values = [
        getattr(point, "value", None) if hasattr(point, "value") else (point.count, point.sum) for point in points
    ]
    return {tuple(sorted(point.attributes.items())): value for point, value in zip(points, values)}


@pytest.mark.asyncio
async def test_operations_and_runs_are_counted_and_timed(lro_client, lro_clock, lro_telemetry):
    nap, fail = ("lro.handler", "nap"), ("lro.handler", "fail")
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("nap")
        await lro_client.until(await lro_client.start("fail"))
        await lro_client.until(op, "SUSPENDED")
        await lro_clock.advance(3600)
        await lro_client.until(op)
        await until(lambda: not lro_client.engine.worker.running)
    # First: older SDKs give a gauge to one reading alone, and each of these is one.
    assert [point.value for point in lro_telemetry.points("lro.due.age")] == [0.0]
    assert told(lro_telemetry.points("lro.operation.started")) == {(nap,): 1, (fail,): 1}
    assert told(lro_telemetry.points("lro.operation.duration")) == {
        (nap, ("lro.outcome", "SUCCEEDED")): (1, 3600.0),
        (("error.type", "NOT_FOUND"), fail, ("lro.outcome", "FAILED")): (1, 0.0),
    }
    assert told(lro_telemetry.points("lro.operation.ended")) == {
        (nap, ("lro.outcome", "SUCCEEDED")): 1,
        (("error.type", "NOT_FOUND"), fail, ("lro.outcome", "FAILED")): 1,
    }
    assert told(lro_telemetry.points("lro.run.duration")) == {
        (nap,): (2, 0.0),
        (fail,): (1, 0.0),
    }
    assert told(lro_telemetry.points("lro.wake.lateness")) == {
        (nap, ("lro.wake.reason", "ELAPSED")): (1, 0.0),
    }
    assert set(told(lro_telemetry.points("lro.run.active")).values()) == {0}


@pytest.mark.asyncio
async def test_what_runs_now_is_counted(lro_client, lro_telemetry):
    running = asyncio.Event()

    @lro_client.handler("held")
    async def held(op):
        running.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE):
        await lro_client.start("held")
        await running.wait()
    assert told(lro_telemetry.points("lro.run.active")) == {(("lro.handler", "held"),): 1}


@pytest.mark.asyncio
async def test_leases_that_go_from_one_process_to_another_are_counted(lro_telemetry):
    which = {"name": "operations/a", "handler": "nap"}
    lro_telemetry.telemetry.observe(moments.LeaseLost(**which))
    lro_telemetry.telemetry.observe(moments.TakenOver(**which, owner="another"))
    await until(lambda: lro_telemetry.points("lro.lease.lost"))
    for metric in ("lro.lease.lost", "lro.lease.taken_over"):
        assert told(lro_telemetry.points(metric)) == {(("lro.handler", "nap"),): 1}


@pytest.mark.asyncio
async def test_transactions_are_timed_and_their_changes_counted(lro_client, lro_telemetry):
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(lro_client.start("nap") for _ in range(10)))
        await until(lambda: sum(point.sum for point in lro_telemetry.points("lro.commit.size")) >= 20)
    (sizes,), (times,) = lro_telemetry.points("lro.commit.size"), lro_telemetry.points("lro.commit.duration")
    assert sizes.count == times.count
    assert sizes.explicit_bounds[-1] == 1000
    assert times.explicit_bounds[0] == 0.005


@pytest.mark.asyncio
async def test_no_metric_names_an_operation(lro_client, lro_clock, lro_telemetry):
    async with asyncio.timeout(PATIENCE):
        op = await lro_client.start("nap")
        await lro_client.until(op, "SUSPENDED")
        await lro_client.cancel_operation(op.name)
    assert op.name.partition("/")[2] not in lro_telemetry.metrics()
    assert "lro.operation.ended" in lro_telemetry.metrics()


@pytest.mark.asyncio
async def test_one_telemetry_serves_several_clients(open_client, lro_telemetry, lro_handlers, caplog):
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            client = await open_client("sqlite://", handlers=[lro_handlers], telemetry=lro_telemetry.telemetry)
            await client.start("nap")
        both = {(("lro.handler", "nap"),): 2}
        await until(lambda: told(lro_telemetry.points("lro.operation.started")) == both)
    assert caplog.records == []


def test_a_loop_that_stops_at_once_keeps_no_other_from_counting(lro_telemetry):
    def lose_a_lease():
        lro_telemetry.telemetry.observe(moments.LeaseLost(name="operations/a", handler="nap"))

    def run(stop_after):
        loop = asyncio.new_event_loop()
        loop.call_soon(lose_a_lease)
        loop.call_soon(stop_after, loop)
        loop.run_forever()
        loop.close()

    run(lambda loop: loop.stop())  # in the turn in which it was told, and so before it records
    assert lro_telemetry.points("lro.lease.lost") == []
    run(lambda loop: loop.call_soon(loop.stop))
    assert told(lro_telemetry.points("lro.lease.lost")) == {(("lro.handler", "nap"),): 2}
