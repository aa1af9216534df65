"""Durable ``google.longrunning`` operations for asyncio services.

The layers. A module imports from the lines below its own, and from its own folder::

    cli                         the ``lro`` command
    dashboard, mcp              pages for operators and tools for agents, over a client
    servers, testing            what users touch besides the client; servers only translate
    lro_aio                     this file: the public names
    client                      puts store, scheduler, handlers and clock together
    webhooks                    tells other services how operations end: signed, and only where it may
    remote, schedulers, stores  the caller's side of any service; one module or folder per product
    telemetry                   what observers are told, as OpenTelemetry's spans and metrics
    engine                      all of the asyncio
    ports                       the contracts, as docstrings: Store, Scheduler, Clock, OperationsService
    core, _missing              pure: an operation's row (``record.py``), every rule of its life (``transitions.py``)

Stores and schedulers import ``core`` and ``ports`` only, and never each other. ``import lro_aio`` loads no server,
dashboard, MCP, CLI, PostgreSQL, Spanner or Workflows code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lro_aio.client import Client
from lro_aio.core import failures as failures
from lro_aio.core import moments as moments
from lro_aio.core.bulk import BulkPreview, BulkResult
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    ClockSkewError,
    InvalidFilterError,
    InvalidOperationNameError,
    InvalidPageTokenError,
    InvalidTokenError,
    InvalidTransitionError,
    LeaseLostError,
    LroError,
    OperationAlreadyExistsError,
    OperationBusyError,
    OperationCancelledError,
    OperationDoneError,
    OperationFailedError,
    OperationNotDoneError,
    OperationNotFoundError,
    PayloadTooLargeError,
    RemoteCallError,
    RemoteProtocolError,
    ResponseDataError,
    SchedulerUnavailableError,
    StateCodecError,
    StoreDataError,
    StoreRefusedError,
    StoreSchemaError,
    StoreUnavailableError,
    UnknownHandlerError,
    UnknownResumePointError,
    WaitDeadlineExceededError,
    WorkerUnavailableError,
)
from lro_aio.core.moments import Observer
from lro_aio.core.policies import LeasePolicy, Limits, PollPolicy, RetentionPolicy, RetryPolicy, SweepPolicy
from lro_aio.core.queues import Bounds, KeyStatus, Queue, QueueStatus, Rate, RateLimited
from lro_aio.core.record import WakeReason
from lro_aio.core.results import unmarshal_operation
from lro_aio.core.webhooks import Webhook
from lro_aio.engine.children import wait_operation
from lro_aio.engine.handlers import Handlers, RetryLater
from lro_aio.engine.operation import CancelReason, Operation
from lro_aio.engine.straight import Message
from lro_aio.engine.suspension import Suspended
from lro_aio.ports import OperationsService
from lro_aio.schedulers.local import LocalScheduler

if TYPE_CHECKING:
    from lro_aio import remote as remote
    from lro_aio import webhooks as webhooks
    from lro_aio.core.description import Description
    from lro_aio.core.history import HistoryEntry
    from lro_aio.core.schedules import Schedule, ScheduleInfo
    from lro_aio.core.stats import Stats
    from lro_aio.core.timeline import Span
    from lro_aio.engine.schedules import Schedules
    from lro_aio.remote import RemoteOperation
    from lro_aio.schedulers.cloud_tasks import CloudTasksScheduler
    from lro_aio.schedulers.workflows import WorkflowsScheduler
    from lro_aio.stores.postgres import PostgresStore
    from lro_aio.stores.spanner import SpannerStore
    from lro_aio.stores.sqlite import SqliteStore
    from lro_aio.telemetry.otel import Telemetry
    from lro_aio.webhooks import Webhooks

__version__ = "0.1.0"

OPERATION_ID_HEADER = "x-alis-operation-id"
"""gRPC metadata key and HTTP header with the name of an operation that already exists."""

OPERATION_COLUMN_NAME = "Operation"
"""Spanner column of the operation, as in the Go package."""
STATE_COLUMN_NAME = "State"
"""Spanner column of the handler state, as in the Go package."""
RESUME_POINT_COLUMN_NAME = "ResumePoint"
"""Spanner column of the resume point, as in the Go package."""

__all__ = [  # noqa: RUF022 (in the order of sorted(), which anybody can check)
    "Bounds",
    "BulkPreview",
    "BulkResult",
    "CancelReason",
    "Client",
    "ClockSkewError",
    "CloudTasksScheduler",
    "Code",
    "Description",
    "Handlers",
    "HistoryEntry",
    "InvalidFilterError",
    "InvalidOperationNameError",
    "InvalidPageTokenError",
    "InvalidTokenError",
    "InvalidTransitionError",
    "KeyStatus",
    "LeaseLostError",
    "LeasePolicy",
    "Limits",
    "LocalScheduler",
    "LroError",
    "Message",
    "OPERATION_COLUMN_NAME",
    "OPERATION_ID_HEADER",
    "Observer",
    "Operation",
    "OperationAlreadyExistsError",
    "OperationBusyError",
    "OperationCancelledError",
    "OperationDoneError",
    "OperationFailedError",
    "OperationNotDoneError",
    "OperationNotFoundError",
    "OperationsService",
    "PayloadTooLargeError",
    "PollPolicy",
    "PostgresStore",
    "Queue",
    "QueueStatus",
    "RESUME_POINT_COLUMN_NAME",
    "Rate",
    "RateLimited",
    "RemoteCallError",
    "RemoteOperation",
    "RemoteProtocolError",
    "ResponseDataError",
    "RetentionPolicy",
    "RetryLater",
    "RetryPolicy",
    "STATE_COLUMN_NAME",
    "Schedule",
    "ScheduleInfo",
    "SchedulerUnavailableError",
    "Schedules",
    "Span",
    "SpannerStore",
    "SqliteStore",
    "StateCodecError",
    "Stats",
    "StoreDataError",
    "StoreRefusedError",
    "StoreSchemaError",
    "StoreUnavailableError",
    "Suspended",
    "SweepPolicy",
    "Telemetry",
    "UnknownHandlerError",
    "UnknownResumePointError",
    "WaitDeadlineExceededError",
    "WakeReason",
    "Webhook",
    "Webhooks",
    "WorkerUnavailableError",
    "WorkflowsScheduler",
    "unmarshal_operation",
    "wait_operation",
]


_LAZY = {
    "CloudTasksScheduler": ("lro_aio.schedulers.cloud_tasks", "tasks"),
    "Description": ("lro_aio.core.description", ""),
    "HistoryEntry": ("lro_aio.core.history", ""),
    "PostgresStore": ("lro_aio.stores.postgres", "postgres"),
    "RemoteOperation": ("lro_aio.remote", ""),
    "Schedule": ("lro_aio.core.schedules", ""),
    "ScheduleInfo": ("lro_aio.core.schedules", ""),
    "Schedules": ("lro_aio.engine.schedules", ""),
    "Span": ("lro_aio.core.timeline", ""),
    "SpannerStore": ("lro_aio.stores.spanner", "spanner"),
    "SqliteStore": ("lro_aio.stores.sqlite", ""),
    "Stats": ("lro_aio.core.stats", ""),
    "Telemetry": ("lro_aio.telemetry.otel", "otel"),
    "Webhooks": ("lro_aio.webhooks", ""),
    "WorkflowsScheduler": ("lro_aio.schedulers.workflows", "workflows"),
}
"""Names that are imported on first use -> their module, and the extra that it needs."""


def __getattr__(name: str) -> Any:
    from lro_aio._missing import needs

    if name in ("remote", "webhooks"):
        return import_module(f"lro_aio.{name}")
    if name in _LAZY:
        module, extra = _LAZY[name]
        try:
            value = getattr(import_module(module), name)
        except ModuleNotFoundError as exc:
            if not extra:
                raise
            raise needs(name, extra) from exc
        value.__module__ = __name__
        return value
    raise AttributeError(f"module 'lro_aio' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is imported on first use is shown too: to whoever completes a name, or looks for what there is."""
    return sorted({*globals(), *__all__})


def _show_public_names() -> None:
    """Let tracebacks and docs show the names that users import."""
    for name in __all__:
        value = globals().get(name)
        if getattr(value, "__module__", "").startswith("lro_aio."):
            value.__module__ = __name__


_show_public_names()
