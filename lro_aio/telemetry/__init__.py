"""OpenTelemetry: what an ``Observer`` is told, as spans and metrics. Nothing else of the package knows of it.

This file loads none of OpenTelemetry: it may not be installed.
"""

from __future__ import annotations

from lro_aio.core.moments import Observer

__all__ = ["checked", "chosen"]


def checked(wanted: bool | Observer) -> bool | Observer:
    """What was given as ``Client(telemetry=...)``.

    Raises:
        TypeError: It is no such thing.
    """
    if not isinstance(wanted, bool) and not callable(getattr(wanted, "observe", None)):
        raise TypeError(f"telemetry must be True, False or a Telemetry, not {wanted!r}")
    return wanted


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
