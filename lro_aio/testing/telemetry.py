"""Spans and metrics of a test, in memory. Needs the SDK of OpenTelemetry."""

from __future__ import annotations

from typing import Any, Literal

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lro_aio.telemetry.otel import Telemetry

__all__ = ["TelemetryRecorder"]


class TelemetryRecorder:
    """Keeps what a client tells OpenTelemetry: ``Client(telemetry=recorder.telemetry)``.

    The providers are its own: nothing global is set.

    Args:
        join: As in ``Telemetry``.
    """

    def __init__(self, join: Literal["link", "parent"] = "link") -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        nothing = Resource.get_empty()  # what finds out about the machine would block the event loop
        self.tracer_provider = TracerProvider(resource=nothing, shutdown_on_exit=False)
        """For spans of the test's own."""
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], nothing, shutdown_on_exit=False)
        self.telemetry = Telemetry(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, join=join)
        """For ``Client(telemetry=...)``."""

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """The spans that have ended, in that order.

        Args:
            name: Only those of this name; "" for all.
        """
        return [span for span in self._exporter.get_finished_spans() if name in ("", span.name)]

    def span(self, name: str) -> ReadableSpan:
        """The one span of this name that has ended.

        Raises:
            LookupError: There is none, or more than one; says which there are.
        """
        found = self.spans(name)
        if len(found) != 1:
            raise LookupError(
                f"{len(found)} spans are named {name!r}; there are {[span.name for span in self.spans()]}"
            )
        return found[0]

    def points(self, name: str) -> list[Any]:
        """The data points of a metric, one for each set of attributes, as of now; none where nothing was recorded."""
        resources = self._collected().resource_metrics
        metrics = [metric for resource in resources for scope in resource.scope_metrics for metric in scope.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def metrics(self) -> str:
        """All metrics as of now, as JSON."""
        return self._collected().to_json()

    def _collected(self) -> MetricsData:
        return self._reader.get_metrics_data() or MetricsData(resource_metrics=[])

    def close(self) -> None:
        """Stop the providers."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
