"""The processes of this machine, and of this user, that share a table: where their files are."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time

from lro_aio.stores import _neighbours

__all__ = ["Neighbours"]

TOUCHES = 3600.0
"""Seconds between two signs of life for what removes old files, as systemd-tmpfiles does in ``/tmp``."""


class Neighbours(_neighbours.Neighbours):
    """The other processes on a table.

    They are looked for in a directory that is this user's alone, so that what lies there can be believed. In it, each
    table has one of its own: who finds no row of a dead process removes its files, and would take them from those who
    would find some elsewhere.

    Args:
        where: The table, for people.
        table: The server, the database and the table: the same however they are reached.
        folder: In which this user has a directory; None: that for temporary files.
    """

    def __init__(self, where: str, table: str, folder: str | None) -> None:
        super().__init__(where)
        self._home = os.path.join(folder or tempfile.gettempdir(), f"lro-aio-{os.geteuid()}")
        self._name = hashlib.sha256(table.encode()).hexdigest()[:16]
        self._touched = time.monotonic()

    def look(self) -> bool:
        """As everywhere; and let nobody take the lock for a file that was forgotten."""
        now = time.monotonic()
        if self._held >= 0 and now - self._touched >= TOUCHES:
            self._touched = now
            with contextlib.suppress(OSError):  # the disk is full, say
                os.utime(self._held)
        return super().look()

    def _path(self) -> str:
        return os.path.join(self._home, self._name)

    def _open(self) -> int:
        home = _private(self._home)
        try:
            return _private(self._name, home)
        finally:
            os.close(home)


def _private(path: str, parent: int | None = None) -> int:
    """A directory that nobody else may look into, made where there is none; returns its descriptor.

    Raises:
        OSError: It is something else, or another's: in a directory that all may write to, somebody may have been first.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700, dir_fd=parent)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(descriptor)
        raise PermissionError(f"{path} is not this user's alone")
    return descriptor
