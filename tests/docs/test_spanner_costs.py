"""The table of costs in ``docs/spanner.md`` is what the fake counts, of our calls and of the Go package's."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.stores.spanner.table import BUNDLE, bundle_statement, descriptor_set
from lro_aio.testing import FakeSpanner, ManualClock

from ..spanner.go_service import GoService
from .test_spanner_page import table

TEXT = "x" * 100
"""State, what a step gives, and the result."""
AT_ONCE = 256
MEASURES = ("RPCs", "Columns", "Entries written", "Entries deleted", "Participants", "KB")
GO_TABLE = """CREATE TABLE Operations (
  key STRING(MAX) NOT NULL AS (Operation.name) STORED,
  Operation google.longrunning.Operation NOT NULL,
  State BYTES(MAX),
  ResumePoint STRING(MAX),
  UpdateTime TIMESTAMP NOT NULL,
) PRIMARY KEY (key)"""


def shown() -> dict[str, dict[str, str]]:
    return {what: dict(zip(MEASURES, row, strict=True)) for what, *row in table("Of one operation", *MEASURES)}


def taken(fake: FakeSpanner, operations: int = 1) -> dict[str, float]:
    """What was done for each operation since the last look."""
    work, calls = fake.work.copy(), fake.rpcs.total()
    fake.work.clear()
    fake.rpcs.clear()
    counted = {
        "RPCs": calls,
        "Columns": work["columns_written"],
        "Entries written": work["entries_written"],
        "Entries deleted": work["entries_deleted"],
        "Participants": work["participants"],
        "KB": work["bytes"] / 1000,
    }
    return {measure: number / operations for measure, number in counted.items()}


async def measured(fake: FakeSpanner, clock: ManualClock, operations: int) -> dict[str, dict[str, float]]:
    """A start, a step and an end of so many operations at a time."""
    step, end = asyncio.Event(), asyncio.Event()
    handlers = lro.Handlers()

    async def charge() -> str:
        return TEXT

    @handlers.handler("work", state=str)
    async def work(op: lro.Operation[str]) -> wrappers_pb2.StringValue:
        await step.wait()
        await op.step("charge", charge)
        await end.wait()
        return wrappers_pb2.StringValue(value=TEXT)

    async with lro.Client(fake.url, handlers=[handlers], clock=clock, drain_timeout=0) as client:
        await clock.settle()
        taken(fake)
        await asyncio.gather(*(client.start("work", TEXT) for _ in range(operations)))
        await clock.settle()
        found = {"start": taken(fake, operations)}
        for name, gate in (("step", step), ("end", end)):
            gate.set()
            await clock.settle()
            found[name] = taken(fake, operations)
    assert [row["Status"] for row in fake.rows()] == ["SUCCEEDED"] * operations
    return found


@pytest.mark.asyncio
async def test_one_operation_alone_costs_what_the_page_says(lro_clock: ManualClock) -> None:
    with FakeSpanner() as fake:
        found = await measured(fake, lro_clock, 1)
    for what, costs in found.items():
        check(shown()[what], costs)


@pytest.mark.asyncio
async def test_many_at_a_time_cost_no_more_than_the_page_says(lro_clock: ManualClock) -> None:
    """How many batches they come in depends on the machine."""
    with FakeSpanner() as fake:
        found = await measured(fake, lro_clock, AT_ONCE)
    for what, costs in found.items():
        check(shown()[f"{what}, {AT_ONCE} at a time"], costs)


def test_the_calls_of_the_go_package_cost_what_the_page_says() -> None:
    """However many there are at a time, since each call is for one operation."""
    response = wrappers_pb2.StringValue(value=TEXT)
    with FakeSpanner(variant=None) as fake:
        fake.execute_ddl(bundle_statement(BUNDLE), GO_TABLE, descriptors=descriptor_set())
        with GoService(fake.url, version=2) as go:
            taken(fake)
            operation = go.create()
            check(shown()["start, Go"], taken(fake))
            go.write(operation)
            check(shown()["step, Go"], taken(fake))
            go.read(operation.name)
            go.succeed(operation, response)
            check(shown()["end, Go"], taken(fake))


def check(page: dict[str, str], costs: dict[str, float]) -> None:
    for measure, said in page.items():
        if said.startswith("≤ "):
            assert 0 < costs[measure] <= float(said.removeprefix("≤ ")), (measure, costs)
        elif measure == "KB":
            assert costs[measure] == pytest.approx(float(said), rel=0.2), (measure, costs)
        else:
            assert costs[measure] == float(said), (measure, costs)
