"""The verbs over many operations over HTTP, with who may use them."""

from __future__ import annotations

from typing import Any

import pytest

import lro_aio as lro
from lro_aio.core.record import State

from ..waiting import reached
from .conftest import ON_SHARED_LOOP, Shared
from .test_fastapi import HttpTo, app_of, problem

pytestmark = pytest.mark.asyncio

VERBS = ("cancel", "pause", "unpause", "rerun", "delete")


async def sleepers(client: lro.Client, number: int, parent: str = "") -> list[str]:
    made = [(await client.start("sleeps", parent=parent)).name for _ in range(number)]
    for name in made:
        await reached(client, name, State.SUSPENDED)
    return made


async def test_a_count_and_a_sample_without_force(client: lro.Client, http_to: HttpTo, gates: Any) -> None:
    names = await sleepers(client, 2)
    async with http_to(app_of(client)) as http:
        answer = await http.post("/v1/operations:cancel", json={"filter": 'handler = "sleeps"'})
        assert answer.status_code == 200
        assert answer.json()["count"] == 2
        assert set(answer.json()["sample"]) == set(names)
        assert (await http.post("/v1/operations:unpause", json={"filter": "*"})).json() == {"count": 0, "sample": []}
    assert not (await client.get_operation(names[0])).done


async def test_with_force_the_operation_that_does_it(client: lro.Client, http_to: HttpTo, gates: Any) -> None:
    names = await sleepers(client, 3)
    body = {"filter": 'handler = "sleeps"', "force": True, "reason": "end of trial", "perSecond": 100}
    async with http_to(app_of(client)) as http:
        made = (await http.post("/v1/operations:pause", json=body)).json()
        assert made["metadata"]["value"]["verb"] == "pause"
        ended = (await http.post(f"/v1/{made['name']}:wait", json={"timeout": "20s"})).json()
        assert ended["response"]["value"]["done"] == 3
        assert (await client.history(names[0]))[-1].text == f"end of trial (by {made['name']})"
        gone = (await http.post("/v1/operations:delete", json={"filter": "paused = true", "force": True})).json()
        await http.post(f"/v1/{gone['name']}:wait", json={"timeout": "20s"})
        assert (await http.get(f"/v1/{names[0]}")).status_code == 404


async def test_a_repeat_with_the_same_request_id_is_the_same_operation(
    client: lro.Client, http_to: HttpTo, gates: Any
) -> None:
    await sleepers(client, 1)
    async with http_to(app_of(client)) as http:
        body = {"filter": 'handler = "sleeps"', "force": True, "requestId": "ticket-17"}
        names = [(await http.post("/v1/operations:pause", json=body)).json()["name"] for _ in range(2)]
        assert names[0] == names[1]
        assert (await http.post("/v1/operations:pause", json={**body, "reason": "other"})).status_code == 409


async def test_a_parent_bounds_it(client: lro.Client, http_to: HttpTo, gates: Any) -> None:
    for parent in ("projects/a", "projects/b", ""):
        await sleepers(client, 1, parent)
    async with http_to(app_of(client)) as http:
        counts = [
            (await http.post(f"/v1/{path}:cancel", json={"filter": 'handler = "sleeps"'})).json()["count"]
            for path in ("projects/a/operations", "operations", "-/operations")
        ]
        assert counts == [1, 1, 3]
        body = {"filter": 'handler = "sleeps"', "force": True}
        made = (await http.post("/v1/projects/a/operations:cancel", json=body)).json()
        assert made["name"].startswith("projects/a/operations/")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "INVALID_FILTER"),
        ({"filter": ""}, "INVALID_FILTER"),
        ({"filter": "state = BROKEN", "force": True}, "INVALID_FILTER"),
        ({"filter": 7}, "INVALID_REQUEST"),
        ({"filter": "*", "force": "yes"}, "INVALID_REQUEST"),
        ({"filter": "*", "else": 1}, "INVALID_REQUEST"),
        ({"filter": "*", "perSecond": 0, "force": True}, "INVALID_REQUEST"),
        ({"filter": "*", "perSecond": True}, "INVALID_REQUEST"),
        ({"filter": "*", "perSecond": 1e9, "force": True}, "INVALID_REQUEST"),
        ({"filter": "*", "perSecond": 1, "per_second": 2}, "INVALID_REQUEST"),
    ],
)
@ON_SHARED_LOOP
async def test_what_cannot_be_meant_is_refused(
    shared: Shared, http_to: HttpTo, verb: str, body: Any, reason: str
) -> None:
    async with http_to(shared.app) as http:
        answer = await http.post(f"/v1/operations:{verb}", json=body)
        assert problem(answer) == (400, "INVALID_ARGUMENT", reason)
        if "BROKEN" in str(body):
            assert answer.json()["error"]["details"][0]["metadata"]["position"] == "8"
        assert (await http.post(f"/v1/operations:{verb}", data={"filter": "*"})).status_code == 415
        for path in (f"a b/operations:{verb}", f"operations:{verb}%0A"):
            assert (await http.post(f"/v1/{path}", json={"filter": "*"})).status_code == 400
    assert not (await shared.client.list_operations('handler = "lro.bulk"')).operations


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("refused", ["list", "verb"])
async def test_who_may_not_see_them_all_or_not_do_that_is_refused_before_anything_is_read(
    client: lro.Client, http_to: HttpTo, verb: str, refused: str
) -> None:
    asked: list[tuple[str, str]] = []

    def authorize(_: Any, what: str, name: str) -> bool:
        asked.append((what, name))
        return what != (verb if refused == "verb" else "list")

    async with http_to(app_of(client, authorize=authorize)) as http:
        for path, collection in (
            ("operations", "operations"),
            ("p/x/operations", "p/x/operations"),
            ("-/operations", "-"),
        ):
            asked.clear()
            answer = await http.post(f"/v1/{path}:{verb}", content=b"{", headers={"content-type": "application/json"})
            assert answer.status_code == 403
            assert asked[-1] == ("list" if refused == "list" else verb, collection)


async def test_an_operation_whose_id_is_operations_is_one_operation(client: lro.Client, http_to: HttpTo) -> None:
    op = await client.start("sleeps", operation_id="operations", parent="p")
    await reached(client, op.name, State.SUSPENDED)
    async with http_to(app_of(client)) as http:
        assert (await http.post("/v1/p/operations/operations:cancel")).json() == {}
        assert (await http.post("/v1/p/operations/operations:delete", json={})).status_code == 404
    assert (await op.fetch()).done


async def test_a_single_cancel_takes_a_reason(client: lro.Client, http_to: HttpTo, gates: Any) -> None:
    [name] = await sleepers(client, 1)
    async with http_to(app_of(client)) as http:
        assert (await http.post(f"/v1/{name}:cancel", json={"reason": "too dear"})).json() == {}
        assert (await http.post(f"/v1/{name}:cancel", json={"reason": 1})).status_code == 400
    [asked] = [entry for entry in await client.history(name) if entry.kind == "CANCEL"]
    assert asked.text == "too dear"
