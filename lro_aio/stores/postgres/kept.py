"""Rows that need not be locked and read before they are changed: as this process wrote them last.

Another process may have changed one since. So a change that relies on what is kept says which version of the row it
means, and the server leaves any other as it is. Versions hold on one server only: one that has lost what was written,
as a standby may that takes over, gives the same to something else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from lro_aio.core.record import Record

__all__ = ["KeptRows", "Known"]

MOST = 4096
"""Most rows that are kept."""
LARGEST = 8192
"""Bytes of a row's payloads beyond which it is not worth its memory."""

Known = tuple[Record, str]
"""A row, and its version: the transaction that wrote it (``xmin``). One transaction writes a row once."""


class KeptRows:
    """Rows that a process holds: that one changes them again. What waits, any may claim. Threads may call it.

    Args:
        most: Most rows that are kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._rows: dict[str, Known] = {}
        self._lock = threading.Lock()

    def known(self, names: Iterable[str]) -> dict[str, Known]:
        """Of the rows with these names, those that are kept."""
        with self._lock:
            return {name: found for name in names if (found := self._rows.get(name)) is not None}

    def written(self, rows: Mapping[str, Record | None], versions: Mapping[str, str]) -> None:
        """Note what has been committed.

        Args:
            rows: By name. None: it was removed.
            versions: By name, of those that were written.
        """
        with self._lock:
            for name, row in rows.items():
                self._rows.pop(name, None)
                version = versions.get(name)
                if row is not None and version is not None and row.owner and row.size <= LARGEST:
                    self._rows[name] = row, version
            while len(self._rows) > self._most:
                del self._rows[next(iter(self._rows))]  # the row that was written first
