"""What every log record carries for machines: what happened, to which operation, of which handler."""

from __future__ import annotations

from lro_aio.core.record import Record
from lro_aio.core.tracing import current_ids

__all__ = ["about", "event"]


def event(name: str, *, operation: str = "", handler: str = "") -> dict[str, str]:
    """The ``extra`` of a log record; with ``trace_id`` and ``span_id`` where a span is current.

    Args:
        name: Key of what happened, in snake_case and the same in every release: ``record.event``.
        operation: Name of the operation; "" where the record is about none, or about many.
        handler: Name of the operation's handler; "" where it has none, or where it is not known.
    """
    return {"event": name, "operation": operation, "handler": handler, **current_ids()}


def about(record: Record, name: str) -> dict[str, str]:
    """As ``event``, about the operation of a row."""
    return event(name, operation=record.name, handler=record.handler)
