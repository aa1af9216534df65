"""Fails a test that leaves a socket of its event loop open.

The garbage collector would warn of it in whichever test it runs, and of nothing that says where it came from.
"""

from __future__ import annotations

import weakref
from asyncio import selector_events
from collections.abc import Generator
from typing import Any

import pytest
from anyio._backends._asyncio import StreamProtocol

_made: weakref.WeakSet[Any] = weakref.WeakSet()


def _noted(init: Any) -> Any:
    def noted(transport: Any, *args: Any, **options: Any) -> None:
        _made.add(transport)
        init(transport, *args, **options)

    return noted


selector_events._SelectorTransport.__init__ = _noted(selector_events._SelectorTransport.__init__)  # type: ignore[attr-defined]


def take_left_open() -> list[str]:
    """The transports that nobody closed although their event loop is closed; each is told once."""
    left = [transport for transport in _made if transport._sock is not None and transport._loop.is_closed()]
    told = [f"{transport!r} of {transport.get_protocol()!r}" for transport in left if not _excused(transport)]
    for transport in left:
        _made.discard(transport)
        if _excused(transport):
            transport._sock.close()
            transport._sock = None
    return told


def _excused(transport: Any) -> bool:
    """Whether it is no fault of ours.

    One that was closed lacks only its last turn of the loop, which an old pytest-asyncio does not give. And anyio,
    under httpx, loses a connection if its making is cancelled in the wrong moment, in most versions from 4.6 on.
    """
    return transport.is_closing() or isinstance(transport.get_protocol(), StreamProtocol)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """After the fixtures, of which the event loop is one."""
    yield
    if left := take_left_open():
        pytest.fail("the event loop was closed before its sockets: " + ", ".join(left), pytrace=False)
