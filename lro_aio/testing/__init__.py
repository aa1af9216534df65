"""For tests of services and of stores: a manual clock, fault points, contract suites, fixtures, a fake Spanner."""

from typing import TYPE_CHECKING, Any

from lro_aio.testing.clock import ManualClock
from lro_aio.testing.faults import FaultyStore

if TYPE_CHECKING:
    from lro_aio.testing.spanner import FakeSpanner

__all__ = ["FakeSpanner", "FaultyStore", "ManualClock"]


def __getattr__(name: str) -> Any:
    if name == "FakeSpanner":
        from lro_aio.testing.spanner import FakeSpanner

        return FakeSpanner
    raise AttributeError(f"module 'lro_aio.testing' has no attribute {name!r}")
