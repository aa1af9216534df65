"""The caller's side: a handle for any long-running operation, whoever runs it.

::

    transport = lro.remote.GrpcTransport(channel)          # or HttpTransport(httpx_client, base_url, style=...)
    handle = lro.RemoteOperation(transport, await stub.CreateReport(request), response_type=Report)
    report = await handle

    handle.py     RemoteOperation: one operation
    many.py       gather, as_completed: many at once
    transport.py  the seam: Transport, Place, Reply
    grpc.py  http.py  local.py              the ways to a service
    google_style.py  azure.py  azure_monitor.py                  how to read the answers of HTTP services
    answers.py  azure_errors.py  retry_after.py  addresses.py    ... refusals, and where answers may lead
    polling.py    the polling, shared by the handles of a transport
    tokens.py  messages.py                  texts and messages in and out
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lro_aio.core.policies import PollPolicy, RetryPolicy
from lro_aio.remote.convert import to_api_core
from lro_aio.remote.handle import RemoteOperation
from lro_aio.remote.local import LocalTransport
from lro_aio.remote.many import as_completed, gather
from lro_aio.remote.transport import DEFAULT_POLL, DEFAULT_RETRY, Transport

if TYPE_CHECKING:
    from lro_aio.remote.grpc import GrpcTransport
    from lro_aio.remote.http import HttpTransport

__all__ = [
    "DEFAULT_POLL",
    "DEFAULT_RETRY",
    "GrpcTransport",
    "HttpTransport",
    "LocalTransport",
    "PollPolicy",
    "RemoteOperation",
    "RetryPolicy",
    "Transport",
    "as_completed",
    "gather",
    "to_api_core",
]

_LAZY = {"GrpcTransport": ("lro_aio.remote.grpc", ""), "HttpTransport": ("lro_aio.remote.http", "http")}
"""Imported when they are used: HTTP does not need grpc, and gRPC does not need httpx."""


def __getattr__(name: str) -> Any:
    from lro_aio._missing import needs

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _LAZY[name]
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as exc:
        if not extra:
            raise
        raise needs(f"remote.{name}", extra) from exc
