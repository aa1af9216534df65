"""Messages to operations of other services."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest

import lro_aio as lro
from lro_aio.remote import GrpcTransport, LocalTransport, RemoteOperation

from .test_http_own_service import House, house  # noqa: F401 (a fixture)

pytestmark = pytest.mark.asyncio


async def sent_to(client: lro.Client, name: str) -> list[tuple[str, str]]:
    """Topic and text of each message."""
    told = await client.history(name)
    return [(entry.name, entry.text) for entry in told if entry.kind == "MESSAGE" and entry.name]


async def test_a_handle_sends_with_one_request(house: House) -> None:  # noqa: F811 (the fixture)
    op = await house.client.create()
    handle: RemoteOperation[Any] = RemoteOperation.from_name(house.transport(), op.name)
    await handle.send("approval", {"ok": True, "note": "jó"})
    assert house.sent == [f"POST /v1/{op.name}:send"]
    assert await sent_to(house.client, op.name) == [("approval", '{"ok":true,"note":"jó"}')]


async def test_a_repeat_with_the_same_id_is_one_message(house: House) -> None:  # noqa: F811 (the fixture)
    op = await house.client.create()
    for transport in (house.transport(), LocalTransport(house.client)):
        handle: RemoteOperation[Any] = RemoteOperation.from_name(transport, op.name)
        await handle.send("approval", 1, message_id="mail-7")
    assert await sent_to(house.client, op.name) == [("approval", "1")]


async def test_the_service_says_why_it_does_not_take_a_message(house: House) -> None:  # noqa: F811 (the fixture)
    op = await house.client.create()
    handle: RemoteOperation[Any] = RemoteOperation.from_name(house.transport(), op.name)
    with pytest.raises(lro.RemoteCallError) as caught:
        await handle.send("", 1)
    assert caught.value.code == lro.Code.INVALID_ARGUMENT
    with pytest.raises(ValueError, match="JSON compliant"):
        await handle.send("approval", float("nan"))
    await op.done()
    with pytest.raises(lro.RemoteCallError) as caught:
        await handle.send("approval")
    assert caught.value.code == lro.Code.FAILED_PRECONDITION
    await house.client.delete_operation(op.name)
    with pytest.raises(lro.OperationNotFoundError):
        await handle.send("approval")


async def test_over_grpc_there_is_no_such_call() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        handle: RemoteOperation[Any] = RemoteOperation.from_name(GrpcTransport(channel), "operations/a")
        with pytest.raises(lro.RemoteCallError) as caught:
            await handle.send("approval")
    assert caught.value.code == lro.Code.UNIMPLEMENTED
