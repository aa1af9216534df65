"""The processes that share a database file: their directory beside it, and who of two writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time

from lro_aio.stores import _neighbours

__all__ = ["Neighbours"]

TURN, TURN_LOOKS = 0.05, 0.0003
"""Seconds for which a writer waits for its turn at most, and between two looks whether it has come."""
NO_TURNS = 1.0
"""Seconds without turns after one that did not come: its holder stands still, say."""


class Neighbours(_neighbours.Neighbours):
    """The other processes on a file.

    Args:
        path: Absolute path of the database; None for one in memory, which nobody shares.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__(path)
        self._pair = False
        """One other process lives, as far as is known."""
        self._no_turns = 0.0
        """Monotonic seconds until which no turn is taken."""

    def leave(self) -> None:
        """As everywhere; no turn is taken any more."""
        self._pair = False
        super().leave()

    def take_turn(self) -> bool:
        """Wait for the turn to write, where two processes write; whether this one has it, and is to give it back.

        SQLite looks after 1, 2, 5, 10 ms and more whether its lock is free. Meanwhile, one process commits and commits,
        and the other's core stands still. Of more than two, the one that goes on is what keeps the cores busy.
        """
        now = time.monotonic()
        if now < self._no_turns:
            return False
        until = now + TURN
        while self._pair:
            if self._lock_folder():
                return True
            now = time.monotonic()
            if now > until:
                self._no_turns = now + NO_TURNS
                return False
            time.sleep(TURN_LOOKS)
        return False

    def end_turn(self) -> None:
        """Let the other process write."""
        with self._lock:
            if self._folder >= 0:  # else the kernel has freed it
                fcntl.flock(self._folder, fcntl.LOCK_UN)

    def _path(self) -> str:
        return _folder_of(os.path.realpath(str(self._where)))

    def _open(self) -> int:
        path = os.path.realpath(str(self._where))
        self._mode = stat.S_IMODE(os.stat(path).st_mode) & 0o666
        return _open_folder(path)

    def _lock_folder(self) -> bool:
        with self._lock:
            if self._folder < 0:
                return False
            try:
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # it is the other's; or there are no locks: SQLite's own is the one that counts
                return False
            return True

    def _bells(self) -> list[str]:
        others = super()._bells()
        self._pair = len(others) == 1
        return others


def _folder_of(path: str) -> str:
    """Hidden, so that nobody meets a directory who removes, copies or lists the files of a database by its name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}-lro")


def _open_folder(path: str) -> int:
    """The directory of a database, made where there is none: whoever may write the one may write the other.

    Raises:
        OSError: There can be none, or strangers could write to it.
    """
    folder = _folder_of(path)
    database = os.stat(path)
    made = True
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        made = False
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if made:
            with contextlib.suppress(PermissionError):  # only root may give a file away
                os.fchown(descriptor, database.st_uid, database.st_gid)
            os.fchmod(descriptor, _searchable(database.st_mode))
        found = os.fstat(descriptor)
        if found.st_uid not in (0, os.geteuid(), database.st_uid) or found.st_mode & stat.S_IWOTH:
            raise PermissionError(f"strangers may write to {folder}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _searchable(mode: int) -> int:
    """The permissions of a directory for those of a file. Nobody else may write to it: a file in it is believed."""
    read = stat.S_IMODE(mode) & 0o666
    return 0o700 | ((read | (read & 0o444) >> 2) & ~stat.S_IWOTH)
