"""A gRPC server made of bare HTTP/2 frames, for what no library's server can be made to do."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ..tcp_server import tcp_server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(stream: int, fields: dict[str, str], *, end: bool = False) -> bytes:
    """HPACK without its tables: each field literal, not indexed, not Huffman-coded."""
    block = b"".join(
        b"\x00" + bytes([len(key)]) + key.encode() + bytes([len(value)]) + value.encode()
        for key, value in fields.items()
    )
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def begun(stream: int, message: bytes, most: int | None = None) -> bytes:
    """An answer as far as its message, of which at most so many bytes come."""
    body = b"\x00" + struct.pack(">I", len(message)) + message
    start = headers(stream, {":status": "200", "content-type": "application/grpc"})
    return start + frame(DATA, 0, stream, body[:most])


def whole(stream: int, message: bytes) -> bytes:
    return begun(stream, message) + headers(stream, {"grpc-status": "0"}, end=True)


def refused(stream: int, status: int) -> bytes:
    """The answer of an HTTP proxy, without any of gRPC."""
    return headers(stream, {":status": str(status), "content-type": "text/html"}, end=True)


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


@asynccontextmanager
async def raw_server(answer: Callable[[int, int], bytes | None]) -> AsyncIterator[str]:
    """``HOST:PORT`` of a server that sends ``answer(number of the call, stream)``, or cuts the connection for None."""
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        await reader.readexactly(len(PREFACE))
        writer.write(frame(SETTINGS, 0, 0))
        while True:
            head = await reader.readexactly(9)
            length, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
            stream = int.from_bytes(head[5:]) & 0x7FFFFFFF
            payload = await reader.readexactly(length)
            if kind == SETTINGS and not flags & ACK:
                writer.write(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                writer.write(frame(PING, ACK, 0, payload))
            elif kind == DATA and flags & END_STREAM:  # the request is there
                calls += 1
                sent = answer(calls, stream)
                if sent is None:
                    writer.transport.abort()
                    return
                writer.write(sent)

    async with tcp_server(serve) as port:
        yield f"127.0.0.1:{port}"
