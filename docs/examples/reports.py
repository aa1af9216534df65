"""The work: handlers, bound to no server and to no store."""

import asyncio
from dataclasses import dataclass, field

import lro_aio as lro

handlers = lro.Handlers()


@dataclass
class ReportState:
    title: str = ""
    pages: int = 3
    children: list[str] = field(default_factory=list)
    interrupted: int = 0


@dataclass
class PageState:
    number: int = 0


@handlers.handler("create-report")
async def create_report(op: lro.Operation[ReportState]):
    """Start one child operation per page, then let go."""
    for number in range(1, op.state.pages + 1):
        page = await op.start_child("render-page", PageState(number), key=f"page-{number}")
        op.state.children.append(page.name)
    return op.suspend(resume_at=collect, children=op.state.children, timeout=3600)


@create_report.segment
async def collect(op: lro.Operation[ReportState]):
    """Every page has ended, well or not."""
    for page in op.children:
        if page.HasField("error"):
            raise lro.OperationFailedError(f"{page.name}: {page.error.message}", code=page.error.code)
        result, _ = lro.unmarshal_operation(page, dict)
        op.state.interrupted += result["attempt"] > 1
    return op.suspend(resume_at=publish, sleep=0.2)  # say, until the embargo is over


@create_report.segment
async def publish(op: lro.Operation[ReportState]):
    return {"title": op.state.title, "pages": op.state.pages, "interrupted": op.state.interrupted}


@handlers.handler("render-page")
async def render_page(op: lro.Operation[PageState]):
    for step in range(1, 5):
        await asyncio.sleep(0.3)  # stands for work
        await op.progress(step / 4, f"page {op.state.number}, step {step} of 4")
    return {"number": op.state.number, "attempt": op.attempt}
