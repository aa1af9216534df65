"""``lro_aio.core.logs``, under the name that the engine's files import."""

from __future__ import annotations

from lro_aio.core.logs import about, event

__all__ = ["about", "event"]
