"""Rows that a process remembers."""

from __future__ import annotations

from typing import Any

from lro_aio.core.record import Record
from lro_aio.testing import _store_rows

__all__ = ["row"]


def row(number: int | str = 1, **fields: Any) -> Record:
    """One that a process holds: who writes it remembers it."""
    return _store_rows.row(number, **({"owner": "me"} | fields))
