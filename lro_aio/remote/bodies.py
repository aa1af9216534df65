"""HTTP answers of which no more is taken than an operation can need, however small they were on the wire.

A kilobyte of gzip may stand for a megabyte of zeros. An httpx client unpacks what comes, all of it and in every
encoding that is installed; so this asks for gzip alone, and unpacks it piece by piece.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx

from lro_aio.core.errors import RemoteProtocolError

__all__ = ["ACCEPTED", "MAX_BODY", "request"]

ACCEPTED = {"accept-encoding": "gzip"}
"""Header of a request whose answer ``request`` can read."""
MAX_BODY = 32 * 1024 * 1024
"""Bytes of a body, unpacked. An operation of the largest size that a store of this package keeps has 10 MiB as JSON."""

_GZIP = 16 + zlib.MAX_WBITS
_CHANGED = ("content-encoding", "content-length", "transfer-encoding")


async def request(
    client: httpx.AsyncClient, method: str, url: httpx.URL, *, name: str, **options: Any
) -> httpx.Response:
    """Send a request and read the answer.

    Args:
        client: Sends it.
        method: Of the request.
        url: Of the request.
        name: Of the operation, for errors.
        options: As ``httpx.AsyncClient.build_request`` takes them.

    Raises:
        RemoteProtocolError: The answer is too large, or in an encoding that was not asked for.
        httpx.RequestError: There is none.
    """
    response = await client.send(client.build_request(method, url, **options), stream=True)
    try:
        if response.is_stream_consumed:  # of a transport that has no wire
            return response
        if "content-encoding" not in response.headers:
            if not _is_bounded(response):
                response.stream = _Bounded(cast("httpx.AsyncByteStream", response.stream), name)
            await response.aread()
            return response
        body = bytearray()
        unpack = _unpacker(response, name)
        async for piece in response.aiter_raw():
            body += unpack(piece, MAX_BODY + 1 - len(body))
            if len(body) > MAX_BODY:
                raise _too_large(name)
    finally:
        await response.aclose()
    answer = httpx.Response(
        response.status_code,
        headers=[(key, value) for key, value in response.headers.raw if key.lower().decode() not in _CHANGED],
        content=bytes(body),
        request=response.request,
        extensions=response.extensions,
        history=response.history,
        default_encoding=response.default_encoding,
    )
    answer.elapsed = response.elapsed
    return answer


def _is_bounded(response: httpx.Response) -> bool:
    """Whether the body comes in a length that HTTP holds it to: then httpx reads no more than this would."""
    headers = response.headers
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 18 and int(length) <= MAX_BODY):
        return False
    return "transfer-encoding" not in headers


class _Bounded(httpx.AsyncByteStream):
    """A body that ends with an error where it is too large.

    A second response, made of what was read of the first, would cost more than all other that is done with it here.
    """

    def __init__(self, stream: httpx.AsyncByteStream, name: str) -> None:
        self._stream = stream
        self._name = name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_BODY
        async for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise _too_large(self._name)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def _too_large(name: str) -> RemoteProtocolError:
    return RemoteProtocolError(name, f"it has more than {MAX_BODY} bytes")


def _unpacker(response: httpx.Response, name: str) -> Callable[[bytes, int], bytes]:
    """A function that unpacks the next piece of a body, up to so many bytes."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return lambda piece, most: piece[:most]
    if encoding not in ("gzip", "x-gzip"):
        raise RemoteProtocolError(name, f"it comes in the encoding {encoding[:40]!r}, which was not asked for")
    unpacker = zlib.decompressobj(_GZIP)

    def unpack(piece: bytes, most: int) -> bytes:
        try:
            return unpacker.decompress(piece, most)
        except zlib.error as exc:
            raise httpx.DecodingError(str(exc), request=response.request) from exc

    return unpack
