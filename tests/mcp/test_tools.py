"""What a tool is listed with, and that its arguments and results keep to it."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from google.protobuf import struct_pb2, wrappers_pb2
from mcp.client import Client as McpClient
from mcp.server import MCPServer
from pydantic import BaseModel, ConfigDict, Field, RootModel
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

import lro_aio as lro
from lro_aio.mcp import FollowTasks, Tasks, Tools

pytestmark = pytest.mark.asyncio


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Shape:
    points: list[Point]
    colours: list[str] = field(default_factory=lambda: ["red"])
    note: Annotated[str | None, Field(description="For people.", max_length=5)] = None


class Order(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    sender: str = Field(alias="from", description="Who sends it.")
    due: datetime.date | None = None
    copies: int = Field(default=1, ge=1)


class Receipt(TypedDict):
    total: float
    paid: bool


async def called(tools: Tools, name: str, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """The tool as it is listed, and the result of a call of it, which the SDK's client validates."""
    async with lro.Client("sqlite://", handlers=tools) as client:
        server = MCPServer("tests", extensions=[Tasks(client, tools, poll_interval=0.001)])
        async with McpClient(server, extensions=[FollowTasks()]) as agent, asyncio.timeout(30):
            (listed,) = (await agent.list_tools()).tools
            return listed, await agent.call_tool(name, arguments)


async def test_the_fields_of_a_dataclass_are_arguments() -> None:
    tools = Tools()

    @tools.tool
    async def draw(op: lro.Operation[Shape]) -> Shape:
        assert isinstance(op.state.points[0], Point)
        return op.state

    listed, result = await called(tools, "draw", {"points": [{"x": 1}], "note": "hi"})
    assert listed.input_schema["required"] == ["points"]
    assert listed.input_schema["properties"]["note"]["description"] == "For people."
    assert result.structured_content == {"points": [{"x": 1, "y": 0}], "colours": ["red"], "note": "hi"}
    _, refused = await called(tools, "draw", {"points": [], "note": "too long"})
    assert refused.is_error
    assert "note" in refused.content[0].text


async def test_the_fields_of_a_model_are_arguments_by_their_aliases() -> None:
    tools = Tools()

    @tools.tool
    async def order(op: lro.Operation[Order]) -> Order:
        return op.state

    given = {"from": "ada", "due": "2026-11-29", "copies": 2}
    listed, result = await called(tools, "order", given)
    assert set(listed.input_schema["properties"]) == {"from", "due", "copies"}
    assert listed.input_schema["required"] == ["from"]
    assert listed.input_schema["properties"]["copies"]["minimum"] == 1
    assert result.structured_content == given


@pytest.mark.parametrize(
    ("kind", "value", "text", "structured"),
    [
        (str, "hi", "hi", None),
        (int, 12, "12", None),
        (bool, False, "false", None),
        (list[Point], [Point(1)], '[{"x": 1, "y": 0}]', None),
        (type(None), None, None, None),
        (Receipt, {"total": 1.5, "paid": True}, '{"paid": true, "total": 1.5}', {"total": 1.5, "paid": True}),
        (RootModel[list[int]], RootModel[list[int]]([1]), "[1]", None),
        (wrappers_pb2.StringValue, wrappers_pb2.StringValue(value="hi"), "hi", None),
        (struct_pb2.Struct, struct_pb2.Struct(), "{}", {}),
        (Any, {"a": None}, '{"a": null}', {"a": None}),
    ],
    ids=str,
)
async def test_a_result_is_text_and_an_object_is_structured_too(
    kind: Any, value: Any, text: str | None, structured: Any
) -> None:
    tools = Tools()

    @tools.tool(response=kind)
    async def gives(op: lro.Operation[None]) -> Any:
        return value

    _, result = await called(tools, "gives", {})
    assert [item.text for item in result.content] == ([] if text is None else [text])
    assert result.structured_content == structured
    assert not result.is_error


@pytest.mark.parametrize("kind", [str, list[int], dict[str, int], RootModel[list[int]], struct_pb2.Struct], ids=str)
async def test_a_tool_needs_arguments_with_names(kind: Any) -> None:
    tools = Tools()

    async def function(op: Any) -> None:
        pass

    with pytest.raises(TypeError, match="its arguments are the fields of a dataclass or of a pydantic model"):
        tools.tool("shout", state=kind)(function)


async def test_a_tool_is_a_handler_and_can_be_started_as_one() -> None:
    tools = Tools()

    @tools.tool(title="Adds")
    async def adds(op: lro.Operation[Point]) -> int:
        """Add two numbers."""
        return op.state.x + op.state.y

    async with lro.Client("sqlite://", handlers=tools) as client:
        assert await (await client.start(adds, Point(1, 2))) == 3
