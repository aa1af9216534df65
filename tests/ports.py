"""Ports for programs that have to be told one."""

from __future__ import annotations

import random
import socket

_LEAST, _MOST = 10_000, 32_000
"""Below those that systems give to whoever asks for any."""
_DICE = random.SystemRandom()  # a seed that a test sets would give the same ports to all


def free_port() -> int:
    """A port of the loopback interface that nobody has.

    Until the program that is told of it binds it, other tests open sockets by the hundred. None of them gets this one.

    Raises:
        OSError: There is none.
    """
    for _ in range(1000):
        port = _DICE.randrange(_LEAST, _MOST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {_LEAST} to {_MOST} is free")
