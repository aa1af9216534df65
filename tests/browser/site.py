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
from ..waiting import reached

EVIL = "<script>document.title = 'caught'</script><b>bold</b> & \x1b[31m\u202eturned"
LONG = "x" * 300
"""One word that nothing breaks."""


@dataclass
class Site:
    """The service.

    Attributes:
        client: Opened.
        url: Of the dashboard, with the last slash.
        goes_on: Lets each ``copy`` go on.
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
        names = []
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

    @handlers.handler("pauses", state=str, pause_on_failure=True)
    async def pauses(op: lro.Operation[str]) -> None:
        raise ValueError(op.state)

    return handlers


def everything(request: object) -> Access:
    """Whoever comes may do everything."""
    return Access.full("ada")


@asynccontextmanager
async def serving(app: Any = None, **options: Any) -> AsyncIterator[Site]:
    """A site that is served.

    Args:
        app: Made of the dashboard, and served in its place.
        options: Of ``served``.
    """
    goes_on = asyncio.Event()
    async with lro.Client("sqlite://", handlers=[handlers_of(goes_on)], expose_errors=True) as client:
        dashboard: Any = Dashboard(client, authorize=everything)
        async with served(app(dashboard) if app else dashboard, lifespan="off", abrupt=True, **options) as url:
            try:
                yield Site(client, f"{url}/", goes_on)
            finally:
                goes_on.set()
