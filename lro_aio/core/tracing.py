"""The trace of whoever calls, as far as it can be known without any library for traces.

Where the program uses OpenTelemetry, its API is loaded already; where it does not, nothing here loads it.
"""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from typing import Any

__all__ = ["CALLER", "HEADER", "current_ids", "current_traceparent", "well_formed", "written"]

HEADER = "traceparent"
"""HTTP header and gRPC metadata key of a W3C trace context."""

CALLER: ContextVar[str] = ContextVar("lro_aio_caller", default="")
"""The W3C trace context that came with the request that a server answers; "" for none."""


_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def well_formed(sent: str) -> str:
    """The W3C trace context that a caller sent; "" where it is malformed, which is no reason to refuse a request."""
    return sent if _FORM.fullmatch(sent) else ""


def current_traceparent() -> str:
    """The W3C trace context of the span that is current; "" where there is none."""
    span = _current()
    return "" if span is None else written(span)


def written(span: Any) -> str:
    """The W3C trace context of a span, by its ``SpanContext``; "" where nobody traces."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}" if span.is_valid else ""


def current_ids() -> dict[str, str]:
    """``trace_id`` and ``span_id`` of the span that is current, as in traces; empty where there is none."""
    span = _current()
    return {} if span is None else {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def _current() -> Any:
    """The ``SpanContext`` of the span that is current; None for none."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None or not hasattr(api, "get_current_span"):  # the module may just be being loaded, by another thread
        return None
    span = api.get_current_span().get_span_context()
    return span if span.is_valid else None
