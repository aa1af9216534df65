"""The fields of the schedulers' log records."""

from __future__ import annotations

import logging

from lro_aio.core.record import Record

__all__ = ["fields", "logger"]

logger = logging.getLogger("lro_aio")


def fields(record: Record, event: str) -> dict[str, str]:
    """What goes into ``extra=``, so that records can be filtered and counted without reading their text.

    Args:
        record: The row of the operation that the record is about.
        event: A short key that stays the same from release to release, such as "execution_lost".
    """
    return {"operation": record.name, "handler": record.handler, "event": event}
