"""Owners that die, for tests: what their process leaves is made here, without a process."""

from __future__ import annotations

import os
from pathlib import Path

from lro_aio.stores import _locks as locks


def folder_of(path: Path) -> Path:
    """Where the processes on a database have their files."""
    return path.with_name(f".{path.name}-lro")


def die(path: Path, *owners: str) -> None:
    """Leave what processes leave that held locks on a database and were killed."""
    folder_of(path).mkdir(exist_ok=True)
    leave_dead(folder_of(path), *owners)


def leave_dead(directory: Path, *owners: str) -> None:
    """The same, in the directory of their files."""
    folder = os.open(directory, os.O_RDONLY)
    for owner in owners:
        os.close(locks.take(f"{owner}.lock", folder, owner=owner, mode=0o600))
    os.close(folder)
