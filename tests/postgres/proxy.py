"""A TCP proxy before the server, which a test lets stall, swallow answers, or break connections."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Listens on a free port of the loopback and passes everything on. Use as a context manager.

    Args:
        url: Of a database whose server is on the loopback, too.
    """

    def __init__(self, url: str) -> None:
        self._direct = url
        port = urlsplit(url).port
        assert port is not None
        self._port = port
        self.open = threading.Event()
        """Clear it, and nothing passes any more, in either direction."""
        self.open.set()
        self.swallows: Callable[[bytes], bool] = lambda _: False
        """Called with what a client sends. True: it is passed on, and its answers, and all that follow, are not."""
        self.resets: Callable[[bytes], bool] = lambda _: False
        """The same. True: the connection is reset once the server has what was sent."""
        self.holds: Callable[[bytes], bool] = lambda _: False
        """The same. True: the connection breaks, and what was sent comes to the server only when it is ``let_through``.
        """
        self.let_through = threading.Event()
        self.turns = 0
        """How often a client has said something after an answer: round trips, however many packets each has."""
        self.delay = 0.0
        """Seconds that an answer takes. Give it some where ``turns`` count: what a client sends in several packets is
        then one turn, however fast the server is."""
        self._answered = True
        self._sockets: set[socket.socket] = set()
        self._closed = False

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = self._direct.replace(f":{self._port}/", f":{self._listener.getsockname()[1]}/")
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.open.set()
        self.let_through.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """Break every connection that there is, as a host that restarts does."""
        for one in list(self._sockets):
            _reset(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                _reset(client)
                client.close()
                continue
            self._sockets |= {client, server}
            mute = threading.Event()
            self._spawn(lambda c=client, s=server, m=mute: self._pass(c, s, m, requests=True))
            self._spawn(lambda c=client, s=server, m=mute: self._pass(s, c, m, requests=False))

    def _pass(self, source: socket.socket, target: socket.socket, mute: threading.Event, *, requests: bool) -> None:
        try:
            while data := source.recv(65536):
                self.open.wait()
                if not requests and self.delay:
                    time.sleep(self.delay)
                self.turns += requests and self._answered
                self._answered = not requests
                if requests and self.swallows(data):
                    mute.set()
                if requests and self.holds(data):
                    mute.set()
                    _reset(source)
                    self.let_through.wait()
                broken = requests and self.resets(data)
                if broken:
                    mute.set()
                if requests or not mute.is_set():
                    target.sendall(data)
                if broken:
                    _reset(source)
        except OSError:
            pass
        finally:
            self._sockets -= {source}
            _reset(target)
            source.close()

    def _spawn(self, run: Callable[[], None]) -> None:
        threading.Thread(target=run, name="fake-proxy", daemon=True).start()


def _reset(one: socket.socket) -> None:
    """End a connection; whoever reads from it finds out at once. Its own thread closes it."""
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is over already
