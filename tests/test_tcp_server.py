"""The tests' own TCP server leaves nothing behind, whatever its clients do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys

import pytest

from .tcp_server import tcp_server
from .waiting import PATIENCE


@pytest.fixture
def unclosed(monkeypatch):
    """What is said of transports and sockets when they are collected: a warning, which is an error."""
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(str(unraisable.exc_value)))

    def collected():
        gc.collect(0)
        return said

    gc.disable()  # what is new stays in the youngest generation: all others hold the objects of the whole session
    yield collected
    gc.enable()


async def hang(reader, writer):
    """Sends more than the client takes, and waits for what does not come."""
    writer.write(b"x" * 10_000_000)
    await writer.drain()


async def cut(reader, writer):
    writer.transport.abort()


async def silent(reader, writer):
    await asyncio.Event().wait()


def closed(client):
    """Read what the server has sent, and fail if it has not hung up after it."""
    client.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionError):
        while client.recv(1 << 20):
            pass


@pytest.mark.parametrize("serve", [hang, cut, silent])
def test_a_client_that_hangs_leaves_no_transport(unclosed, serve):
    async def life():
        serving = asyncio.Event()

        async def noted(reader, writer):
            serving.set()
            await serve(reader, writer)

        async with tcp_server(noted) as port:
            client = socket.create_connection(("127.0.0.1", port))
            await serving.wait()
        return client

    with asyncio.run(life()) as client:
        assert unclosed() == []
        closed(client)


@pytest.mark.parametrize("turns", range(7))
def test_a_client_that_has_just_come_leaves_no_transport(unclosed, turns):
    """Neither one that waits to be accepted nor one whose connection is being made."""

    async def life():
        async with tcp_server(silent) as port:
            client = socket.create_connection(("127.0.0.1", port))
            for _ in range(turns):
                await asyncio.sleep(0)
        return client

    with asyncio.run(life()) as client:
        assert unclosed() == []
        closed(client)


async def _one_call(serve):
    async with tcp_server(serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


def test_a_connection_is_closed_once_it_is_served():
    async def echo(reader, writer):
        writer.write(await reader.readexactly(5))

    assert asyncio.run(_one_call(echo)) == b"hello"


def test_a_client_that_hangs_up_is_no_error(unclosed):
    async def wants_more(reader, writer):
        await reader.readexactly(5000)

    async def life():
        async with tcp_server(wants_more) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()

    asyncio.run(life())
    assert unclosed() == []


def test_what_the_server_raises_fails_the_test(unclosed):
    async def broken(reader, writer):
        raise AssertionError("this is not what was expected")

    with pytest.raises(ExceptionGroup, match="server of the test failed") as caught:
        asyncio.run(_one_call(broken))
    assert [str(error) for error in caught.value.exceptions] == ["this is not what was expected"]
    assert unclosed() == []
