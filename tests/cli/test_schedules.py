"""``lro schedules`` over a store: what a service has declared, listed and acted on from outside of it."""

import asyncio
import json
import time

import pytest

import lro_aio
from lro_aio.core.calendars import iso
from lro_aio.testing import ManualClock

DAY = 86400
BEGIN = (time.time() // DAY - 3) * DAY
"""A midnight so short a time ago that nothing has expired."""


@pytest.fixture
def store(tmp_path):
    """The options that name a store in which two schedules were declared, three days ago."""
    url = f"sqlite:///{tmp_path}/o.db"
    handlers = lro_aio.Handlers()

    @handlers.handler
    async def report(op: lro_aio.Operation[None]) -> None: ...

    declared = [
        lro_aio.Schedule("nightly", report, cron="30 2 * * *", timezone="Europe/Berlin"),
        lro_aio.Schedule("hourly", report, every=3600),
    ]

    async def declare():
        clock = ManualClock(BEGIN)
        async with lro_aio.Client(url, handlers=handlers, schedules=declared, clock=clock):
            await clock.advance(DAY)

    asyncio.run(declare())
    return ["--store", url]


def test_list(lro, store):
    listed = lro("schedules", "list", *store)
    assert listed.exit_code == 0
    assert "30 2 * * * Europe/Berlin" in listed.stdout
    assert "every 3600 s" in listed.stdout
    told = [json.loads(line) for line in lro("schedules", "list", "--json", *store).stdout.splitlines()]
    assert [one["name"] for one in told] == ["schedules/hourly", "schedules/nightly"]
    assert [one["started"] for one in told] == [24, 1]
    assert all(one["reason"].startswith("no process that declares it has run since ") for one in told)


def test_next(lro, store):
    printed = lro("schedules", "next", "nightly", "3", *store)
    assert (printed.exit_code, len(printed.stdout.splitlines())) == (0, 3)
    assert lro("schedules", "next", "weekly", *store).exit_code == 3


def test_pause_unpause_and_delete(lro, store):
    assert lro("schedules", "pause", "nightly", "--reason", "full", *store).stdout == "nightly: paused\n"
    assert "paused: full" in lro("schedules", "list", *store).stdout
    assert lro("schedules", "unpause", "nightly", *store).stdout == "nightly: unpaused\n"
    assert lro("schedules", "delete", "nightly", *store).stdout == "nightly: deleted\n"
    assert "nightly" not in lro("schedules", "list", *store).stdout
    assert lro("schedules", "pause", "nightly", *store).exit_code == 3


def test_run(lro, store):
    first, again = (lro("schedules", "run", "nightly", "--request-id", "r1", *store) for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout == again.stdout
    assert first.stdout.startswith("operations/")


def test_backfill(lro, store):
    window = ["--start", iso(BEGIN - 8 * DAY), "--end", iso(BEGIN + DAY)]
    first, again = (lro("schedules", "backfill", "nightly", *window, *store) for _ in range(2))
    assert (first.exit_code, first.stdout.splitlines()[-1]) == (0, "9 moments")
    assert first.stdout == again.stdout
    listed = lro("list", "--parent", "operations", "--limit", "0", *store).stdout
    assert listed.count("report") == 24 + 9  # the last of them had run


@pytest.mark.parametrize(
    ("window", "problem"),
    [
        (["--start", "2025-12-24", "--end", "2026-01-02T00:00:00Z"], "--start must be a time with its zone"),
        (["--start", "2025-12-24T00:00:00Z", "--end", "later"], "--end must be a time with its zone"),
        (["--start", "2025-12-24T00:00:00Z", "--end", "2999-01-01T00:00:00Z"], "end must not be in the future"),
    ],
)
def test_a_window_that_is_none_is_refused(lro, store, window, problem):
    refused = lro("schedules", "backfill", "nightly", *window, *store)
    assert (refused.exit_code, problem in refused.stderr) == (2, True)


def test_a_store_without_schedules(lro, tmp_path):
    async def make():
        async with lro_aio.Client(f"sqlite:///{tmp_path}/empty.db"):
            pass

    asyncio.run(make())
    assert lro("schedules", "list", "--store", f"sqlite:///{tmp_path}/empty.db").stdout == "no schedules\n"
