"""pytest plugin: the fixtures ``lro_clock``, ``lro_handlers`` and ``lro_client``.

pytest loads it wherever lro-aio is installed, so it must not need more than pytest. Only ``lro_client`` needs
pytest-asyncio, in strict or auto mode.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from lro_aio.client import Client
from lro_aio.engine.handlers import Handlers
from lro_aio.testing.clock import ManualClock

__all__ = ["lro_client", "lro_clock", "lro_handlers"]


@pytest.fixture
def lro_clock() -> ManualClock:
    """Engine time for the test: ``await lro_clock.advance(30)``."""
    return ManualClock()


@pytest.fixture
def lro_handlers() -> Handlers:
    """The handlers that ``lro_client`` runs. Override it in a conftest or test module with the application's own."""
    return Handlers()


async def _opened(lro_clock: ManualClock, lro_handlers: Handlers) -> AsyncIterator[Client]:
    """An open client on an in-memory store, with ``lro_clock`` and ``lro_handlers``."""
    # A handler that still runs when the test is over gets no time to end: real time would pass.
    async with Client("sqlite://", handlers=[lro_handlers], clock=lro_clock, drain_timeout=0) as client:
        yield client


def _refused() -> Client:
    """Stands for the fixture where pytest-asyncio is not installed."""
    raise ImportError("the fixture lro_client needs pytest-asyncio: pip install 'lro-aio[testing]'")


lro_client: Any
"""An open client on an in-memory store, with ``lro_clock`` and ``lro_handlers``."""
try:
    import pytest_asyncio
except ModuleNotFoundError:
    lro_client = pytest.fixture(name="lro_client")(_refused)
else:
    lro_client = pytest_asyncio.fixture(name="lro_client")(_opened)
