"""pytest plugin: the fixtures ``lro_clock``, ``lro_handlers``, ``lro_options``, ``lro_telemetry`` and ``lro_client``.

pytest loads it wherever lro-aio is installed, so it must not need more than pytest. Only ``lro_client`` needs
pytest-asyncio, in strict or auto mode, and ``lro_telemetry`` OpenTelemetry's SDK.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from lro_aio.client import Client
from lro_aio.core.errors import OperationDoneError
from lro_aio.core.record import State
from lro_aio.engine.handlers import Handlers
from lro_aio.engine.operation import Operation
from lro_aio.testing.clock import ManualClock

if TYPE_CHECKING:
    from lro_aio.testing.telemetry import TelemetryRecorder

__all__ = ["FixtureClient", "lro_client", "lro_clock", "lro_handlers", "lro_options", "lro_telemetry"]

POLL = 0.005
"""Real seconds between two looks of ``FixtureClient.until``."""


class FixtureClient(Client):
    """What the fixture ``lro_client`` gives: a client with one more method, and messages that wake at once."""

    async def until(self, op: Operation[Any] | str, *states: State | str, timeout: float = 10.0) -> Operation[Any]:
        """Wait in real time until an operation is in one of these states; without any, until it has ended.

        ``ManualClock`` takes a handler that awaits a thread, a process or a socket for idle: this waits for it. For
        ``"SUSPENDED"``, a durable wait lingers no longer than there is something else to do in its handler.

        Args:
            op: The operation, or its name.
            states: ``"SUSPENDED"``, say.
            timeout: Real seconds.

        Returns:
            The operation as it is now.

        Raises:
            TimeoutError: It is in another state still; says which.
            OperationDoneError: It has ended in another state; says which.
            OperationNotFoundError: It was deleted or has expired.
            StoreUnavailableError: The store did not answer.
        """
        name, wanted = op if isinstance(op, str) else op.name, [State(state) for state in states]
        end = time.monotonic() + timeout
        while True:
            found = await self.operation(name)
            state = found.record.state
            if state in wanted or (not wanted and state.terminal):
                return found
            if state.terminal:
                raise OperationDoneError(name, state)
            if state is State.RUNNING and State.SUSPENDED in wanted:
                self.engine.host.hurry()
            if time.monotonic() > end:
                raise TimeoutError(f"{name} is {state} after {timeout:g} s, not {' or '.join(wanted) or 'done'}")
            await asyncio.sleep(POLL)

    async def send(self, name: str, topic: str, payload: Any = None, *, message_id: str | None = None) -> None:
        """As ``Client.send``. The time passes in which a handler is not woken again: a second at most."""
        await super().send(name, topic, payload, message_id=message_id)
        found = await self.operation(name)
        wait = found.record.wait
        if found.record.state is State.SUSPENDED and wait is not None and wait.news is not None:
            assert isinstance(self.clock, ManualClock)
            await self.clock.advance(max(0.0, wait.news - self.clock.time()))


@pytest.fixture
def lro_clock() -> ManualClock:
    """Engine time for the test: ``await lro_clock.advance(30)``."""
    return ManualClock()


@pytest.fixture
def lro_handlers() -> Handlers:
    """The handlers that ``lro_client`` runs. Override it in a conftest or test module with the application's own."""
    return Handlers()


@pytest.fixture
def lro_options() -> dict[str, Any]:
    """More options of ``lro_client``, as ``Client`` takes them: ``{"resources": ...}``. Override it as needed."""
    return {}


@pytest.fixture
def lro_telemetry() -> Iterator[TelemetryRecorder]:
    """The spans and metrics of the test's ``lro_client``, in memory. Needs OpenTelemetry's SDK."""
    try:
        from lro_aio.testing.telemetry import TelemetryRecorder
    except ModuleNotFoundError as exc:
        raise ImportError("the fixture lro_telemetry needs OpenTelemetry: pip install opentelemetry-sdk") from exc
    recorder = TelemetryRecorder()
    yield recorder
    recorder.close()


async def _opened(
    request: pytest.FixtureRequest, lro_clock: ManualClock, lro_handlers: Handlers, lro_options: dict[str, Any]
) -> AsyncIterator[FixtureClient]:
    """An open client on an in-memory store, with ``lro_clock``, ``lro_handlers`` and ``lro_options``."""
    # A handler that still runs when the test is over gets no time to end: real time would pass.
    options: dict[str, Any] = {"store": "sqlite://", "handlers": [lro_handlers], "clock": lro_clock, "drain_timeout": 0}
    if "lro_telemetry" in request.fixturenames:
        options["telemetry"] = request.getfixturevalue("lro_telemetry").telemetry
    async with FixtureClient(**(options | lro_options)) as client:
        yield client


def _refused() -> Client:
    """Stands for the fixture where pytest-asyncio is not installed."""
    raise ImportError("the fixture lro_client needs pytest-asyncio: pip install 'lro-aio[testing]'")


lro_client: Any
"""An open client on an in-memory store, with ``lro_clock``, ``lro_handlers`` and ``lro_options``."""
try:
    import pytest_asyncio
except ModuleNotFoundError:
    lro_client = pytest.fixture(name="lro_client")(_refused)
else:
    lro_client = pytest_asyncio.fixture(name="lro_client")(_opened)
