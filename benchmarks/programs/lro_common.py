"""Shared by the programs that run ``lro_aio`` itself: a store that counts its transactions, what it says of itself."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lro_aio as lro
from lro_aio.core.change import Change, Outcome


class CountedStore(lro.SqliteStore):
    """The SQLite store, and how many transactions it has committed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path
        self.address = f"sqlite:///{path}"
        """For another process."""
        self.commits = 0

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        self.commits += 1
        return super().apply(changes)

    def finished(self) -> int:
        """How many operations have succeeded, whoever has run them."""
        with closing(sqlite3.connect(self._path)) as connection:
            return int(connection.execute("SELECT count(*) FROM operations WHERE outcome = 1").fetchone()[0])

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection that writes, for looking at the file."""
        return self._opened()[0].use()

    def durability(self) -> str:
        """As the open connection has it, not as it should be."""
        with self.reading() as connection:
            mode, level = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
            )
        return sqlite_settings(mode, level)


class CountedPostgres(lro.PostgresStore):
    """The same on PostgreSQL."""

    def __init__(self, dsn: str, schema: str) -> None:
        super().__init__(dsn, schema=schema)
        self._dsn, self._schema = dsn, schema
        self.address = f"{dsn}{'&' if '?' in dsn else '?'}schema={schema}"
        """For another process."""
        self.commits = 0

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        self.commits += 1
        return super().apply(changes)

    def finished(self) -> int:
        return int(self._one(f'SELECT count(*) FROM "{self._schema}".operations WHERE outcome = 1'))

    def durability(self) -> str:
        settings = {name: self._one(f"SHOW {name}") for name in ("server_version", "fsync", "synchronous_commit")}
        version = settings.pop("server_version")
        return f"PostgreSQL {version}, {', '.join(f'{name}={value}' for name, value in settings.items())}"

    def _one(self, query: str) -> Any:
        import psycopg

        with psycopg.connect(self._dsn, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchone()[0]


@contextmanager
def counted(folder: Path, dsn: str) -> Iterator[CountedStore | CountedPostgres]:
    """A store in the folder, or in a schema of the database that belongs to the folder."""
    if not dsn:
        yield CountedStore(folder / "operations.db")
        return
    import psycopg

    schema = f"bench_{folder.name.lower()}"
    yield CountedPostgres(dsn, schema)
    with psycopg.connect(dsn, autocommit=True) as connection:  # who is killed leaves it to the next life
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


def sqlite_settings(mode: str, level: int) -> str:
    return f"SQLite, journal_mode={mode.upper()}, synchronous={('OFF', 'NORMAL', 'FULL', 'EXTRA')[level]}"


def hello(durability: str) -> dict[str, Any]:
    """What a program of ours says first."""
    return {
        "versions": {
            "lro-aio": lro.__version__,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "protobuf": version("protobuf"),
            "grpcio": version("grpcio"),
        },
        "durability": durability,
    }
