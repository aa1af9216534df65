"""What ``reference.md`` shows, and in what order; ``build_reference.py`` makes the page."""

from __future__ import annotations

MOMENTS = [
    *(
        "StartBegan",
        "StartEnded",
        "RunBegan",
        "RunEnded",
        "StepBegan",
        "StepEnded",
        "SendBegan",
        "SendEnded",
        "Received",
    ),
    *("Started", "Suspended", "Retried", "Ended", "LeaseLost", "TakenOver", "Committed", "Swept", "Moment"),
]
"""What an observer is told, in the order of an operation's life."""

SECTIONS: dict[str, list[tuple[str, list[str]]]] = {
    "Client": [
        (
            "lro_aio",
            [
                "Client",
                "Stats",
                "Description",
                "Span",
                "HistoryEntry",
                "BulkPreview",
                "BulkResult",
                "OperationsService",
            ],
        ),
        ("lro_aio.core.stats", ["Count", "StateCount", "OwnerCount", "QueueCount", "DueRoute", "FailureGroup"]),
        ("lro_aio.core.description", ["Problem"]),
        ("lro_aio.core.bulk", ["BulkState"]),
        ("lro_aio", ["Schedule", "Schedules", "ScheduleInfo"]),
        ("lro_aio.core.schedules", ["Definition", "Overlap", "CatchUp"]),
        ("lro_aio.core.calendars", ["Calendar"]),
        ("lro_aio.ports", ["GetOperationStub"]),
        ("lro_aio.engine.life", ["ClosedError", "NeverOpenedError"]),
    ],
    "Operation": [
        ("lro_aio", ["Operation", "Message", "Suspended", "CancelReason", "WakeReason"]),
        ("lro_aio.engine.methods", ["MethodOperation"]),
        ("lro_aio.engine.suspension", ["Named"]),
        ("lro_aio.engine.remote_polls", ["Service"]),
    ],
    "Handlers": [
        ("lro_aio", ["Handlers", "RetryLater", "RateLimited", "Queue", "Rate"]),
        ("lro_aio", ["QueueStatus", "KeyStatus", "Bounds"]),
        ("lro_aio.core.queues", ["InLine"]),
        ("lro_aio.engine.queues", ["Queues"]),
        ("lro_aio.engine.handlers", ["Registered", "Register", "RegisterAs", "HandlerFunction"]),
        ("lro_aio.core.codec", ["Upgrade"]),
    ],
    "Remote": [
        ("lro_aio", ["RemoteOperation"]),
        (
            "lro_aio.remote",
            [
                "GrpcTransport",
                "HttpTransport",
                "LocalTransport",
                "Transport",
                "gather",
                "as_completed",
                "to_api_core",
                "DEFAULT_POLL",
                "DEFAULT_RETRY",
            ],
        ),
        ("lro_aio.remote.transport", ["HasTransport", "Metadata"]),
    ],
    "Policies": [
        ("lro_aio", ["LeasePolicy", "Limits", "PollPolicy", "RetentionPolicy", "RetryPolicy", "SweepPolicy"]),
        ("lro_aio.core.policies", ["Duration"]),
    ],
    "Webhooks": [
        ("lro_aio", ["Webhook", "Webhooks"]),
        ("lro_aio.webhooks", ["verify", "SignatureError"]),
        ("lro_aio.webhooks.rules", ["Secrets"]),
        ("lro_aio.webhooks.delivering", ["Delivered", "DeliveryState"]),
    ],
    "Observing": [("lro_aio", ["Observer", "Telemetry"]), ("lro_aio.core.moments", MOMENTS)],
    "Errors": [],
    "Stores": [
        ("lro_aio", ["SqliteStore", "PostgresStore", "SpannerStore"]),
        ("lro_aio.ports", ["Store", "ListQuery", "Look", "StatsQuery", "Route"]),
        ("lro_aio.core.change", ["Change", "Outcome", "run"]),
        ("lro_aio.core.journal", ["Entry", "Kind", "Appending"]),
        ("lro_aio.core.record", ["Plan", "Record", "Seat", "State", "Wait", "Wake"]),
        ("lro_aio.core.queues", ["QueueTerms"]),
        ("lro_aio.core.queueing", ["Rest"]),
        ("lro_aio.core.step_places", ["StepPlaces", "Take"]),
    ],
    "Schedulers": [
        ("lro_aio", ["LocalScheduler", "WorkflowsScheduler", "CloudTasksScheduler"]),
        ("lro_aio.ports", ["Scheduler", "SchedulerHost", "Clock"]),
    ],
    "Servers": [
        ("lro_aio.servers.grpc", []),
        ("lro_aio.servers.fastapi", []),
        ("lro_aio.servers.resume", ["ResumeApp", "Verifier", "UnauthenticatedError", "allow_unverified"]),
        ("lro_aio.servers.oidc", ["OidcVerifier", "CertificatesUnavailableError"]),
        ("lro_aio.servers.calls", ["Authorize", "MAX_WAIT"]),
        ("lro_aio.servers.errors", ["RequestError"]),
        ("lro_aio.servers.tracing", []),
    ],
    "Dashboard": [("lro_aio.dashboard", [])],
    "Agents": [("lro_aio.mcp", [])],
    "Testing": [
        ("lro_aio.testing", []),
        ("lro_aio.testing.oidc", ["Flaw"]),
        ("lro_aio.testing.spanner", ["Call", "SpannerError"]),
        ("lro_aio.testing.workflows", ["Request"]),
        ("lro_aio.testing.plugin", []),
        ("lro_aio.testing.store_contract", []),
        ("lro_aio.testing.scheduler_contract", []),
    ],
    "Functions": [("lro_aio", ["unmarshal_operation", "wait_operation"])],
    "Constants": [
        (
            "lro_aio",
            ["OPERATION_ID_HEADER", "OPERATION_COLUMN_NAME", "STATE_COLUMN_NAME", "RESUME_POINT_COLUMN_NAME"],
        ),
        ("lro_aio", ["Code"]),
    ],
}
"""Heading -> modules and the names of each; no names: its ``__all__``. The errors find themselves."""

DESCRIBED = {module for title in ("Servers", "Testing") for module, _ in SECTIONS[title]} - {
    "lro_aio.servers.calls",
    "lro_aio.servers.errors",
}
"""Modules whose own docstring is shown."""

PORTS = {
    "SqliteStore": "lro_aio.ports.Store",
    "PostgresStore": "lro_aio.ports.Store",
    "SpannerStore": "lro_aio.ports.Store",
    "FaultyStore": "lro_aio.ports.Store",
    "LocalScheduler": "lro_aio.ports.Scheduler",
    "WorkflowsScheduler": "lro_aio.ports.Scheduler",
    "CloudTasksScheduler": "lro_aio.ports.Scheduler",
    "ManualClock": "lro_aio.ports.Clock",
}
"""What implements a port repeats none of its methods."""

BASES = {
    "Client": [
        "lro_aio.engine.controls.Controls",
        "lro_aio.engine.bulk.Bulk",
        "lro_aio.engine.lookups.Lookups",
        "lro_aio.engine.seeing.Seeing",
    ],
    "Operation": ["lro_aio.engine.durable.Durable", "lro_aio.engine.telling.Telling"],
}
"""Classes whose methods are shown as those of the one that users see."""

SHORT = {
    "lro_aio": "lro",
    "lro_aio.remote": "lro.remote",
    "lro_aio.webhooks": "lro.webhooks",
    "lro_aio.core.moments": "lro.moments",
}
"""Modules under the names that users write."""

OPAQUE = {"Transport", "GrpcTransport", "HttpTransport", "LocalTransport"}
"""Classes that users make and hand over; their methods are called by the package alone."""
