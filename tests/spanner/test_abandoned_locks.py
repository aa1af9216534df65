"""What a lost answer or a killed process leaves behind on the server is in nobody's way."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.testing import FakeSpanner

pytestmark = pytest.mark.not_on_emulator("it injects no faults")

SOON = 15.0
"""Seconds: far below those after which the fake gives up an idle transaction here. Spanner does so after ten."""


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
@pytest.mark.asyncio
async def test_a_begin_whose_answer_is_lost_costs_one_call(code: grpc.StatusCode) -> None:
    """The transaction has begun there, and nobody knows its id to end it."""
    with FakeSpanner() as fake:
        fake.idle_limit = 60.0
        async with lro.Client(fake.url, worker=False) as client:
            fake.fail("Read", code, when="after")
            fake.rpcs.clear()
            began = time.monotonic()
            operation = await client.create(lease=False)
            await operation.done()
            assert time.monotonic() - began < SOON
    assert (fake.rpcs["Read"], fake.rpcs["Commit"]) == (3, 2)


@pytest.mark.asyncio
async def test_what_changes_nothing_costs_one_call() -> None:
    """There is nothing to commit, and nothing to let go of."""
    with FakeSpanner() as fake:
        async with lro.Client(fake.url, worker=False) as client:
            await client.create(lease=False, request_id="one")
            fake.rpcs.clear()
            await client.create(lease=False, request_id="one")
    assert fake.rpcs["Rollback"] == 0


@pytest.mark.asyncio
async def test_of_two_that_change_a_row_at_once_neither_is_lost() -> None:
    """The later one sees what the earlier one wrote: its commit is refused, and it reads again."""
    with FakeSpanner() as fake:
        fake.latency = 0.02
        async with lro.Client(fake.url, worker=False) as one, lro.Client(fake.url, worker=False) as other:
            operation = await one.create(lease=False)
            twin = await other.operation(operation.name)
            for number in range(5):
                await asyncio.gather(
                    operation.set_metadata(wrappers_pb2.Int64Value(value=number)),
                    twin.set_metadata(wrappers_pb2.Int64Value(value=-number)),
                )
            (row,) = fake.rows()
    assert row["Revision"] == 1 + 10
