"""The work: handlers, bound to no server and to no store."""

import asyncio
from dataclasses import dataclass

import lro_aio as lro

handlers = lro.Handlers()


@dataclass
class ReportState:
    title: str = ""
    pages: int = 3


@dataclass
class PageState:
    number: int = 0


@handlers.handler("create-report")
async def create_report(op: lro.Operation[ReportState]) -> dict:
    """One child operation for each page, then a sleep."""
    numbers = range(1, op.state.pages + 1)
    pages = await asyncio.gather(*(op.call(render_page, PageState(n), key=f"page-{n}") for n in numbers))
    await op.sleep("embargo", 0.2)  # say, a month
    interrupted = sum(page["attempt"] > 1 for page in pages)
    return {"title": op.state.title, "pages": len(pages), "interrupted": interrupted}


@handlers.handler("render-page")
async def render_page(op: lro.Operation[PageState]) -> dict:
    for step in range(1, 5):
        await asyncio.sleep(0.3)  # stands for work
        await op.progress(step / 4, f"page {op.state.number}, step {step} of 4")
    return {"number": op.state.number, "attempt": op.attempt}
