"""What the handles of clients cost is measured alike, whoever made them."""

from __future__ import annotations

import sys
import time
from contextlib import asynccontextmanager

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.model import Plan
from benchmarks.programs.lro_remote import bare, bare_in_azure_style, in_azure_style, over_grpc
from benchmarks.programs.remote_waits import by_name, service, waits


class AskedService:
    """Counts what it is told, as the service in another process does."""

    def __init__(self):
        self.requests = 7  # of somebody before
        self.addresses = {"polled": "somewhere"}

    async def asked(self):
        requests, self.requests = self.requests, 0
        return requests


@pytest.mark.asyncio
async def test_requests_are_those_of_the_crowd_alone_and_lateness_is_from_the_end():
    """The operation's name says when it ends; a waiter that comes back before that is early, which is below zero."""
    asked, waiting = AskedService(), set()

    @asynccontextmanager
    async def handle(address):
        assert address == "somewhere"

        async def wait(name):
            waiting.add(name)
            asked.requests += 2
            return time.time() - 0.25

        yield by_name(wait)

    figures = await waits(asked, "polled", handle, count=10, seconds=60.0)
    assert len(waiting) == 10
    assert figures["requests"] == 2.0
    assert figures["p50"] >= 250
    assert figures["cpu"] >= 0


@pytest.mark.slow
@pytest.mark.asyncio
async def test_our_handle_and_the_floor_wait_for_a_service_in_another_process(tmp_path):
    """Everybody asks at least once, and nobody goes on before the end."""
    handles = (
        ("waiting", over_grpc),
        ("waiting", bare),
        ("polled", over_grpc),
        ("azure", in_azure_style),
        ("azure", bare_in_azure_style),
    )
    async with service(sys.executable, tmp_path) as asked:
        for kind, handle in handles:
            figures = await waits(asked, kind, handle, count=5, seconds=0.5)
            assert figures["requests"] >= 1
            assert figures["p50"] > 0


def test_an_absent_peer_is_named_and_a_short_look_leaves_out_who_polls_twice_a_minute():
    """What azure-core does by default takes half a minute, however few operations there are."""
    sides = {side.name: side for side in BENCHMARKS["j"].sides(Plan(quick=True, peers=False))}
    assert all(sides[name].missing for name in ("api-core", "azure-core", "azure-core-1s"))
    assert not sides["lro"].missing
    (patient,) = (side for side in BENCHMARKS["j"].sides(Plan(quick=True)) if side.name == "azure-core")
    assert patient.missing
