"""The links between the runs of an operation on Spanner, and on a table from before there was a journal."""

import asyncio

import pytest

import lro_aio as lro
from lro_aio.stores.spanner import schema
from lro_aio.testing import TelemetryRecorder

from ..waiting import PATIENCE, reached
from .test_journal import ddl_of_before


@pytest.mark.parametrize("old", [False, True], ids=["new", "before the journal"])
@pytest.mark.parametrize("variant", schema.VARIANTS)
@pytest.mark.asyncio
async def test_a_run_has_links_to_the_start_and_to_the_run_before(variant, old, spanner_database, apply_ddl, lro_clock):
    handlers, recorder = lro.Handlers(), TelemetryRecorder()

    @handlers.handler("nap", resume_points=("awake",))
    async def nap(op):
        return None if op.resume_point else op.suspend(resume_at="awake", sleep=60)

    url = spanner_database(None if old else variant)
    if old:
        apply_ddl(url, ddl_of_before(variant))
    options = {"handlers": handlers, "clock": lro_clock, "drain_timeout": 0, "telemetry": recorder.telemetry}
    async with asyncio.timeout(PATIENCE), lro.Client(url, **options) as client:
        op = await client.start("nap")
        await reached(client, op.name, "SUSPENDED")
        await lro_clock.advance(60)
        await reached(client, op.name, "SUCCEEDED")
        await lro_clock.settle()
    start, (first, second) = recorder.span("start nap"), recorder.spans("run nap")
    ids = [span.get_span_context().span_id for span in (start, first)]
    assert [link.context.span_id for link in second.links] == ids
