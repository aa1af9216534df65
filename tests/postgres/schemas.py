"""A schema for each test: the server is shared."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lro_aio as lro


@contextmanager
def a_schema_of_its_own(database: str) -> Iterator[str]:
    """The URL of a store that has a schema of its own, which is gone afterwards."""
    import psycopg

    schema = f"t{uuid.uuid4().hex[:16]}"
    yield f"{database}?schema={schema}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


@contextmanager
def a_store_of_its_own() -> Iterator[lro.PostgresStore]:
    """A store that is not open yet, on the server that the environment names."""
    import lro_aio as lro

    with a_schema_of_its_own(os.environ["LRO_TEST_POSTGRES"]) as url:
        yield lro.PostgresStore(url)
