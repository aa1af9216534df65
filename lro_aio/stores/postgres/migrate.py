"""Making or upgrading the tables, for people who let nothing else do it."""

from __future__ import annotations

import time
from dataclasses import replace

import psycopg

from lro_aio.stores.postgres import schema
from lro_aio.stores.postgres.connections import Connector
from lro_aio.stores.postgres.errors import translate
from lro_aio.stores.postgres.location import Location

__all__ = ["TIMEOUT", "migrate"]

TIMEOUT = 600.0
"""Seconds: an index on a large table takes its time."""


def migrate(location: Location, *, dry_run: bool = False) -> list[str]:
    """Bring the tables of a location to the latest version.

    Args:
        location: Where they are, or are to be.
        dry_run: Change nothing.

    Returns:
        The scripts that were applied, or would be.

    Raises:
        StoreSchemaError: It is another application's table, or newer; no permission.
        StoreUnavailableError: The server does not answer.
    """
    location = replace(location, timeout=TIMEOUT, migrate=True)
    try:
        link = Connector(location).connect(time.monotonic() + TIMEOUT)
        try:
            scripts = schema.ddl(location, schema.version_of(link, location))
            if not dry_run:
                schema.prepare(link, location)
        finally:
            link.close()
    except psycopg.Error as exc:
        raise translate(exc, location, opening=True) from exc
    return scripts
