"""One server for the tests of this directory, and a schema of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .programs import MISSING, programs
from .schemas import a_schema_of_its_own
from .server import Server


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
