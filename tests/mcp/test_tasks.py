"""Operations as MCP tasks, driven by the SDK's own client over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult

import lro_aio as lro
from lro_aio.mcp import EXTENSION, FollowTasks, TaskFailedError, Tasks, Tools
from lro_aio.mcp.protocol import CancelTaskRequest, TaskParams, UpdateTaskParams, UpdateTaskRequest
from lro_aio.testing import ManualClock

from ..serving import served
from ..waiting import PATIENCE
from ..waiting import reached as reached_state
from .conftest import Caller, Connect, connected

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

OK = ElicitResult(action="accept", content={"ok": True, "colour": "green"})


def update(task_id: str, **responses: Any) -> UpdateTaskRequest:
    return UpdateTaskRequest(params=UpdateTaskParams(task_id=task_id, input_responses=responses))


def cancel(task_id: str) -> CancelTaskRequest:
    return CancelTaskRequest(params=TaskParams(task_id=task_id))


async def reached(caller: Caller, task_id: str, *statuses: str) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await caller.reached(task_id, *statuses)


async def begun(client: lro.Client) -> Any:
    """What was started, once something was."""
    async with asyncio.timeout(PATIENCE):
        while not (found := [one async for one in client.iter_operations(parent="-")]):
            await asyncio.sleep(0)
    return found


async def test_the_server_says_that_it_has_tasks_and_what_its_tools_take(connect: Connect) -> None:
    async with connect() as caller:
        capabilities = caller.client.server_capabilities
        assert capabilities is not None
        assert EXTENSION in (capabilities.extensions or {})
        tools = {tool.name: tool for tool in (await caller.client.list_tools()).tools}
    report = tools["report"]
    assert report.description == "Write a report."
    assert report.input_schema["properties"]["name"]["type"] == "string"
    assert report.input_schema["properties"]["pages"]["default"] == 1
    assert report.input_schema["required"] == ["name"]
    assert report.output_schema is not None
    assert set(report.output_schema["properties"]) == {"title", "pages"}
    assert tools["publish"].title == "Publish a text"
    assert tools["listens"].input_schema["properties"] == {}


async def test_a_call_of_a_tool_is_a_task_and_its_result_is_there_later(connect: Connect) -> None:
    async with connect() as caller:
        task = await caller.begin("report", name="bees", pages=3)
        assert task.status in ("working", "completed")  # it may be quicker than the answer to its call
        assert task.poll_interval_ms == 10
        done = await reached(caller, task.task_id, "completed")
    result = CallToolResult.model_validate(done.result)
    assert result.structured_content == {"title": "bees", "pages": 3}
    assert not result.is_error
    assert done.ttl_ms == 30 * 24 * 3600 * 1000
    assert done.created_at <= done.last_updated_at


async def test_a_client_that_follows_tasks_sees_a_call_like_any_other(connect: Connect) -> None:
    async def answer(key: str, params: Any) -> ElicitResult:
        assert params["message"] == "May bees be published?"
        assert params["requestedSchema"]["properties"]["colour"]["enum"] == ["red", "green"]
        return OK

    async with connect(extensions=[FollowTasks(answer)]) as caller:
        result = await caller.client.call_tool("publish", {"name": "bees"})
    assert [item.text for item in result.content] == ["True green"]  # type: ignore[union-attr]


async def test_a_question_makes_a_task_input_required_until_it_is_answered(
    connect: Connect, client: lro.Client
) -> None:
    async with connect() as caller:
        task = await caller.begin("publish", name="bees")
        asking = await reached(caller, task.task_id, "input_required")
        assert list(asking.input_requests) == ["approval.1"]
        assert asking.input_requests["approval.1"]["method"] == "elicitation/create"
        await caller.send(update(task.task_id, **{"another.1": OK}))  # ignored: nobody asked for it
        assert (await caller.get(task.task_id)).status == "input_required"
        await caller.send(update(task.task_id, **{"approval.1": OK}))
        await caller.send(update(task.task_id, **{"approval.1": ElicitResult(action="decline")}))  # comes too late
        done = await reached(caller, task.task_id, "completed")
        assert done.result["content"][0]["text"] == "True green"
        await caller.send(update(task.task_id, **{"approval.1": OK}))  # of a task that has ended: ignored


async def test_who_declines_answers_too(connect: Connect) -> None:
    async with connect() as caller:
        task = await caller.begin("publish", name="bees")
        await reached(caller, task.task_id, "input_required")
        await caller.send(update(task.task_id, **{"approval.1": ElicitResult(action="decline")}))
        done = await reached(caller, task.task_id, "completed")
    assert done.result["content"][0]["text"] == "declined"


async def test_any_wait_for_a_message_is_input_required_and_no_key_comes_twice(
    connect: Connect, clock: ManualClock
) -> None:
    async with connect() as caller:
        task = await caller.begin("listens")
        keys = []
        for number in (1, 2):
            asking = await reached(caller, task.task_id, "input_required")
            while list(asking.input_requests) == keys:
                asking = await reached(caller, task.task_id, "input_required")
            keys = list(asking.input_requests)
            assert keys == [f"news.{number}"]
            answer = ElicitResult(action="accept", content={"number": number})
            await caller.send(update(task.task_id, **{keys[0]: answer}))
            await clock.advance(1)  # before that, no second message starts the handler again
        done = await reached(caller, task.task_id, "completed")
    assert done.result["content"][0]["text"] == '[{"number": 1}, {"number": 2}]'


async def test_a_cancel_ends_the_task(connect: Connect) -> None:
    async with connect() as caller:
        task = await caller.begin("sleeps")
        await caller.send(cancel(task.task_id))
        assert (await reached(caller, task.task_id, "cancelled")).result is None
        await caller.send(cancel(task.task_id))  # once more: nothing happens


async def test_a_call_that_is_cancelled_cancels_its_task(connect: Connect, client: lro.Client) -> None:
    asked = asyncio.Event()

    async def hesitate(key: str, params: Any) -> ElicitResult:
        asked.set()
        return await asyncio.Future()

    async with connect(extensions=[FollowTasks(hesitate)]) as caller:
        call = asyncio.create_task(caller.client.call_tool("publish", {"name": "bees"}))
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        (found,) = [one async for one in client.iter_operations(parent="-")]
        async with asyncio.timeout(PATIENCE):
            ended = await client.wait_operation(found.name)
    assert ended.error.code == lro.Code.CANCELLED


async def test_a_task_tells_what_it_does(connect: Connect) -> None:
    async with connect() as caller:
        task = await caller.begin("sleeps")
        async with asyncio.timeout(PATIENCE):
            while (now := await caller.get(task.task_id)).status_message is None:
                pass
    assert now.status_message == "dreaming"
    assert now.ttl_ms is None


async def test_a_tool_that_fails_has_completed_with_an_error(connect: Connect) -> None:
    """The protocol keeps "failed" for tasks that got no result of their tool at all."""
    async with connect() as caller:
        told = await caller.client.call_tool("fails", {"name": "bees"})
        hidden = await caller.client.call_tool("fails", {"name": "bees", "pages": 0})
    assert told.is_error
    assert told.content[0].text == "no report about bees"  # type: ignore[union-attr]
    assert hidden.is_error
    assert "1234" not in hidden.content[0].text  # type: ignore[union-attr]


async def test_a_result_that_is_too_large_fails_the_task(connect: Connect) -> None:
    async with connect() as caller:
        task = await caller.begin("large")
        failed = await reached(caller, task.task_id, "failed")
        assert failed.error["data"] == {"reason": "RESPONSE_TOO_LARGE"}
        assert failed.status_message == failed.error["message"]
        with pytest.raises(TaskFailedError, match="4096"):
            await caller.client.call_tool("large", {})


async def test_a_tool_may_return_a_result_of_the_protocol(connect: Connect) -> None:
    async with connect() as caller:
        result = await caller.client.call_tool("draws", {})
    assert [item.type for item in result.content] == ["image"]


async def test_arguments_that_are_not_the_tools_are_told_to_the_model_and_start_nothing(
    connect: Connect, client: lro.Client
) -> None:
    async with connect() as caller:
        result = await caller.client.call_tool("report", {"name": "bees", "pages": "many"})
    assert result.is_error
    assert "pages" in result.content[0].text  # type: ignore[union-attr]
    assert [one async for one in client.iter_operations(parent="-")] == []


async def test_a_task_of_another_caller_is_not_found(connect: Connect) -> None:
    async with connect("ada") as ada, connect("eve") as eve:
        task = await ada.begin("publish", name="bees")
        await reached(ada, task.task_id, "input_required")
        for request in (update(task.task_id, **{"approval.1": OK}), cancel(task.task_id)):
            with pytest.raises(MCPError, match="Task not found") as refused:
                await eve.send(request)
            assert refused.value.code == -32602
        with pytest.raises(MCPError, match="Task not found"):
            await eve.get(task.task_id)
        assert (await ada.get(task.task_id)).status == "input_required"


@pytest.mark.parametrize("task_id", ["0b5b9a3c-5f6e-4a55-9c7b-000000000000", "../x", "", "a/operations/b", "ä" * 9])
async def test_what_is_no_task_is_not_found(connect: Connect, task_id: str) -> None:
    async with connect() as caller:
        with pytest.raises(MCPError, match="Task not found") as refused:
            await caller.get(task_id)
    assert refused.value.code == -32602


async def test_an_operation_that_is_no_tool_is_no_task(connect: Connect, client: lro.Client) -> None:
    async with connect() as caller:
        task = await caller.begin("sleeps")
        (started,) = [one async for one in client.iter_operations(parent="-")]
        parent = started.name.partition("/operations/")[0]
        other = await client.create(parent=parent, lease=False)
        with pytest.raises(MCPError, match="Task not found"):
            await caller.get(other.id)
        assert (await caller.get(task.task_id)).status == "working"


async def test_a_client_without_tasks_is_told_what_it_lacks_and_nothing_is_started(
    connect: Connect, client: lro.Client
) -> None:
    async with connect(extensions=[]) as caller:
        with pytest.raises(MCPError) as refused:
            await caller.client.call_tool("report", {"name": "bees"})
        assert refused.value.code == -32021
        assert refused.value.data == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        with pytest.raises(MCPError) as refused:
            await caller.get("0b5b9a3c-5f6e-4a55-9c7b-000000000000")
        assert refused.value.code == -32021
    assert [one async for one in client.iter_operations(parent="-")] == []


async def test_a_client_of_an_older_protocol_is_refused_too(connect: Connect, client: lro.Client) -> None:
    """Its wire has no answer that stands for a task, whatever it declares."""
    async with connect(mode="legacy") as caller:
        with pytest.raises(MCPError) as refused:
            await caller.client.call_tool("report", {"name": "bees"})
    assert refused.value.code == -32021
    assert [one async for one in client.iter_operations(parent="-")] == []


@pytest_asyncio.fixture
async def patient(client: lro.Client, tools: Tools) -> AsyncIterator[str]:
    """The URL of a server that lets clients without tasks wait for a minute."""
    server = MCPServer("tests", extensions=[Tasks(client, tools, wait=60)])
    async with served(server.streamable_http_app()) as url:
        yield url


async def test_a_client_without_tasks_may_wait_for_the_result(patient: str) -> None:
    for options in ({"extensions": []}, {"mode": "legacy"}):
        async with connected(patient, **options) as caller:
            result = await caller.client.call_tool("report", {"name": "bees"})
            assert result.structured_content == {"title": "bees", "pages": 1}
            assert (await caller.client.call_tool("fails", {"name": "bees"})).is_error
            with pytest.raises(MCPError, match="4096") as failed:
                await caller.client.call_tool("large", {})
            assert failed.value.data == {"reason": "RESPONSE_TOO_LARGE"}


async def test_what_takes_longer_than_such_a_client_may_wait_is_cancelled(
    patient: str, client: lro.Client, clock: ManualClock
) -> None:
    async with connected(patient, extensions=[]) as caller:
        call = asyncio.create_task(caller.client.call_tool("sleeps", {}))
        (started,) = await begun(client)
        await reached_state(client, started.name, "SUSPENDED")
        await clock.advance(60)
        result = await asyncio.wait_for(call, PATIENCE)
    assert result.is_error
    assert "longer than 60 s" in result.content[0].text  # type: ignore[union-attr]
    assert (await client.get_operation(started.name)).error.code == lro.Code.CANCELLED


async def test_a_call_that_nobody_waits_for_any_more_is_cancelled(patient: str, client: lro.Client) -> None:
    async with connected(patient, extensions=[]) as caller:
        call = asyncio.create_task(caller.client.call_tool("sleeps", {}))
        (started,) = await begun(client)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(PATIENCE):
            ended = await client.wait_operation(started.name)
    assert ended.error.code == lro.Code.CANCELLED


async def test_a_drain_answers_who_waits_and_cancels_nothing(patient: str, client: lro.Client) -> None:
    async with connected(patient, extensions=[]) as caller:
        call = asyncio.create_task(caller.client.call_tool("sleeps", {}))
        (started,) = await begun(client)
        await reached_state(client, started.name, "SUSPENDED")
        await client.drain(0)
        with pytest.raises(MCPError, match="the tool goes on elsewhere"):
            await asyncio.wait_for(call, PATIENCE)
    assert (await client.server_host.record(started.name)).state == "SUSPENDED"


async def test_other_tools_of_the_server_are_called_as_ever(connect: Connect) -> None:
    async with connect(extensions=[]) as caller:
        result = await caller.client.call_tool("plain", {"number": 2})
    assert result.structured_content == {"result": 3}


async def test_callers_may_be_told_apart_by_any_rule(client: lro.Client, tools: Tools) -> None:
    """Of a server of whose callers nobody logs in: without a rule they are one."""

    def by_header(context: Any) -> str:
        return str(context.request.headers.get("x-user", ""))

    server = MCPServer("tests", extensions=[Tasks(client, tools, caller=by_header, poll_interval=0.01)])
    async with served(server.streamable_http_app()) as url:
        async with connected(url, headers={"x-user": "ada"}) as ada, connected(url, headers={"x-user": "eve"}) as eve:
            task = await ada.begin("sleeps")
            assert (await ada.get(task.task_id)).status == "working"
            with pytest.raises(MCPError, match="Task not found"):
                await eve.get(task.task_id)
        async with connected(url) as one, connected(url) as other:
            task = await one.begin("sleeps")
            assert (await other.get(task.task_id)).status == "working"


async def test_a_store_that_does_not_answer_is_an_error_that_says_so(connect: Connect, client: lro.Client) -> None:
    async with connect() as caller:
        task = await caller.begin("sleeps")
        await client.aclose()
        with pytest.raises(MCPError, match="starting or shutting down") as refused:
            await caller.get(task.task_id)
    assert refused.value.code == -32603


async def test_a_question_that_times_out_is_asked_no_more(connect: Connect, clock: ManualClock) -> None:
    async with connect() as caller:
        task = await caller.begin("hurried")
        await reached(caller, task.task_id, "input_required")
        await clock.advance(60)
        done = await reached(caller, task.task_id, "completed")
    assert done.result["content"][0]["text"] == "too late"
