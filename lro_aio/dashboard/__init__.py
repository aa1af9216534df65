"""A dashboard for operators: what runs, waits and fails, and what to do about it. Any ASGI server or framework."""

from __future__ import annotations

from lro_aio._missing import needs

try:
    import jinja2 as _jinja2
    import starlette as _starlette
except ImportError as exc:
    raise needs("dashboard", "dashboard") from exc

from lro_aio.dashboard.access import Access, Authorize
from lro_aio.dashboard.app import Dashboard
from lro_aio.dashboard.showing import Show, Shown

__all__ = ["Access", "Authorize", "Dashboard", "Show", "Shown"]

del _jinja2, _starlette
