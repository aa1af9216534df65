"""Operations of Google's own services, as their REST surfaces name and end them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from lro_aio.core.errors import RemoteProtocolError
from lro_aio.remote import HttpTransport, RemoteOperation

from .http_services import FAST, QUICK, Answer, Service, scripted

pytestmark = pytest.mark.asyncio

NAMES = {
    "spanner": "projects/p/instances/i/databases/d/operations/_auto_op_1a2b3c4d5e6f7890",
    "spanner, by itself": "projects/p/instances/i/databases/d/operations/_auto_12345",
    "firestore": "projects/p/databases/(default)/operations/AiAzNDU2Nzg5MAwaB2RlZmF1bHQ=",
    "vertex ai": "projects/1234/locations/us-central1/publishers/google/models/veo-3/operations/8a6e4c2b",
    "run": "projects/p/locations/europe-west1/operations/0b6f8f0c-7f0f-4a53-8d0f-5bd2c9e8b1a7",
    "app engine": "apps/my-app/operations/3f6c1e9b-1c2d-4e5f-8a9b-0c1d2e3f4a5b",
    "service usage": "operations/acat.p2-1234-8f14e45f-ceea-467f",
    "speech": "operations/7612202767953098924",
}
TYPES = "type.googleapis.com/acme.admin.v1"
"""Of messages that nobody here knows."""
METADATA = {"@type": f"{TYPES}.UpdateMetadata", "throttled": True}
DATABASE = {"@type": f"{TYPES}.Database", "name": "projects/p/d"}


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    async with scripted() as opened:
        yield opened


@pytest_asyncio.fixture
async def transport(service: Service) -> AsyncIterator[HttpTransport]:
    async with httpx.AsyncClient() as http:
        yield HttpTransport(http, service.url, poll=FAST, retry=QUICK, timeout=5)


def running(name: str) -> dict[str, Any]:
    return {"name": name, "metadata": METADATA}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_an_operation_is_followed_by_the_name_that_the_start_gave(
    transport: HttpTransport, service: Service, name: str
) -> None:
    service.answers(Answer(body=running(name)), Answer(body={**running(name), "done": True, "response": DATABASE}))
    handle = RemoteOperation[Any](transport, running(name))
    assert handle.name == name
    assert (await handle)["name"] == "projects/p/d"
    assert [httpx.URL(f"http://h{asked.target}").path for asked in service.asked] == [f"/v1/{name}"] * 2


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_custom_methods_follow_the_name(transport: HttpTransport, service: Service, name: str) -> None:
    service.answers(Answer(body={}))
    handle: RemoteOperation[Any] = RemoteOperation.from_name(transport, name)
    await handle.cancel()
    (asked,) = service.asked
    assert asked.method == "POST"
    assert httpx.URL(f"http://h{asked.target}").path == f"/v1/{name}:cancel"
    assert asked.target.endswith(":cancel"), "the colon of a custom method is no part of the name"
    assert json.loads(asked.body) == {}


@pytest.mark.parametrize("ended", [{}, {"response": None}], ids=["nothing", "null"])
async def test_done_without_a_result_has_ended_well(
    transport: HttpTransport, service: Service, ended: dict[str, Any]
) -> None:
    """What many deletions and updates answer."""
    name = NAMES["spanner"]
    service.answers(Answer(body={**running(name), "done": True, **ended}))
    assert await RemoteOperation.from_name(transport, name) is None
    with pytest.raises(RemoteProtocolError, match="without a response, where dict was expected"):
        await RemoteOperation.from_name(transport, name, response_type=dict)
