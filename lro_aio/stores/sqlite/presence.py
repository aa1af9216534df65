"""Whether the files that are open are still those at the path.

SQLite goes on with files that were deleted or replaced. What it commits then is gone with them; and where only the log
or the shared memory is another one, two processes write the same file without seeing each other.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from types import TracebackType

from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.logs import event

__all__ = ["Presence"]

logger = logging.getLogger("lro_aio")

_SETTLED = 0.1
"""Seconds after a change of a directory from which its time tells of the next one: file systems keep time in steps."""

_Identity = tuple[int, int]
"""Device and inode. That of an open file is not given to another one."""
_Folder = tuple[int, int, int]
"""Device and inode of a directory, and when it last changed, in nanoseconds."""


class Presence:
    """The database, its log and its shared memory, as they were when they were opened.

    As a context manager, it looks at the end: what was committed into a file that is gone is not acknowledged, and what
    was read from another one is not believed.

    By ``stat`` alone: closing any other descriptor of a file would drop the locks of this process on it (POSIX).
    Usually one is enough: a file cannot go away or be replaced without a new time of its directory.

    Args:
        path: Absolute path of the database; None for one in memory, which cannot go away.
    """

    def __init__(self, path: str | None) -> None:
        # SQLite follows links, and puts the other two files beside the file that it finds.
        real = None if path is None else os.path.realpath(path)
        self._shown = path
        self._files = [] if path is None or real is None else [path, f"{real}-wal", f"{real}-shm"]
        self._before = None if path is None else _identity(path)
        # The directory of a link knows nothing of what happens to its target.
        self._folder = None if path is None or os.path.islink(path) else os.path.dirname(path)
        self._settled: _Folder | None = None
        self._opened: list[tuple[str, _Identity]] = []
        self._lock = threading.Lock()
        self.gone = False
        """Whether the last check found another file, or none."""
        self._closed = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.check()  # also after a failure: it may be that of the other file

    def opened(self) -> None:
        """Note the files. Call this once the database is open, and SQLite has read from it.

        Raises:
            StoreUnavailableError: The database was replaced since this object was made.
        """
        found = [(path, _identity(path)) for path in self._files]
        self._opened = [(path, identity) for path, identity in found if identity is not None]
        if found and self._before is not None and found[0][1] != self._before:
            raise StoreUnavailableError(f"{self._shown} was replaced while it was being opened")

    def close(self) -> None:
        """The files are closed now, and SQLite removes two of them."""
        self._closed = True

    def check(self) -> None:
        """Look whether the files are there.

        Raises:
            StoreUnavailableError: One was deleted or replaced.
        """
        folder = _folder(self._folder) if self._folder is not None else None
        if folder is not None and folder == self._settled:
            return
        for path, identity in self._opened:
            if _identity(path) != identity and not self._closed:
                self._report(path)
        self.gone = False
        if folder is not None and folder[-1] / 1e9 < time.time() - _SETTLED:
            self._settled = folder

    def _report(self, path: str) -> None:
        problem = (
            f"{path} was deleted or replaced while it was in use; put it back, or restart all processes that use it"
        )
        self._settled = None
        with self._lock:
            known, self.gone = self.gone, True
        if not known:
            logger.critical("the store is gone: %s", problem, extra=event("store_gone"))
        raise StoreUnavailableError(problem)


def _identity(path: str) -> _Identity | None:
    try:
        found = os.stat(path)
    except OSError:  # also a directory that was moved, or that may not be searched any more
        return None
    return found.st_dev, found.st_ino


def _folder(path: str) -> _Folder | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
