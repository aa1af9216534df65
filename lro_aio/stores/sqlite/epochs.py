"""Whether the content of a database went back: somebody copied a back-up over it while it was open.

Nothing tells SQLite: the file is the same one, and the log belongs to what was in it. So each content that a checkpoint
writes gets a number of its own that only rises. It is the schema version in the header, which SQLite reads for every
transaction anyhow, and which other programs raise, too, where they change a schema.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["begin_epoch", "epoch_of"]


def begin_epoch(connection: sqlite3.Connection) -> None:
    """Raise the number, within the open transaction: the next checkpoint writes it into the file."""
    (number,) = connection.execute("PRAGMA schema_version").fetchone()
    connection.execute(f"PRAGMA schema_version = {number + 1}")


def epoch_of(path: str) -> int | None:
    """The number in the file itself, without the log; -1 for a file that is no database any more.

    None where it cannot be told now. A checkpoint writes the first page, which says how many there are, before the last
    ones: while it is under way, and after a process was killed in it, the file is shorter than it says. What is missing
    is in the log.

    Raises:
        sqlite3.OperationalError: The file cannot be read now.
    """
    # Through SQLite, which keeps the locks of this process where another connection to the file is closed.
    uri = f"{Path(path).as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        try:
            (number,) = connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as exc:
            return None if exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT else -1
    return int(number)
