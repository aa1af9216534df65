"""The spans: one for each start, run, step and send. None of them stays open while an operation waits."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Any

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from lro_aio.core import moments
from lro_aio.core.moments import Moment
from lro_aio.core.tracing import CALLER, well_formed, written

__all__ = ["Spans"]

NOTHING = Context()
"""A context with nothing in it. None is altered: to set a value is to copy."""
FLAGS = {f"{flags:02x}": TraceFlags(flags) for flags in range(256)}
"""As they are written."""


class Spans:
    """Begins and ends spans at the moments of an engine.

    The spans of runs and steps are current while the handler's code runs: what libraries do there is below them.

    Args:
        tracer: Makes the spans.
        nested: Whether a run is a child of the start, and not only linked to it.
    """

    def __init__(self, tracer: Tracer, *, nested: bool) -> None:
        self._tracer = tracer
        self._nested = nested
        self._open: dict[object, Span] = {}
        """By the moment that began them."""
        self._current: dict[object, Token[Context]] = {}
        """By which the context is put back, of the spans that are current."""
        self.told: dict[type[Any], Callable[[Any], str | None]] = {
            moments.StartBegan: self._begin_start,
            moments.StartEnded: self._end_with_error,
            moments.RunBegan: self._begin_run,
            moments.RunEnded: self._end_run,
            moments.StepBegan: self._begin_step,
            moments.StepEnded: self._end_with_error,
            moments.SendBegan: self._begin_send,
            moments.SendEnded: self._end_with_error,
        }
        """Begins or ends the span of a moment, by its type; gives the trace context of one that began."""

    def _begin_start(self, moment: moments.StartBegan) -> str:
        parent = _around(_parsed(moment.traceparent)) if moment.explicit else _parent(moment.traceparent)
        name = f"start {moment.handler}" if moment.handler else "create"
        attributes = {"lro.operation.name": moment.name}
        if moment.handler:
            attributes["lro.handler"] = moment.handler
        span = self._tracer.start_span(name, parent, SpanKind.PRODUCER, attributes)
        self._open[moment] = span
        return written(span.get_span_context())

    def _begin_run(self, moment: moments.RunBegan) -> str:
        creation = _parsed(moment.traceparent)
        links = [] if creation is None else [Link(creation)]
        if moment.before:
            before = _parsed(moment.before)
            if before is not None:
                links.append(Link(before))
        attributes: dict[str, AttributeValue] = {
            "lro.operation.name": moment.name,
            "lro.handler": moment.handler,
            "lro.resume_point": moment.resume_point,
            "lro.attempt": moment.attempt,
        }
        if moment.wake is not None:
            attributes["lro.wake.reason"] = str(moment.wake)
        span = self._tracer.start_span(
            f"run {moment.handler}",
            _around(creation) if self._nested else NOTHING,
            SpanKind.CONSUMER,
            attributes,
            links,
        )
        self._enter(moment, span)
        return written(span.get_span_context())

    def _end_run(self, moment: moments.RunEnded) -> None:
        self._end(moment.began, moment.outcome, moment.error)

    def _begin_step(self, moment: moments.StepBegan) -> None:
        attributes: dict[str, AttributeValue] = {
            "lro.operation.name": moment.name,
            "lro.handler": moment.handler,
            "lro.attempt": moment.attempt,
        }
        self._enter(moment, self._tracer.start_span(f"step {moment.step}", None, SpanKind.INTERNAL, attributes))

    def _begin_send(self, moment: moments.SendBegan) -> None:
        attributes = {"lro.operation.name": moment.name, "lro.topic": moment.topic}
        span = self._tracer.start_span("send", _parent(CALLER.get()), SpanKind.PRODUCER, attributes)
        self._open[moment] = span

    def _end_with_error(self, moment: moments.StartEnded | moments.StepEnded | moments.SendEnded) -> None:
        self._end(moment.began, "", moment.error)

    def _enter(self, moment: Moment, span: Span) -> None:
        self._open[moment] = span
        self._current[moment] = contexts.attach(set_span_in_context(span))

    def _end(self, began: Moment, outcome: str, error: str) -> None:
        span, token = self._open.pop(began), self._current.pop(began, None)
        if token is not None:
            contexts.detach(token)
        if outcome:
            span.set_attribute("lro.outcome", outcome)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end()


def _parsed(traceparent: str) -> SpanContext | None:
    """The span that a W3C trace context names; None where it names none."""
    if not well_formed(traceparent):
        return None
    trace_id, span_id = int(traceparent[3:35], 16), int(traceparent[36:52], 16)  # the form has these places
    return SpanContext(trace_id, span_id, True, FLAGS[traceparent[53:]])


def _around(span: SpanContext | None) -> Context:
    """A context with this span, and with nothing else."""
    return NOTHING if span is None else set_span_in_context(NonRecordingSpan(span), NOTHING)


def _parent(caller: str) -> Context | None:
    """The context of the caller, where no span is current that is nearer."""
    if not caller or get_current_span().get_span_context().is_valid:
        return None
    return _around(_parsed(caller))
