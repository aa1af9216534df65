"""``/v1/schedules``: what it tells, what it does, and for whom."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import lro_aio as lro

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
        for verb in ("run", "pause", "unpause"):
            assert (await http.post(f"/v1/schedules/nightly:{verb}")).status_code == 403
    assert asked == [
        ("list_schedules", "schedules"),
        ("get_schedule", "schedules/nightly"),
        ("run_schedule", "schedules/nightly"),
        ("pause_schedule", "schedules/nightly"),
        ("unpause_schedule", "schedules/nightly"),
    ]
    assert not (await scheduled.schedules.get("nightly")).paused
