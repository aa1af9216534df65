"""The least of an HTTP/1.1 client, so that what is measured is the server: kept connections, one call at a time."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class HttpCalls:
    """Calls to one server; as many connections as calls are under way at a time. An async context manager."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._idle:
            _, writer = self._idle.pop()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def get(self, path: str) -> bytes:
        return await self._call(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())

    async def post(self, path: str, body: bytes) -> bytes:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return await self._call(head.encode() + body)

    async def _call(self, request: bytes) -> bytes:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            body = await _body(reader, head.lower())
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        if not 200 <= status < 300:
            raise RuntimeError(f"{request.splitlines()[0].decode()} was answered with {status}: {body.decode()}")
        return body


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if (place := head.find(b"content-length:")) >= 0:
        return await reader.readexactly(int(head[place + 15 : head.index(b"\r\n", place)]))
    if b"transfer-encoding: chunked" not in head:
        return b""
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body
