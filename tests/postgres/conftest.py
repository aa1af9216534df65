"""One server for the tests of this directory, and a schema of their own for each test or module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

import lro_aio as lro
from tests.crash.processes import Workers

from .programs import MISSING, programs
from .proxy import Proxy
from .schemas import a_schema_of_its_own
from .server import Server

MANY = 100
"""Rows that leave something for VACUUM to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if programs() is None and "LRO_TEST_POSTGRES" not in os.environ:
        for item in items:
            if "postgres" in item.path.parts[-2]:
                item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URL of a database that the tests share; nothing in it survives a power cut."""
    given = os.environ.get("LRO_TEST_POSTGRES")
    if given:
        yield given
        return
    with Server() as server:
        yield server.url


@pytest.fixture
def url(database: str) -> Iterator[str]:
    """The URL of a store that has a schema of its own, which is gone after the test."""
    with a_schema_of_its_own(database) as url:
        yield url


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    """Before the server of ``url``."""
    with Proxy(url) as proxy:
        yield proxy


@pytest.fixture
def sql(store: lro.PostgresStore, database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of the test's own, in the schema of the store. It may make `fail` and `tries`."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'SET search_path = "{store._location.schema}"'.encode())
        yield connection
        connection.execute("DROP FUNCTION IF EXISTS fail CASCADE")
        connection.execute("DROP SEQUENCE IF EXISTS tries")


@pytest.fixture
def workers(url: str, tmp_path: Path) -> Iterator[Workers]:
    """Processes that share one server. None outlives the test, nor the schema of ``url``: to drop it beside them would
    be a deadlock now and then.
    """
    workers = Workers(tmp_path, ["lro_aio.stores.postgres"])
    try:
        yield workers
    finally:
        workers.close()


@pytest.fixture(scope="module")
def shared(database: str) -> Iterator[str]:
    """The URL of a store whose tables the tests of a module share: to make some for each takes most of its time."""
    with a_schema_of_its_own(database) as url:
        with closing(lro.PostgresStore(url)) as store:
            store.open()
        yield url


@pytest.fixture(scope="module")
def broom(database: str, shared: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection to those tables."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"SET search_path = {shared.rpartition('=')[2]}".encode())
        yield connection


@pytest.fixture
def emptied(shared: str, broom: psycopg.Connection[tuple[object, ...]]) -> Iterator[str]:
    """The same URL; nothing is left there by a test."""
    yield shared
    for table in ("queues", "queue_keys", "queue_starts"):
        broom.execute(f"DELETE FROM operations_{table}".encode())
    if broom.execute("DELETE FROM operations").rowcount > MANY:
        broom.execute("VACUUM operations")
