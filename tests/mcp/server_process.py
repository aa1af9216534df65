"""A server of one tool, as a process of its own: ``server_process.py FOLDER PORT [HANG]``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from pydantic import BaseModel

import lro_aio as lro
from lro_aio.mcp import Tasks, Tools, ask

FOLDER, PORT, HANG = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["HANG"]

tools = Tools()


class Approval(BaseModel):
    ok: bool


async def noted(what: str, *, hang: bool = False) -> str:
    with (FOLDER / "ledger").open("a") as ledger:
        ledger.write(f"{what}\n")
    if hang:
        await asyncio.Future()
    return what


@tools.tool
async def write(op: lro.Operation[None]) -> str:
    """Write something, in two steps and with an approval."""
    await op.step("think", noted, "think")
    draft = await op.step("draft", lambda: noted("draft", hang=HANG))
    approval = await ask(op, "approval", "Print it?", Approval)
    return f"{draft}: {approval is not None and approval.ok}"


async def main() -> None:
    client = lro.Client(f"sqlite:///{FOLDER}/operations.db", handlers=tools, linger=0)
    server = MCPServer("writer", extensions=[Tasks(client, tools, poll_interval=0.01)], log_level="ERROR")
    async with client:
        config = uvicorn.Config(server.streamable_http_app(), port=PORT, log_level="error")
        await uvicorn.Server(config).serve()


asyncio.run(main())
