"""The one table from SQLite's result codes to what the caller can do about them."""

from __future__ import annotations

import enum
import sqlite3
from types import TracebackType

from lro_aio.core.errors import StoreSchemaError, StoreUnavailableError

__all__ = ["KINDS", "Kind", "not_a_database", "translated"]


class Kind(enum.Enum):
    """What a primary result code means for the caller."""

    UNAVAILABLE = "the same call may be repeated"
    UNUSABLE = "the file cannot be used"
    SETUP = "at open, the file cannot be used; later, it is an outage, which may pass"
    REFUSED = "the statement or its values are wrong and always will be: the driver's own error"


KINDS: dict[int, Kind] = {
    sqlite3.SQLITE_ERROR: Kind.REFUSED,
    sqlite3.SQLITE_INTERNAL: Kind.REFUSED,
    sqlite3.SQLITE_PERM: Kind.SETUP,
    sqlite3.SQLITE_ABORT: Kind.UNAVAILABLE,
    sqlite3.SQLITE_BUSY: Kind.UNAVAILABLE,
    sqlite3.SQLITE_LOCKED: Kind.UNAVAILABLE,
    sqlite3.SQLITE_NOMEM: Kind.UNAVAILABLE,
    sqlite3.SQLITE_READONLY: Kind.SETUP,
    sqlite3.SQLITE_INTERRUPT: Kind.UNAVAILABLE,
    sqlite3.SQLITE_IOERR: Kind.UNAVAILABLE,
    sqlite3.SQLITE_CORRUPT: Kind.UNUSABLE,
    sqlite3.SQLITE_NOTFOUND: Kind.REFUSED,
    sqlite3.SQLITE_FULL: Kind.UNAVAILABLE,
    sqlite3.SQLITE_CANTOPEN: Kind.SETUP,
    sqlite3.SQLITE_PROTOCOL: Kind.UNAVAILABLE,
    sqlite3.SQLITE_EMPTY: Kind.REFUSED,
    sqlite3.SQLITE_SCHEMA: Kind.UNAVAILABLE,
    sqlite3.SQLITE_TOOBIG: Kind.REFUSED,
    sqlite3.SQLITE_CONSTRAINT: Kind.REFUSED,
    sqlite3.SQLITE_MISMATCH: Kind.REFUSED,
    sqlite3.SQLITE_MISUSE: Kind.REFUSED,
    sqlite3.SQLITE_NOLFS: Kind.SETUP,
    sqlite3.SQLITE_AUTH: Kind.REFUSED,
    sqlite3.SQLITE_FORMAT: Kind.UNUSABLE,
    sqlite3.SQLITE_RANGE: Kind.REFUSED,
    sqlite3.SQLITE_NOTADB: Kind.UNUSABLE,
    sqlite3.SQLITE_NOTICE: Kind.REFUSED,
    sqlite3.SQLITE_WARNING: Kind.REFUSED,
}
"""Every primary code that ``sqlite3`` knows; a test finds any that is missing."""

_SENTENCES: dict[int, str] = {
    sqlite3.SQLITE_BUSY: "{where} has been locked by another writer for more than {timeout:g} s",
    sqlite3.SQLITE_LOCKED: "{where} is locked by another connection of this process",
    sqlite3.SQLITE_FULL: "the disk is full: {where} cannot grow",
    sqlite3.SQLITE_IOERR: "reading or writing {where} failed ({name})",
    sqlite3.SQLITE_INTERRUPT: "{where} was closed while the call was under way",
    sqlite3.SQLITE_READONLY: "{where} cannot be written to: make the file and its directory writable",
    sqlite3.SQLITE_CANTOPEN: "{where} cannot be opened: check that it exists and that this user may read and write it",
    sqlite3.SQLITE_NOTADB: "{where} is not a SQLite file; use the path of a new file or of one that lro_aio created",
    sqlite3.SQLITE_CORRUPT: "{where} is damaged ({name}); restore it from a copy",
}


def not_a_database(where: str) -> str:
    """The sentence for a file that is not SQLite's."""
    return _SENTENCES[sqlite3.SQLITE_NOTADB].format(where=where)


class translated:  # noqa: N801 (used like a function; a generator would cost every call two microseconds)
    """Turns the driver's errors into the store's; a context manager.

    Args:
        where: The file, for the sentence.
        busy_timeout: Seconds, for the sentence.
        opening: Whether the store is being opened.

    Raises:
        StoreUnavailableError: The same call may be repeated.
        StoreSchemaError: The file cannot be used.
        sqlite3.Error: The statement or its values are at fault.
    """

    def __init__(self, where: str, *, busy_timeout: float, opening: bool = False) -> None:
        self._where = where
        self._timeout = busy_timeout
        self._opening = opening

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(exc, sqlite3.Error):
            return
        # Errors of the Python layer (a value of a type that SQLite does not have) carry no code.
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        meaning = KINDS.get(code, Kind.REFUSED)
        if meaning is Kind.REFUSED:
            return
        name = getattr(exc, "sqlite_errorname", "")
        sentence = _SENTENCES.get(code, "{where}: {text} ({name})")
        problem = sentence.format(where=self._where, timeout=self._timeout, name=name, text=exc)
        if meaning is Kind.UNUSABLE or (meaning is Kind.SETUP and self._opening):
            raise StoreSchemaError(problem) from exc
        raise StoreUnavailableError(problem) from exc
