"""What agents call in these tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mcp_types import CallToolResult, ImageContent
from pydantic import BaseModel, Field

import lro_aio as lro
from lro_aio.mcp import Tools, ask


@dataclass
class Topic:
    name: str
    pages: int = 1


class Report(BaseModel):
    title: str
    pages: int = Field(ge=0)


class Approval(BaseModel):
    ok: bool
    colour: Literal["red", "green"] = "red"


def made() -> Tools:
    tools = Tools()

    @tools.tool
    async def report(op: lro.Operation[Topic]) -> Report:
        """Write a report."""
        await op.progress(0.5, "half of it")
        return Report(title=op.state.name, pages=op.state.pages)

    @tools.tool("publish", title="Publish a text")
    async def publish(op: lro.Operation[Topic]) -> str:
        """Publish, once somebody agrees."""
        approval = await ask(op, "approval", f"May {op.state.name} be published?", Approval)
        return "declined" if approval is None else f"{approval.ok} {approval.colour}"

    @tools.tool
    async def hurried(op: lro.Operation[None]) -> str:
        try:
            await ask(op, "approval", "Quick!", Approval, timeout=60)
        except lro.WaitDeadlineExceededError:
            return "too late"
        return "in time"

    @tools.tool
    async def listens(op: lro.Operation[None]) -> list[object]:
        return [await op.receive("news"), await op.receive("news")]

    @tools.tool
    async def fails(op: lro.Operation[Topic]) -> None:
        if op.state.pages:
            raise lro.OperationFailedError(f"no report about {op.state.name}", code=lro.Code.NOT_FOUND)
        raise ValueError("the password is 1234")

    @tools.tool
    async def large(op: lro.Operation[None]) -> str:
        return "x" * 10_000

    @tools.tool
    async def sleeps(op: lro.Operation[None]) -> None:
        await op.progress(0.1, "dreaming")
        await op.sleep("night", 8 * 3600)

    @tools.tool
    async def draws(op: lro.Operation[None]) -> CallToolResult:
        return CallToolResult(content=[ImageContent(type="image", data="AAAA", mime_type="image/png")])

    return tools
