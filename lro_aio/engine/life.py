"""Whether a client is open, and on which event loop: what everybody asks before they do anything."""

from __future__ import annotations

import asyncio
import contextvars
import os
import weakref

__all__ = ["ClosedError", "Life", "NeverOpenedError"]


class ClosedError(RuntimeError):
    """The client is not open: not yet, or no longer. A server answers UNAVAILABLE for it."""

    def __init__(self, message: str = "the client is closed: its 'async with' block has ended") -> None:
        super().__init__(message)


class NeverOpenedError(ClosedError):
    """The client was never opened."""

    def __init__(self) -> None:
        super().__init__("the client is not open: use it inside 'async with client:'")


class Life:
    """One life of a client: opened once, drained, closed once."""

    def __init__(self) -> None:
        self.forked = False
        """This process is a child of the one that opened it."""
        _LIVES.add(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.Context()
        self.closed = False
        self._draining = False

    def begin(self) -> None:
        """It is open now, on the running event loop and in the present context."""
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()

    def drain(self) -> None:
        """From now on, this process takes no more work."""
        self._draining = True

    @property
    def begun(self) -> bool:
        """Whether it was opened."""
        return self._loop is not None

    @property
    def draining(self) -> bool:
        """Whether this process takes no more work."""
        return self._draining or self.closed

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that opened it."""
        assert self._loop is not None
        return self._loop

    def new_context(self) -> contextvars.Context:
        """A context for user code: with what was set when the client was opened, and with nothing of other code's."""
        return self._context.copy()

    def check_open(self) -> None:
        """Refuse use before ``async with``, after it, and on another event loop.

        Raises:
            ClosedError: Not open yet, or no longer; a sentence says what to do.
            RuntimeError: On another event loop, or in a process that was forked from the one that opened it.
        """
        if self.forked and self._loop is not None:
            raise RuntimeError("the client was opened before this process was forked; open one in each process")
        if self._loop is None:
            raise NeverOpenedError
        if self.closed:
            raise ClosedError
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("the client belongs to the event loop that opened it; make one client per loop")


_LIVES: weakref.WeakSet[Life] = weakref.WeakSet()


def _note_fork() -> None:
    for life in _LIVES:
        life.forked = True


os.register_at_fork(after_in_child=_note_fork)
