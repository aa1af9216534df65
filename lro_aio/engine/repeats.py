"""The same trouble, again and again: told once a minute, so that a damaged file floods no log."""

from __future__ import annotations

import time

__all__ = ["Repeats"]

QUIET = 60.0
"""Seconds in which the same trouble is told once."""


class Repeats:
    """Tells the first of many lines of the same trouble from the others."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def first(self, trouble: str) -> bool:
        """Whether this trouble was not told for a minute."""
        now = time.monotonic()
        self._told = {known: at for known, at in self._told.items() if now - at < QUIET}
        return self._told.setdefault(trouble, now) == now
