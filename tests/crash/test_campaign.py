"""Nothing is lost or done twice, however often processes die."""

from __future__ import annotations

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


@pytest.mark.asyncio
async def test_a_small_campaign(workers: Workers, store_url: str) -> None:
    """The same in a few seconds, for the fast lane."""
    plan = Plan(operations=12, most_work=0.6, least_kills=3, lease=0.6, max_running=4, deadline=40)
    print(await campaign(store_url, workers, plan))
