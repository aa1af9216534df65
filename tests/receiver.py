"""A receiver of webhooks on the loopback interface, which answers as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

import lro_aio as lro

from .tcp_server import tcp_server

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + "b" * 32

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """What came."""

    headers: dict[str, str]
    body: bytes
    path: str

    @property
    def told(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """What came so far, and how the next requests are answered: at last as ``usual`` says."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answers: list[bytes | Answer] = field(default_factory=list)
    usual: bytes | Answer = b""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/hooks?for=me"

    def rules(self, **options: Any) -> lro.Webhooks:
        """The rules of a service that allows this receiver."""
        return lro.Webhooks(**{"secrets": SECRET, "origins": [self.origin], "allow_private": True, **options})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append(Request(headers, body, first.split(" ")[1]))
        answer = self.answers.pop(0) if self.answers else self.usual
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
        else:
            await answer(writer)


def response(status: int, *headers: str, body: str = "") -> bytes:
    """An answer of HTTP."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close", *headers, "", body]
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def receiving(*answers: bytes | Answer, ssl: SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that answers so, and 204 from then on."""
    receiver = Receiver(answers=list(answers), usual=response(204))
    async with tcp_server(receiver.serve, ssl=ssl) as port:
        receiver.port = port
        yield receiver
