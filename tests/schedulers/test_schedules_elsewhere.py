"""Schedules whose wake-ups come from Cloud Workflows or Cloud Tasks, over real sockets from end to end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lro_aio as lro
from lro_aio.testing import ManualClock

from .test_end_to_end import DAY, HOUR, OpenClient, Seen, handlers, open_client, remote, seen  # noqa: F401 (fixtures)


async def sleeps_until(client: lro.Client, clock: ManualClock, moment: float) -> None:
    """Return once the schedule waits for this moment, and the scheduler has it; no time goes by."""
    async with asyncio.timeout(10):
        while True:
            record = await client.server_host.record("schedules/operations/daily")
            if record.wait is not None and record.wait.sleep_until == moment and record.schedule_handle:
                return
            await clock.settle()
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_a_schedule_starts_operations_inside_requests_and_takes_another_definition(
    open_client: OpenClient,  # noqa: F811 (the fixture)
    handlers: lro.Handlers,  # noqa: F811 (the fixture)
    lro_clock: ManualClock,
    service: Any,
) -> None:
    times, within = [], []

    @handlers.handler
    async def daily(op: lro.Operation[None]) -> None:
        within.append("/lro/resume" in service.under_way)
        times.append(lro_clock.time())

    day = DAY * (lro_clock.time() // DAY + 1)
    first = await open_client(schedules=[lro.Schedule("daily", daily, every=DAY)])
    await sleeps_until(first, lro_clock, day)
    await lro_clock.advance(day + HOUR - lro_clock.time())
    await sleeps_until(first, lro_clock, day + DAY)
    assert (len(times), within) == (1, [True])
    await open_client(schedules=[lro.Schedule("daily", daily, every=6 * HOUR)])
    for number in range(1, 4):
        await sleeps_until(first, lro_clock, day + number * 6 * HOUR)
        await lro_clock.advance(6 * HOUR)
    await sleeps_until(first, lro_clock, day + DAY)
    told = await first.schedules.get("daily")
    assert (told.version, told.started, told.missed, len(times)) == (2, 4, 0, 4)
