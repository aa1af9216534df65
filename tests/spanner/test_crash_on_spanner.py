"""Nothing is lost or done twice on Spanner either, however often processes die, and whatever fails on the way there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

import lro_aio as lro
from lro_aio.testing import FakeSpanner
from tests.crash import queue_campaigns
from tests.crash.campaign import Plan, campaign
from tests.crash.plans import EVERYTHING, FAULTS, faulty
from tests.crash.processes import Workers


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Processes that share one database; none outlives the test."""
    workers = Workers(tmp_path, ["lro_aio.stores.spanner"])
    try:
        yield workers
    finally:
        workers.close()


@pytest.fixture
def fake(variant: str) -> Iterator[FakeSpanner]:
    """A Spanner that they share."""
    with FakeSpanner(variant=variant) as fake:
        yield fake


@pytest.fixture
def apart(variant: str) -> Iterator[str]:
    """The URL of one in a process of its own: it answers while the test's process is busy."""
    command = [sys.executable, "-m", "lro_aio.testing.spanner", "--variant", variant]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()  # it ends with its input


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.asyncio
async def test_a_small_campaign(workers: Workers, spanner_database: Callable[[str], str], variant: str) -> None:
    """The ones below in a few seconds, for the fast lane."""
    plan = Plan(operations=8, most_work=0.5, least_kills=1, lease=0.6, max_running=4, deadline=120)
    print(await campaign(spanner_database(variant), workers, plan))


@pytest.mark.not_on_emulator("one read-write transaction at a time is too few for a hundred operations")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["proto", "bytes"])
@pytest.mark.asyncio
async def test_every_operation_ends_once_though_a_process_dies_every_300_ms(
    workers: Workers, spanner_database: Callable[[str], str], variant: str
) -> None:
    print(await campaign(spanner_database(variant), workers, Plan(operations=100, seed=1)))


@pytest.mark.not_on_emulator("it injects no faults")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.asyncio
async def test_every_operation_ends_once_though_calls_fail_as_well(workers: Workers, fake: FakeSpanner) -> None:
    """One call in twenty fails, before or after it was carried out, is aborted, or loses its session."""
    fake.chaos(0.05, seed=2)
    plan = Plan(operations=120, kill_every=0.3, seed=2)
    print(await campaign(fake.url, workers, plan), dict(fake.rpcs))


@pytest.mark.not_on_emulator("one read-write transaction at a time is too few for sixty operations")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.asyncio
async def test_every_operation_ends_once_though_some_die_and_some_are_stopped(
    workers: Workers, fake: FakeSpanner
) -> None:
    """As in a deploy that goes wrong: half of the processes get SIGTERM, half SIGKILL."""
    plan = Plan(operations=60, seed=3, gentle=0.5, least_kills=5)
    print(await campaign(fake.url, workers, plan), dict(fake.rpcs))


@pytest.mark.not_on_emulator("one read-write transaction at a time is too few for sixty operations")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.skipif("LRO_AIO_LONG" not in os.environ, reason="each is part of what follows; LRO_AIO_LONG=1 runs them")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.asyncio
async def test_nothing_is_lost_done_twice_or_taken_from_the_living(workers: Workers, apart: str, fault: str) -> None:
    print(await campaign(apart, workers, faulty(1, **FAULTS[fault])))


@pytest.mark.not_on_emulator("one read-write transaction at a time is too few for sixty operations")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.parametrize("seed", [1, 12])
@pytest.mark.asyncio
async def test_nothing_is_lost_done_twice_or_taken_from_the_living_though_everything_happens(
    workers: Workers, apart: str, seed: int
) -> None:
    print(await campaign(apart, workers, faulty(seed, **EVERYTHING)))


@pytest.mark.not_on_emulator("one read-write transaction at a time is too few for eight processes")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.asyncio
async def test_no_limit_of_a_queue_is_exceeded_by_one(workers: Workers, apart: str) -> None:
    await queue_campaigns.of_operations(workers, apart, 1)


@pytest.mark.not_on_emulator("it injects no faults")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.asyncio
async def test_no_limit_of_a_queue_is_exceeded_by_one_though_calls_fail_as_well(
    workers: Workers, fake: FakeSpanner
) -> None:
    fake.idle_limit = 1.0
    fake.chaos(0.05, seed=5)
    await queue_campaigns.of_operations(workers, fake.url, 5)


@pytest.mark.not_on_emulator("one read-write transaction at a time is too few for eight processes")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.asyncio
async def test_no_limit_of_steps_in_a_queue_is_exceeded_by_one(workers: Workers, apart: str) -> None:
    await queue_campaigns.of_steps(workers, apart)


@pytest.mark.slow
@pytest.mark.not_on_emulator("it injects no faults")
@pytest.mark.parametrize("variant", ["proto"])
@pytest.mark.asyncio
async def test_a_process_that_dies_between_read_and_commit_does_not_hold_up_others_for_long(
    workers: Workers, fake: FakeSpanner
) -> None:
    """Its transaction stays open on the server, until the server gives it up."""
    start = [("part", {"index": 7}, "one")]
    fake.idle_limit = 60.0
    fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, times=1_000_000)
    dying = workers.start(fake.url, lease=30, starts=start)
    await workers.until(lambda: fake.rpcs["Commit"] > 0, what="it has read, and would commit")
    workers.kill(dying)
    reads = fake.rpcs["Read"]
    following = workers.start(fake.url, lease=30, starts=start)
    await workers.until(lambda: fake.rpcs["Read"] > reads, what="the other one has read, too")
    assert not fake.rows()
    fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, times=0)
    (ended,) = await workers.seen("end", pid=following, timeout=25)
    async with lro.Client(fake.url, worker=False) as client:
        assert (await client.wait_operation(ended["name"], timeout=25)).HasField("response")
