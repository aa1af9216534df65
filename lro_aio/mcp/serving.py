"""The tasks extension of an MCP server, over a client."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import anyio
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding, ToolBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, CallToolResult, ElicitResult
from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from lro_aio.client import Client
from lro_aio.core import names
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    InvalidOperationNameError,
    LroError,
    OperationDoneError,
    StateCodecError,
)
from lro_aio.core.logs import event
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.record import Record
from lro_aio.engine.handlers import Handler
from lro_aio.mcp.asking import Question, open_questions
from lro_aio.mcp.protocol import EXTENSION, Task, TaskCreated, TaskDetails, TaskParams, UpdateTaskParams, sent
from lro_aio.mcp.results import details, refusal
from lro_aio.mcp.telling import MOST_TASKS, TaskStream, wanted_tasks
from lro_aio.mcp.tools import Tools
from lro_aio.servers.errors import cut_off, status_of

__all__ = ["Caller", "Tasks", "by_principal"]

logger = logging.getLogger("lro_aio")

Context = ServerRequestContext[Any, Any]
Caller = Callable[[Context], str]
"""Tells from a request who makes it; "" for nobody in particular."""

NOT_FOUND = "Task not found"
MOST_STREAMS = 1024
"""Streams of notifications at a time."""


def by_principal(context: Context) -> str:  # noqa: ARG001 (as every ``Caller``)
    """Whom the request's access token names: its client, issuer and subject. "" for a request without one."""
    token = get_access_token()
    return "" if token is None else json.dumps(principal_components(token))


class Tasks(Extension):
    """Serves an application's tools as tasks: ``MCPServer("name", extensions=[Tasks(client, tools)])``.

    A call of a tool starts an operation and returns a task at once. ``tasks/get`` tells how it goes, ``tasks/update``
    sends a message to the operation, and ``tasks/cancel`` cancels it. Any process with the same store and tools can
    answer for the same tasks. A task belongs to its caller: to any other, it does not exist.

    The client must be open while the server serves, in the same event loop.

    Args:
        client: Starts and finds the operations.
        tools: What can be called. Complete when the server is made.
        caller: Tells the callers apart. Default: the principal of the request's access token. Where nobody logs in, all
            callers are one, and who knows a task's id may use it; ids are random.
        poll_interval: After how long a caller may ask again: seconds or a timedelta.
        wait: How long the call of a client that knows no tasks may take: seconds or a timedelta. It is answered with
            the tool's result. One that takes longer is cancelled, and so is one whose caller goes away. None: such
            clients are refused.
    """

    identifier = EXTENSION

    def __init__(
        self,
        client: Client,
        tools: Tools,
        *,
        caller: Caller = by_principal,
        poll_interval: Duration = 1.0,
        wait: Duration | None = None,
    ) -> None:
        self._client = client
        self._tools = tools
        self._caller = caller
        self._poll_interval = seconds(poll_interval, "poll_interval")
        self._wait = None if wait is None else seconds(wait, "wait")
        self._streams = 0

    def tools(self) -> Sequence[ToolBinding]:
        """Called by the SDK."""
        return list(self._tools.bindings.values())

    def methods(self) -> Sequence[MethodBinding]:
        """Called by the SDK."""
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [
            MethodBinding("tasks/get", TaskParams, self._get, versions),
            MethodBinding("tasks/update", UpdateTaskParams, self._update, versions),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, versions),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: Context, call_next: CallNext
    ) -> HandlerResult:
        """Called by the SDK: starts the operation of a tool of ours."""
        tool = self._tool(params.name)
        if tool is None:
            return await call_next(ctx)
        if self._wait is None or _knows_tasks(ctx):
            _require_tasks(ctx)
        codec = tool.codec
        try:
            state = None if codec.kind is None else codec.decode(json.dumps(params.arguments or {}).encode(), codec.tag)
        except StateCodecError as error:  # the model's mistake, to be read and corrected by it
            return refusal(str(error))
        task_id = names.new_id()
        with self._told():
            operation = await self._client.start(tool.name, state, parent=self._parent(ctx), operation_id=task_id)
            if self._wait is not None and not _knows_tasks(ctx):
                return await self._waited_for(operation.name, tool, self._wait)
            record = await self._client.server_host.record(operation.name)
        now = self._details(record, task_id, tool, {})
        return sent(TaskCreated(**now.model_dump(include=_COMMON)))

    async def listen(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Tells clients of their tasks as they change: ``MCPServer(..., middleware=[tasks.listen])``.

        A middleware, since the SDK serves ``subscriptions/listen`` itself, and knows no tasks. A client gets
        ``notifications/tasks`` for the ``taskIds`` that it asks for and that are its own, and on that stream nothing
        else. Without it, clients poll.

        Args:
            ctx: Of the request, as the SDK gives it.
            call_next: Serves what is for others.
        """
        wanted = wanted_tasks(ctx)
        if wanted is None:
            return await call_next(ctx)
        _require_tasks(ctx)
        if self._streams >= MOST_STREAMS:
            raise MCPError(INTERNAL_ERROR, "too many listen at a time")

        async def look(task_ids: Sequence[str]) -> dict[str, TaskDetails]:
            with self._told():
                return await self._look(ctx, task_ids)

        self._streams += 1
        try:
            with self._told():
                found = await self._seek(ctx, wanted[:MOST_TASKS])
            own = {task_id: record.name for task_id, (record, _) in found.items()}
            host, clock = self._client.server_host, self._client.clock
            return await TaskStream(ctx, host, clock, look, self._poll_interval).serve(own)
        finally:
            self._streams -= 1

    async def _waited_for(self, name: str, tool: Handler, most: float) -> CallToolResult:
        """The result for a client that could not ask for it later."""
        try:
            await self._client.wait_operation(name, most)
        except asyncio.CancelledError:  # nobody is there any more to whom the result could be told
            if cut_off(self._client) is None:  # else the server ends, which is no reason to cancel work
                with anyio.CancelScope(shield=True):
                    await self._abandon(name)
            raise
        record = await self._client.server_host.record(name)
        if not record.done and cut_off(self._client) is not None:
            raise MCPError(INTERNAL_ERROR, "the server is shutting down; the tool goes on elsewhere")
        if not record.done:
            await self._client.cancel_operation(name, reason="the call may not take longer")
            return refusal(
                f"the tool took longer than {most:g} s, and was cancelled: call it from a client with {EXTENSION}"
            )
        ended = self._details(record, name, tool, {})
        if ended.error is not None:
            raise MCPError(ended.error["code"], ended.error["message"], ended.error["data"])
        return (
            refusal("the tool was cancelled") if ended.result is None else CallToolResult.model_validate(ended.result)
        )

    async def _abandon(self, name: str) -> None:
        try:
            await self._client.cancel_operation(name, reason="the caller has gone")
        except LroError as error:
            logger.warning(
                "%s goes on, though its caller has gone: %s",
                name,
                error,
                extra=event("tool_not_cancelled", operation=name),
            )

    async def _get(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        with self._told():
            record, tool = await self._find(ctx, params.task_id)
            questions = (await self._questions([record]))[record.name]
            return sent(self._details(record, params.task_id, tool, questions))

    async def _update(self, ctx: Context, params: UpdateTaskParams) -> dict[str, Any]:
        with self._told():
            record, _ = await self._find(ctx, params.task_id)
            questions = (await self._questions([record]))[record.name]
            answers = {
                key: _answer(key, params.input_responses[key]) for key in questions if key in params.input_responses
            }
            for key, payload in answers.items():
                try:
                    await self._client.send(record.name, questions[key].topic, payload, message_id=key)
                except OperationDoneError:
                    break  # it has ended meanwhile: nobody waits for an answer
        return {}

    async def _cancel(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        with self._told():
            record, _ = await self._find(ctx, params.task_id)
            await self._client.cancel_operation(record.name)
        return {}

    async def _find(self, ctx: Context, task_id: str) -> tuple[Record, Handler]:
        """The row of a caller's own task."""
        _require_tasks(ctx)
        found = await self._seek(ctx, [task_id])
        if not found:
            raise MCPError(INVALID_PARAMS, NOT_FOUND)
        return found[task_id]

    async def _seek(self, ctx: Context, task_ids: Sequence[str]) -> dict[str, tuple[Record, Handler]]:
        """As ``_find``, by id, without what is no task. The names say whose they are: no check can be forgotten."""
        parent, wanted = self._parent(ctx), {}
        for task_id in task_ids:
            with suppress(names.MalformedIdError, InvalidOperationNameError):
                wanted[task_id] = names.make(parent, names.check_id(task_id))
        records = await self._client.server_host.records(list(wanted.values()))
        found = {}
        for task_id, name in wanted.items():
            record = records.get(name)
            tool = None if record is None else self._tool(record.handler)
            if record is not None and tool is not None:
                found[task_id] = record, tool
        return found

    async def _look(self, ctx: Context, task_ids: Sequence[str]) -> dict[str, TaskDetails]:
        """How it goes with those of the tasks that are the caller's."""
        found = await self._seek(ctx, task_ids)
        questions = await self._questions(record for record, _ in found.values())
        return {
            task_id: self._details(record, task_id, tool, questions[record.name])
            for task_id, (record, tool) in found.items()
        }

    def _tool(self, name: str) -> Handler | None:
        return self._tools.find(name) if name in self._tools.bindings else None

    def _parent(self, ctx: Context) -> str:
        caller = self._caller(ctx)
        return f"mcp/{hashlib.sha256(caller.encode()).hexdigest()[:32]}" if caller else "mcp/anybody"

    async def _questions(self, records: Iterable[Record]) -> dict[str, dict[str, Question]]:
        """What these operations wait for, by name."""
        asked = list(records)
        journals = await self._client.server_host.journals(record for record in asked if not record.done)
        return {record.name: open_questions(record, journals.get(record.name, [])) for record in asked}

    def _details(self, record: Record, task_id: str, tool: Handler, questions: dict[str, Question]) -> TaskDetails:
        return details(record, task_id, tool, questions, poll_interval=self._poll_interval)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Let the caller read what it may of any error."""
        try:
            yield
        except MCPError:
            raise
        except Exception as error:
            status = status_of(error, client=self._client, expose=self._client.expose_errors)
            code = INVALID_PARAMS if status.code == Code.INVALID_ARGUMENT else INTERNAL_ERROR
            raise MCPError(code, status.message) from error


_COMMON = set(Task.model_fields) - {"meta"}
"""What is told of a task before anything has come of it."""


def _knows_tasks(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = (capabilities.extensions if capabilities is not None else None) or {}
    return EXTENSION in declared and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _require_tasks(ctx: Context) -> None:
    """Refuse a client that does not know tasks, or that speaks a protocol from before there were such."""
    require_client_extension(ctx, EXTENSION)
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "tasks need the protocol of 2026-07-28 or later")


def _answer(key: str, response: object) -> Any:
    """The payload of the message; None declines."""
    if not isinstance(response, ElicitResult):
        raise MCPError(INVALID_PARAMS, f"the answer to {key!r} must have an action, and content where it accepts")
    return (response.content or {}) if response.action == "accept" else None
