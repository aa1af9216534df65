"""What every log record of the engine carries for machines: which operation, whose handler, what happened."""

from __future__ import annotations

from lro_aio.core.record import Record

__all__ = ["about", "event"]


def event(name: str, *, operation: str = "", handler: str = "") -> dict[str, str]:
    """The ``extra`` of a log record.

    Args:
        name: A stable key of what happened, in snake_case: ``record.event``.
        operation: Name of the operation; "" where it is about none, or about many.
        handler: Name of its handler; "" where it has none, or where that is not known.
    """
    return {"event": name, "operation": operation, "handler": handler}


def about(record: Record, name: str) -> dict[str, str]:
    """As ``event``, for the operation of a row."""
    return {"event": name, "operation": record.name, "handler": record.handler}
