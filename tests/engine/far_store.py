"""A store that gives no notice of other processes, like a database far away."""

from collections.abc import Callable

from lro_aio.ports import Store
from lro_aio.testing import FaultyStore


class FarStore(FaultyStore):
    """Neither polls nor rings tell of what others commit."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.foreign_poll_interval = None

    def join(self, owner: str, heard: Callable[[], None]) -> None:
        """Nobody is heard."""
