"""The service answers as its OpenAPI document says, whatever schemathesis sends."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import lro_aio as lro
from lro_aio.servers.fastapi import operations_router

from ..serving import served
from ..waiting import reached

pytestmark = pytest.mark.asyncio

EXAMPLES = 4
"""Requests for each route, in each of the two moods."""


class Film(BaseModel):
    title: str
    seconds: int


handlers = lro.Handlers()


@handlers.handler("film")
async def film(op: lro.Operation[str]) -> Film:
    return Film(title=op.state, seconds=5)


@handlers.handler("breaks")
async def breaks(op: lro.Operation[str]) -> None:
    raise lro.OperationFailedError(op.state, code=lro.Code.NOT_FOUND)


@handlers.handler("asks")
async def asks(op: lro.Operation[str]) -> str:
    return str(await op.receive("approval"))


NIGHTLY = lro.Schedule("nightly", "film", cron="30 2 * * *", state="x")


async def filled(client: lro.Client) -> list[str]:
    """The names of operations in most states."""
    names = []
    for handler, parent in (("film", ""), ("film", "projects/p"), ("breaks", ""), ("asks", ""), ("asks", "projects/p")):
        op = await client.start(handler, "x", parent=parent)
        await reached(client, op.name, "SUCCEEDED", "FAILED", "RUNNING")
        names.append(op.name)
    return [*names, "operations/none", "projects/p", "no name", ""]


@pytest.fixture
def schemathesis() -> Any:
    """Imported for these tests alone, and outside of the event loop."""
    return pytest.importorskip("schemathesis", reason="it is not installed: the extra dev-apps has it")


def check(schemathesis: Any, document: Any, url: str, names: list[str], skip: tuple[str, ...]) -> int:
    """Send what the document describes, and what it forbids. Returns how many answers were as the document says.

    Names are sent with their slashes, which no OpenAPI document can ask for.
    """
    import requests
    from schemathesis import checks

    promised = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.response_headers_conformance,
        checks.negative_data_rejection,
    ]
    schema = schemathesis.openapi.from_dict(document)
    asked = 0
    with requests.Session() as http:
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path.endswith(skip):
                continue
            known = [NIGHTLY.name, "none"] if "/schedules/" in operation.path else names
            for mode in schemathesis.GenerationMode:
                if mode.is_negative and not (operation.body or operation.query):
                    continue  # a name is a text, and every text is one

                @seed(7)
                @settings(
                    max_examples=EXAMPLES,
                    database=None,
                    deadline=None,
                    phases=[Phase.explicit, Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode), name=st.sampled_from(known))
                def answered(case: Any, name: str) -> None:
                    nonlocal asked
                    sent = case.as_transport_kwargs(base_url=url)
                    sent["url"] = url + case.operation.path.replace("{name}", name)
                    answer = http.request(**sent, timeout=20)
                    case.validate_response(answer, checks=promised)
                    asked += 1

                answered()
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("style", ["google", "azure"])
async def test_answers_are_as_described(schemathesis: Any, style: Any) -> None:
    client, app = lro.Client("sqlite://", handlers=[handlers], schedules=[NIGHTLY]), FastAPI()
    app.include_router(operations_router(client, style, max_wait=0.01))
    async with (
        client,
        served(app, lifespan="off", abrupt=True) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        names = await filled(client)
        document = (await http.get("/openapi.json")).json()
        asked = await anyio.to_thread.run_sync(check, schemathesis, document, url, names, (":watch",))
    assert asked >= 30
