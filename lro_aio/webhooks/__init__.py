"""Webhooks: other services are told how operations end, signed, and only where the service allows it.

``Client(webhooks=lro.Webhooks(...))`` and ``start(..., webhook=lro.Webhook(url))`` send; ``verify`` is for those who
receive. Loading this file loads no HTTP client.
"""

from __future__ import annotations

from lro_aio._missing import needs
from lro_aio.core.webhooks import EVENTS, Webhook
from lro_aio.engine.handlers import Handlers
from lro_aio.webhooks.rules import Webhooks
from lro_aio.webhooks.signing import SignatureError, verify

__all__ = ["EVENTS", "SignatureError", "Webhook", "Webhooks", "handlers_of", "verify"]


def handlers_of(rules: Webhooks, max_running: int) -> Handlers:
    """What delivers; for the client.

    Raises:
        ImportError: There is no HTTP client. It says what to install.
    """
    try:
        from lro_aio.webhooks.delivering import handlers
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "httpx":
            raise
        raise needs("Client(webhooks=...)", "http") from exc
    return handlers(rules, max_running)
