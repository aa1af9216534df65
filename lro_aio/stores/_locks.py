"""Whether a process lives, as its kernel says: it holds a lock on a file of its own for as long as it does.

A lock that is free proves that its holder is dead and can begin no write any more: the kernel frees it with the last
thread of the process, when no call of it is under way. That is so only for the very file that was locked, asked about
on the kernel that knows of the lock. So the file says which one it is, and where; a copy, or a file of another name,
proves nothing. Anything in doubt proves nothing.

The lock is one of ``flock``, which belongs to the open file: a POSIX lock would be gone as soon as the process closed
any other descriptor of the file. A child that was forked has the open file too, and holds the lock with its parent.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import functools
import os
import re
import stat
from pathlib import Path

__all__ = ["Found", "free", "look", "on_local_disk", "take"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LOCAL = frozenset(("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"))
"""File systems that one kernel has to itself. On others, each host may know of its own locks alone."""
_MOST = 512
"""Bytes of a file that says what it should."""


class Found(enum.Enum):
    """What a lock file tells of its owner."""

    ALIVE = enum.auto()
    DEAD = enum.auto()
    """And it can begin no write any more."""
    UNKNOWN = enum.auto()


def on_local_disk(descriptor: int) -> bool:
    """Whether an open file is on a file system that no other kernel can have mounted.

    Raises:
        OSError: The kernel does not say.
    """
    found = re.search(r"^mnt_id:\s*(\d+)$", Path(f"/proc/self/fdinfo/{descriptor}").read_text(), re.MULTILINE)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")  # octal escapes stand for spaces in paths
        if found is not None and fields[0] == found[1]:
            return fields[fields.index("-") + 1] in _LOCAL
    return False


def take(name: str, folder: int, *, owner: str, mode: int) -> int:
    """Make a lock file and lock it; returns the descriptor, which is to be kept open for life.

    Args:
        name: Of the file; there must be none.
        folder: Descriptor of its directory.
        owner: Who locks it.
        mode: Its permissions. Whoever may read it may look.

    Raises:
        OSError: It cannot be made, or somebody was faster.
    """
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, mode)
        said = _said(owner, os.fstat(descriptor))
        # Only now: what the file says is believed only where it was locked before.
        if os.write(descriptor, said) != len(said):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not _is_at(descriptor, name, folder):
            raise FileNotFoundError(errno.ENOENT, "it was removed while it was made", name)
    except BaseException:
        with contextlib.suppress(OSError):  # it says nothing: it misleads nobody
            os.unlink(name, dir_fd=folder)
        os.close(descriptor)
        raise
    return descriptor


def free(descriptor: int, name: str, folder: int) -> None:
    """Remove a lock file whose owner lives on, and then free the lock.

    First it is made to say nothing: a free lock would say that the owner is dead. Where that cannot be done, it stays
    locked for the life of the process.
    """
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        os.close(descriptor)


def look(name: str, folder: int, *, owner: str) -> Found:
    """See whether the owner of a lock file is dead.

    Args:
        name: Of the file.
        folder: Descriptor of its directory.
        owner: Who should have locked it.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return Found.UNKNOWN
    try:
        said = _said(owner, os.fstat(descriptor))
        if os.pread(descriptor, _MOST, 0) != said:
            return Found.UNKNOWN
        # Shared: two who look at a time must not take each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Again, now that nobody else can free it: an owner who lives may have done so just before.
        proves = os.pread(descriptor, _MOST, 0) == said and _is_at(descriptor, name, folder)
    except BlockingIOError:
        return Found.ALIVE
    except OSError:
        return Found.UNKNOWN
    else:
        return Found.DEAD if proves else Found.UNKNOWN
    finally:
        os.close(descriptor)


def _said(owner: str, file: os.stat_result) -> bytes:
    """What the lock file of this owner says. No copy is the same file, on the same file system, since the same boot."""
    if not stat.S_ISREG(file.st_mode):
        raise OSError(errno.EINVAL, "no file")
    return f"{owner} {file.st_dev} {file.st_ino} {_boot()}\n".encode()


@functools.cache
def _boot() -> str:
    """When this kernel was booted, and which one it is: the same in all containers on it."""
    return _BOOT.read_text().strip()


def _is_at(descriptor: int, name: str, folder: int) -> bool:
    return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False))
