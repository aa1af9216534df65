"""A service with resume endpoints on loopback, and a Cloud Workflows that calls it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

import lro_aio as lro
from lro_aio.servers.resume import OidcVerifier, ResumeApp
from lro_aio.testing import FakeWorkflows, ManualClock

from ..serving import served
from ..waiting import PATIENCE


class Service:
    """Serves the resume endpoints of whichever client was opened last and is not closed."""

    def __init__(self, verifier: OidcVerifier) -> None:
        self.url = ""
        self.clients: list[lro.Client] = []
        self.answers: list[tuple[str, int]] = []
        """(path, status) of every request."""
        self.under_way: list[str] = []
        """Paths of the requests that are not answered yet."""
        self._verifier = verifier
        self._apps: dict[int, ResumeApp] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return

        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.answers.append((scope["path"], message["status"]))
            await send(message)

        self.under_way.append(scope["path"])
        try:
            await self.answer(scope, receive, noting)
        finally:
            self.under_way.remove(scope["path"])

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        for client in reversed(self.clients):
            try:
                client.engine.life.check_open()
            except RuntimeError:
                continue
            app = self._apps.setdefault(id(client), ResumeApp(client, self._verifier))
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def serving(service: Service) -> AsyncIterator[None]:
    """Serve it on a free port of the loopback interface, which ``service.url`` names."""
    async with served(service, lifespan="off", abrupt=True) as service.url:
        yield


@pytest_asyncio.fixture
async def workflows(lro_clock: ManualClock) -> AsyncIterator[FakeWorkflows]:
    async with FakeWorkflows(clock=lro_clock, patience=PATIENCE) as fake:
        yield fake


@pytest_asyncio.fixture
async def service(workflows: FakeWorkflows) -> AsyncIterator[Service]:
    issuer = workflows.issuer
    service = Service(
        OidcVerifier(
            audience="https://reports.example",
            service_accounts=[issuer.email],
            issuer=issuer.issuer,
            certs_url=issuer.certs_url,
        )
    )
    async with serving(service):
        yield service
