"""Status notifications: over one ``subscriptions/listen``, a client is told of its tasks as they change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.exceptions import MCPError
from mcp_types import (
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenResult,
)
from mcp_types.jsonrpc import INVALID_PARAMS

from lro_aio.engine.changes import Subscription
from lro_aio.engine.serving import ServerHost
from lro_aio.mcp.protocol import TaskDetails, TaskNotification, sent
from lro_aio.ports import Clock

__all__ = ["LISTEN", "MOST_TASKS", "TaskStream", "wanted_tasks"]

LISTEN = "subscriptions/listen"
MOST_TASKS = 100
"""Tasks of one stream. Of more, the first ones are agreed to."""
PACE = 0.05
"""Seconds between two looks at all tasks of a stream, at least."""

Look = Callable[[Sequence[str]], Awaitable[Mapping[str, TaskDetails]]]
"""How it goes with tasks, by their ids; without those that are not there, or not the caller's."""


def wanted_tasks(context: ServerRequestContext[Any, Any]) -> list[str] | None:
    """The tasks that a request asks to be told of; None for any other request.

    Raises:
        MCPError: They are no list of texts.
    """
    asked = (context.params or {}).get("notifications")
    found = asked.get("taskIds") if isinstance(asked, dict) else None
    if context.method != LISTEN or context.request_id is None or found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise MCPError(INVALID_PARAMS, "taskIds must be a list of texts")
    return list(dict.fromkeys(found))


class TaskStream:
    """Tells of some tasks until all of them have ended, the client goes away, or the server drains.

    Args:
        context: Of the request whose answer is the stream.
        host: Gives notice of changes.
        clock: Engine time.
        look: See ``Look``.
        every: Seconds after which each task is looked at in any case: a question changes no row.
    """

    def __init__(
        self, context: ServerRequestContext[Any, Any], host: ServerHost, clock: Clock, look: Look, every: float
    ) -> None:
        self._context = context
        self._host = host
        self._clock = clock
        self._look = look
        self._every = every
        self._meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: context.request_id}
        self._last: dict[str, dict[str, Any]] = {}

    async def serve(self, tasks: Mapping[str, str]) -> SubscriptionsListenResult:
        """Agree to tell of these tasks, and do.

        Args:
            tasks: The name of the operation of each, by its id.
        """
        agreed = SubscriptionFilter.model_validate({"taskIds": list(tasks)})
        params = SubscriptionsAcknowledgedNotificationParams(notifications=agreed, _meta=self._meta)
        await self._send(SubscriptionsAcknowledgedNotification(params=params))
        with self._host.subscribe(tasks.values()) as changes:
            await self._tell(dict(tasks), changes)
        return SubscriptionsListenResult(_meta=self._meta)

    async def _tell(self, left: dict[str, str], changes: Subscription) -> None:
        due = list(left)
        until = self._clock.monotonic() + self._every
        while True:
            found = await self._look(due)
            for task_id in due:
                now = found.get(task_id)
                if now is not None:
                    await self._tell_of(now)
                if now is None or now.status in ("completed", "failed", "cancelled"):
                    del left[task_id]
            if not left or self._host.draining:
                return
            changed, others = await self._host.news(changes, until)
            if others or self._clock.monotonic() >= until:
                await anyio.sleep(PACE)  # other processes may commit a thousand times a second
                due, until = list(left), self._clock.monotonic() + self._every
            else:
                due = [task_id for task_id, name in left.items() if name in changed]

    async def _tell_of(self, task: TaskDetails) -> None:
        """Send what a client has not been told yet. That a lease was renewed is nothing to tell."""
        told = task.model_dump(exclude={"last_updated_at"})
        if self._last.get(task.task_id) != told:
            self._last[task.task_id] = told
            members = {member: value for member, value in sent(task).items() if member != "resultType"}
            await self._send(TaskNotification(params={**members, "_meta": self._meta}))

    async def _send(self, notification: Any) -> None:
        await self._context.session.send_notification(
            cast("Any", notification), related_request_id=self._context.request_id
        )
