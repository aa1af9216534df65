"""The client's side: calls of tools whose results come later look like any other call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
from mcp.client import ClientSession
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult, Result

from lro_aio.mcp.protocol import (
    EXTENSION,
    CancelTaskRequest,
    GetTaskRequest,
    TaskCreated,
    TaskDetails,
    TaskParams,
    UpdateTaskParams,
    UpdateTaskRequest,
)

__all__ = ["Answer", "FollowTasks", "TaskFailedError"]

Answer = Callable[[str, Mapping[str, Any]], Awaitable[ElicitResult]]
"""Answers a question: takes its key and the params of its ``elicitation/create``."""
POLL = 1.0
"""Seconds between two looks at a task where the server does not say."""
PATIENCE = 5.0
"""Seconds that a cancelled call takes to cancel its task."""
REQUEST_CANCELLED = -32800
"""The code of a request that was cancelled, in the Language Server Protocol; MCP has none."""


class TaskFailedError(MCPError):
    """The task has ended without a result of its tool: it failed or was cancelled."""


class FollowTasks(ClientExtension):
    """Lets ``call_tool`` return when the task has ended: ``mcp.Client(url, extensions=[FollowTasks()])``.

    A call that is cancelled cancels its task. To keep a task beyond the process, take the claimed result instead, and
    ask for the task with ``GetTaskRequest``.

    Args:
        answer: Answers what tools ask. None: a tool that asks waits for somebody else's answer.
    """

    identifier = EXTENSION

    def __init__(self, answer: Answer | None = None) -> None:
        self._answer = answer

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """For the SDK."""
        return [ResultClaim(result_type="task", model=TaskCreated, resolve=self._follow)]

    async def _follow(self, task: TaskCreated, context: ClaimContext) -> CallToolResult:
        params = TaskParams(task_id=task.task_id)
        answered: set[str] = set()
        try:
            while True:
                now = await context.session.send_request(GetTaskRequest(params=params), TaskDetails)
                if now.status == "completed":
                    return CallToolResult.model_validate(now.result)
                if now.status in ("failed", "cancelled"):
                    error = now.error or {"code": REQUEST_CANCELLED, "message": "the task was cancelled"}
                    raise TaskFailedError(error["code"], error["message"], error.get("data"))
                await self._answer_all(now, context.session, answered)
                await anyio.sleep(POLL if now.poll_interval_ms is None else now.poll_interval_ms / 1000)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(PATIENCE, shield=True):
                await context.session.send_request(CancelTaskRequest(params=params), Result)
            raise

    async def _answer_all(self, task: TaskDetails, session: ClientSession, answered: set[str]) -> None:
        """Answer what is asked, each question once."""
        for key, request in (task.input_requests or {}).items():
            if self._answer is not None and key not in answered:
                answered.add(key)
                responses = {key: await self._answer(key, request["params"])}
                update = UpdateTaskParams(task_id=task.task_id, input_responses=responses)
                await session.send_request(UpdateTaskRequest(params=update), Result)
