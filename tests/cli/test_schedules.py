"""``lro schedules`` over a store and over HTTP: what a service has declared, listed and acted on from outside of it."""

import asyncio
import contextlib
import datetime
import json
import shutil
import time

import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from google.longrunning import operations_pb2

import lro_aio
from lro_aio.cli.scheduled import of_service
from lro_aio.core.calendars import iso
from lro_aio.servers.fastapi import operations_router
from lro_aio.testing import ManualClock

from ..serving import served

DAY = 86400
BEGIN = (time.time() // DAY - 3) * DAY
"""A midnight so short a time ago that nothing has expired."""


@pytest.fixture(scope="module")
def declared(tmp_path_factory):
    """The file of a store in which two schedules were declared, three days ago."""
    path = tmp_path_factory.mktemp("declared") / "o.db"
    handlers = lro_aio.Handlers()

    @handlers.handler
    async def report(op: lro_aio.Operation[None]) -> None: ...

    schedules = [
        lro_aio.Schedule("nightly", report, cron="30 2 * * *", timezone="Europe/Berlin"),
        lro_aio.Schedule("hourly", report, every=3600),
    ]

    async def declare():
        clock = ManualClock(BEGIN)
        async with lro_aio.Client(f"sqlite:///{path}", handlers=handlers, schedules=schedules, clock=clock):
            await clock.advance(DAY)

    asyncio.run(declare())
    return path


@pytest.fixture
def url(declared, tmp_path):
    """A copy for each test: to declare them again would take as long as the rest of it."""
    return f"sqlite:///{shutil.copy(declared, tmp_path)}"


@contextlib.asynccontextmanager
async def serving(url, **options):
    """The base URL of a service over the store."""
    client, app = lro_aio.Client(url, worker=False), FastAPI()
    app.include_router(operations_router(client, **options))
    async with client, served(app) as base:
        yield base


@pytest.fixture(params=["store", "url"])
def where(request, url):
    """The options that name the store, or a service over it."""
    if request.param == "store":
        yield ["--store", url]
        return
    # The service has a thread of its own: the command under test has the event loop of this one.
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(url)) as base:
        yield ["--url", base]


def test_list(lro, where):
    listed = lro("schedules", "list", *where)
    assert listed.exit_code == 0
    assert "30 2 * * * Europe/Berlin" in listed.stdout
    assert "every 3600 s" in listed.stdout
    told = [json.loads(line) for line in lro("schedules", "list", "--json", *where).stdout.splitlines()]
    assert [one["name"] for one in told] == ["schedules/hourly", "schedules/nightly"]
    assert [one["started"] for one in told] == [24, 1]
    assert all(one["reason"].startswith("no process that declares it has run since ") for one in told)


def test_next(lro, where):
    printed = lro("schedules", "next", "nightly", "3", *where)
    assert (printed.exit_code, len(printed.stdout.splitlines())) == (0, 3)
    assert lro("schedules", "next", "weekly", *where).exit_code == 3


def test_pause_unpause_and_delete(lro, where):
    assert lro("schedules", "pause", "nightly", "--reason", "full", *where).stdout == "nightly: paused\n"
    assert "paused: full" in lro("schedules", "list", *where).stdout
    assert lro("schedules", "unpause", "nightly", *where).stdout == "nightly: unpaused\n"
    assert lro("schedules", "delete", "nightly", *where).stdout == "nightly: deleted\n"
    assert "nightly" not in lro("schedules", "list", *where).stdout
    assert lro("schedules", "pause", "nightly", *where).exit_code == 3


def test_run(lro, where):
    first, again = (lro("schedules", "run", "nightly", "--request-id", "r1", *where) for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout == again.stdout
    assert first.stdout.startswith("operations/")


def test_backfill(lro, where, url):
    window = ["--start", iso(BEGIN - 8 * DAY), "--end", iso(BEGIN + DAY)]
    first, again = (lro("schedules", "backfill", "nightly", *window, *where) for _ in range(2))
    assert (first.exit_code, first.stdout.splitlines()[-1]) == (0, "9 moments")
    assert first.stdout == again.stdout
    listed = lro("list", "--parent", "operations", "--limit", "0", "--store", url).stdout
    assert listed.count("report") == 24 + 9  # the last of them had run


@pytest.mark.parametrize(
    ("window", "problem"),
    [
        (["--start", "2025-12-24", "--end", "2026-01-02T00:00:00Z"], "--start must be a time with its zone"),
        (["--start", "2025-12-24T00:00:00Z", "--end", "later"], "--end must be a time with its zone"),
        (["--start", "2025-12-24T00:00:00Z", "--end", "2999-01-01T00:00:00Z"], "end must not be in the future"),
    ],
)
def test_a_window_that_is_none_is_refused(lro, where, window, problem):
    refused = lro("schedules", "backfill", "nightly", *window, *where)
    assert (refused.exit_code, problem in refused.stderr) == (2, True)


def test_a_store_without_schedules(lro, tmp_path):
    async def make():
        async with lro_aio.Client(f"sqlite:///{tmp_path}/empty.db"):
            pass

    asyncio.run(make())
    assert lro("schedules", "list", "--store", f"sqlite:///{tmp_path}/empty.db").stdout == "no schedules\n"


@pytest.mark.parametrize("kind", ["server", "azure"])
def test_a_service_of_another_kind_says_where_schedules_are(lro, site, kind):
    refused = lro("schedules", "list", *site.at(kind))
    assert (refused.exit_code, "services of this kind have no schedules" in refused.stderr) == (2, True)


def test_whoever_is_not_allowed_to_is_refused(lro, url):
    app = serving(url, authorize=lambda request, verb, name: verb == "list_schedules")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(app) as base:
        assert lro("schedules", "list", "--url", base).exit_code == 0
        for command in (["run"], ["pause"], ["delete"], ["next"]):
            refused = lro("schedules", *command, "nightly", "--url", base)
            assert (refused.exit_code, "PERMISSION_DENIED" in refused.stderr) == (6, True)


class Parts:
    """A service that starts the moments of a backfill in parts."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.starts = []

    async def __call__(self, method, name, path, **options):
        self.starts.append(options["json"]["start"])
        return self.answers.pop(0)


def backfilled(service):
    schedules = of_service(service, lambda told: operations_pb2.Operation(name=told["name"]))
    end = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return asyncio.run(schedules.backfill("nightly", end - datetime.timedelta(days=9), end, 1000))


def test_a_backfill_goes_on_where_the_service_stopped():
    service = Parts(
        {"operations": [{"name": "a"}, {"name": "b"}], "nextStart": "2025-12-25T00:00:00Z"},
        {"operations": [{"name": "c"}]},
    )
    assert backfilled(service) == ["a", "b", "c"]
    assert service.starts == ["2025-12-23T00:00:00+00:00", "2025-12-25T00:00:00Z"]


@pytest.mark.parametrize("answer", [{}, [], {"operations": ["a"]}, {"operations": [], "nextStart": "2025-12-25"}])
def test_a_backfill_that_is_answered_with_nonsense_ends(answer):
    with pytest.raises(lro_aio.RemoteProtocolError):
        backfilled(Parts(answer))
