"""What a schedule starts is an operation as any other: it waits in its handler's queue, and its end is told."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.core.record import State

from ..receiver import receiving
from ..waiting import reached, until

pytestmark = pytest.mark.usefixtures("queues")

HOURLY = lro.Schedule("hourly", "report", every=3600, overlap="allow", state="acme")


class Reports:
    """A handler in a queue with one place, whose runs last until they are let end."""

    def __init__(self, **options):
        self.handlers = lro.Handlers()
        self.running = 0
        self.end = asyncio.Event()

        @self.handlers.handler(queue=lro.Queue("reports", running=1), **options)
        async def report(op: lro.Operation[str]) -> None:
            self.running += 1
            try:
                await self.end.wait()
            finally:
                self.running -= 1


@pytest_asyncio.fixture
async def receiver():
    async with receiving() as found:
        yield found


@pytest.mark.asyncio
async def test_they_wait_in_the_queue_of_their_handler(open_client, store, lro_clock, row):
    reports = Reports(queue_key=lambda state: state)
    client = await open_client(store, handlers=reports.handlers, schedules=[HOURLY])
    await until(lambda: row("schedules/operations/hourly").state == State.SUSPENDED)
    first = await client.schedules.run("hourly")
    await until(lambda: reports.running)
    second = await client.schedules.run("hourly")
    await lro_clock.advance(2 * 3600)
    waits = row((await client.schedules.get("hourly")).last_operation)
    assert (reports.running, row(second.name).state, waits.state) == (1, State.PENDING, State.PENDING)
    assert (waits.seat.queue, waits.seat.key, row(first.name).seat.key) == ("reports", "acme", "acme")
    reports.end.set()
    await reached(client, waits.name, "SUCCEEDED")


@pytest.mark.asyncio
async def test_one_whose_key_cannot_be_told_fails_and_the_schedule_goes_on(open_client, store, lro_clock, row):
    reports = Reports(queue_key=lambda state: "")
    client = await open_client(store, handlers=reports.handlers, schedules=[HOURLY])
    await lro_clock.advance(3600)
    told = await client.schedules.get("hourly")
    record = await reached(client, told.last_operation, "FAILED")
    assert b"QUEUE_KEY" in record.error
    await lro_clock.advance(3600)
    assert (await client.schedules.get("hourly")).started == 2


@pytest.mark.asyncio
async def test_their_ends_are_told_to_the_receivers_of_the_service(open_client, store, lro_clock, receiver):
    reports = Reports()
    reports.end.set()
    rules = receiver.rules(receivers=[lro.Webhook(receiver.url)])
    client = await open_client(store, handlers=reports.handlers, schedules=[HOURLY], webhooks=rules)
    by_hand = await client.schedules.run("hourly")
    await until(lambda: len(receiver.requests) == 1)
    await lro_clock.advance(3600)
    await until(lambda: len(receiver.requests) == 2)
    told = [request.told["data"]["name"] for request in receiver.requests]
    assert told == [by_hand.name, (await client.schedules.get("hourly")).last_operation]
