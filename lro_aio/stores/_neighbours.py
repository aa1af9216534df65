"""The processes of one machine that share a store: each has a lock and a bell in a directory of the store's.

All of it is a hint on top of leases and polls. Where it cannot work (another host's file system, no permission, no
space) nothing changes but the speed. The files may be deleted at any time.
"""

from __future__ import annotations

import abc
import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable

from lro_aio.core.logs import event
from lro_aio.stores import _locks as locks
from lro_aio.stores._bells import Bell, may_hear
from lro_aio.stores._locks import Found

__all__ = ["Neighbours"]

logger = logging.getLogger("lro_aio")

LOOKS = 0.09
"""Seconds between two looks at the locks. Somebody who rings all the time must not make them more."""
CROWD = 20
"""Other processes from which looks are rarer: each of them costs each of the others the same."""
STALE = 3600.0
"""Seconds after which a file that tells nothing is removed."""
_LOCK, _BELL = ".lock", ".bell"
_OWNER = re.compile(r"[A-Za-z0-9._-]{1,128}:\d{1,20}:[0-9a-f]{1,64}")
"""Who can be told by the name of a file."""
_SETTLED = 0.02
"""Seconds after a change of a directory from which its time tells of the next one."""
_TRIES = 3
"""How often the directory may be removed, by the last process to leave it, while this one comes."""


class Neighbours(abc.ABC):
    """The other processes on a store, as far as they can be known. Any thread may call it.

    Args:
        where: What they share, for people. None: nobody shares it.
    """

    def __init__(self, where: str | None) -> None:
        self._where = where
        self._owner = ""
        self._mode = 0o600
        """Permissions of the files."""
        self._folder = -1
        """Descriptor of the directory; -1 while this process is not in it."""
        self._held = -1
        """That of its lock."""
        self._bell: Bell | None = None
        self._lock = threading.Lock()
        self._listed: tuple[int, tuple[str, ...]] = (-1, ())
        """The time of the directory, and the owners in it."""
        self._lost: set[str] = set()
        """Owners whose files tell nothing, as long as the directory does not change."""
        self._buried: set[str] = set()
        """Dead owners that hold nothing, and whose files may still be there."""
        self._dead: frozenset[str] = frozenset()
        self._looked = 0.0

    @property
    def dead(self) -> frozenset[str]:
        """The owners of which it is certain that they are dead and send nothing more to the store. Until ``forget``."""
        return self._dead

    @abc.abstractmethod
    def _path(self) -> str:
        """Of the directory."""

    @abc.abstractmethod
    def _open(self) -> int:
        """The directory, made where there is none.

        Raises:
            OSError: There can be none, or strangers could write to it.
        """

    def join(self, owner: str, heard: Callable[[], None] | None) -> bool:
        """Let others know that this owner lives, and hear of their commits; whether that works here.

        Args:
            owner: In the rows of this process.
            heard: Called on any thread when somebody has committed. None: nobody rings.
        """
        if self._where is None or _OWNER.fullmatch(owner) is None:
            return False
        try:
            self._enter(owner, heard)
        except (OSError, RuntimeError) as exc:  # the latter: no thread could be started
            logger.debug("other processes on %s are not known: %s", self._where, exc, extra=event("no_neighbours"))
            self.leave()
            return False
        _JOINED.add(self)
        self.look()
        return True

    def leave(self) -> None:
        """Be unknown from now on. Others do not take the owner for dead: it may run on."""
        _JOINED.discard(self)
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()
        with self._lock:
            folder, self._folder = self._folder, -1
            if self._held >= 0:
                locks.free(self._held, self._owner + _LOCK, folder)
                self._held = -1
            if folder >= 0:
                os.close(folder)
                with contextlib.suppress(OSError):  # others are in it
                    os.rmdir(self._path())

    def committed(self) -> None:
        """Tell the others. Never blocks."""
        bell = self._bell
        if bell is not None:
            bell.ring()

    def look(self) -> bool:
        """See, ten times a second at most, who has died; whether anybody has since the last look."""
        now = time.monotonic()
        if self._folder < 0 or now - self._looked < LOOKS * max(1.0, len(self._listed[1]) / CROWD):
            return False
        self._looked = now
        with self._lock:
            known = self._dead
            for owner in self._others():
                if owner in self._dead or owner in self._lost or owner in self._buried:
                    continue
                found = locks.look(owner + _LOCK, self._folder, owner=owner)
                if found is Found.DEAD:
                    # Both: that of a process that lives may have been closed by an error in its own code.
                    if not may_hear(owner + _BELL, self._folder):
                        self._dead |= {owner}
                elif found is Found.UNKNOWN:
                    self._lost.add(owner)
            return bool(self._dead - known)

    def forget(self, owners: frozenset[str]) -> None:
        """Remove the files of dead owners, which hold no row any more."""
        with self._lock:
            self._dead -= owners
            self._buried |= owners
            for owner in owners:
                self._remove(owner + _BELL)
                self._remove(owner + _LOCK)

    def forked(self) -> None:
        """Close the descriptors in a child: they are its parent's, whose lock must not outlive it."""
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.forked()
        for descriptor in (self._held, self._folder):
            os.close(descriptor)
        self._held = self._folder = -1

    def _enter(self, owner: str, heard: Callable[[], None] | None) -> None:
        for last in (*[False] * (_TRIES - 1), True):
            try:
                self._folder = self._open()
                if not locks.on_local_disk(self._folder):
                    raise OSError("the file system may be shared with other hosts")
                self._held = locks.take(owner + _LOCK, self._folder, owner=owner, mode=self._mode)
                break
            except FileNotFoundError:  # the last one to leave has removed the directory
                if last:
                    raise
                if self._folder >= 0:
                    os.close(self._folder)
                    self._folder = -1
        self._owner = owner
        self._tidy()
        self._bell = Bell(owner + _BELL, self._folder, mode=self._mode, heard=heard, others=self._bells)

    def _bells(self) -> list[str]:
        with self._lock:
            return [owner + _BELL for owner in self._others() if owner not in self._dead | self._buried]

    def _others(self) -> tuple[str, ...]:
        """The owners in the directory, without this one. Under the lock."""
        if self._folder < 0:
            return ()
        changed = os.fstat(self._folder).st_mtime_ns
        if changed != self._listed[0]:
            try:
                names = os.listdir(self._folder)
            except OSError:  # no descriptor is left, say: a commit must not fail for want of a hint
                return self._listed[1]
            owners = (name.removesuffix(_LOCK) for name in names if name.endswith(_LOCK))
            others = tuple(owner for owner in owners if owner != self._owner and _OWNER.fullmatch(owner))
            settled = changed / 1e9 < time.time() - _SETTLED
            self._listed = (changed if settled else -1, others)
            self._lost.clear()
            self._buried.intersection_update(others)
            self._dead &= frozenset(others)
        return self._listed[1]

    def _tidy(self) -> None:
        """Remove what tells nothing, and is so old that nobody is about to write it."""
        with self._lock:
            for name in os.listdir(self._folder):
                owner, suffix = os.path.splitext(name)
                known = suffix in (_LOCK, _BELL) and _OWNER.fullmatch(owner) is not None
                if not known or locks.look(owner + _LOCK, self._folder, owner=owner) is not Found.UNKNOWN:
                    continue
                with contextlib.suppress(OSError):
                    file = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
                    if file.st_mtime < time.time() - STALE:
                        os.unlink(name, dir_fd=self._folder)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):  # another process was first; or it may, or nobody may
            os.unlink(name, dir_fd=self._folder)


_JOINED: set[Neighbours] = set()


def _note_fork() -> None:
    for neighbours in list(_JOINED):
        neighbours.forked()
    _JOINED.clear()


os.register_at_fork(after_in_child=_note_fork)
