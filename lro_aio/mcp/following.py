"""The client's side: calls of tools whose results come later look like any other call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
from mcp.client import ClientSession
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult, Result

from lro_aio.core.logs import event
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

logger = logging.getLogger("lro_aio")

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

    A call that is cancelled cancels its task. To outlive a connection, take the task instead, ``task = await
    client.session.call_tool(..., allow_claimed=True)``, keep its ``task_id``, and ``follow`` it, as often as it takes.

    Args:
        answer: Answers what tools ask. None: a tool that asks waits for somebody else's answer.
    """

    identifier = EXTENSION

    def __init__(self, answer: Answer | None = None) -> None:
        self._answer = answer

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Called by the SDK."""
        return [ResultClaim(result_type="task", model=TaskCreated, resolve=self._resolve)]

    async def follow(self, session: ClientSession, task_id: str) -> CallToolResult:
        """The result of a task, once it has one. A cancel ends the wait, and not the task.

        Where there is no such task, or the server cannot tell, it is an ``MCPError`` of the SDK.

        Args:
            session: The client's: ``client.session``.
            task_id: Of the caller's own task, which an earlier connection may have begun.

        Raises:
            TaskFailedError: It failed, or was cancelled.
        """
        answered: set[str] = set()
        while True:
            now = await session.send_request(GetTaskRequest(params=TaskParams(task_id=task_id)), TaskDetails)
            if now.status == "completed":
                return CallToolResult.model_validate(now.result)
            if now.status in ("failed", "cancelled"):
                error = now.error or {"code": REQUEST_CANCELLED, "message": "the task was cancelled"}
                raise TaskFailedError(error["code"], error["message"], error.get("data"))
            await self._answer_all(now, session, answered)
            await anyio.sleep(POLL if now.poll_interval_ms is None else now.poll_interval_ms / 1000)

    async def _answer_all(self, task: TaskDetails, session: ClientSession, answered: set[str]) -> None:
        """Answer what is asked, each question once."""
        for key, request in (task.input_requests or {}).items():
            if self._answer is not None and key not in answered:
                answered.add(key)
                responses = {key: await self._answer(key, request["params"])}
                update = UpdateTaskParams(task_id=task.task_id, input_responses=responses)
                await session.send_request(UpdateTaskRequest(params=update), Result)

    async def _resolve(self, task: TaskCreated, context: ClaimContext) -> CallToolResult:
        try:
            return await self.follow(context.session, task.task_id)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(PATIENCE, shield=True):
                await _cancel(context.session, task.task_id)
            raise


async def _cancel(session: ClientSession, task_id: str) -> None:
    try:
        await session.send_request(CancelTaskRequest(params=TaskParams(task_id=task_id)), Result)
    except Exception as error:  # noqa: BLE001 (the call was cancelled because the connection is gone, perhaps)
        logger.warning("a task could not be cancelled: %s", error, extra=event("task_not_cancelled"))
