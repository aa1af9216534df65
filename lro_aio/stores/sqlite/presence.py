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
from typing import NamedTuple

from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.logs import event
from lro_aio.stores.sqlite.epochs import epoch_of

__all__ = ["Presence"]

logger = logging.getLogger("lro_aio")

_SETTLED = 0.02
"""Seconds after a change from which the time of a file tells of the next one: file systems keep it in steps of 0.01."""


class _Seen(NamedTuple):
    """A file or directory, as ``stat`` shows it."""

    device: int
    inode: int
    size: int
    changed: int
    """Nanoseconds since the epoch."""

    @property
    def identity(self) -> tuple[int, int]:
        """That of an open file is not given to another one."""
        return self.device, self.inode

    @property
    def settled(self) -> bool:
        """Whether its next change will show."""
        return self.changed / 1e9 < time.time() - _SETTLED


class Presence:
    """The database, its log and its shared memory, as they were when they were opened.

    As a context manager, it looks at the end: what was committed into a file that is gone is not acknowledged, and what
    was read from another one is not believed.

    By ``stat`` alone: closing any other descriptor of a file would drop the locks of this process on it (POSIX).
    Usually two are enough. A file cannot go away without a new time of its directory, nor its content without one of
    its own.

    Args:
        path: Absolute path of the database; None for one in memory, which cannot go away.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._before = None if path is None else _stat(path)
        # The directory of a link knows nothing of what happens to its target.
        self._folder = None if path is None or os.path.islink(path) else os.path.dirname(path)
        self._opened: list[tuple[str, tuple[int, int]]] = []
        self._present: tuple[int, ...] | None = None
        """The marks of the database and its directory, when all was there and a change of either would show."""
        self._content: _Seen | None = None
        """The database, when its content was known and a change of it would show."""
        self._epoch = 0
        self.needs_epoch = False
        """Whether the next transaction has to begin an epoch: the file has the present one already, or may have."""
        self._lock = threading.Lock()
        self.gone = False
        """Whether the last check found another file, or none."""
        self._overwritten = False
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
            sqlite3.OperationalError: It cannot be read.
        """
        if self._path is None:
            return
        # SQLite follows links, and puts the other two files beside the file that it finds.
        real = os.path.realpath(self._path)
        found = [(path, _stat(path)) for path in (self._path, f"{real}-wal", f"{real}-shm")]
        self._opened = [(path, seen.identity) for path, seen in found if seen is not None]
        if self._before is not None and self._opened[:1] != [(self._path, self._before.identity)]:
            raise StoreUnavailableError(f"{self._path} was replaced while it was being opened")
        self._epoch = epoch_of(self._path) or 0
        self.needs_epoch = True

    def close(self) -> None:
        """The files are closed now, and SQLite removes two of them."""
        self._closed = True

    def check(self) -> None:
        """Look whether the files are there.

        Raises:
            StoreUnavailableError: One was deleted or replaced, or the database was overwritten.
            sqlite3.OperationalError: It cannot be read.
        """
        if self._path is None or (self._present is not None and self._present == self._marks()):
            return
        marks = self._marks()
        file = _stat(self._path)
        for path, identity in self._opened:
            seen = file if path is self._path else _stat(path)
            if (seen is None or seen.identity != identity) and not self._closed:
                self._report(path, "deleted or replaced", "put it back, or restart all processes that use it")
        self._check_content(file)
        self.gone = False
        now = time.time() - _SETTLED
        if marks is not None and marks[0] / 1e9 < now and marks[1] / 1e9 < now:
            self._present = marks

    def _marks(self) -> tuple[int, ...] | None:
        """What changes with the database and its directory: the times first. After every commit, so no more is made."""
        assert self._path is not None
        if self._folder is None:
            return None
        try:
            file, folder = os.stat(self._path), os.stat(self._folder)
        except OSError:
            return None
        return file.st_mtime_ns, folder.st_mtime_ns, file.st_ino, file.st_size, file.st_dev, folder.st_ino

    def _check_content(self, file: _Seen | None) -> None:
        """Look whether what changed the database was a checkpoint."""
        if file is None or (file == self._content and not self._overwritten) or self._closed or self._path is None:
            return
        known = self._epoch  # not later: by the end of the look, another thread may know of one more checkpoint
        epoch = epoch_of(self._path)
        if epoch is None:  # a checkpoint is under way, or was cut; the next look tells more
            epoch, file = known, file._replace(changed=0)
        if epoch < known or self._overwritten:
            self._overwritten = True
            self._report(self._path, "overwritten", "stop all processes that use it, and put a back-up back")
        with self._lock:
            if epoch > self._epoch or (self._content is not None and file.changed != self._content.changed):
                self.needs_epoch = True  # a checkpoint: the next one must not write the same number
            self._epoch = max(self._epoch, epoch)
        self._content = file if file.settled else None

    def _report(self, path: str, what: str, advice: str) -> None:
        problem = f"{path} was {what} while it was in use; {advice}"
        self._present = None
        with self._lock:
            known, self.gone = self.gone, True
        if not known:
            logger.critical("the store is gone: %s", problem, extra=event("store_gone"))
        raise StoreUnavailableError(problem)


def _stat(path: str) -> _Seen | None:
    try:
        found = os.stat(path)
    except OSError:  # also a directory that was moved, or that may not be searched any more
        return None
    return _Seen(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
