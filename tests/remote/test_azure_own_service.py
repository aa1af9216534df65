"""Operations of this package's own face in Azure's style, over a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from google.protobuf import any_pb2, duration_pb2, empty_pb2, struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2, status_pb2
from pydantic import BaseModel

import lro_aio as lro
from lro_aio.core import failures
from lro_aio.core.errors import RemoteCallError
from lro_aio.remote import HttpTransport, RemoteOperation
from lro_aio.servers.fastapi import accepted, operations_router

from ..serving import served
from .http_services import FAST, QUICK, counting_client

pytestmark = pytest.mark.asyncio


class Report(BaseModel):
    pages: int


@dataclass
class House:
    """The service's two ends."""

    client: lro.Client
    transport: HttpTransport
    http: httpx.AsyncClient
    sent: list[str]
    made: list[lro.Operation[Any]]

    async def start(self, **options: Any) -> tuple[lro.Operation[Any], RemoteOperation[Any]]:
        """A new operation, as its creator and its caller have it."""
        answer = await self.http.post(f"{self.transport.address}/reports?api-version=7")
        handle = RemoteOperation[Any](self.transport, answer, **options)
        self.sent.clear()
        return self.made[-1], handle


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    async with lro.Client("sqlite://", drain_timeout=0) as client:
        app = FastAPI()
        made: list[lro.Operation[Any]] = []

        @app.post("/reports")
        async def create_report(request: Request) -> Response:
            metadata = struct_pb2.Struct()
            metadata.update({"progress": 0.5})
            made.append(await client.create(metadata=metadata))
            return accepted(made[-1], request)

        @app.post("/instant")
        async def create_instantly(request: Request) -> Response:
            op = await client.create()
            await op.done(wrappers_pb2.StringValue(value="at once"))
            return accepted(op, request)

        app.include_router(operations_router(client, style="azure"))
        async with served(app) as url, counting_client() as (http, sent):
            transport = HttpTransport(http, url, style="azure", poll=FAST, retry=QUICK, timeout=10)
            yield House(client, transport, http, sent, made)


def packed(message: Any) -> any_pb2.Any:
    made = any_pb2.Any()
    made.Pack(message)
    return made


def struct(**members: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(members)
    return made


@pytest.mark.parametrize(
    ("response", "kind", "value"),
    [
        (wrappers_pb2.Int64Value(value=2**60), wrappers_pb2.Int64Value, wrappers_pb2.Int64Value(value=2**60)),
        (wrappers_pb2.StringValue(value="x"), None, "x"),
        (struct(pages=3), Report, Report(pages=3)),
        (struct(pages=3), None, {"pages": 3}),
        (error_details_pb2.Help(), None, error_details_pb2.Help()),
        (error_details_pb2.Help(), error_details_pb2.Help, error_details_pb2.Help()),
        (empty_pb2.Empty(), None, None),
    ],
)
async def test_start_is_awaited_to_its_value(house: House, response: Any, kind: Any, value: Any) -> None:
    op, handle = await house.start(response_type=kind)
    assert handle.name == f"/v1/{op.name}?api-version=7"
    assert (handle.has_completed, handle.metadata) == (False, {"progress": 0.5})
    await op.done(response)
    await handle.update_status()
    assert await handle == value
    assert house.sent == [f"GET {handle.name}"]


async def test_operation_that_ended_before_the_answer_needs_no_look(house: House) -> None:
    answer = await house.http.post(f"{house.transport.address}/instant")
    house.sent.clear()
    assert await RemoteOperation(house.transport, answer) == "at once"
    assert house.sent == []


async def test_failure_survives_the_round_trip(house: House) -> None:
    info = error_details_pb2.ErrorInfo(reason="DISK_FULL", domain="acme")
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=30))
    opaque = any_pb2.Any(type_url="type.googleapis.com/acme.v1.Unknown", value=b"\xff\x00")
    status = status_pb2.Status(code=8, message="the disk is full: ü", details=[packed(info), packed(retry), opaque])
    op, handle = await house.start()
    await op.fail(status)
    await handle.update_status()
    with pytest.raises(failures.ResourceExhaustedError) as caught:
        _ = handle.value
    assert (caught.value.message, caught.value.details) == (status.message, (info, retry, opaque))
    assert handle.proto is not None
    assert handle.proto.error == (await house.client.get_operation(op.name)).error


@pytest.mark.parametrize("code", [code for code in lro.Code if code not in (lro.Code.OK, lro.Code.CANCELLED)])
async def test_every_code_survives_the_round_trip(house: House, code: lro.Code) -> None:
    op, handle = await house.start()
    await op.fail(status_pb2.Status(code=int(code), message="no"))
    await handle.update_status()
    with pytest.raises(failures.BY_CODE[code]) as caught:
        _ = handle.value
    assert caught.value.code is code


async def test_cancel_delete_and_what_is_missing(house: House) -> None:
    op, handle = await house.start()
    await handle.cancel()
    await op.fetch()
    assert op.cancel_requested
    await op.cancel()
    await handle.update_status()
    with pytest.raises(lro.OperationCancelledError):
        _ = handle.value
    await handle.delete()
    with pytest.raises(lro.OperationNotFoundError):
        await handle.update_status()
    assert [line.split(" ")[0] for line in house.sent] == ["POST", "GET", "DELETE", "GET"]


async def test_token_and_name_lead_back(house: House) -> None:
    op, handle = await house.start()
    token = handle.rehydration_token
    assert token is not None
    await op.done(struct(pages=3))
    again = await RemoteOperation.rehydrate(house.transport, token, response_type=Report)
    assert again.value == Report(pages=3)
    assert await RemoteOperation.from_name(house.transport, op.name, response_type=Report) == Report(pages=3)


async def test_error_of_a_call_has_the_services_code_and_details(house: House) -> None:
    with pytest.raises(RemoteCallError) as caught:
        await RemoteOperation.from_name(house.transport, "operations/not~~a%25name").update_status()
    problem = caught.value
    assert (problem.code, problem.http_status, problem.transient) == (lro.Code.INVALID_ARGUMENT, 400, False)
    assert any(isinstance(detail, error_details_pb2.ErrorInfo) for detail in problem.details)
