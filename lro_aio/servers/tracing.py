"""The trace of a request's caller, for what its endpoint starts. For any ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lro_aio.core.tracing import CALLER, HEADER, well_formed

__all__ = ["TraceContext"]

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class TraceContext:
    """ASGI middleware: what is started while a request is answered has the caller's ``traceparent`` as its parent.

    ``install_error_handlers`` adds it to a FastAPI application. Where a span is current, as with OpenTelemetry's own
    instrumentation, that is the parent. A malformed header counts as none.

    Args:
        app: The application.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Called by the server for every request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = next((value for key, value in scope["headers"] if key == HEADER.encode()), b"")
        before = CALLER.set(well_formed(sent.decode("latin-1")))
        try:
            await self._app(scope, receive, send)
        finally:
            CALLER.reset(before)
