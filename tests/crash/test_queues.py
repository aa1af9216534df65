"""No limit of a queue is exceeded, not by one, whatever becomes of the processes."""

from __future__ import annotations

import pytest

from . import queue_campaigns
from .processes import Workers


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.asyncio
@pytest.mark.parametrize("seed", [1, 2])
async def test_no_limit_is_exceeded_by_one(workers: Workers, store_url: str, seed: int) -> None:
    await queue_campaigns.of_operations(workers, store_url, seed)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.asyncio
async def test_no_limit_of_steps_is_exceeded_by_one(workers: Workers, store_url: str) -> None:
    await queue_campaigns.of_steps(workers, store_url)
