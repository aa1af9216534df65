"""Owners that die, for tests of any store: in processes, or by what these would have left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from lro_aio.core.record import Record, State
from lro_aio.ports import Look, Route, Store
from lro_aio.stores import _locks as locks
from lro_aio.testing._store_rows import NOW, names, row

ME, DEAD, OTHER = "host:1:aaaa", "host:2:bbbb", "host:3:cccc"
LATER = NOW + 30
PROGRAM = """
import os, sys, time
from lro_aio.stores import open_url
store = open_url(sys.argv[1])
store.open()
store.join(sys.argv[2], lambda: None)
child = 0
if "fork" in sys.argv:
    child = os.fork() or time.sleep(600)
if "close" in sys.argv:
    store.close()
if "deaf" in sys.argv:
    for pool in store._pools:
        pool.close()
print(child, flush=True)
time.sleep(600)
"""


class Processes:
    """Processes that join a store as OTHER. Use as a context manager: none outlives it."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.communicate()

    def start(self, url: str, *options: str) -> subprocess.Popen[str]:
        """One that has joined. With "fork" it has a child, with "close" it has closed its store, with "deaf"
        it has lost its server."""
        command = [sys.executable, "-c", PROGRAM, url, OTHER, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process


def held(i: int, owner: str, **columns: object) -> Record:
    """A row that runs, and whose lease is not over."""
    values = {"state": State.RUNNING, "check_time": LATER, "lease_expire_time": LATER, "claim": 1}
    return row(i, owner=owner, **{**values, **columns})


def look(store: Store, *, routes: list[Route] | None = None, limit: int = 100) -> Look:
    """What ME finds before any of those leases is over."""
    return store.look(now=NOW, routes=routes or [("job", None)], limit=limit, owner=ME)


def found_dead(store: Store) -> list[str]:
    """The names of what the dead have left, of whom the store has just told."""
    assert store.changed_elsewhere()
    return names(look(store).due)


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
