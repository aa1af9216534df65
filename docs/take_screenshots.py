"""Takes the pictures of the dashboard.  Usage: PYTHONPATH=. python docs/take_screenshots.py

200 operations of a made-up service, whose three hours pass in seconds. It needs what ``make test-browser`` has.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

import lro_aio as lro
from lro_aio.dashboard import Dashboard
from lro_aio.testing import ManualClock
from tests.browser.programs import browser, missing
from tests.browser.site import everything
from tests.serving import served

PLACE = Path(__file__).parent
SIZE = {"width": 1440, "height": 1050}
WHOLE = """most => {
    const ends = [...document.querySelectorAll("main > *, main section, main tr")]
        .map(one => one.getBoundingClientRect().bottom);
    const last = Math.max(...ends.filter(end => end <= most - 24));
    return last + (last === Math.max(...ends) ? 24 : 1);
}"""
"""How much of a page fits, without a part of a table row."""
OPERATIONS = 202
EVERY = 54
"""Seconds between two starts."""
TENANTS = ("acme", "bluebird", "cinemax", "dockside")
ENCODERS = lro.Queue("encoders", running=6, per_key=2, rate=lro.Rate(120, per=3600))
MODEL = lro.Queue("captions-model", running=10, rate_per_key=lro.Rate(5, per=1))
BURST = (0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 2, 6, 3)
"""Films that tenants send at the end, all at once: most of them are of one."""
DISK_FULL = (31, 77, 78, 121, 190)
SOURCE_GONE = (54, 143)


class DiskFullError(lro.OperationFailedError):
    """A reason of its own, which clients and the dashboard see."""

    code = lro.Code.RESOURCE_EXHAUSTED
    reason = "DISK_FULL"


class SourceGoneError(lro.OperationFailedError):
    """Another one."""

    code = lro.Code.NOT_FOUND
    reason = "SOURCE_GONE"


def tenant(state: dict[str, Any]) -> str:
    """Whose film it is."""
    return TENANTS[state["number"] % len(TENANTS)]


class Service:
    """Films that are transcoded, and reports that somebody has to approve."""

    def __init__(self, clock: ManualClock) -> None:
        self.handlers = lro.Handlers()
        self._clock = clock
        self.mended = False
        self.handlers.handler("transcode", state=dict[str, Any], queue=ENCODERS, queue_key=tenant)(self.transcode)
        self.handlers.handler("report", state=dict[str, Any])(self.report)
        self.handlers.handler("sync", state=dict[str, Any], pause_on_failure=True)(self.sync)
        self.handlers.handler("caption", state=dict[str, Any], queue=MODEL, queue_key=tenant)(self.caption)
        self.schedules = (
            lro.Schedule("catalogue", "sync", every=900, state={"number": 0}),
            lro.Schedule("weekly-report", "report", cron="0 6 * * 1", timezone="Europe/Berlin", state={"number": 1}),
            lro.Schedule("subtitles", "caption", cron="*/20 * * * *", state={"number": 2}, overlap="queue"),
        )

    async def transcode(self, op: lro.Operation[Any]) -> dict[str, Any]:
        """Steps, one after another and side by side, with their progress."""
        number = op.state["number"]
        await op.progress(0.1, "reading the source")
        seconds = await op.step("probe", self.probe, number)
        await op.progress(0.25, "encoding 3 sizes")
        sizes = await asyncio.gather(
            *(op.step("encode", self.encode, number, size, key=size) for size in (480, 720, 1080))
        )
        await op.progress(0.9, "publishing")
        await op.step("publish", self.spend, 12)
        return {"seconds": seconds, "bytes": sum(sizes)}

    async def report(self, op: lro.Operation[Any]) -> dict[str, Any]:
        """Asks a person, for as long as it takes."""
        await op.step("collect", self.spend, 40)
        await op.progress(0.6, "waits for an approval")
        approved = await op.receive("approval")
        await op.step("render", self.spend, 25)
        return {"approved": approved}

    async def sync(self, op: lro.Operation[Any]) -> None:
        """Rests, where others fail."""
        await self.spend(3)
        if op.state["number"] in (62, 170) and not self.mended:
            raise ConnectionError("warehouse.internal: connection refused")

    async def caption(self, _op: lro.Operation[Any]) -> None:
        """A call of a model."""
        await self.spend(6)

    async def probe(self, number: int) -> int:
        """How long the film is."""
        await self.spend(8 + number % 5)
        if number in SOURCE_GONE and not self.mended:
            raise SourceGoneError(f"gs://films/{number}.mov does not exist any more")
        return 1200 + number

    async def encode(self, number: int, size: int) -> int:
        """The larger the picture, the longer it takes."""
        await self.spend(size / 12 + number % 7)
        if number in DISK_FULL and size == 1080 and not self.mended:
            raise DiskFullError("no space left on /scratch: 48 GiB are needed, 3 GiB are free")
        return size * 1000

    async def spend(self, seconds: float) -> None:
        """So many seconds of the clock."""
        over = asyncio.Event()
        self._clock.call_later(seconds, over.set)
        await over.wait()


async def fill(client: lro.Client, clock: ManualClock, numbers: range) -> None:
    """Operations, one every minute or so."""
    for number in numbers:
        kind = ("transcode", "transcode", "sync", "report")[number % 4]
        if number in (*DISK_FULL, *SOURCE_GONE):
            kind = "transcode"
        op = await client.start(kind, {"number": number, "title": f"film {number}"}, operation_id=f"{kind}-{number:03}")
        await clock.advance(EVERY)
        if kind == "report" and number < OPERATIONS - 30:
            await clock.advance(4)
            await client.send(op.name, "approval", {"by": "grace"})


@asynccontextmanager
async def site() -> AsyncIterator[tuple[str, Service, lro.Client]]:
    """The URL of the dashboard, with all operations. It was looked at before: that gives the ends per minute."""
    clock = ManualClock(time.time() - OPERATIONS * (EVERY + 1) - 20)
    service = Service(clock)
    async with lro.Client(
        "sqlite://", handlers=[service.handlers], schedules=service.schedules, clock=clock, expose_errors=True
    ) as client:
        app = Dashboard(client, authorize=everything, title="Films")
        async with served(app, lifespan="off", abrupt=True) as url:
            await fill(client, clock, range(OPERATIONS - 10))
            async with httpx.AsyncClient(base_url=url) as http:
                await http.get("/")
            await fill(client, clock, range(OPERATIONS - 10, OPERATIONS))
            for number in BURST:  # they wait in line
                await client.start("transcode", {"number": number, "title": f"episode {number}"})
            yield f"{url}/", service, client


PICTURES = {
    "overview": "./",
    "operation": f"operation?name={quote('operations/report-167')}",
    "failures": "failures",
    "queues": "queues",
    "schedules": "schedules",
}


async def main() -> None:
    """Write ``dashboard-*.png`` beside this program."""
    from playwright.async_api import async_playwright

    async with site() as (url, _, _), async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        page = await chromium.new_page(viewport=SIZE, base_url=url, color_scheme="light")
        for name, path in PICTURES.items():
            await page.goto(path)
            await page.locator("#live").wait_for(state="visible")
            height = await page.evaluate(WHOLE, SIZE["height"])
            clip = {"x": 0, "y": 0, "width": SIZE["width"], "height": height}
            await page.screenshot(path=PLACE / f"dashboard-{name}.png", clip=clip)
        await chromium.close()


if __name__ == "__main__":
    if problem := missing():
        sys.exit(problem)
    asyncio.run(main())
