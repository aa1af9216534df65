"""A service with handlers that do what a test says, and its dashboard on a loopback socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import lro_aio as lro
from lro_aio.dashboard import Access, Dashboard

from ..serving import served
from ..waiting import PATIENCE, reached

EVIL = "<script>document.title = 'caught'</script><b>bold</b> & \x1b[31m\u202eturned"
LONG = "x" * 300
"""One word that nothing breaks."""
QUEUES = (
    lro.Queue("models", running=2, per_key=1, rate=lro.Rate(200, per=60), rate_per_key=lro.Rate(5, per=1.5)),
    lro.Queue("q" * 128),
)
NOBODY = "http://127.0.0.1:9"
"""Of a receiver that does not answer."""
WEBHOOKS = lro.Webhooks(secrets="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", origins=[NOBODY], allow_private=True)
SCHEDULES = (
    lro.Schedule("nightly", "says", cron="30 2 * * *", timezone="America/Argentina/ComodRivadavia"),
    lro.Schedule("often", "fails", every=1, state="no disk"),
    lro.Schedule("s" * 100, "says", cron="0 0 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 1,2,3,4,5,6,7,8,9,10 *"),
)


@dataclass
class Site:
    """The service.

    Attributes:
        client: Opened.
        url: Of the dashboard, with the last slash.
        goes_on: Lets each ``copy`` go on, and no ``mends`` fail any more.
    """

    client: lro.Client
    url: str = ""
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def started(self, handler: str, state: str = "", **options: Any) -> str:
        """The name of an operation that has ended, or is where it waits."""
        op = await self.client.start(handler, state, **options)
        await reached(self.client, op.name, *(("RUNNING",) if handler in ("copy", "asks") else ("SUCCEEDED", "FAILED")))
        return op.name

    async def fill(self, number: int) -> list[str]:
        """Operations of every kind, ``number`` of them: with long names, errors and texts that would do harm."""
        kinds = ("copy", "asks", "says", "fails", "pauses")
        hook = lro.Webhook(f"{NOBODY}/{'r' * 200}")
        names = [await self.started("says", "with a webhook", webhook=hook)] if number else []
        for one in range(number):
            handler = kinds[one % len(kinds)]
            parent = f"projects/{'p' * 100}/locations/somewhere" if one % 7 == 3 else ""
            state = (EVIL, LONG, f"disk {one} is full")[one % 3]
            op = await self.client.start(
                handler, state, parent=parent, operation_id=f"{handler}-{one}-{'n' * (one % 90)}"
            )
            names.append(op.name)
        for name in names:
            await reached(self.client, name, "RUNNING", "SUSPENDED", "SUCCEEDED", "FAILED")
        return names

    async def line_up(self, number: int) -> None:
        """Operations that wait in queues, and schedules of which one has failed; see ``serving(standing=True)``."""
        for one in range(number):
            key = ("ada", "<b>bold</b> & co", "k" * 256)[one % 3] if one < 30 else f"tenant {one}"
            await self.client.start("asks-models", "", queue_key=key)
        await self.client.queues.set(QUEUES[1].name, running=1_000_000)
        await self.client.queues.pause(QUEUES[1].name)
        async with asyncio.timeout(PATIENCE):
            while not (await self.client.schedules.get("often")).failures:
                await asyncio.sleep(0.01)
        await self.client.schedules.pause("often", EVIL)


def handlers_of(goes_on: asyncio.Event) -> lro.Handlers:
    """The handlers of a site."""
    handlers = lro.Handlers()

    @handlers.handler("copy", state=str)
    async def copy(op: lro.Operation[str]) -> str:
        await op.progress(0.25, f"copying {op.state}")
        await goes_on.wait()
        await op.progress(0.75, f"checking {op.state}")
        await asyncio.sleep(0)
        return op.state

    @handlers.handler("asks", state=str)
    async def asks(op: lro.Operation[str]) -> Any:
        return await op.receive("approval")

    @handlers.handler("says", state=str)
    async def says(op: lro.Operation[str]) -> dict[str, str]:
        return {"said": op.state}

    @handlers.handler("fails", state=str)
    async def fails(op: lro.Operation[str]) -> None:
        raise lro.OperationFailedError(op.state, code=lro.Code.NOT_FOUND)

    @handlers.handler("mends", state=str)
    async def mends(op: lro.Operation[str]) -> str:
        if not goes_on.is_set():
            raise lro.OperationFailedError(op.state, code=lro.Code.UNAVAILABLE)
        return op.state

    @handlers.handler("pauses", state=str, pause_on_failure=True)
    async def pauses(op: lro.Operation[str]) -> None:
        raise ValueError(op.state)

    return handlers


def queued_handlers() -> lro.Handlers:
    """Handlers that wait in queues."""
    handlers = lro.Handlers()

    @handlers.handler("asks-models", state=str, queue=QUEUES[0])
    async def asks_models(op: lro.Operation[str]) -> Any:
        return await op.receive("answer")

    @handlers.handler("waits", state=str, queue=QUEUES[1])
    async def waits(op: lro.Operation[str]) -> Any:
        return await op.receive("answer")

    return handlers


def everything(request: object) -> Access:
    """Whoever comes may do everything."""
    return Access.full("ada")


@asynccontextmanager
async def serving(app: Any = None, *, standing: bool = False, **options: Any) -> AsyncIterator[Site]:
    """A site that is served.

    Args:
        app: Made of the dashboard, and served in its place.
        standing: Whether it has queues and schedules.
        options: Of ``served``.
    """
    goes_on = asyncio.Event()
    handlers = [handlers_of(goes_on), *([queued_handlers()] if standing else [])]
    schedules = SCHEDULES if standing else ()
    async with lro.Client(
        "sqlite://", handlers=handlers, schedules=schedules, webhooks=WEBHOOKS, expose_errors=True
    ) as client:
        dashboard: Any = Dashboard(client, authorize=everything)
        async with served(app(dashboard) if app else dashboard, lifespan="off", abrupt=True, **options) as url:
            try:
                yield Site(client, f"{url}/", goes_on)
            finally:
                goes_on.set()
