"""The resume endpoints as an ASGI application and as a FastAPI router, and an operation that waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI

import lro_aio as lro
from lro_aio.servers.fastapi import resume_router
from lro_aio.servers.resume import ResumeApp, allow_unverified

from ..waiting import reached

HttpTo = Callable[..., httpx.AsyncClient]
Make = Callable[..., Any]


def plain_app(client: lro.Client, verifier: Any = allow_unverified) -> Any:
    return ResumeApp(client, verifier)


def routed_app(client: lro.Client, verifier: Any = allow_unverified) -> Any:
    app = FastAPI()
    app.include_router(resume_router(client, verifier))
    return app


async def suspended(client: lro.Client, handler: str = "sleeps", state: Any = None) -> tuple[str, str]:
    """Name and token of an operation that waits."""
    op = await client.start(handler, state)
    record = await reached(client, op.name, "SUSPENDED")
    assert record.wait is not None
    return op.name, record.wait.token


def reason_of(answer: httpx.Response) -> str:
    (info,) = (d for d in answer.json()["error"]["details"] if d["@type"].endswith("/google.rpc.ErrorInfo"))
    return str(info["reason"])
