"""The OpenAPI document tells which data handlers return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from google.protobuf import wrappers_pb2
from pydantic import BaseModel, Field

import lro_aio as lro
from lro_aio.servers.fastapi import operations_router

pytestmark = pytest.mark.asyncio

HttpTo = Callable[..., httpx.AsyncClient]


class Video(BaseModel):
    url: str
    length: int = Field(alias="lengthInSeconds", default=5)


@dataclass
class Page:
    number: int


def register(client: lro.Client) -> None:
    @client.handler
    async def make(op: Any) -> Video | lro.Suspended | None:
        return Video(url="v")

    @client.handler(response=list[Page])
    async def pages(op: Any) -> Any:
        return [Page(3)]

    @client.handler
    async def count(op: Any) -> wrappers_pb2.Int64Value:
        return wrappers_pb2.Int64Value(value=2)

    @client.handler
    async def odd(op: Any) -> Callable[[], int]:
        return wrappers_pb2.Int64Value(value=2)  # type: ignore[return-value]


@pytest.mark.parametrize("style", ["google", "azure"])
async def test_results_that_are_data_are_described(client: lro.Client, http_to: HttpTo, style: Any) -> None:
    register(client)
    app = FastAPI()
    app.include_router(operations_router(client, style))
    async with http_to(app) as http:
        document = (await http.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    answer = document["paths"]["/v1/{name}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    model, result = ("Operation", "response") if style == "google" else ("StatusMonitor", "result")
    assert answer == {"$ref": f"#/components/schemas/{model}"}
    described = schemas[model]["properties"][result]["anyOf"]
    if style == "google":
        assert described[0] == {"$ref": "#/components/schemas/OperationResult"}
        assert schemas["OperationResult"]["required"] == ["@type", "value"]
        described = schemas["OperationResult"]["properties"]["value"]["anyOf"]
    assert described[:2] == [
        {"$ref": "#/components/schemas/Video"},
        {"items": {"$ref": "#/components/schemas/Page"}, "type": "array"},
    ]
    assert set(schemas["Video"]["properties"]) == {"url", "lengthInSeconds"}


async def test_answers_are_as_described(client: lro.Client, http_to: HttpTo) -> None:
    register(client)
    app = FastAPI()
    app.include_router(operations_router(client))
    app.include_router(operations_router(client, "azure", prefix="/azure"))
    found = []
    async with http_to(app) as http:
        for handler in ("make", "pages"):
            op = await client.start(handler)
            await asyncio.wait_for(client.wait_operation(op.name), 10)
            found.append((await http.get(f"/v1/{op.name}")).json()["response"]["value"])
            found.append((await http.get(f"/azure/{op.name}")).json()["result"])
    video, page = {"url": "v", "lengthInSeconds": 5}, [{"number": 3}]
    assert found == [video, video, page, page]


async def test_without_declared_data_a_result_is_any_object(client: lro.Client, http_to: HttpTo) -> None:
    app = FastAPI()
    app.include_router(operations_router(client))
    async with http_to(app) as http:
        document = (await http.get("/openapi.json")).json()
    described = document["components"]["schemas"]["Operation"]["properties"]["response"]["anyOf"]
    assert [one["type"] for one in described] == ["object", "null"]


@pytest.mark.parametrize("style", ["google", "azure"])
async def test_every_route_says_what_it_takes_and_answers(client: lro.Client, http_to: HttpTo, style: Any) -> None:
    app = FastAPI()
    app.include_router(operations_router(client, style))
    async with http_to(app) as http:
        document = (await http.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            answers = described["responses"]
            assert {"4XX", "5XX"} < set(answers), path
            assert "requestBody" in described or method != "post" or (style, path) == ("azure", "/v1/{name}:cancel")
            for answer in (answers[key] for key in answers if key != "204"):
                [content] = answer["content"].values()
                assert content["schema"], path
