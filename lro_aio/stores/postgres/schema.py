"""Numbered migrations, and the check that a table is ours before anything is written to it."""

from __future__ import annotations

import functools
import re
import shlex

import psycopg

from lro_aio.core.errors import StoreSchemaError
from lro_aio.stores import _sql
from lro_aio.stores.postgres.connections import Link
from lro_aio.stores.postgres.location import Location

__all__ = ["columns", "ddl", "grants", "latest", "missing", "prepare", "tables", "version_of"]

QUEUES = {
    "queues": "_queues",
    "queue_keys": "_queue_keys",
    "tickets": "_tickets",
    "queue_starts": "_queue_starts",
}
"""The tables of the queues, and how their names end."""

_TABLE = re.compile(r"^CREATE TABLE {(\w+)} \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^    (\w+) (text|bigint|smallint|boolean|double precision|bytea)\b", re.MULTILINE)
_ADDED = re.compile(r"^ALTER TABLE {(\w+)} ADD COLUMN (\w+) (\w+(?: precision)?)", re.MULTILINE)

_MARK = re.compile(r"lro_aio schema (\d+)")
"""The comment on the table: whose it is, and its version. A dump keeps it, and any role may read it."""

# Not to_regclass, which may answer from a memory that the server brings up to date only when a table is read.
_COMMENT = """
SELECT obj_description(c.oid, 'pg_class') FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = %(table)s
AND (n.nspname = %(schema)s OR (%(schema)s::text IS NULL AND pg_table_is_visible(c.oid)))
"""


def _migrations() -> dict[int, str]:
    """The scripts by their numbers."""
    return _sql.migrations(__package__)


@functools.cache
def columns(table: str = "table") -> dict[str, str]:
    """The columns of a table and their types, in its order: "table" is the operations', "journal" its journal's."""
    found: dict[str, str] = {}
    for script in _migrations().values():
        for name, body in _TABLE.findall(script):
            if name == table:
                found |= dict(_COLUMN.findall(body))
        found |= {column: kind for name, column, kind in _ADDED.findall(script) if name == table}
    return found


def tables(location: Location) -> dict[str, str]:
    """The tables, by what stands for them in scripts and statements."""
    queues = {f"{{{name}}}": location.named(suffix) for name, suffix in QUEUES.items()}
    return {"{table}": location.qualified, "{journal}": location.journal, **queues}


def latest() -> int:
    """The schema version that this code reads and writes."""
    return max(_migrations())


def ddl(location: Location, version: int = 0) -> list[str]:
    """The scripts that bring a table from a version to the latest one, 0 for none."""
    scripts = [_filled(script, location) for number, script in _migrations().items() if number > version]
    if not scripts:
        return []
    new = [f'CREATE SCHEMA IF NOT EXISTS "{location.schema}"'] if location.schema is not None and not version else []
    mark = f"COMMENT ON TABLE {location.qualified} IS 'lro_aio schema {latest()}'"
    return [*new, *(script.strip().removesuffix(";") for script in scripts), mark]


def grants(location: Location, role: str) -> list[str]:
    """The statements that give a role all that a store needs while ``migrate`` is off, and no more."""
    to = f'TO "{role.replace(chr(34), chr(34) * 2)}"'
    schema = [f'GRANT USAGE ON SCHEMA "{location.schema}" {to}'] if location.schema is not None else []
    return [
        *schema,
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {location.qualified} {to}",
        f"GRANT SELECT, INSERT, DELETE ON {location.journal} {to}",
        *(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {location.named(suffix)} {to}" for suffix in QUEUES.values()),
    ]


def prepare(link: Link, location: Location) -> None:
    """Create or upgrade the table where the location says so. Several processes may do so at the same time.

    Raises:
        StoreSchemaError: The table is missing, another application's, or newer than this code.
        psycopg.Error: The server refused.
    """
    version = version_of(link, location)
    if version == latest():
        return
    if not location.migrate:
        raise StoreSchemaError(missing(location, version))
    try:
        with link.transaction():
            link.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"lro_aio {location.qualified}"])
            version = version_of(link, location)  # again, under the lock: another process may have been first
            for script in ddl(location, version):
                if not script.startswith("CREATE SCHEMA") or not _has_schema(link, location):
                    link.execute(script.encode(), prepare=False)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise StoreSchemaError(f"{missing(location, version)} ({exc.diag.message_primary})") from exc


def version_of(link: Link, location: Location) -> int:
    """The version of the table, 0 where there is none.

    Raises:
        StoreSchemaError: It is another application's, or newer than this code.
    """
    row = link.execute(_COMMENT, {"table": location.table, "schema": location.schema}).fetchone()
    if row is None:
        return 0
    (comment,) = row
    mark = _MARK.fullmatch(comment or "")
    if mark is None:
        raise StoreSchemaError(
            f"{location.url}: the table {location.table} is another application's: its comment is not"
            " 'lro_aio schema N'; nothing was changed. Name another table (?table=NAME)"
        )
    version = int(mark[1])
    if version > latest():
        raise StoreSchemaError(
            f"{location.url}: the table {location.table} has schema version {version}, but this release of lro_aio"
            f" knows versions only up to {latest()}; upgrade lro_aio"
        )
    return version


def missing(location: Location, version: int) -> str:
    """What is said where the table is not there or too old, and this process does not migrate it."""
    what = f"has schema version {version}, not {latest()}" if version else "does not exist"
    return (
        f"{location.url}: the table {location.table} {what}; let a role that may create tables run"
        f" `lro postgres migrate {shlex.quote(location.url)}`"
    )


def _has_schema(link: Link, location: Location) -> bool:
    """Whether the schema exists: to ask for it again would need a privilege."""
    return link.execute("SELECT FROM pg_namespace WHERE nspname = %s", [location.schema]).fetchone() is not None


def _filled(script: str, location: Location) -> str:
    parts = {
        **tables(location),
        "{function}": location.named("_journal_goes"),
        "{tickets_go}": location.named("_tickets_go"),
        "{name}": location.table,
    }
    return _sql.filled(script, parts)
