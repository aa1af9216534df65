"""Operations of this package's own HTTP service, over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Response
from google.protobuf import any_pb2, duration_pb2, empty_pb2, struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2, status_pb2
from pydantic import BaseModel

import lro_aio as lro
from lro_aio.core import failures
from lro_aio.remote import HttpTransport, RemoteOperation
from lro_aio.servers.fastapi import operation_response, operations_router

from ..serving import served
from ..waiting import until
from .http_services import FAST, QUICK, counting_client

pytestmark = pytest.mark.asyncio


class Report(BaseModel):
    pages: int
    title: str


@dataclass
class House:
    """The service's two ends."""

    client: lro.Client
    http: httpx.AsyncClient
    url: str
    sent: list[str]

    def transport(self, **options: Any) -> HttpTransport:
        return HttpTransport(self.http, self.url, **{"poll": FAST, "retry": QUICK, "timeout": 10} | options)


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    async with lro.Client("sqlite://", drain_timeout=0) as client:
        app = FastAPI()

        @app.post("/reports")
        async def create_report() -> Response:
            return operation_response(await client.create(metadata=struct_pb2.Struct(), lease=False))

        app.include_router(operations_router(client))
        async with served(app) as url, counting_client() as (http, sent):
            yield House(client, http, url, sent)


def struct(**members: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(members)
    return made


def unpacked(message: any_pb2.Any, kind: type[Any]) -> Any:
    made = kind()
    assert message.Unpack(made)
    return made


def packed(message: Any) -> any_pb2.Any:
    made = any_pb2.Any()
    made.Pack(message)
    return made


async def test_start_is_awaited_to_its_value(house: House) -> None:
    started = await house.http.post(f"{house.url}/reports")
    handle = RemoteOperation(house.transport(), started, response_type=wrappers_pb2.StringValue)
    op = await house.client.operation(handle.name)
    waiting = asyncio.ensure_future(handle.wait_for_completion())
    await op.done(wrappers_pb2.StringValue(value="42 pages"))
    await waiting
    assert handle.value == wrappers_pb2.StringValue(value="42 pages")


@pytest.mark.parametrize(
    ("response", "kind", "value"),
    [
        (wrappers_pb2.Int64Value(value=2**60), None, wrappers_pb2.Int64Value(value=2**60)),
        (wrappers_pb2.Int64Value(value=2**60), wrappers_pb2.Int64Value, wrappers_pb2.Int64Value(value=2**60)),
        (struct(pages=3, title="x"), None, struct(pages=3, title="x")),
        (struct(pages=3, title="x"), Report, Report(pages=3, title="x")),
        (struct(pages=3, title="x"), dict[str, Any], {"pages": 3, "title": "x"}),
        (empty_pb2.Empty(), None, empty_pb2.Empty()),
        (empty_pb2.Empty(), empty_pb2.Empty, empty_pb2.Empty()),
    ],
)
async def test_value_is_of_the_declared_type_or_of_the_named_one(
    house: House, response: Any, kind: Any, value: Any
) -> None:
    op = await house.client.create()
    await op.done(response)
    handle = RemoteOperation.from_name(house.transport(), op.name, response_type=kind)
    assert await handle == value
    assert handle.proto is not None
    assert unpacked(handle.proto.response, type(response)) == response  # the bytes of a Struct have no certain order


@pytest.mark.parametrize("style", ["google", "azure"])
async def test_data_comes_as_it_was_returned_in_every_style(style: Any) -> None:
    """Integers too, whether a type is declared for them or not."""
    async with lro.Client("sqlite://", drain_timeout=0) as client:
        app = FastAPI()
        app.include_router(operations_router(client, style))
        async with served(app) as url, counting_client() as (http, _):
            transport = HttpTransport(http, url, style=style, poll=FAST, retry=QUICK, timeout=10)
            for data, kind in (
                ({"of": [1, 2.5, 2**53]}, dict),
                (Report(pages=3, title="x"), Report),
                ([7], list[int]),
                (7, int),
                ("x", str),
                (None, Report | None),
                ({"pages": 3}, dict[str, int] | None),
            ):
                op = await client.create(lease=False)
                await op.done(data)
                name = op.name if style == "google" else f"{url}/v1/{op.name}"
                handle = RemoteOperation[Any].from_name(transport, name, response_type=kind)
                found = await handle
                assert repr(found) == repr(data)


async def test_message_of_a_type_that_this_process_does_not_know_comes_byte_for_byte(house: House) -> None:
    unknown = any_pb2.Any(type_url="type.googleapis.com/acme.v1.Unknown", value=b"\x0a\x03abc")
    op = await house.client.create()
    await op.fail(status_pb2.Status(code=9, message="no", details=[unknown]))
    handle = RemoteOperation.from_name(house.transport(), op.name)
    with pytest.raises(failures.FailedPreconditionError) as caught:
        await handle
    assert unknown in caught.value.details


async def test_failure_survives_the_round_trip(house: House) -> None:
    info = error_details_pb2.ErrorInfo(reason="DISK_FULL", domain="acme", metadata={"disk": "/dev/sda"})
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=30, nanos=5))
    opaque = any_pb2.Any(type_url="type.googleapis.com/acme.v1.Unknown", value=b"\xff\x00")
    status = status_pb2.Status(code=8, message="the disk is full: ü", details=[packed(info), packed(retry), opaque])
    op = await house.client.create()
    await op.fail(status)
    handle = RemoteOperation.from_name(house.transport(), op.name)
    with pytest.raises(failures.ResourceExhaustedError) as caught:
        await handle
    assert caught.value.message == status.message
    assert caught.value.details == (info, retry, opaque)
    assert handle.proto is not None
    assert handle.proto.error == (await house.client.get_operation(op.name)).error == status


async def test_cancel_and_delete_reach_the_service(house: House) -> None:
    op = await house.client.create()
    handle = RemoteOperation.from_name(house.transport(), op.name)
    await handle.cancel()
    await op.fetch()
    assert op.cancel_requested
    await op.cancel()
    with pytest.raises(lro.OperationCancelledError):
        await handle
    await handle.delete()
    with pytest.raises(lro.OperationNotFoundError):
        await handle.update_status()
    with pytest.raises(lro.OperationCancelledError):
        _ = handle.value
    with pytest.raises(lro.OperationNotFoundError):
        await handle.cancel()


async def test_metadata_is_told_as_it_changes(house: House) -> None:
    op = await house.client.create(metadata=struct(step=0))
    handle = RemoteOperation.from_name(house.transport(), op.name, metadata_type=struct_pb2.Struct)
    seen = []
    async for metadata in handle:
        seen.append(metadata["step"])
        if metadata["step"] < 3:
            await op.set_metadata(struct(step=metadata["step"] + 1))
        else:
            await op.done(wrappers_pb2.StringValue(value="ok"))
    assert seen == [0, 1, 2, 3]
    assert handle.value == wrappers_pb2.StringValue(value="ok")


async def test_each_look_is_exactly_one_request(house: House) -> None:
    op = await house.client.create()
    handle = RemoteOperation.from_name(house.transport(), op.name)
    assert house.sent == []
    for count in (1, 2, 3):
        answer = await handle.update_status()
        assert answer.json()["name"] == op.name
        assert house.sent == [f"GET /v1/{op.name}"] * count
    await op.done()
    token = handle.rehydration_token
    assert token is not None
    again = await RemoteOperation.rehydrate(house.transport(), token)
    assert again.has_completed
    assert await again == empty_pb2.Empty()
    assert len(house.sent) == 4


async def test_wait_that_runs_out_gives_a_token_and_the_work_goes_on(house: House) -> None:
    op = await house.client.create(metadata=struct(step=7))
    handle = RemoteOperation.from_name(house.transport(), op.name)
    await handle.update_status()
    with pytest.raises(lro.WaitDeadlineExceededError) as caught:
        await handle.wait_for_completion(timeout=0.1)
    assert caught.value.pending == (op.name,)
    assert caught.value.operation is not None
    assert caught.value.operation.metadata == packed(struct(step=7))
    await op.done(wrappers_pb2.BoolValue(value=True))
    assert caught.value.rehydration_token is not None
    later = await RemoteOperation.rehydrate(house.transport(), caught.value.rehydration_token)
    assert later.value == wrappers_pb2.BoolValue(value=True)


async def test_long_polls_tell_the_end_with_one_request(house: House) -> None:
    op = await house.client.create()
    handle = RemoteOperation.from_name(house.transport(long_polls=True), op.name)
    waiting = asyncio.ensure_future(handle.wait_for_completion())
    await until(lambda: house.sent)
    await op.done(wrappers_pb2.BoolValue(value=True))
    await waiting
    assert handle.value == wrappers_pb2.BoolValue(value=True)
    assert house.sent == [f"POST /v1/{op.name}:wait"]


async def test_error_of_a_call_has_the_services_code_and_details(house: House) -> None:
    with pytest.raises(lro.core.errors.RemoteCallError) as caught:
        await RemoteOperation.from_name(house.transport(), "operations/not~~a%name").update_status()
    problem = caught.value
    assert (problem.code, problem.http_status, problem.transient) == (lro.Code.INVALID_ARGUMENT, 400, False)
    assert any(isinstance(detail, error_details_pb2.ErrorInfo) for detail in problem.details)
