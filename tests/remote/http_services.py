"""An HTTP service on a loopback socket that the tests script, byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

import lro_aio as lro

from ..tcp_server import tcp_server

FAST = lro.PollPolicy(interval=0.01, multiplier=1.0, max_interval=0.01, jitter=0.0)
QUICK = lro.RetryPolicy(max_attempts=10, initial_delay=0.01, multiplier=1.0, max_delay=0.01, jitter=0.0)


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass
class Answer:
    """What to answer: JSON, or bytes as they are."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Hang up in the middle of the body."""
    silent: bool = False
    """Do not answer at all."""
    trickle: bool = False
    """A body without end, of which a byte comes now and then."""

    def encoded(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        lines += [f"{name}: {value}" for name, value in (headers | self.headers).items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        return head + (body[: len(body) // 2] if self.cut else body)


@dataclass
class Service:
    """Answers what is queued, then what ``otherwise`` says."""

    url: str = ""
    queue: deque[Answer] = field(default_factory=deque)
    otherwise: Callable[[Asked], Answer] = lambda asked: Answer(404, {"error": {"code": 404, "message": "not here"}})
    asked: list[Asked] = field(default_factory=list)

    def answers(self, *answers: Answer) -> None:
        """Queue answers; the last one is for all requests from then on."""
        self.queue.extend(answers)
        self.otherwise = lambda asked: answers[-1]

    def lines(self) -> list[str]:
        return [str(asked) for asked in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        method, target, _ = head[0].split(" ")
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, target, headers, body))
        answer = self.queue.popleft() if self.queue else self.otherwise(self.asked[-1])
        if not answer.silent:
            writer.write(answer.encoded())
            await writer.drain()
        if answer.trickle:
            while not reader.at_eof():  # until the client has had enough
                await asyncio.sleep(0.02)
                writer.write(b" ")
                await writer.drain()
        elif answer.silent:
            await reader.read()


@asynccontextmanager
async def scripted() -> AsyncIterator[Service]:
    """A service without answers."""
    service = Service()
    async with tcp_server(service.serve) as port:
        service.url = f"http://127.0.0.1:{port}"
        yield service


@asynccontextmanager
async def counting_client(**options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    """A client, and the requests that it has sent."""
    sent: list[str] = []

    async def note(request: httpx.Request) -> None:
        sent.append(f"{request.method} {request.url.raw_path.decode()}")

    async with httpx.AsyncClient(event_hooks={"request": [note]}, **options) as client:
        yield client, sent
