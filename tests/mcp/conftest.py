"""A client with tools, served to the SDK's own client over HTTP on a loopback socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from mcp.client import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp_types import Request, Result

import lro_aio as lro
from lro_aio.mcp import FollowTasks, Tasks, Tools
from lro_aio.mcp.protocol import GetTaskRequest, TaskCreated, TaskDetails, TaskParams
from lro_aio.testing import ManualClock

from ..loop_guard import loop_guard  # noqa: F401 (for every test here)
from ..serving import served
from .tools import made

__all__ = ["Caller", "Connect"]


class Caller:
    """Somebody's connection to the server."""

    def __init__(self, client: McpClient) -> None:
        self.client = client

    async def begin(self, tool: str, **arguments: Any) -> TaskCreated:
        """Call a tool, and take its task."""
        task = await self.client.session.call_tool(tool, arguments, allow_claimed=True)
        assert isinstance(task, TaskCreated), task
        return task

    async def get(self, task_id: str) -> TaskDetails:
        return await self.send(GetTaskRequest(params=TaskParams(task_id=task_id)), TaskDetails)

    async def send(self, request: Request[Any, Any], kind: Any = Result) -> Any:
        return await self.client.session.send_request(request, kind)

    async def reached(self, task_id: str, *statuses: str) -> TaskDetails:
        """The task, once it has one of these statuses; whoever uses it bounds it."""
        while (task := await self.get(task_id)).status not in statuses:
            pass
        return task


Connect = Callable[..., AbstractAsyncContextManager[Caller]]


class Names:
    """Who a bearer token is: its own text."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="app", scopes=[], subject=token)


@asynccontextmanager
async def connected(url: str, *, headers: Any = None, extensions: Any = None, **options: Any) -> AsyncIterator[Caller]:
    async with httpx2.AsyncClient(headers=headers) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        chosen = [FollowTasks()] if extensions is None else extensions
        async with McpClient(transport, extensions=chosen, cache=None, **options) as client:
            yield Caller(client)


@pytest.fixture
def tools() -> Tools:
    return made()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def client(tools: Tools, clock: ManualClock) -> AsyncIterator[lro.Client]:
    limits = lro.Limits(response=4096)
    async with lro.Client("sqlite://", handlers=tools, clock=clock, linger=0, limits=limits, drain_timeout=0) as client:
        yield client


@pytest_asyncio.fixture
async def connect(client: lro.Client, tools: Tools) -> AsyncIterator[Connect]:
    auth = AuthSettings(
        issuer_url="http://issuer", resource_server_url="http://127.0.0.1/mcp", validate_token_resource=False
    )
    server = MCPServer(
        "tests", extensions=[Tasks(client, tools, poll_interval=0.01)], token_verifier=Names(), auth=auth
    )

    @server.tool()
    def plain(number: int) -> int:
        return number + 1

    async with served(server.streamable_http_app()) as url:

        def to_server(who: str = "ada", **options: Any) -> AbstractAsyncContextManager[Caller]:
            return connected(url, headers={"Authorization": f"Bearer {who}"}, **options)

        yield to_server
