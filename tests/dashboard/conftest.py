"""A client with a few handlers, and the dashboard over it on a loopback socket."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.requests import Request

import lro_aio as lro
from lro_aio.dashboard import Access, Dashboard
from lro_aio.testing import FaultyStore, ManualClock

from ..loop_guard import loop_guard  # noqa: F401 (for every test here)
from ..serving import served
from ..waiting import durably_suspended, reached

SAME = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a form of the page's own site."""
EVIL = "<script>alert(1)</script>\x1b[31m\u202e'\""


class NoDiskError(lro.OperationFailedError):
    reason = "NO_DISK"


@dataclass
class Note:
    text: str = ""


@pytest.fixture
def handlers() -> lro.Handlers:
    registry = lro.Handlers()

    @registry.handler("echo", state=Note)
    async def echo(op: lro.Operation[Note]) -> dict[str, str]:
        return {"said": op.state.text}

    @registry.handler("asks", state=Note)
    async def asks(op: lro.Operation[Note]) -> Any:
        return await op.receive("approval")

    @registry.handler("fails", state=Note)
    async def fails(op: lro.Operation[Note]) -> None:
        raise (NoDiskError if "no disk" in op.state.text else lro.OperationFailedError)(op.state.text, code=5)

    @registry.handler("pauses", state=Note, pause_on_failure=True)
    async def pauses(op: lro.Operation[Note]) -> None:
        raise ValueError(op.state.text)

    return registry


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(lro.SqliteStore("sqlite://"))


@pytest_asyncio.fixture
async def client(handlers: lro.Handlers, clock: ManualClock, store: FaultyStore) -> AsyncIterator[lro.Client]:
    async with lro.Client(store, handlers=handlers, clock=clock) as opened:
        yield opened


@dataclass
class Site:
    """A dashboard that is served, and a browser without a script."""

    http: httpx.AsyncClient
    client: lro.Client
    clock: ManualClock

    async def get(self, path: str = "", status: int = 200, **query: str) -> str:
        answer = await self.http.get(path, params=query or None)
        assert answer.status_code == status, answer.text
        return answer.text

    async def json(self, page: str, **query: str) -> Any:
        answer = await self.http.get(f"api/{page}", params=query or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def confirm(self, **fields: Any) -> httpx.Response:
        return await self.http.post("confirm", data=fields, headers=SAME)

    async def act(self, **fields: Any) -> httpx.Response:
        """Confirm, and send the form that the page shows, with what a person fills in."""
        page = await self.confirm(**fields)
        assert page.status_code == 200, page.text
        return await self.http.post("act", data={**fields, "id": field(page.text, "id"), **fields}, headers=SAME)

    async def started(self, handler: str, text: str = "", *, id: str | None = None) -> str:  # noqa: A002
        """The name of an operation that has ended, or waits."""
        op = await self.client.start(handler, Note(text), operation_id=id)
        if handler == "asks":
            await durably_suspended(self.client, op.name, self.clock)
        else:
            await reached(self.client, op.name, "SUCCEEDED", "FAILED", "SUSPENDED")
        return op.name


def field(page: str, name: str) -> str:
    """The value of a form's field."""
    found = re.search(rf'name="{name}" (?:id="\w+" )?value="([^"]*)"', page)
    assert found is not None, f"no field {name}"
    return unescape(found[1])


def everybody(access: Access) -> Callable[[Request], Any]:
    async def authorize(request: Request) -> Access:
        return access

    return authorize


Serve = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def serve(client: lro.Client, clock: ManualClock) -> Serve:
    @asynccontextmanager
    async def serving(app: Any = None, *, path: str = "/", **options: Any) -> AsyncIterator[Site]:
        options.setdefault("authorize", everybody(Access.full("ada")))
        app = app if app is not None else Dashboard(client, **options)
        async with served(app, lifespan="off") as url, httpx.AsyncClient(base_url=url + path, timeout=20) as http:
            yield Site(http, client, clock)

    return serving


@pytest_asyncio.fixture
async def site(serve: Serve) -> AsyncIterator[Site]:
    """Everybody may do everything."""
    async with serve() as found:
        yield found
