"""Webhooks: other services are told how operations end, signed, and only where the service allows it.

``Client(webhooks=lro.Webhooks(...))`` and ``start(..., webhook=lro.Webhook(url))`` send; ``verify`` is for those who
receive. Loading this file loads no HTTP client.
"""

from __future__ import annotations

from lro_aio._missing import needs
from lro_aio.core.webhooks import EVENTS, Webhook
from lro_aio.engine.handlers import Handlers
from lro_aio.ports import Scheduler
from lro_aio.webhooks.rules import Webhooks
from lro_aio.webhooks.signing import SignatureError, verify

__all__ = ["EVENTS", "SignatureError", "Webhook", "Webhooks", "installed", "verify"]


def installed(rules: object, handlers: Handlers, scheduler: Scheduler, max_running: int) -> Webhooks:
    """Have a client deliver; returns the rules, with the service's own address where it is known. For the client.

    Args:
        rules: As given.
        handlers: Of the client.
        scheduler: Of the client.
        max_running: Of the client.

    Raises:
        TypeError: They are no rules.
        ImportError: There is no HTTP client. It says what to install.
    """
    if not isinstance(rules, Webhooks):
        raise TypeError(f"webhooks must be a Webhooks, not {type(rules).__name__}")
    try:
        from lro_aio.webhooks import delivering
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "httpx":
            raise
        raise needs("Client(webhooks=...)", "http") from exc
    rules = rules.of_service(getattr(scheduler, "resume_host", ""))
    handlers.include(delivering.handlers(rules, max_running))
    return rules
