"""Where the rows are: a DSN and a table, checked without I/O."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, unquote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lro_aio.core.policies import Duration, seconds, whole

__all__ = ["LANES", "TIMEOUT", "Location"]

TIMEOUT = 8.0
"""Seconds. Must be below a third of the lease: otherwise a renewal that waits for an answer can lose it (rule 4)."""

LANES = 2
"""Batches that are under way at a time. More of them are smaller batches, and not more rows a second."""

FORM = (
    "expected postgresql://USER@HOST:PORT/DATABASE?table=TABLE, with schema=SCHEMA, timeout=SECONDS, lanes=N,"
    " pooled=1 behind a pooler, migrate=0, neighbours=0 or neighbours=DIRECTORY, and any parameter of libpq"
)

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_SWITCH = {"0": False, "1": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A table in a PostgreSQL database, and how to reach it."""

    dsn: str = field(repr=False)
    """For libpq; may hold a password."""
    table: str = "operations"
    schema: str | None = None
    """None: what the server's ``search_path`` says."""
    timeout: float = TIMEOUT
    """The most seconds that one call of the store takes."""
    lanes: int = LANES
    pooled: bool = False
    """Whether a pooler in transaction mode stands between: no prepared statements, and nothing is set for a session."""
    listen_dsn: str | None = field(default=None, repr=False)
    """Past the pooler, for LISTEN."""
    migrate: bool = True
    """Whether ``open`` makes or upgrades the table."""
    neighbours: bool | str = True
    """Whether the processes of this machine know each other, or in which directory."""

    def __post_init__(self) -> None:
        if not _TABLE.fullmatch(self.table):
            raise ValueError(
                f"{self.table!r} cannot be the table: expected lower-case letters, digits and _, at most 40 of them"
            )
        if self.schema is not None and not _SCHEMA.fullmatch(self.schema):
            raise ValueError(f"{self.schema!r} cannot be the schema: expected letters, digits and _")
        whole(self.lanes, "lanes")
        folder = self.neighbours
        if isinstance(folder, str) and (not os.path.isabs(folder) or "\0" in folder):
            raise ValueError(f"{folder!r} cannot be the directory for neighbours: expected an absolute path")
        for dsn in (self.dsn, self.listen_dsn):
            if dsn is not None:
                _parameters(dsn)

    @classmethod
    def of(cls, dsn: str, *, timeout: Duration, **options: Any) -> Self:
        """From the arguments of ``PostgresStore``; what stands in the URL goes before them.

        Raises:
            ValueError: One of them is malformed.
        """
        rest, found = _taken_apart(dsn)
        timeout = seconds(found.pop("timeout", timeout), "timeout", positive=True)
        return cls(dsn=rest, timeout=timeout, **{**options, **found})

    @property
    def url(self) -> str:
        """For people: the table without the timeout. Holds no secret."""
        given = _parameters(self.dsn)
        user = f"{quote(str(given['user']), safe='')}@" if given.get("user") else ""
        hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
        ports = str(given.get("port") or "").split(",")
        ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
        places = ",".join(quote(host, safe="") + (f":{port}" if port else "") for host, port in zip(hosts, ports))
        options = {"table": self.table} | ({"schema": self.schema} if self.schema else {})
        return f"postgresql://{user}{places}/{quote(str(given.get('dbname') or ''))}?{urlencode(options)}"

    def conninfo(self, dsn: str, connect_timeout: float) -> str:
        """The DSN with what is needed that a dead network is noticed, and a server that only reads is passed over."""
        given = _parameters(dsn)
        hosts = len(str(given.get("host") or given.get("hostaddr") or "").split(","))
        wanted: dict[str, Any] = {
            "application_name": "lro_aio",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": int(self.timeout * 1000),
            "client_encoding": "UTF8",
            "connect_timeout": max(2, int(connect_timeout / hosts)),
        }
        if hosts > 1:
            wanted["target_session_attrs"] = "read-write"
        return make_conninfo(**{**wanted, **given})

    @property
    def folder(self) -> str | None:
        """The directory that was named for neighbours."""
        return self.neighbours if isinstance(self.neighbours, str) else None

    @property
    def qualified(self) -> str:
        """The table, for a statement."""
        return self.named("")

    @property
    def journal(self) -> str:
        """The table of the journal, for a statement."""
        return self.named("_journal")

    def named(self, suffix: str) -> str:
        """Something beside the table, for a statement."""
        name = f'"{self.table}{suffix}"'
        return name if self.schema is None else f'"{self.schema}".{name}'


def _parameters(dsn: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(dsn)
    except psycopg.Error:
        # Not from it: libpq's text may repeat a part of the DSN, with the password.
        raise ValueError(f"the DSN of a PostgreSQL store is malformed; {FORM}") from None


def _taken_apart(dsn: str) -> tuple[str, dict[str, Any]]:
    """The DSN for libpq, and what a URL says of the store itself."""
    if not dsn.startswith(("postgresql://", "postgres://")):
        return dsn, {}
    rest, _, query = dsn.partition("?")
    malformed = ValueError(f"the URL of a PostgreSQL store is malformed; {FORM}")
    left: list[str] = []
    found: dict[str, Any] = {}
    for pair in query.split("&") if query else ():
        key, equals, value = pair.partition("=")
        if key not in _OPTIONS:
            left.append(pair)  # as it is: libpq has rules of its own
            continue
        if not equals or key in found:
            raise malformed
        try:
            found[key] = _OPTIONS[key](unquote(value))
        except (ValueError, KeyError):
            raise malformed from None
    return (f"{rest}?{'&'.join(left)}" if left else rest), found


def _neighbours(value: str) -> bool | str:
    return _SWITCH.get(value, value)


_OPTIONS: dict[str, Any] = {
    "table": str,
    "schema": str,
    "timeout": float,
    "lanes": int,
    "pooled": _SWITCH.__getitem__,
    "migrate": _SWITCH.__getitem__,
    "neighbours": _neighbours,
}
"""What is the store's own in the query of a URL."""
