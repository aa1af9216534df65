"""Marks for tests of the engine that run over Spanner's fake, too: in the slow lane."""

import pytest

__all__ = ["ON_SPANNER", "OVER_STORES"]

ON_SPANNER = pytest.param("spanner", marks=pytest.mark.slow)
OVER_STORES = pytest.mark.parametrize("store", ["", ON_SPANNER], indirect=True)
