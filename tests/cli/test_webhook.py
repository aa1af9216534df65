"""``lro webhook replay``: what was told is told once more, by whichever process can."""

import asyncio
import json

import pytest

import lro_aio

from ..receiver import receiving
from ..waiting import until

HANDLERS = lro_aio.Handlers()


@HANDLERS.handler
async def works(op: lro_aio.Operation[int]) -> str:
    return "made"


@pytest.fixture
def store(tmp_path):
    """The URL of a store with an operation that has told of its end, and one that goes on."""
    url = f"sqlite:///{tmp_path}/o.db"

    async def fill():
        async with (
            receiving() as receiver,
            lro_aio.Client(url, handlers=HANDLERS, webhooks=receiver.rules()) as client,
        ):
            await client.create(operation_id="open", lease=False)
            hook = lro_aio.Webhook(receiver.url)
            await (await client.start(works, 1, operation_id="done", webhook=hook)).result()
            await until(lambda: receiver.requests)

    asyncio.run(fill())
    return url


def test_it_prints_the_delivery(lro, store):
    told = lro("webhook", "replay", "done", "--store", store)
    assert (told.exit_code, told.stdout.split("lro/")[0]) == (0, "operations/done: sent again by ")
    name = told.stdout.strip().rpartition(" ")[2]
    shown = lro("get", name, "--store", store, "--json")
    assert json.loads(shown.stdout)["name"] == name
    as_json = lro("webhook", "replay", "done", "--json", "--store", store)
    assert json.loads(as_json.stdout)["name"].startswith("lro/webhooks/operations/")


def test_what_has_not_ended_or_is_not_there_is_refused(lro, store):
    assert lro("webhook", "replay", "open", "--store", store).exit_code == 6
    assert lro("webhook", "replay", "nothing", "--store", store).exit_code == 3


def test_a_service_is_not_asked(lro):
    told = lro("webhook", "replay", "done", "--url", "http://127.0.0.1:9")
    assert told.exit_code == 2
    assert "--store URL" in told.stderr
