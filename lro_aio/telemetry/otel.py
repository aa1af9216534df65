"""``Telemetry``: spans and metrics by OpenTelemetry's API alone. Which SDK takes them is the application's part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Literal

from opentelemetry import metrics, trace

from lro_aio.core.moments import ALL, Moment, Selective
from lro_aio.telemetry.metrics import Metrics
from lro_aio.telemetry.spans import Spans

__all__ = ["Telemetry", "is_listened_to"]

API = ("opentelemetry.trace", "opentelemetry.metrics")
"""Modules of the API, with the providers that do nothing."""
SCOPE = "lro_aio"
"""Name of the tracer and of the meter."""
NOBODY: tuple[None, None] = (None, None)
"""Who wants to know of a moment that is neither measured nor part of a span."""


class Telemetry(Selective):
    """Spans and metrics of what a client does, for OpenTelemetry.

    ``Client()`` makes one when it is opened, where OpenTelemetry is installed and the application has set a provider;
    ``Client(telemetry=False)`` has none. One may be given to several clients.

    Args:
        tracer_provider: None: the application's global one. A ``NoOpTracerProvider``: metrics alone.
        meter_provider: None: the application's global one. A ``NoOpMeterProvider``: spans alone.
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
        traced: Mapping[type[Any], Callable[[Any], str | None]] = {}
        measured: Mapping[type[Any], Callable[[Any], None]] = {}
        if not isinstance(tracer_provider, trace.NoOpTracerProvider):
            traced = Spans(trace.get_tracer(SCOPE, release, tracer_provider), nested=join == "parent").told
        if not isinstance(meter_provider, metrics.NoOpMeterProvider):
            measured = Metrics(metrics.get_meter(SCOPE, release, meter_provider)).told
        self._told = {kind: (measured.get(kind), traced.get(kind)) for kind in {*measured, *traced}}
        altered = type(self).observe is not Telemetry.observe  # who knows what it wants
        self.wanted = ALL if altered else frozenset(self._told)

    def observe(self, moment: Moment) -> str | None:
        """For the engine."""
        measure, span = self._told.get(type(moment), NOBODY)
        if measure is not None:
            measure(moment)
        return None if span is None else span(moment)


def is_listened_to() -> bool:
    """Whether the application has set a provider: what comes with the API itself drops everything."""
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    return not all(type(provider).__module__.startswith(API) for provider in providers)
