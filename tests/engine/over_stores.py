"""A mark for tests of the engine that run over Spanner's fake, too: in the slow lane."""

import pytest

__all__ = ["OVER_STORES"]

OVER_STORES = pytest.mark.parametrize("store", ["", pytest.param("spanner", marks=pytest.mark.slow)], indirect=True)
