"""``:pause``, ``:unpause`` and ``:rerun`` over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

import lro_aio as lro
from lro_aio.core.record import State

from ..waiting import reached
from .test_fastapi import HttpTo, app_of, problem

pytestmark = pytest.mark.asyncio


async def test_pause_and_unpause(client: lro.Client, http_to: HttpTo, gates: Any) -> None:
    op = await client.start("sleeps")
    await reached(client, op.name, State.SUSPENDED)
    async with http_to(app_of(client)) as http:
        assert (await http.post(f"/v1/{op.name}:pause", json={"reason": "the disk is full"})).json() == {}
        listed = (await http.get("/v1/operations", params={"filter": "paused = true"})).json()
        assert [found["name"] for found in listed["operations"]] == [op.name]
        assert (await client.history(op.name))[-1].text == "the disk is full"
        assert (await http.post(f"/v1/{op.name}:pause")).json() == {}
        assert (await http.post(f"/v1/{op.name}:unpause")).json() == {}
        assert problem(await http.post(f"/v1/{op.name}:unpause")) == (400, "FAILED_PRECONDITION", "INVALID_TRANSITION")
    assert not (await client.server_host.record(op.name)).paused


async def test_rerun(client: lro.Client, http_to: HttpTo) -> None:
    op = await client.start("double")
    await op.result()
    async with http_to(app_of(client)) as http:
        first, second = [
            (await http.post(f"/v1/{op.name}:rerun", json={key: "r1"})).json() for key in ("requestId", "request_id")
        ]
        assert first["name"] == second["name"] != op.name
        held = await client.start("held")
        refused = await http.post(f"/v1/{held.name}:rerun")
        assert problem(refused) == (400, "FAILED_PRECONDITION", "OPERATION_NOT_DONE")


@pytest.mark.parametrize("verb", ["pause", "unpause", "rerun"])
@pytest.mark.parametrize("body", [{"reason": 7}, {"else": "x"}, ["reason"]])
async def test_malformed_bodies_and_unknown_names_are_refused(
    client: lro.Client, http_to: HttpTo, verb: str, body: Any
) -> None:
    async with http_to(app_of(client)) as http:
        assert (await http.post(f"/v1/operations/a:{verb}", json=body)).status_code == 400
        assert (await http.post(f"/v1/operations/a:{verb}")).status_code == 404
        form = await http.post(f"/v1/operations/a:{verb}", data={"reason": "x"})
        assert form.status_code == 415


@pytest.mark.parametrize("verb", ["pause", "unpause", "rerun"])
async def test_who_may_not_is_refused_before_the_name_is_read(client: lro.Client, http_to: HttpTo, verb: str) -> None:
    async with http_to(app_of(client, authorize=lambda _, asked, __: asked != verb)) as http:
        assert (await http.post(f"/v1/operations/a:{verb}")).status_code == 403
