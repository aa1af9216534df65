"""Nothing is lost or done twice, however often processes die."""

from __future__ import annotations

import pytest

from .campaign import Plan, campaign
from .plans import EVERYTHING, FAULTS, faulty
from .processes import Workers


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.asyncio
async def test_every_operation_ends_once_though_a_process_dies_every_300_ms(
    workers: Workers, store_url: str, seed: int
) -> None:
    print(await campaign(store_url, workers, Plan(seed=seed)))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_every_operation_ends_once_though_some_die_and_some_are_stopped(workers: Workers, store_url: str) -> None:
    """As in a deploy that goes wrong: half of the processes get SIGTERM, half SIGKILL."""
    print(await campaign(store_url, workers, Plan(seed=3, gentle=0.5, least_kills=8)))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.asyncio
async def test_nothing_is_lost_done_twice_or_taken_from_the_living(
    workers: Workers, store_url: str, fault: str, seed: int
) -> None:
    print(await campaign(store_url, workers, faulty(seed, **FAULTS[fault])))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2, 12])
@pytest.mark.asyncio
async def test_nothing_is_lost_done_twice_or_taken_from_the_living_though_everything_happens(
    workers: Workers, store_url: str, seed: int
) -> None:
    print(await campaign(store_url, workers, faulty(seed, **EVERYTHING)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["clocks that are set", "kills inside of transactions", "lost answers", "cancels and deletes"]
)
@pytest.mark.asyncio
async def test_a_small_campaign_of_one_fault(workers: Workers, store_url: str, fault: str) -> None:
    """The same in a second or two, for the fast lane. To stop longer than a lease takes longer."""
    small = {"operations": 6, "most_work": 0.4, "lease": 0.9, "deadline": 120, "max_running": 60}
    faults = {key: min(value, 2) if key in ("doomed", "forgotten") else value for key, value in FAULTS[fault].items()}
    print(await campaign(store_url, workers, faulty(1, **{**faults, **small})))


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_small_campaign(workers: Workers, store_url: str) -> None:
    """The same in a few seconds, for the fast lane."""
    plan = Plan(operations=12, most_work=0.6, least_kills=1, lease=0.6, max_running=4, deadline=120)
    print(await campaign(store_url, workers, plan))
