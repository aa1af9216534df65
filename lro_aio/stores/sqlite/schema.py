"""Numbered migrations, and the check that a file is ours before anything is written to it."""

from __future__ import annotations

import functools
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from lro_aio.core.errors import StoreSchemaError
from lro_aio.stores import _sql

__all__ = ["APPLICATION_ID", "columns", "latest", "migrations", "prepare", "version_of"]

APPLICATION_ID = 0x6C726F61
"""``PRAGMA application_id`` of our files: "lroa"."""

_TABLE = re.compile(r"^CREATE TABLE (\w+) \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^    (\w+) (?:TEXT|INTEGER|REAL|BLOB)\b", re.MULTILINE)
_ADDED = re.compile(r"^ALTER TABLE (\w+) ADD COLUMN (\w+) ", re.MULTILINE)


def migrations() -> dict[int, str]:
    """The scripts by their numbers."""
    return _sql.migrations(__package__)


def columns(table: str = "operations") -> list[str]:
    """The columns of a table, in its order."""
    found: list[str] = []
    for script in migrations().values():
        found += [column for name, body in _TABLE.findall(script) if name == table for column in _COLUMN.findall(body)]
        found += [column for name, column in _ADDED.findall(script) if name == table]
    return found


def latest() -> int:
    """The schema version that this code reads and writes."""
    return max(migrations())


def prepare(connection: sqlite3.Connection, where: str, *, read_only: bool, memory: bool, timeout: float) -> None:
    """Create or upgrade the schema of a database that is ours or empty; leave any other database as it is.

    Several processes may do so with the same file at the same time.

    Args:
        connection: In autocommit mode.
        where: The file, for the errors.
        read_only: Whether to write nothing.
        memory: Whether the database is in memory, without a file.
        timeout: Seconds to wait for a lock.

    Raises:
        StoreSchemaError: It is another application's, or newer than this code.
        sqlite3.Error: SQLite refused.
    """
    with _transaction(connection, "BEGIN"):  # one snapshot; a file that is not ours is not even locked
        version = version_of(connection, where)
    if read_only:
        if version < latest():
            raise StoreSchemaError(
                f"{where} has schema version {version}, but this release of lro_aio reads {latest()};"
                " open it once without mode=ro to upgrade it"
            )
        return
    if not memory:
        _set_wal(connection, where, timeout)
    if version == latest():
        return
    if memory and hasattr(sqlite3.Connection, "serialize"):  # an old SQLite may lack it
        _copy_model(connection)
        return
    _migrate(connection, where)


def _migrate(connection: sqlite3.Connection, where: str) -> None:
    with _transaction(connection, "BEGIN IMMEDIATE"):
        present = version_of(connection, where)  # again, under the lock: another process may have been first
        for number, script in migrations().items():
            if number > present:
                _run(connection, script)
                connection.execute(f"PRAGMA user_version = {number}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _copy_model(connection: sqlite3.Connection) -> None:
    """Fill an empty database in memory: a copy of pages takes a tenth of the time that the scripts take.

    It is not deserialized in place: such a database could not grow without a limit.
    """
    with closing(sqlite3.connect(":memory:")) as model:
        model.deserialize(_model())
        model.backup(connection)


@functools.cache
def _model() -> bytes:
    """An empty database with our schema, as bytes: these can be used by any thread, and after a fork."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _migrate(connection, "the database in memory")
        return connection.serialize()


def version_of(connection: sqlite3.Connection, where: str) -> int:
    """The schema's version, 0 for an empty database.

    Raises:
        StoreSchemaError: It is another application's, or newer than this code.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID:
        raise StoreSchemaError(
            f"{where} is the database of another application (application_id {application}); nothing was changed."
            " Use the path of a new file or of one that lro_aio created"
        )
    if version > latest():
        raise StoreSchemaError(
            f"{where} has schema version {version}, but this release of lro_aio knows versions only up to {latest()};"
            " upgrade lro_aio"
        )
    return int(version)


def _set_wal(connection: sqlite3.Connection, where: str, timeout: float) -> None:
    """Switch the file to write-ahead logging, which lets readers and a writer work at the same time.

    SQLite does not always wait for its busy timeout here: two processes that switch a new file at the same time may
    both be told that it is locked.
    """
    deadline = time.monotonic() + timeout
    mode = ""
    while not mode:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StoreSchemaError(
            f"{where} cannot use write-ahead logging (it stays in mode {mode!r}): it must be on a local disk"
        )


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run a script within the open transaction; ``executescript`` would commit it first."""
    for statement in _statements(script):
        connection.execute(statement)


def _statements(script: str) -> Iterator[str]:
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
