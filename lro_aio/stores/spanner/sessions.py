"""The session that all calls share, and a pool of sessions for a server without multiplexed ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from google.api_core import exceptions

__all__ = ["Sessions"]

MAX_AGE = 6 * 86400.0
"""Seconds after which a session is replaced. The server keeps one for about 28 days, Google's clients for 7."""
LEAST = 0.05
"""The fewest seconds for creating one."""


class Sessions:
    """Hands out names of sessions. Safe for any number of threads.

    One multiplexed session serves all calls at the same time. The emulator's sessions hold only one transaction each:
    there, every transaction has a session of its own while it lasts.

    Args:
        create: Creates a session within a number of seconds; returns its name, and whether it is multiplexed.
    """

    def __init__(self, create: Callable[[float], tuple[str, bool]]) -> None:
        self._create = create
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._shared = ""
        self._made = 0.0
        self._multiplexed = True
        self._idle: list[str] = []

    @property
    def multiplexed(self) -> bool:
        """Whether one session serves all transactions."""
        return self._multiplexed

    def shared(self, timeout: float) -> str:
        """The session for single calls; created if there is none, or if it is too old.

        If another thread is creating it, wait for that, but no longer than the timeout. Otherwise threads would ask a
        server that hangs one after the other, and the last one would wait for all of them.

        Raises:
            google.api_core.exceptions.DeadlineExceeded: It is still being created.
        """
        name = self._fresh()
        if name:
            return name
        end = time.monotonic() + timeout
        if not self._making.acquire(timeout=timeout):
            raise exceptions.DeadlineExceeded("the session is still being created")  # type: ignore[no-untyped-call]  # not typed
        try:
            name = self._fresh()
            if not name:
                name, self._multiplexed = self._create(max(LEAST, end - time.monotonic()))
                self._shared, self._made = name, time.monotonic()
            return name
        finally:
            self._making.release()

    def take(self, timeout: float) -> str:
        """The session for a transaction, until ``give_back``."""
        name = self.shared(timeout)
        if self._multiplexed:
            return name
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._create(timeout)[0]

    def give_back(self, name: str) -> None:
        """The transaction is over."""
        if not self._multiplexed:
            with self._lock:
                self._idle.append(name)

    def forget(self, name: str) -> None:
        """The server has lost this session."""
        with self._lock:
            if self._shared == name:
                self._shared = ""
            if name in self._idle:
                self._idle.remove(name)

    def _fresh(self) -> str:
        return self._shared if time.monotonic() - self._made < MAX_AGE else ""
