"""Nothing is lost or done twice, however often processes die."""

from __future__ import annotations

from typing import Any

import pytest

from .campaign import Plan, campaign
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


FAULTS = {
    "stops longer than a lease, of one process": {"stop_every": 7.0, "stop_for": 5.0, "max_running": 2},
    "stops longer than a lease, of all at once": {
        "stop_every": 6.0,
        "stop_for": 4.0,
        "stop_all": 1.0,
        "max_running": 2,
    },
    "clocks that are set": {"step_every": 0.5, "max_running": 2},
    "clocks that are set, and kills": {"step_every": 0.5, "kill_every": 1.0, "max_running": 4},
    "kills inside of transactions": {"inside": 0.7, "kill_every": 3.0, "lease": 1.0},
    "lost answers": {"lost": 0.15},
    "lost answers, and kills": {"lost": 0.15, "kill_every": 1.0, "lease": 1.0},
    "cancels and deletes": {"doomed": 8, "forgotten": 6, "max_running": 60},
    "cancels and deletes, and kills": {"doomed": 8, "forgotten": 6, "max_running": 60, "kill_every": 1.5, "lease": 1.0},
}
"""What happens to the processes, by what it is called."""
EVERYTHING = {
    "stop_every": 7.0, "stop_for": 5.0, "stop_all": 0.3, "inside": 0.3, "lost": 0.05,
    "doomed": 8, "forgotten": 6, "kill_every": 2.0, "step_every": 0.5, "max_running": 60,
}  # fmt: skip


def _plan(seed: int, **faults: Any) -> Plan:
    return Plan(
        **{"operations": 60, "least_kills": 0, "kill_every": 0.0, "lease": 3.0, "sweep": 1.0, "seed": seed, **faults}
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.asyncio
async def test_nothing_is_lost_done_twice_or_taken_from_the_living(
    workers: Workers, store_url: str, fault: str, seed: int
) -> None:
    print(await campaign(store_url, workers, _plan(seed, **FAULTS[fault])))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2, 12])
@pytest.mark.asyncio
async def test_nothing_is_lost_done_twice_or_taken_from_the_living_though_everything_happens(
    workers: Workers, store_url: str, seed: int
) -> None:
    print(await campaign(store_url, workers, _plan(seed, **EVERYTHING)))


@pytest.mark.parametrize(
    "fault", ["clocks that are set", "kills inside of transactions", "lost answers", "cancels and deletes"]
)
@pytest.mark.asyncio
async def test_a_small_campaign_of_one_fault(workers: Workers, store_url: str, fault: str) -> None:
    """The same in a second or two, for the fast lane. To stop longer than a lease takes longer."""
    small = {"operations": 6, "most_work": 0.4, "lease": 0.9, "deadline": 60, "max_running": 60}
    faults = {key: min(value, 2) if key in ("doomed", "forgotten") else value for key, value in FAULTS[fault].items()}
    print(await campaign(store_url, workers, _plan(1, **{**faults, **small})))


@pytest.mark.asyncio
async def test_a_small_campaign(workers: Workers, store_url: str) -> None:
    """The same in a few seconds, for the fast lane."""
    plan = Plan(operations=12, most_work=0.6, least_kills=3, lease=0.6, max_running=4, deadline=40)
    print(await campaign(store_url, workers, plan))
