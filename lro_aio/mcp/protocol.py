"""The shapes of the tasks extension, which the SDK does not have: its specification of 2026-07-28."""

from __future__ import annotations

from typing import Any, Literal

from mcp_types import InputResponses, Notification, Request, RequestParams, Result

__all__ = [
    "EXTENSION",
    "CancelTaskRequest",
    "GetTaskRequest",
    "Task",
    "TaskCreated",
    "TaskDetails",
    "TaskNotification",
    "TaskParams",
    "UpdateTaskParams",
    "UpdateTaskRequest",
    "sent",
]

EXTENSION = "io.modelcontextprotocol/tasks"
"""What client and server declare."""


class Task(Result):
    """What every answer tells of a task. Times are ISO 8601, durations milliseconds."""

    task_id: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    status_message: str | None = None
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int | None = None


class TaskCreated(Task):
    """The answer to ``tools/call`` where a task stands for the result."""

    result_type: Literal["task"] = "task"


class TaskDetails(Task):
    """The answer to ``tasks/get``."""

    input_requests: dict[str, Any] | None = None
    """What is asked of the client, by key; of ``input_required``."""
    result: dict[str, Any] | None = None
    """A ``CallToolResult``; of ``completed``."""
    error: dict[str, Any] | None = None
    """A JSON-RPC error; of ``failed``."""
    result_type: Literal["complete"] = "complete"


class TaskParams(RequestParams):
    """Of ``tasks/get`` and ``tasks/cancel``."""

    task_id: str


class UpdateTaskParams(TaskParams):
    """Of ``tasks/update``."""

    input_responses: InputResponses


class GetTaskRequest(Request[TaskParams, Literal["tasks/get"]]):
    """How it goes with a task."""

    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams
    name_param = "taskId"


class UpdateTaskRequest(Request[UpdateTaskParams, Literal["tasks/update"]]):
    """Answers to what a task has asked."""

    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateTaskParams
    name_param = "taskId"


class CancelTaskRequest(Request[TaskParams, Literal["tasks/cancel"]]):
    """A wish that a task ends."""

    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskParams
    name_param = "taskId"


class TaskNotification(Notification[dict[str, Any], Literal["notifications/tasks"]]):
    """How it goes with a task, as ``tasks/get`` tells it, to a client that listens."""

    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]


def sent(task: Task) -> dict[str, Any]:
    """As it travels: with a ``ttlMs`` of null where nothing says when the task goes."""
    return {**task.model_dump(mode="json", by_alias=True, exclude_none=True), "ttlMs": task.ttl_ms}
