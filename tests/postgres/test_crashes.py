"""Nothing is lost or done twice on PostgreSQL either, however often processes die, and though the server does, too."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.crash import queue_campaigns
from tests.crash.campaign import Plan, campaign
from tests.crash.plans import EVERYTHING, FAULTS, faulty
from tests.crash.processes import Entry, Workers

from .server import Server


class Supervised(Workers):
    """As under a supervisor: a process that cannot reach its store when it begins has not begun."""

    def entries(self, event: str | None = None, **members: Any) -> list[Entry]:
        found = super().entries(event, **members)
        return [one for one in found if one["event"] != "failed" or "StoreUnavailableError" not in str(one)]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_small_campaign(workers: Workers, url: str) -> None:
    plan = Plan(operations=8, most_work=0.5, least_kills=1, lease=0.9, max_running=4, deadline=120)
    print(await campaign(url, workers, plan))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_every_operation_ends_once_though_a_process_dies_every_300_ms(workers: Workers, url: str) -> None:
    print(await campaign(url, workers, Plan(operations=100, seed=1)))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.asyncio
async def test_nothing_is_lost_done_twice_or_taken_from_the_living(workers: Workers, url: str, fault: str) -> None:
    print(await campaign(url, workers, faulty(1, **FAULTS[fault])))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_nothing_is_lost_or_done_twice_though_everything_happens(workers: Workers, url: str) -> None:
    print(await campaign(url, workers, faulty(12, **EVERYTHING)))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_every_operation_ends_once_though_the_server_restarts_as_well(tmp_path: Path) -> None:
    """At once, as after a crash: what it has promised must be on its disk. Answers are lost besides, as it is."""
    with Server(fsync=True) as server:
        stop = threading.Event()

        def restart() -> None:
            while not stop.wait(2):
                server.restart()

        thread = threading.Thread(target=restart)
        workers = Supervised(tmp_path, ["lro_aio.stores.postgres"])
        thread.start()
        try:
            print(await campaign(server.url, workers, Plan(operations=60, seed=3, least_kills=5, lost=0.02)))
        finally:
            stop.set()
            await asyncio.to_thread(thread.join)
            workers.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_no_limit_of_a_queue_is_exceeded_by_one(workers: Workers, url: str) -> None:
    await queue_campaigns.of_operations(workers, url, 1)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_no_limit_of_steps_is_exceeded_by_one(workers: Workers, url: str) -> None:
    await queue_campaigns.of_steps(workers, url)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_no_limit_of_a_queue_is_exceeded_by_one_though_the_server_restarts_as_well(tmp_path: Path) -> None:
    workers = Workers(tmp_path, ["lro_aio.stores.postgres"])
    try:
        with Server(fsync=True) as server:
            await queue_campaigns.of_operations(workers, server.url, 4, server.restart)
    finally:
        workers.close()
