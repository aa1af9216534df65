"""The one table from PostgreSQL's error codes (SQLSTATE) to what the caller can do about them."""

from __future__ import annotations

import enum

import psycopg

from lro_aio.core.errors import StoreSchemaError, StoreUnavailableError
from lro_aio.stores.postgres.location import Location

__all__ = ["KINDS", "DeadlineError", "Kind", "UnusableError", "kind_of", "translate"]


class DeadlineError(psycopg.OperationalError):
    """The server did not answer within the store's deadline."""


class UnusableError(psycopg.OperationalError):
    """The server takes no writes, is too old, or has another encoding than UTF8."""


class Kind(enum.Enum):
    """What an error means for the caller."""

    CONFLICT = "the transaction was rolled back; the same again may succeed at once"
    LOST = "the connection is gone; what was not committed yet may be tried on another one"
    UNAVAILABLE = "the same call may be repeated"
    SETUP = "at open, the database cannot be used; later, it is an outage, which may pass"
    REFUSED = "the statement or its values are wrong and always will be: the driver's own error"


KINDS: dict[str, Kind] = {
    # The statement or its values. Whole classes, of which some codes are another matter, below.
    **dict.fromkeys(
        (
            *("02", "03", "09", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "27", "2B", "2D"),
            *("2F", "34", "38", "39", "3B", "42", "44", "54", "HV", "P0"),
        ),
        Kind.REFUSED,
    ),
    "08": Kind.LOST,  # connection exception
    "0A": Kind.LOST,  # a cached plan that an upgrade of the table has made useless
    "23505": Kind.CONFLICT,  # another process made the row first; of any other table, see kind_of
    "25": Kind.LOST,  # invalid transaction state: a transaction that is not ours, or was ended by the server
    "25006": Kind.SETUP,  # read only: the server has become a standby
    "26": Kind.LOST,  # a prepared statement is gone: a pooler has changed the session
    "28": Kind.SETUP,  # who we are
    "3D": Kind.SETUP,  # no such database
    "3F": Kind.SETUP,  # no such schema
    "40": Kind.CONFLICT,  # serialization failure, deadlock
    "40003": Kind.UNAVAILABLE,  # statement completion unknown
    "42501": Kind.SETUP,  # insufficient privilege
    "42703": Kind.SETUP,  # no such column
    "42P01": Kind.SETUP,  # no such table
    "42P05": Kind.LOST,  # a prepared statement of this name is there: a pooler has changed the session
    "53": Kind.UNAVAILABLE,  # insufficient resources: disk full, too many connections
    "55": Kind.UNAVAILABLE,  # lock not available, object in use
    "57": Kind.UNAVAILABLE,  # operator intervention: a timeout
    "57P": Kind.LOST,  # ... a shutdown, a crash, the end of an idle session
    "58": Kind.UNAVAILABLE,  # system error: the disk
    "72": Kind.UNAVAILABLE,  # snapshot too old
    "F0": Kind.SETUP,  # configuration file
    "XX": Kind.UNAVAILABLE,  # internal error: nothing says that it is the fault of a value
    "XX001": Kind.SETUP,  # data corrupted
    "XX002": Kind.SETUP,  # index corrupted
}
"""By the whole code, or by the beginning of it; the longest that fits decides. A test finds a class that is missing."""


def kind_of(exc: psycopg.Error, table: str = "") -> Kind:
    """What the caller can do about an error.

    Args:
        exc: What psycopg raised.
        table: The table of the operations.
    """
    if isinstance(exc, UnusableError):
        return Kind.SETUP
    if isinstance(exc, DeadlineError):
        return Kind.UNAVAILABLE
    code = exc.sqlstate or ""
    if not code:  # libpq's own: no connection, or it broke. Everything else without a code is about the values
        broken = isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)
        return Kind.LOST if broken else Kind.REFUSED
    if code == "23505" and exc.diag.table_name != table:
        return Kind.REFUSED
    return next((KINDS[code[:size]] for size in (5, 3, 2) if code[:size] in KINDS), Kind.REFUSED)


def translate(exc: psycopg.Error, location: Location, *, opening: bool = False) -> Exception:
    """The store's error for the driver's.

    Args:
        exc: What psycopg raised.
        location: The store's.
        opening: Whether the store is being opened.
    """
    kind = kind_of(exc, location.table)
    if kind is Kind.REFUSED:
        return exc
    problem = f"{location.url}: {' '.join(str(exc.diag.message_primary or exc).split())}"
    if kind is Kind.SETUP and opening:
        return StoreSchemaError(problem)
    return StoreUnavailableError(problem)
