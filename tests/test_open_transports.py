"""The guard that fails a test which leaves a socket of its event loop open."""

from __future__ import annotations

import asyncio
import socket

import pytest

from .open_transports import take_left_open


@pytest.fixture
def peer():
    """A socket that is connected to another."""
    ours, theirs = socket.socketpair()
    with theirs:
        yield ours


async def connected(peer):
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=peer)
    return transport


def test_a_transport_that_outlives_its_loop_is_told_once(peer):
    with asyncio.Runner() as runner:
        transport = runner.run(connected(peer))
        assert take_left_open() == [], "it may be closed yet"
    [told] = take_left_open()
    assert "asyncio.protocols.Protocol" in told
    assert take_left_open() == []
    peer.close()
    transport._sock = None  # so that nobody warns of it


def test_a_transport_that_is_closed_in_time_is_not_told(peer):
    async def closed():
        transport = await connected(peer)
        transport.abort()
        await asyncio.sleep(0)  # in which its socket is closed
        return transport

    transport = asyncio.run(closed())
    assert take_left_open() == []
    assert transport.is_closing()


def test_a_transport_that_was_closed_may_lack_the_last_turn_of_its_loop(peer):
    async def closed_in_the_last_turn():
        transport = await connected(peer)
        asyncio.get_running_loop().call_soon(transport.abort)
        return transport

    loop = asyncio.new_event_loop()
    transport = loop.run_until_complete(closed_in_the_last_turn())
    loop.close()
    assert transport._sock is not None, "or the test shows nothing"
    assert take_left_open() == []
    assert peer.fileno() == -1
