"""``Telemetry``: spans and metrics by OpenTelemetry's API alone. Which SDK takes them is the application's part."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from opentelemetry import metrics, trace

from lro_aio.core.moments import Moment
from lro_aio.telemetry.metrics import Metrics
from lro_aio.telemetry.spans import Spans

__all__ = ["Telemetry", "is_listened_to"]

API = ("opentelemetry.trace", "opentelemetry.metrics")
"""Modules of the API, with the providers that do nothing."""
SCOPE = "lro_aio"
"""Name of the tracer and of the meter."""


class Telemetry:
    """Spans and metrics of what a client does, for OpenTelemetry.

    ``Client()`` makes one when it is opened, where OpenTelemetry is installed and the application has set a provider;
    ``Client(telemetry=False)`` has none. One may be given to several clients.

    Args:
        tracer_provider: None: the application's global one.
        meter_provider: None: the application's global one.
        join: How the spans of one operation belong together. "link": each run is a trace of its own, with links to the
            start and to the run before: an operation of three weeks is no trace of three weeks, and each run is sampled
            by itself. "parent": each run is a child of the start, in its trace.

    Raises:
        ValueError: ``join`` is neither.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        join: Literal["link", "parent"] = "link",
    ) -> None:
        if join not in ("link", "parent"):
            raise ValueError(f'join must be "link" or "parent", not {join!r}')
        release = version("lro-aio")
        self._spans = Spans(trace.get_tracer(SCOPE, release, tracer_provider), nested=join == "parent")
        self._metrics = Metrics(metrics.get_meter(SCOPE, release, meter_provider))

    def observe(self, moment: Moment) -> str | None:
        """For the engine."""
        self._metrics.observe(moment)
        return self._spans.observe(moment)


def is_listened_to() -> bool:
    """Whether the application has set a provider: what comes with the API itself drops everything."""
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    return not all(type(provider).__module__.startswith(API) for provider in providers)
