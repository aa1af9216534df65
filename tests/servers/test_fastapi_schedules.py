"""``/v1/schedules``: what it tells, what it does, and for whom."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.testing import ManualClock

from ..waiting import PATIENCE
from .conftest import ON_SHARED_LOOP, Shared
from .test_fastapi import HttpTo, app_of, problem

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def scheduled(handlers: lro.Handlers) -> AsyncIterator[lro.Client]:
    declared = [
        lro.Schedule("nightly", "double", cron="30 2 * * *", timezone="Europe/Berlin"),
        lro.Schedule("yearly", "double", every=365 * 86400),
    ]
    async with lro.Client("sqlite://", handlers=handlers, schedules=declared) as client:
        yield client


async def test_list_and_get(scheduled: lro.Client, http_to: HttpTo) -> None:
    async with http_to(app_of(scheduled)) as http:
        listed = (await http.get("/v1/schedules")).json()["schedules"]
        assert [one["name"] for one in listed] == ["schedules/nightly", "schedules/yearly"]
        told = (await http.get("/v1/schedules/nightly")).json()
    assert (told["cron"], told["timezone"], told["handler"]) == ("30 2 * * *", "Europe/Berlin", "double")
    assert (len(told["upcoming"]), told["last"], told["paused"]) == (5, None, False)


async def test_run_twice_with_one_id_starts_one(scheduled: lro.Client, http_to: HttpTo) -> None:
    async with http_to(app_of(scheduled)) as http:
        made = [await http.post("/v1/schedules/nightly:run", json={"requestId": "r1"}) for _ in range(2)]
        other = await http.post("/v1/schedules/nightly:run")
    first, second = (answer.json()["name"] for answer in made)
    assert first == second != other.json()["name"]
    assert (await scheduled.wait_operation(first, 10)).done


async def test_pause_and_unpause(scheduled: lro.Client, http_to: HttpTo) -> None:
    async with http_to(app_of(scheduled)) as http:
        paused = (await http.post("/v1/schedules/nightly:pause", json={"reason": "the disk is full"})).json()
        assert (paused["paused"], paused["reason"]) == (True, "the disk is full")
        assert not (await http.post("/v1/schedules/nightly:unpause")).json()["paused"]


Filled = tuple[lro.Client, httpx.AsyncClient, ManualClock]


@pytest_asyncio.fixture
async def filled(handlers: lro.Handlers, http_to: HttpTo) -> AsyncIterator[Filled]:
    """A service whose schedule can be filled, by a clock that stands still."""
    clock = ManualClock(1_800_000_000)
    nightly = lro.Schedule("nightly", "double", cron="30 2 * * *", overlap="allow")
    async with (
        lro.Client("sqlite://", handlers=handlers, schedules=[nightly], clock=clock) as client,
        http_to(app_of(client)) as http,
    ):
        yield client, http, clock


WINDOW = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-09T00:00:00+01:00"}


async def test_backfill_starts_past_moments_once(scheduled: lro.Client, http_to: HttpTo) -> None:
    async with http_to(app_of(scheduled)) as http:
        told = [await http.post("/v1/schedules/nightly:backfill", json=WINDOW) for _ in range(2)]
    first, again = ([one["name"] for one in answer.json()["operations"]] for answer in told)
    assert first == again
    assert len(set(first)) == 8
    assert "nextStart" not in told[0].json()


async def test_a_long_backfill_says_where_to_go_on(filled: Filled) -> None:
    _, http, clock = filled
    asked, parts = {**WINDOW, "perSecond": 1}, []
    while asked["start"]:
        told = await fill(http, clock, asked)
        parts.append([one["name"] for one in told["operations"]])
        asked["start"] = told.get("nextStart", "")
        assert asked["start"] in ("", f"2026-01-0{1 + sum(map(len, parts))}T02:30:00Z")
    assert len(parts) > 1
    assert len({name for part in parts for name in part}) == 8


async def fill(http: httpx.AsyncClient, clock: ManualClock, asked: dict[str, object]) -> dict[str, Any]:
    """The answer to one request, however long it takes by this clock."""
    answering = asyncio.create_task(http.post("/v1/schedules/nightly:backfill", json=asked))
    while not answering.done():
        await clock.advance(0.5)
    told: dict[str, Any] = answering.result().json()
    return told


@pytest.mark.parametrize("rate", [2, 1, 0.3, 0.2])
async def test_whoever_goes_on_at_once_keeps_the_pace(filled: Filled, rate: float) -> None:
    client, http, clock = filled
    asked, names = {**WINDOW, "perSecond": rate}, []
    while asked["start"]:
        told = await fill(http, clock, asked)
        names += [one["name"] for one in told["operations"]]
        asked["start"] = told.get("nextStart", "")
    begun = [(await client.server_host.record(name)).create_time for name in names]
    size = max(1, int(rate))
    assert len(set(names)) == 8
    assert all(later - early >= size / rate for early, later in zip(begun, begun[size:], strict=False))


async def test_a_pause_longer_than_a_request_is_told(filled: Filled) -> None:
    client, http, clock = filled
    told = await fill(http, clock, {**WINDOW, "perSecond": 0.1})
    (made,) = told["operations"]
    begun = (await client.server_host.record(made["name"])).create_time
    assert told["nextStart"] == "2026-01-02T02:30:00Z"
    assert begun + 10 <= datetime.datetime.fromisoformat(told["nextTime"]).timestamp() < clock.time() + 10


async def test_a_drain_ends_the_pause_of_a_backfill(filled: Filled) -> None:
    client, http, _ = filled
    asked = {**WINDOW, "perSecond": 0.1}
    answering = asyncio.create_task(http.post("/v1/schedules/nightly:backfill", json=asked))
    await one_begun(client)
    await client.drain()
    told = (await answering).json()
    assert (len(told["operations"]), told["nextStart"]) == (1, "2026-01-02T02:30:00Z")


async def one_begun(client: lro.Client) -> None:
    """Return once a moment has its operation."""
    async with asyncio.timeout(PATIENCE):
        while not (await client.list_operations()).operations:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"end": WINDOW["end"]}, "start"),
        ({**WINDOW, "start": "2026-01-01"}, "start"),
        ({**WINDOW, "start": "2026-01-01T00:00:00"}, "start"),
        ({**WINDOW, "start": "2026-02-31T00:00:00Z"}, "start"),
        ({**WINDOW, "start": "0001-01-01T00:00:00+12:00"}, "start"),
        ({**WINDOW, "end": WINDOW["start"]}, "end"),
        ({**WINDOW, "end": "9999-12-31T23:59:59-12:00"}, "end"),
        ({**WINDOW, "perSecond": 0}, "per_second"),
        ({**WINDOW, "perSecond": 1e300}, "per_second"),
    ],
)
@ON_SHARED_LOOP
async def test_a_backfill_that_means_nothing_is_refused(
    shared: Shared, http_to: HttpTo, asked: dict[str, object], field: str
) -> None:
    async with http_to(shared.app) as http:
        refused = await http.post("/v1/schedules/nightly:backfill", json=asked)
    assert problem(refused) == (400, "INVALID_ARGUMENT", "INVALID_REQUEST")
    assert refused.json()["error"]["message"].startswith(f"{field} must ")


@ON_SHARED_LOOP
async def test_a_backfill_has_bounds(shared: Shared, http_to: HttpTo) -> None:
    long_ago = {**WINDOW, "start": "1970-01-01T00:00:00Z"}
    async with http_to(shared.app) as http:
        refused = await http.post("/v1/schedules/nightly:backfill", json=long_ago)
    assert "more than 10,000 moments" in refused.json()["error"]["message"]


async def test_as_many_moments_as_are_asked_for(scheduled: lro.Client, http_to: HttpTo) -> None:
    async with http_to(app_of(scheduled)) as http:
        told = (await http.get("/v1/schedules/nightly?upcoming=30")).json()
        assert len(told["upcoming"]) == 30
        for text in ("0", "1001", "x", "-1", ""):
            assert (await http.get(f"/v1/schedules/nightly?upcoming={text}")).status_code == 400


async def test_moments_are_found_beside_the_event_loop(handlers: lro.Handlers, http_to: HttpTo) -> None:
    """It is the guard of the event loop that fails. Leap days that are Sundays take a while to find."""
    declared = [lro.Schedule(f"leap-{number}", "double", cron="59 23 29 2 */7") for number in range(8)]
    async with (
        lro.Client("sqlite://", handlers=handlers, schedules=declared) as client,
        http_to(app_of(client)) as http,
    ):
        assert len((await http.get("/v1/schedules/leap-1?upcoming=200")).json()["upcoming"]) == 200
        assert len((await http.get("/v1/schedules")).json()["schedules"]) == 8


async def test_of_moments_after_the_year_9999_none_is_told(handlers: lro.Handlers, http_to: HttpTo) -> None:
    rare = lro.Schedule("rare", "double", every=datetime.timedelta(days=365_000))
    async with lro.Client("sqlite://", handlers=handlers, schedules=[rare]) as client, http_to(app_of(client)) as http:
        told = (await http.get("/v1/schedules/rare?upcoming=1000")).json()["upcoming"]
        assert (len(told), told[-1][:4]) == (8, "9964")
        assert (await http.get("/v1/schedules")).json()["schedules"][0]["upcoming"] == told[:5]


async def test_delete(scheduled: lro.Client, http_to: HttpTo) -> None:
    async with http_to(app_of(scheduled)) as http:
        assert (await http.delete("/v1/schedules/nightly")).json() == {}
        assert (await http.get("/v1/schedules/nightly")).status_code == 404
        assert (await http.delete("/v1/schedules/weekly")).status_code == 404


async def test_what_is_not_there_and_what_is_malformed(scheduled: lro.Client, http_to: HttpTo) -> None:
    async with http_to(app_of(scheduled)) as http:
        assert problem(await http.get("/v1/schedules/weekly")) == (404, "NOT_FOUND", "OPERATION_NOT_FOUND")
        assert (await http.get("/v1/schedules/-x")).status_code == 400
        assert (await http.get("/v1/schedules/nightly%0A")).status_code == 400
        assert (await http.post("/v1/schedules/nightly:run", json={"requestID": "a"})).status_code == 400
        assert (await http.post("/v1/schedules/nightly:pause", data={"reason": "x"})).status_code == 415


async def test_operations_below_schedules_stay_operations(scheduled: lro.Client, http_to: HttpTo) -> None:
    async with http_to(app_of(scheduled)) as http:
        listed = (await http.get("/v1/schedules/operations")).json()["operations"]
        assert {one["name"] for one in listed} == {"schedules/operations/nightly", "schedules/operations/yearly"}
        told = (await http.get("/v1/schedules/operations/nightly")).json()["metadata"]["value"]
        assert told["cron"] == "30 2 * * *"
        counted = await http.post("/v1/schedules/operations:pause", json={"filter": "*"})
        assert counted.json()["count"] == 0  # schedules are spared


async def test_authorize_is_asked_with_verbs_of_their_own(scheduled: lro.Client, http_to: HttpTo) -> None:
    asked = []

    def authorize(_: object, verb: str, name: str) -> bool:
        asked.append((verb, name))
        return False

    async with http_to(app_of(scheduled, authorize=authorize)) as http:
        for path in ("/v1/schedules", "/v1/schedules/nightly"):
            assert (await http.get(path)).status_code == 403
        for verb in ("run", "pause", "unpause", "backfill"):
            assert (await http.post(f"/v1/schedules/nightly:{verb}")).status_code == 403
        assert (await http.delete("/v1/schedules/nightly")).status_code == 403
    assert asked == [
        ("list_schedules", "schedules"),
        ("get_schedule", "schedules/nightly"),
        ("run_schedule", "schedules/nightly"),
        ("pause_schedule", "schedules/nightly"),
        ("unpause_schedule", "schedules/nightly"),
        ("backfill_schedule", "schedules/nightly"),
        ("delete_schedule", "schedules/nightly"),
    ]
    assert not (await scheduled.schedules.get("nightly")).paused
