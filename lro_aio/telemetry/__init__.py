"""OpenTelemetry: what an ``Observer`` is told, as spans and metrics. Nothing else of the package knows of it.

This file loads none of OpenTelemetry: it may not be installed.
"""

from __future__ import annotations

from lro_aio.core.moments import Observer

__all__ = ["chosen"]


def chosen(wanted: bool | Observer) -> tuple[Observer, ...]:
    """The observers that ``Client(telemetry=...)`` stands for.

    Args:
        wanted: True: ``Telemetry()`` where OpenTelemetry is installed and somebody listens; False: none.
    """
    if not isinstance(wanted, bool):
        return (wanted,)
    if not wanted:
        return ()
    try:
        from lro_aio.telemetry.otel import Telemetry, is_listened_to
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "opentelemetry":
            raise
        return ()
    return (Telemetry(),) if is_listened_to() else ()
