"""How much of an answer is taken: what an operation can need, however small it was on the wire."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.remote import HttpTransport, RemoteOperation, bodies

from .http_services import FAST, QUICK, Answer, Service, scripted

pytestmark = pytest.mark.asyncio

NAME = "operations/a"
STRING = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "ok"}
DONE = {"name": NAME, "done": True, "response": STRING}
GZIP = {"Content-Encoding": "gzip"}
MB = 1024 * 1024


def bomb(size: int) -> bytes:
    """JSON of this size, in a thousandth of it."""
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    parts = [packer.compress(b'{"name": "')]
    parts += [packer.compress(b"x" * MB) for _ in range(size // MB)]
    return b"".join([*parts, packer.compress(b'"}'), packer.flush()])


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    async with scripted() as opened:
        yield opened


@pytest_asyncio.fixture
async def handle(service: Service) -> AsyncIterator[RemoteOperation[Any]]:
    async with httpx.AsyncClient() as http:
        yield RemoteOperation.from_name(HttpTransport(http, service.url, poll=FAST, retry=QUICK, timeout=30), NAME)


async def test_an_answer_in_gzip_is_read(handle: RemoteOperation[Any], service: Service) -> None:
    service.answers(Answer(body=gzip.compress(json.dumps(DONE).encode()), headers=GZIP))
    await handle.wait_for_completion(timeout=30)
    assert service.asked[0].headers["accept-encoding"] == "gzip"
    assert handle.raw_response.json() == DONE
    assert handle.raw_response.elapsed.total_seconds() > 0


@pytest.mark.slow
async def test_an_answer_that_unpacks_to_more_than_an_operation_needs_is_refused(
    handle: RemoteOperation[Any], service: Service
) -> None:
    service.answers(Answer(body=bomb(300 * MB), headers=GZIP))
    tracemalloc.start()
    try:
        with pytest.raises(lro.RemoteProtocolError, match=f"it has more than {bodies.MAX_BODY} bytes"):
            await handle.update_status()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * bodies.MAX_BODY
    assert len(service.asked) == 1, "nor is it asked for again"


async def test_an_answer_that_is_as_large_on_the_wire_is_refused(
    handle: RemoteOperation[Any], service: Service
) -> None:
    service.answers(Answer(body=b" " * (bodies.MAX_BODY + 1)))
    with pytest.raises(lro.RemoteProtocolError, match="more than"):
        await handle.update_status()


async def test_an_encoding_that_was_not_asked_for_is_refused(handle: RemoteOperation[Any], service: Service) -> None:
    service.answers(Answer(body=zlib.compress(json.dumps(DONE).encode()), headers={"Content-Encoding": "deflate"}))
    with pytest.raises(lro.RemoteProtocolError, match="the encoding 'deflate', which was not asked for"):
        await handle.update_status()


async def test_an_answer_that_is_no_gzip_may_come_whole_the_next_time(
    handle: RemoteOperation[Any], service: Service
) -> None:
    service.answers(Answer(body=b"not gzip", headers=GZIP), Answer(body=DONE))
    await handle.wait_for_completion(timeout=30)
    assert handle.has_completed


class Endless(httpx.AsyncBaseTransport, httpx.AsyncByteStream):
    """Answers with a body that does not end."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self.pieces = 0
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=self._headers, stream=self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.pieces += 1
            yield b" " * MB

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Length": "many"},
        {"Content-Length": "9" * 18},
        {"Content-Length": "2", "Transfer-Encoding": "chunked"},
    ],
)
async def test_an_answer_without_a_length_that_counts_is_read_up_to_the_bound(headers: dict[str, str]) -> None:
    endless = Endless(headers)
    async with httpx.AsyncClient(transport=endless) as http:
        handle = RemoteOperation.from_name(HttpTransport(http, "http://service", poll=FAST, retry=QUICK), NAME)
        with pytest.raises(lro.RemoteProtocolError, match=f"it has more than {bodies.MAX_BODY} bytes"):
            await handle.update_status()
    assert endless.pieces == bodies.MAX_BODY // MB + 1
    assert endless.closed


async def test_what_is_kept_of_an_answer_is_as_it_came(handle: RemoteOperation[Any], service: Service) -> None:
    service.answers(Answer(body=DONE))
    await handle.update_status()
    assert handle.raw_response.headers["content-length"] == str(len(handle.raw_response.content))
    assert handle.raw_response.json() == DONE
    assert handle.raw_response.elapsed.total_seconds() > 0
    assert handle.raw_response.is_closed


def chunked(body: bytes, **options: Any) -> Answer:
    """An answer in two chunks: its Content-Length does not count."""
    half = len(body) // 2
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:half], body[half:], b""))
    return Answer(body=pieces, headers={"Transfer-Encoding": "chunked"}, **options)


async def test_an_answer_in_chunks_is_kept_as_it_came(handle: RemoteOperation[Any], service: Service) -> None:
    service.answers(chunked(json.dumps(DONE).encode()))
    await handle.update_status()
    answer = handle.raw_response
    assert answer.json() == DONE
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.elapsed.total_seconds() > 0
    assert answer.is_closed


async def test_an_answer_in_chunks_that_is_cut_is_asked_for_again(
    handle: RemoteOperation[Any], service: Service
) -> None:
    body = json.dumps(DONE).encode()
    service.answers(chunked(body, cut=True), chunked(body))
    await handle.wait_for_completion(timeout=30)
    assert len(service.asked) == 2


async def test_an_answer_in_chunks_that_are_too_much_is_refused(handle: RemoteOperation[Any], service: Service) -> None:
    service.answers(chunked(b" " * (bodies.MAX_BODY + 1)))
    with pytest.raises(lro.RemoteProtocolError, match=f"it has more than {bodies.MAX_BODY} bytes"):
        await handle.update_status()
    assert len(service.asked) == 1, "nor is it asked for again"
