"""The threads that read the store: some for each kind of work, so that no kind waits for another.

Sixty callers may want ten thousand rows each, and a filter unpacks every one. A sleep that is over needs one look at
the store, and a caller who waits needs one row: neither can stand in the same queue.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from lro_aio.core.logs import event
from lro_aio.engine.life import ClosedError

__all__ = ["Readers", "Work"]

logger = logging.getLogger("lro_aio")

T = TypeVar("T")

_Told = Callable[[asyncio.Future[Any]], None]
_Asked = tuple[Callable[[], Any], asyncio.Future[Any], _Told | None]


class Work(enum.Enum):
    """What a thread of the store is used for, and how many threads there are."""

    READ = ("reader", 4)
    """Rows by their names: somebody waits for each."""
    SWEEP = ("sweep", 1)
    """Looks for what is due, and the removal of what has expired."""
    LIST = ("lister", 2)
    """Pages of lists. A filter is work for the interpreter, of which there is one: more threads would do no more."""


class Readers:
    """The threads of one open store. Belongs to the event loop on which it was made."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._threads = {work: _Threads(loop, *work.value) for work in Work}

    def run(
        self, function: Callable[[], T], work: Work, told: Callable[[asyncio.Future[T]], None] | None = None
    ) -> asyncio.Future[T]:
        """Call a function on a thread for this kind of work. Cancelling the future stops what has not begun.

        Args:
            function: Blocks.
            work: Its kind.
            told: Called on the loop with the future once it has the answer: a turn of the loop earlier than a callback
                of the future would be. Not if it was cancelled.

        Raises:
            ClosedError: The threads end.
        """
        return self._threads[work].run(function, told)

    def close(self) -> Callable[[], None]:
        """Take no more calls; returns a function that blocks until what was asked for has ended."""
        for threads in self._threads.values():
            threads.stop()

        def join() -> None:
            for threads in self._threads.values():
                threads.join()

        return join


class _Threads:
    """Some threads and one queue. The standard library's executor takes as long for a call as the read itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, most: int) -> None:
        self._loop = loop
        self._name = name
        self._most = most
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._asked = 0
        """Calls that are not answered yet."""
        self._stopped = False

    def run(self, function: Callable[[], T], told: _Told | None) -> asyncio.Future[T]:
        if self._stopped:  # behind the stop, it would wait for ever
            raise ClosedError
        future: asyncio.Future[T] = self._loop.create_future()
        self._asked += 1
        if len(self._threads) < min(self._asked, self._most):
            thread = threading.Thread(target=self._work, name=f"lro-aio-{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put((function, future, told))
        return future

    def stop(self) -> None:
        self._stopped = True
        for _ in self._threads:
            self._queue.put(None)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (asked := self._queue.get()) is not None:
            function, future, told = asked
            if future.cancelled():
                answer: Callable[[], None] = self._answered
            else:
                answer = partial(self._answer, future, told, *_outcome(function))
            try:
                self._loop.call_soon_threadsafe(answer)
            except RuntimeError:
                logger.debug("the event loop is closed: nobody waits for a read", extra=event("loop_closed"))
            del function, future, told, asked, answer  # what is waited for next must not keep them alive

    def _answer(self, future: asyncio.Future[Any], told: _Told | None, found: Any, exc: BaseException | None) -> None:
        self._answered()
        if future.done():  # whoever asked was cancelled
            return
        if exc is None:
            future.set_result(found)
        else:
            future.set_exception(exc)
        if told is not None:
            told(future)

    def _answered(self) -> None:
        self._asked -= 1


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return function(), None
    except StopIteration as exc:  # which no future takes: whoever asked would wait for ever
        error = RuntimeError("a read of the store raised StopIteration")
        error.__cause__ = exc
        return None, error
    except BaseException as exc:  # noqa: BLE001 (whatever it is, it is for whoever asked)
        return None, exc
