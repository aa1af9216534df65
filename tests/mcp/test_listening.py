"""``notifications/tasks``: a client that listens is told of its tasks as they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from mcp.client.extension import NotificationBinding
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import (
    NotificationParams,
    SubscriptionFilter,
    SubscriptionsListenRequest,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)
from pydantic import ConfigDict

import lro_aio as lro
from lro_aio.mcp import FollowTasks, Tasks, Tools
from lro_aio.testing import FaultyStore, ManualClock

from ..serving import served
from ..waiting import PATIENCE
from .conftest import Caller, Connect, connected
from .test_tasks import OK, cancel, update

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]


class Told(NotificationParams):
    model_config = ConfigDict(extra="allow")


class Hears(FollowTasks):
    """A client's extension that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def notifications(self) -> Sequence[NotificationBinding[Any]]:
        return [NotificationBinding(method="notifications/tasks", params_type=Told, handler=self._hear)]

    async def _hear(self, params: Told) -> None:
        await self.told.put(params.model_dump(by_alias=True))

    async def until(self, *statuses: str) -> list[dict[str, Any]]:
        """All that is told, up to the first with one of these statuses."""
        found = []
        async with asyncio.timeout(PATIENCE):
            while not found or found[-1]["status"] not in statuses:
                found.append(await self.told.get())
        return found


def listening(*task_ids: str, **others: Any) -> SubscriptionsListenRequest:
    asked = SubscriptionFilter.model_validate({"taskIds": list(task_ids), **others})
    return SubscriptionsListenRequest(params=SubscriptionsListenRequestParams(notifications=asked))


async def listen(caller: Caller, *task_ids: str) -> SubscriptionsListenResult:
    """Listen until the server ends the stream."""
    async with asyncio.timeout(PATIENCE):
        found: SubscriptionsListenResult = await caller.send(listening(*task_ids), SubscriptionsListenResult)
    return found


@asynccontextmanager
async def telling(client: lro.Client, tools: Tools) -> AsyncIterator[Connect]:
    """Connects to a server that tells."""
    tasks = Tasks(client, tools, poll_interval=0.01, caller=lambda context: context.request.headers.get("x-user", ""))
    server = MCPServer("tests", extensions=[tasks], middleware=[tasks.listen])
    async with served(server.streamable_http_app(), abrupt=True) as url:
        yield lambda who="ada", **options: connected(url, headers={"x-user": who}, **options)


@pytest_asyncio.fixture
async def connect(client: lro.Client, tools: Tools) -> AsyncIterator[Connect]:
    """As its namesake, to a server that tells."""
    async with telling(client, tools) as connect:
        yield connect


async def test_a_client_is_told_of_a_task_until_it_has_ended(connect: Connect, client: lro.Client) -> None:
    hears = Hears()
    async with connect(extensions=[hears]) as caller:
        task = await caller.begin("publish", name="bees")
        stream = asyncio.create_task(listen(caller, task.task_id))
        asked = (await hears.until("input_required"))[-1]
        assert list(asked["inputRequests"]) == ["approval.1"]
        assert asked["ttlMs"] is None
        await caller.send(update(task.task_id, **{"approval.1": OK}))
        ended = (await hears.until("completed"))[-1]
        assert ended["result"]["content"][0]["text"] == "True green"
        assert ended["taskId"] == task.task_id
        await stream


async def test_what_is_told_is_what_a_poll_would_find(connect: Connect) -> None:
    hears = Hears()
    async with connect(extensions=[hears]) as caller:
        task = await caller.begin("report", name="bees", pages=3)
        await listen(caller, task.task_id)
        ended = (await hears.until("completed"))[-1]
        polled = (await caller.get(task.task_id)).model_dump(mode="json", by_alias=True, exclude_none=True)
    meta = ended.pop("_meta")
    assert list(meta) == ["io.modelcontextprotocol/subscriptionId"]
    assert ended == {member: value for member, value in polled.items() if member not in ("_meta", "resultType")}


async def test_several_tasks_share_a_stream_and_nothing_is_told_twice(
    connect: Connect, client: lro.Client, clock: ManualClock
) -> None:
    hears = Hears()
    async with connect(extensions=[hears]) as caller:
        tasks = [await caller.begin("sleeps") for _ in range(2)]
        stream = asyncio.create_task(listen(caller, *(task.task_id for task in tasks)))
        first = await hears.until("working")
        await caller.send(cancel(tasks[0].task_id))
        told = [*first, *await hears.until("cancelled")]
        assert told[-1]["taskId"] == tasks[0].task_id
        while not stream.done():
            await clock.advance(3600)
        told += await hears.until("completed")
    assert told[-1]["taskId"] == tasks[1].task_id
    shown = [{member: value for member, value in one.items() if member != "lastUpdatedAt"} for one in told]
    assert all(one not in shown[:place] for place, one in enumerate(shown))


async def test_many_tasks_are_looked_at_in_one_read(tools: Tools, clock: ManualClock) -> None:
    hears, store = Hears(), FaultyStore(lro.SqliteStore.from_url("sqlite://"))
    async with (
        lro.Client(store, handlers=tools, clock=clock, linger=0, drain_timeout=0) as client,
        telling(client, tools) as connect,
        connect(extensions=[hears]) as caller,
    ):
        tasks = [await caller.begin("publish", name="bees") for _ in range(20)]
        await clock.settle()
        before = store.calls.copy()
        stream = asyncio.create_task(listen(caller, *(task.task_id for task in tasks)))
        told = [(await hears.until("input_required"))[-1] for _ in tasks]
        made = store.calls - before
        await client.drain()
        await stream
    assert {one["taskId"] for one in told} == {task.task_id for task in tasks}
    assert (made["read"], made["journal"]) == (2, 1)  # whose they are, and how it goes with them


async def test_of_tasks_of_others_and_of_none_nothing_is_told(connect: Connect) -> None:
    hears = Hears()
    async with connect("bob") as bob:
        his = await bob.begin("sleeps")
    async with connect("ada", extensions=[hears]) as caller:
        await listen(caller, his.task_id, "none", "no id/at all")
    assert hears.told.empty()


async def test_who_knows_no_tasks_or_asks_for_nonsense_is_refused(connect: Connect) -> None:
    async with connect(extensions=[]) as caller:
        with pytest.raises(MCPError) as refused:
            await listen(caller, "a")
        assert refused.value.error.code == -32021
    async with connect() as caller:
        with pytest.raises(MCPError, match="taskIds must be a list of texts"):
            await caller.send(listening(taskIds="a"), SubscriptionsListenResult)


async def test_a_drain_ends_the_stream_as_the_protocol_wants(connect: Connect, client: lro.Client) -> None:
    hears = Hears()
    async with connect(extensions=[hears]) as caller:
        task = await caller.begin("publish", name="bees")
        stream = asyncio.create_task(listen(caller, task.task_id))
        await hears.until("input_required")
        await client.drain()
        assert isinstance(await stream, SubscriptionsListenResult)


async def test_other_streams_are_the_sdks_own(connect: Connect) -> None:
    async with connect() as caller, caller.client.listen(tools_list_changed=True) as stream:
        assert stream.honored.tools_list_changed
