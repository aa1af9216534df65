"""Aids for tests of services and stores: a manual clock, fault points, contract suites, fixtures, cloud fakes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lro_aio.testing.clock import ManualClock
from lro_aio.testing.faults import FaultyStore

if TYPE_CHECKING:
    from lro_aio.testing.cloud_tasks import FakeCloudTasks
    from lro_aio.testing.oidc import LocalIssuer
    from lro_aio.testing.spanner import FakeSpanner
    from lro_aio.testing.telemetry import TelemetryRecorder
    from lro_aio.testing.workflows import FakeWorkflows

__all__ = [
    "FakeCloudTasks",
    "FakeSpanner",
    "FakeWorkflows",
    "FaultyStore",
    "LocalIssuer",
    "ManualClock",
    "TelemetryRecorder",
]

_LAZY = {
    "FakeCloudTasks": "cloud_tasks",
    "FakeSpanner": "spanner",
    "FakeWorkflows": "workflows",
    "LocalIssuer": "oidc",
    "TelemetryRecorder": "telemetry",
}
"""Name -> its module. Each module needs packages that not everybody has installed."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"lro_aio.testing.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'lro_aio.testing' has no attribute {name!r}")
