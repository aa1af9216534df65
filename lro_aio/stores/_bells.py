"""Bells: whoever commits rings those of the other processes, which then look at once and not at their next poll.

A bell is a datagram socket beside the lock of its process. A ring is a hint: it may come for
nothing, and it may not come.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence

__all__ = ["Bell", "may_hear"]

GAP = 0.004
"""Seconds between two rings of one process. What is committed within them is rung for at their end."""
_RING, _OWED = b"r", b"o"


def may_hear(name: str, folder: int) -> bool:
    """Whether somebody may have this bell open. False only where it is certain that nobody has."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.connect(_path(name, folder))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True
    return True


class Bell:
    """The bell of one process, and its hand for those of others.

    Args:
        name: Of the socket; there must be none.
        folder: Descriptor of its directory.
        mode: Permissions of the socket. Whoever may write it may ring.
        heard: Called on a thread of the bell's own when somebody has rung. None: nobody rings, and it is only seen.
        others: The names of the other bells.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(
        self,
        name: str,
        folder: int,
        *,
        mode: int,
        heard: Callable[[], None] | None,
        others: Callable[[], Sequence[str]],
    ) -> None:
        self._name = name
        self._folder = folder
        self._others = others
        self._rung = 0.0
        """Monotonic seconds of the last ring of this process."""
        self._owed = False
        """Something was committed since then."""
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(_path(name, folder))
            os.chmod(_path(name, folder), mode)
            self._thread: threading.Thread | None = None
            if heard is not None:
                self._thread = threading.Thread(target=self._listen, args=[heard], name="lro-aio-bell", daemon=True)
                self._thread.start()
        except BaseException:
            self._remove()
            self._socket.close()
            raise

    def ring(self) -> None:
        """Ring all others, or soon. Never blocks. Called by one thread at a time."""
        if not self._others():
            return
        if time.monotonic() - self._rung >= GAP:
            self._ring()
        elif not self._owed:
            self._owed = True
            self._send(_OWED, self._name)

    def close(self) -> None:
        """Remove it. Returns when its thread has ended."""
        self._closed = True
        self._remove()
        with contextlib.suppress(OSError):  # of a socket that has no peer; it wakes the thread all the same
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def forked(self) -> None:
        """Close it in a child, where its thread is not. It rings on for the parent."""
        self._closed = True
        self._socket.close()

    def _listen(self, heard: Callable[[], None]) -> None:
        while not self._closed:
            rung = self._socket.recv(1)
            if self._owed:
                time.sleep(GAP)
                self._ring()
            if rung != _OWED and not self._closed:
                heard()

    def _ring(self) -> None:
        self._rung, self._owed = time.monotonic(), False
        for name in self._others():
            self._send(_RING, name)

    def _send(self, what: bytes, name: str) -> None:
        with contextlib.suppress(OSError):  # its process is dead, or is about to look anyhow: its buffer is full
            self._socket.sendto(what, socket.MSG_DONTWAIT, _path(name, self._folder))

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._name, dir_fd=self._folder)


def _path(name: str, folder: int) -> str:
    """Short, whatever the directory is called: the path of a socket may have 107 bytes."""
    return f"/proc/self/fd/{folder}/{name}"
