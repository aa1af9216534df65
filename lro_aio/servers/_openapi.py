"""What the OpenAPI document says of operations: what callers send, every answer, and the results of handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from pydantic import BaseModel, Field, TypeAdapter, create_model

from lro_aio.client import Client
from lro_aio.core.names import MAX_LABEL
from lro_aio.engine.messages import MAX_MESSAGE_ID

__all__ = [
    "GET_BODY",
    "REASON_BODY",
    "RERUN_BODY",
    "SENT_BODY",
    "WAIT_BODY",
    "Answers",
    "Responses",
    "azure_answers",
    "body",
    "google_answers",
]

Responses = dict[int | str, dict[str, Any]]
"""FastAPI's description of the answers of one route, by status."""


def body(properties: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """OpenAPI of a route that takes a JSON object with these members. Without a required one, it may have no body."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return {"requestBody": {"required": bool(required), "content": {"application/json": {"schema": schema}}}}


SENT_BODY = body(
    {
        "topic": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL},
        "payload": {"description": "any JSON"},
        "messageId": {
            "type": "string",
            "maxLength": MAX_MESSAGE_ID,
            "description": "of two messages of a topic with the same id, one is kept",
        },
    },
    ["topic"],
)
"""What ``:send`` takes."""

REASON_BODY = body({"reason": {"type": "string", "description": "for the history"}})
"""What ``:cancel``, ``:pause`` and ``:unpause`` take."""

RERUN_BODY = body({"requestId": {"type": "string", "description": "the same for a repeat of one request"}})
"""What ``:rerun`` takes."""

WAIT_BODY = body({"timeout": {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?s$", "examples": ["30s"]}})
"""What ``:wait`` takes."""

GET_BODY = body({"name": {"type": "string"}}, ["name"])
"""What ``GetOperation`` takes by the path of its RPC."""


class Error(BaseModel):
    """Why an operation failed: a ``google.rpc.Status``."""

    code: int = 0
    message: str = ""
    details: list[dict[str, Any]] = []


class Refusal(BaseModel):
    """Why a request was refused (AIP-193)."""

    code: int
    """Of HTTP."""
    message: str
    status: str
    """Canonical code, such as NOT_FOUND."""
    details: list[dict[str, Any]] = []


class ErrorAnswer(BaseModel):
    """The body of an answer that refuses a request."""

    error: Refusal


class AzureInnerError(BaseModel):
    """Google's view of an error."""

    code: str
    details: list[dict[str, Any]] = []


class AzureError(BaseModel):
    """Azure's view of an error."""

    code: str
    message: str
    innererror: AzureInnerError


class AzureErrorAnswer(BaseModel):
    """The body of an answer that refuses a request."""

    error: AzureError


class BulkPreview(BaseModel):
    """How many operations a verb over many would act on."""

    count: int
    more: bool = False
    sample: list[str] = []


class Schedule(BaseModel):
    """How it goes with a schedule."""

    name: str
    operation: str
    """Its own row."""
    handler: str
    cron: str
    every: float
    """Seconds."""
    timezone: str
    overlap: Literal["skip", "queue", "allow"]
    catchUp: Literal["none", "one", "all"]  # noqa: N815 (as it is on the wire)
    jitter: float
    """Seconds."""
    fingerprint: str
    version: int
    paused: bool
    reason: str
    upcoming: list[str]
    """The next moments."""
    last: str | None
    """The last moment."""
    lastOperation: str  # noqa: N815
    queued: int
    started: int
    skipped: int
    missed: int
    failures: int
    """In a row."""


class SchedulesPage(BaseModel):
    """All of them."""

    schedules: list[Schedule]


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a router's routes."""

    operation: Responses
    """An operation, or a status monitor."""
    page: Responses
    """A list."""
    nothing: Responses
    """``{}``, or nothing at all."""
    many: Responses
    """A preview, or the operation that acts on many."""
    events: Responses
    """A stream of operations."""
    schedule: Responses
    """How it goes with a schedule."""
    schedules: Responses
    """How it goes with all of them."""
    backfill: Responses
    """The operations of past moments."""


def google_answers(client: Client) -> Answers:
    """The answers in Google's style, with the results that the handlers declare by now."""
    data = _declared(client)
    response: Any = dict[str, Any] | None
    if data is not None:
        response = create_model("OperationResult", type=(str, Field(alias="@type")), value=(data, ...)) | response
    members: dict[str, Any] = {
        "name": (str, ...),
        "metadata": (dict[str, Any] | None, None),
        "done": (bool, False),
        "error": (Error | None, None),
        "response": (response, None),
    }
    operation = create_model("Operation", **members)
    page = create_model("OperationsPage", operations=(list[operation], []), nextPageToken=(str, ""))
    resumption: dict[str, Any] = {"nextStart": (str | None, None), "nextTime": (str | None, None)}
    filled = create_model("Backfilled", operations=(list[operation], ...), **resumption)
    empty = create_model("Empty")
    stream: Responses = {
        200: {"description": "the operation, whenever it changes", "content": {"text/event-stream": _TEXT}},
        204: {"description": "the caller has seen the end (Last-Event-ID)"},
        **_refusals(ErrorAnswer),
    }
    return Answers(
        operation=_answer(operation, "the operation", ErrorAnswer),
        page=_answer(page, "a page of the list", ErrorAnswer),
        nothing=_answer(empty, "done", ErrorAnswer),
        many=_answer(operation | BulkPreview, "what acts on them; without force, what it would do", ErrorAnswer),
        events=stream,
        schedule=_answer(Schedule, "how it goes with it", ErrorAnswer),
        schedules=_answer(SchedulesPage, "how it goes with each", ErrorAnswer),
        backfill=_answer(
            filled, "what was started; the same from nextStart, after nextTime, starts the rest", ErrorAnswer
        ),
    )


def azure_answers(client: Client) -> Answers:
    """The same in Azure's style, which has fewer routes."""
    data = _declared(client)
    members: dict[str, Any] = {
        "id": (str, ...),
        "name": (str, ...),
        "kind": (str | None, None),
        "status": (Literal["NotStarted", "Running", "Succeeded", "Failed", "Canceled"], ...),
        "percentComplete": (float | None, None),
        "metadata": (Any, None),
        "error": (AzureError | None, None),
        "result": (Any if data is None else data | Any, None),  # what messages are in Azure's style depends on them
    }
    monitor = create_model("StatusMonitor", **members)
    page = create_model("StatusMonitorsPage", value=(list[monitor], ...), nextLink=(str | None, None))
    gone: Responses = {204: {"description": "it is gone"}, **_refusals(AzureErrorAnswer)}
    told = _answer(monitor, "the status monitor", AzureErrorAnswer)
    pages = _answer(page, "a page of the list", AzureErrorAnswer)
    return Answers(operation=told, page=pages, nothing=gone, many={}, events={}, schedule={}, schedules={}, backfill={})


_TEXT = {"schema": {"type": "string"}}


def _answer(model: Any, description: str, refusal: type[BaseModel]) -> Responses:
    return {200: {"model": model, "description": description}, **_refusals(refusal)}


def _refusals(model: type[BaseModel]) -> Responses:
    return {
        "4XX": {
            "model": model,
            "description": "refused: 400 malformed, or not possible now; 403 not allowed; 404 unknown; 409 taken, or"
            " superseded; 413 too large; 415 a form; 425 too early; 429 too much",
        },
        "5XX": {
            "model": model,
            "description": "500 a fault; 501 not supported; 503 not available now, with Retry-After; 504 too late",
        },
    }


def _declared(client: Client) -> Any:
    """The types of data that the handlers declare, which are registered by now. None for none."""
    kinds = [handler.response.data for handler in client.handlers if not handler.own]
    described = [kind for kind in dict.fromkeys(kinds) if kind is not None and _has_schema(kind)]
    return Union[tuple(described)] if described else None  # noqa: UP007 (the members are known at run time alone)


def _has_schema(kind: Any) -> bool:
    """Whether the type can be described: one that cannot must not take the whole document with it."""
    try:
        TypeAdapter(kind).json_schema(mode="serialization")
    except Exception:  # noqa: BLE001 (the user's class may raise anything)
        return False
    return True
