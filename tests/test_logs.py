"""Every log record has a stable machine key: ``extra=`` with the event, the operation and its handler."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

import lro_aio
from lro_aio.core import logs

PACKAGE = Path(lro_aio.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def log_calls(source: str) -> Iterator[ast.Call]:
    """Every ``logger.<level>(...)`` in a file, however the logger is reached."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            holder = node.func.value
            name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
            if "log" in name.lower():
                yield node


def passes_the_fields(call: ast.Call) -> bool:
    extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
    made_here = isinstance(extra, ast.Call) and isinstance(extra.func, ast.Name)
    return made_here and extra.func.id in logs.__all__


def test_every_log_call_passes_the_fields() -> None:
    seen, bare = set(), []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        for call in log_calls(path.read_text()):
            seen.add(name)
            if not passes_the_fields(call):
                bare.append(f"{name}:{call.lineno}")
    assert bare == []
    assert {"client.py", "schedulers/local.py", "engine/sweep.py"} <= seen


def test_where_a_span_is_current_a_record_names_it() -> None:
    context = SpanContext(0xA, 0xB, is_remote=False)
    with trace.use_span(NonRecordingSpan(context)):
        told = logs.event("ran", operation="operations/a")
    assert (told["trace_id"], told["span_id"]) == (f"{0xA:032x}", f"{0xB:016x}")
    assert told["operation"] == "operations/a"


def test_the_fields_are_always_all_there() -> None:
    assert logs.event("swept") == {"event": "swept", "operation": "", "handler": ""}
    assert logs.event("ran", operation="operations/a", handler="count").keys() == logs.event("swept").keys()
