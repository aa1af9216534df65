"""An operation as the task that the protocol has: its status, and what came of it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from mcp_types import CallToolResult, TextContent
from mcp_types.jsonrpc import INTERNAL_ERROR

from lro_aio.core.description import problem_of
from lro_aio.core.packed import detail_of
from lro_aio.core.payloads import is_empty
from lro_aio.core.proto_json import any_json
from lro_aio.core.record import Record, State
from lro_aio.core.shown_progress import progress_of
from lro_aio.core.status import DOMAIN, error_of
from lro_aio.engine.handlers import Handler
from lro_aio.mcp.asking import Question
from lro_aio.mcp.protocol import TaskDetails

__all__ = ["details", "dumped", "refusal"]

OF_THE_TOOL = frozenset({"HANDLER_ERROR", "OPERATION_FAILED", "RETRIES_EXHAUSTED"})
"""Reasons of a failure that the tool itself has raised. Any other is the engine's: a process that dies, a limit."""


def details(
    record: Record, task_id: str, handler: Handler, questions: Mapping[str, Question], *, poll_interval: float
) -> TaskDetails:
    """How it goes with a task.

    A tool that fails has *completed*, with ``isError``, as the protocol wants it: *failed* is a task that got no
    result of its tool.

    Args:
        record: The operation's row.
        task_id: What the caller calls it.
        handler: The tool's.
        questions: What it waits for.
        poll_interval: Seconds after which the caller may ask again.
    """
    task = TaskDetails(
        task_id=task_id,
        status="working",
        created_at=_iso(record.create_time),
        last_updated_at=_iso(record.update_time),
        ttl_ms=None if record.expire_time is None else round(1000 * (record.expire_time - record.create_time)),
        poll_interval_ms=round(1000 * poll_interval),
    )
    operation = record.to_operation()
    if record.state is State.CANCELLED:
        task.status = "cancelled"
    elif record.state is State.SUCCEEDED:
        task.status, task.result = "completed", dumped(_succeeded(operation.response, handler))
    elif record.done:
        _tell_failure(task, record)
    elif questions:
        task.status = "input_required"
        task.input_requests = {key: question.request for key, question in questions.items()}
    if not record.done:
        task.status_message = progress_of(operation).message or None
    return task


def refusal(text: str) -> CallToolResult:
    """What a model is told of a call that went wrong."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def dumped(result: CallToolResult) -> dict[str, Any]:
    """As it travels."""
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


def _tell_failure(task: TaskDetails, record: Record) -> None:
    problem, error = problem_of(record), error_of(record.to_operation())
    text = "the task failed" if problem is None else problem.message
    info = None if error is None else detail_of(error.packed_details, error_details_pb2.ErrorInfo)
    if info is None or info.domain != DOMAIN or info.reason in OF_THE_TOOL:
        task.status, task.result = "completed", dumped(refusal(text))
    else:
        task.status, task.status_message = "failed", text
        task.error = {"code": INTERNAL_ERROR, "message": text, "data": {"reason": info.reason}}


def _succeeded(response: any_pb2.Any, handler: Handler) -> CallToolResult:
    if handler.response.kind is CallToolResult:
        given: CallToolResult = handler.response.decode(response)
        return given
    if is_empty(response):
        return CallToolResult(content=[])
    members = any_json(response)
    value = members["value"] if "value" in members else {key: members[key] for key in members if key != "@type"}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    structured = value if isinstance(value, dict) else None
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)


def _iso(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="milliseconds")
