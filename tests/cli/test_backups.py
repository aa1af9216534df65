"""``lro backup`` and ``lro restore``: what they do, what they say, and what they exit with."""

import asyncio
import re

import pytest

import lro_aio

from .conftest import start_site, stop_site


def ids(lro, store):
    result = lro("list", "--json", "--limit", "0", "--store", store)
    assert result.exit_code == 0
    return sorted(re.findall(r'"name": "([^"]+)"', result.stdout))


async def create(store, operation_id):
    async with lro_aio.Client(store, worker=False) as client:
        await client.create(operation_id=operation_id, lease=False)


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path}/operations.db"


@pytest.mark.slow
def test_a_back_up_of_a_running_service_is_put_back_once_it_has_ended(lro, tmp_path):
    site = start_site(tmp_path)
    try:
        copy = f"{tmp_path}/backup.db"
        result = lro("backup", copy, "--store", site.store)
        assert (result.exit_code, result.stdout) == (0, f"{copy}: a back-up of {tmp_path}/operations.db\n")
        refused = lro("restore", copy, "--store", site.store)
        assert refused.exit_code == 5
        assert "is open in another process: stop all that use it, and repeat" in refused.stderr
    finally:
        stop_site(site)
    before = ids(lro, site.store)
    asyncio.run(create(site.store, "later"))
    assert ids(lro, site.store) == sorted([*before, "operations/later"])
    result = lro("restore", copy, "--store", site.store)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/operations.db: restored from {copy}\n")
    assert ids(lro, site.store) == before


def test_the_store_may_come_from_the_environment(lro, store, tmp_path):
    asyncio.run(create(store, "one"))
    assert lro("backup", f"{tmp_path}/backup.db", env={"LRO_STORE": store}).exit_code == 0
    assert lro("restore", f"{tmp_path}/backup.db", env={"LRO_STORE": store}).exit_code == 0
    assert ids(lro, store) == ["operations/one"]


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "say which store"),
        ("sqlite://", "is the memory of one process"),
        ("spanner://p/i/d", "Spanner has back-ups of its own"),
        ("postgres://x", "PostgreSQL has back-ups of its own"),
        ("mysql://x", "is not the URL of a SQLite store"),
    ],
)
def test_a_place_without_a_file_is_a_wrong_option(lro, command, url, problem, tmp_path):
    result = lro(command, f"{tmp_path}/backup.db", *(["--store", url] if url else []))
    assert result.exit_code == 2
    assert problem in result.stderr


def test_an_existing_file_and_a_missing_directory_are_wrong_options(lro, store, tmp_path):
    asyncio.run(create(store, "one"))
    for target, problem in ((f"{tmp_path}/operations.db", "another name"), (f"{tmp_path}/no/b.db", "cannot write")):
        result = lro("backup", target, "--store", store)
        assert result.exit_code == 2
        assert problem in result.stderr


def test_what_is_no_store_is_not_backed_up(lro, store, tmp_path):
    result = lro("backup", f"{tmp_path}/backup.db", "--store", store)
    assert result.exit_code == 5
    assert "does not exist" in result.stderr
