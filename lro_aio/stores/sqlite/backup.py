"""Back-ups of a file: made while services run on it, put back while none does.

A store is up to three files, and the log belongs to one state of the database: SQLite would replay it over any other
file of that name. So a back-up is one file without a log, and putting it back ends the log of the old file first.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from lro_aio.core.errors import StoreSchemaError, StoreUnavailableError
from lro_aio.stores.sqlite import schema
from lro_aio.stores.sqlite.connections import connect
from lro_aio.stores.sqlite.errors import translated
from lro_aio.stores.sqlite.location import Location

__all__ = ["back_up", "restore"]

_STEP = 4096
"""Pages that are copied before Python looks for a signal."""
_SHARED = (0x40000002, 510)
"""The bytes that every open connection has locked: start and length (SQLite's file format)."""
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def back_up(location: Location, target: Path) -> None:
    """Copy a store as it is at one moment into a new file. Other processes read and write meanwhile.

    The file has the permissions of the store. It appears when it is complete, has been checked and is on the disk.

    Args:
        location: Of the store; a path.
        target: The new file.

    Raises:
        FileExistsError: There is one: back-ups and stores are not overwritten.
        OSError: The target cannot be written.
        StoreSchemaError: The store is missing, damaged, or not one of this package.
        StoreUnavailableError: The store does not answer.
    """
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists: give the back-up another name, or remove that file first")
    source = _path(location)
    with _complete_copy(source, target) as copy:
        _take_over_owner(source, copy)
        os.replace(copy, target)
    _sync(target.parent)


def restore(backup: Path, location: Location) -> None:
    """Put a back-up in the place of a store, of which nothing is left. At any moment the one or the other is there.

    Args:
        backup: Made by ``back_up``, or any other complete file of a store. It stays.
        location: Of the store; a path, at which there need not be a file.

    Raises:
        ValueError: Both are the same file.
        OSError: The directory cannot be written.
        StoreSchemaError: The back-up is missing, damaged, of a newer release, or no back-up of a store.
        StoreUnavailableError: A process has the store open. Nothing was changed.
    """
    target = Path(os.path.realpath(_path(location)))  # a link stays
    if target.exists() and backup.exists() and target.samefile(backup):
        raise ValueError(f"{backup} is the store itself")
    with _complete_copy(backup, target) as copy:
        _take_over_owner(target if target.exists() else backup, copy)
        with _alone(target):
            for suffix in ("-journal", "-wal", "-shm"):
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            _sync(target.parent)  # or, after a loss of power, an old log could be there beside the new file
            os.replace(copy, target)
    _sync(target.parent)


def _path(location: Location) -> Path:
    path = location.resolved().path
    if path is None:
        raise ValueError("a database in memory has no file")
    return Path(path)


@contextmanager
def _complete_copy(source: Path, target: Path) -> Iterator[Path]:
    """A checked copy of a store beside ``target``, on the disk; removed at the end if it is still there."""
    copy = target.with_name(f".{target.name}.{os.getpid()}.new")
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # nobody else may read it meanwhile
    try:
        with translated(str(source), busy_timeout=0, opening=True), closing(_reader(source)) as connection:
            connection.execute("BEGIN")  # one snapshot, which no writer changes and which keeps none waiting
            if not schema.version_of(connection, str(source)):
                raise StoreSchemaError(f"{source} is empty: it is not a store")
            with closing(sqlite3.connect(copy, isolation_level=None)) as made:
                connection.backup(made, pages=_STEP)
                made.execute("PRAGMA journal_mode = DELETE")
                (found,) = made.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreSchemaError(f"{source} is damaged ({found})")
        _sync(copy)
        yield copy
    finally:
        for path in (copy, copy.with_name(f"{copy.name}-journal")):
            path.unlink(missing_ok=True)


def _reader(path: Path) -> sqlite3.Connection:
    return connect(Location(path=str(path.absolute()), read_only=True), writer=False)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else has the file open, its log is in it, and nobody opens it before the end.

    Raises:
        StoreUnavailableError: Somebody has it open.
    """
    if not path.exists():
        yield
        return
    uri = f"{path.as_uri()}?mode=rw"
    with (
        translated(str(path), busy_timeout=0),
        closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as connection,
    ):
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as exc:
            code = exc.sqlite_errorcode & 0xFF
            if code == sqlite3.SQLITE_BUSY:
                raise _in_use(path) from exc
            if code not in _DAMAGED:
                raise
        else:
            yield
            return
    with _locked(path):
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The same for a file that SQLite cannot read, which is reason enough to replace it."""
    start, length = _SHARED
    with path.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except OSError as exc:
            raise _in_use(path) from exc
        yield


def _in_use(path: Path) -> StoreUnavailableError:
    return StoreUnavailableError(f"{path} is open in another process: stop all that use it, and repeat")


def _take_over_owner(path: Path, copy: Path) -> None:
    """Who may read the one may read the other."""
    model = path.stat()
    with suppress(PermissionError):  # only root may give a file away
        os.chown(copy, model.st_uid, model.st_gid)
    os.chmod(copy, model.st_mode & 0o777)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
