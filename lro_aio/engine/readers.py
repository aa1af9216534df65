"""The threads that read the store: some for each kind of work, so that no kind waits for another.

Sixty callers may want ten thousand rows each, and a filter unpacks every one. A sleep that is over needs one look at
the store, and a caller who waits needs one row: neither can stand in the same queue.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import enum
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Readers", "Work"]

T = TypeVar("T")


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
        self._threads = {
            work: concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix=f"lro-aio-{name}")
            for work in Work
            for name, count in [work.value]
        }

    def run(self, function: Callable[[], T], work: Work) -> asyncio.Future[T]:
        """Call a function on a thread for this kind of work. Cancelling the future stops what has not begun."""
        return asyncio.get_running_loop().run_in_executor(self._threads[work], function)

    def close(self) -> None:
        """End the threads. Blocks until what is under way has ended."""
        for threads in self._threads.values():
            threads.shutdown()
