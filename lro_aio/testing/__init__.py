"""For tests of services and of stores: a manual clock, fault points, contract suites, pytest fixtures."""

from lro_aio.testing.clock import ManualClock
from lro_aio.testing.faults import FaultyStore

__all__ = ["FaultyStore", "ManualClock"]
