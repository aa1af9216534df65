"""Leases between processes: handed over on SIGTERM, kept by a process that blocks."""

from __future__ import annotations

import time

import pytest
from google.protobuf import struct_pb2

import lro_aio as lro

from .processes import Workers

SOON = 15.0
"""Seconds: half of the lease, far above what a hand-over takes."""


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_drained_process_hands_over_at_once(workers: Workers, store_url: str) -> None:
    """SIGTERM releases the lease: nobody waits for the 30 seconds that it had left."""
    first = workers.start(store_url, lease=30, starts=[("relay", {"last_claim": 2}, "one")])
    await workers.seen("begin", pid=first)
    second = workers.start(store_url, lease=30)
    await workers.seen("ready", pid=second)
    told = workers.terminate(first)
    (resumed,) = await workers.seen("begin", pid=second)
    assert resumed["time"] - told < SOON
    assert resumed["attempt"] == 1  # the hand-over cost none
    await workers.seen("down", pid=first)
    assert [entry["reason"] for entry in workers.entries("stopped", pid=first)] == ["SHUTDOWN"]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_ten_hand_overs_cost_no_attempt(workers: Workers, store_url: str) -> None:
    """A deploy is not a crash: max_attempts=3 survives any number of them."""
    start = [("relay", {"last_claim": 11}, "one")]
    running = workers.start(store_url, lease=30, max_attempts=3, starts=start)
    await workers.seen("begin", pid=running)
    for number in range(10):
        following = workers.start(store_url, lease=30, max_attempts=3)
        await workers.seen("ready", pid=following)
        told = workers.terminate(running)
        (resumed,) = await workers.seen("begin", pid=following)
        assert resumed["time"] - told < SOON
        assert (resumed["claim"], resumed["attempt"]) == (number + 2, 1)
        running = following
    async with lro.Client(store_url, worker=False) as client:
        operation = await client.wait_operation(workers.entries("begin")[0]["name"], timeout=SOON)
    response, _ = lro.unmarshal_operation(operation, struct_pb2.Struct())
    assert response is not None
    assert response["claim"] == 11


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_process_told_to_stop_still_commits_what_ends_in_time(workers: Workers, store_url: str) -> None:
    """Within ``drain_timeout`` a run ends where it began: no second run, no second claim."""
    first = workers.start(store_url, lease=30, drain_timeout=10, starts=[("part", {"work": 1.0}, "one")])
    second = workers.start(store_url, lease=30, drain_timeout=10)  # either may be the one that runs it
    await workers.seen("ready", count=2)
    (begun,) = await workers.seen("begin")
    workers.terminate(begun["pid"])
    await workers.seen("down", pid=begun["pid"])
    async with lro.Client(store_url, worker=False) as client:
        assert (await client.get_operation(begun["name"])).done
    assert len(workers.entries("begin")) == 1
    assert {first, second} >= {begun["pid"]}


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_blocked_event_loop_keeps_its_lease(workers: Workers, store_url: str) -> None:
    """Renewal does not share the handler's thread: three leases long, nobody takes the operation away."""
    first = workers.start(store_url, lease=2, starts=[("block", {"work": 6.0}, "one")])
    await workers.seen("begin", pid=first)
    hungry = workers.start(store_url, lease=2)
    await workers.seen("ready", pid=hungry)
    (ended,) = await workers.seen("end")
    async with lro.Client(store_url, worker=False) as client:
        operation = await client.wait_operation(ended["name"], timeout=SOON)
    assert operation.done
    assert [(entry["pid"], entry["claim"]) for entry in workers.entries("begin")] == [(first, 1)]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_owner_hears_of_a_foreign_cancel_with_its_next_renewal(workers: Workers, store_url: str) -> None:
    owner = workers.start(store_url, lease=6, starts=[("relay", {"last_claim": 9}, "one")])
    (begun,) = await workers.seen("begin", pid=owner)
    async with lro.Client(store_url, worker=False) as client:
        await client.cancel_operation(begun["name"])
        asked = time.time()
        (stopped,) = await workers.seen("stopped", pid=owner)
        assert stopped["reason"] == "CANCEL_REQUESTED"
        renewals = [e for e in workers.entries("moved", pid=owner) if asked < e["began"] < stopped["time"]]
        assert len(renewals) <= 1
        operation = await client.wait_operation(begun["name"], timeout=SOON)
    assert operation.done
    assert operation.error.code == 1
    assert len(workers.entries("begin")) == 1
