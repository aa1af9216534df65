"""Answers of HTTP services in other forms than promised: other kinds of operations, of values, and web sites."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2, wrappers_pb2
from pydantic import BaseModel

from lro_aio.core.errors import RemoteProtocolError
from lro_aio.remote import HttpTransport, RemoteOperation

from .http_services import FAST, QUICK, Answer, Service, scripted

pytestmark = pytest.mark.asyncio

NAME = "things/1/operations/a"
STRING = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "ok"}
DONE = Answer(body={"name": NAME, "done": True, "response": STRING})
UNKNOWN = {"@type": "type.googleapis.com/acme.v1.Unknown", "size": 3, "inner": {"a": [1]}}


class Report(BaseModel):
    size: int


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    async with scripted() as opened:
        yield opened


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def transport(http: httpx.AsyncClient, service: Service) -> HttpTransport:
    return HttpTransport(http, service.url, poll=FAST, retry=QUICK, timeout=5)


@pytest.fixture
def handle(transport: HttpTransport) -> RemoteOperation[Any]:
    return RemoteOperation.from_name(transport, NAME)


class TestOtherKinds:
    """JSON with a name that is no ``google.longrunning.Operation``: it would never seem to end."""

    @pytest.mark.parametrize(
        "body",
        [
            {
                "kind": "compute#operation",
                "name": "operation-1",
                "status": "DONE",
                "error": {"errors": [{"code": "X"}]},
            },
            {"kind": "sql#operation", "name": "1", "status": "RUNNING", "operationType": "CREATE"},
            {"id": "1", "name": "1", "status": "Succeeded"},
            {"id": "1", "name": "1", "status": "Failed", "error": {"code": "X", "message": "m"}},
            {"name": NAME, "status": "RUNNING", "metadata": {}},
            {"name": NAME, "state": "ACTIVE"},
            {"name": NAME, "done": None, "phase": "Pending"},
        ],
    )
    async def test_it_is_told_at_once_and_named(
        self, handle: RemoteOperation[Any], service: Service, body: dict[str, Any]
    ) -> None:
        service.answers(Answer(body=body))
        with pytest.raises(RemoteProtocolError, match=r"and no 'done': it is not a google\.longrunning\.Operation"):
            await handle
        with pytest.raises(RemoteProtocolError):
            await handle.update_status()
        assert len(service.asked) == 2

    @pytest.mark.parametrize(
        "body",
        [
            {"name": NAME, "done": False, "status": "RUNNING"},
            {"name": NAME, "metadata": {"status": "RUNNING"}, "state": "RUNNING"},
            {"name": NAME, "kind": "K", "etag": "e"},
        ],
    )
    async def test_operation_with_more_members_than_it_needs_is_read(
        self, handle: RemoteOperation[Any], service: Service, body: dict[str, Any]
    ) -> None:
        service.answers(Answer(body=body), DONE)
        assert (await handle).value == "ok"


class TestMismatch:
    """A value of another type than declared: the error names the type that came."""

    @pytest.mark.parametrize(
        ("response", "kind", "told"),
        [
            (STRING, Report, "expected Report, found 'google.protobuf.StringValue': the value:"),
            (UNKNOWN | {"size": "many"}, Report, "expected Report, found 'acme.v1.Unknown': size: Input should be"),
            (UNKNOWN, wrappers_pb2.Int64Value, "expected google.protobuf.Int64Value, found 'acme.v1.Unknown'"),
            ({"a": 1, "b": 2}, Report, "expected Report, found a JSON object with the members 'a', 'b': "),
            ({}, Report, "expected Report, found an empty JSON object: "),
            ([1], Report, "expected Report, found a JSON array: "),
            ("text", int, 'expected int, found the JSON value "text": '),
            ([1], wrappers_pb2.Int64Value, "expected google.protobuf.Int64Value, found a JSON array: "),
            (STRING, list[int], "expected list[int], found 'google.protobuf.StringValue'"),
        ],
    )
    async def test_value(self, transport: HttpTransport, service: Service, response: Any, kind: Any, told: str) -> None:
        service.answers(Answer(body={"name": NAME, "done": True, "response": response}))
        handle = RemoteOperation.from_name(transport, NAME, response_type=kind)
        with pytest.raises(TypeError, match=re.escape(told)):
            await handle

    async def test_packed_type_that_this_process_does_not_know(self, transport: HttpTransport) -> None:
        packed = any_pb2.Any(type_url="type.googleapis.com/acme.v1.Report", value=b"\x08\x01")
        operation = operations_pb2.Operation(name=NAME, done=True, response=packed)
        handle = RemoteOperation(transport, operation, response_type=Report)
        with pytest.raises(TypeError, match=r"expected Report, found 'acme\.v1\.Report': import the _pb2 module"):
            _ = handle.value

    async def test_nothing_at_all_is_an_empty(self, transport: HttpTransport, service: Service) -> None:
        service.answers(Answer(body={"name": NAME, "done": True}))
        handle = RemoteOperation.from_name(transport, NAME, response_type=empty_pb2.Empty)
        assert await handle == empty_pb2.Empty()


class TestVerbsThatNobodyDid:
    @pytest.mark.parametrize("verb", ["cancel", "delete"])
    @pytest.mark.parametrize("style", ["google", "azure"])
    async def test_web_site_in_place_of_the_service_is_noticed(
        self, http: httpx.AsyncClient, service: Service, verb: str, style: Any
    ) -> None:
        service.answers(Answer(200, b"<html>Welcome!</html>", {"Content-Type": "text/html"}))
        handle = RemoteOperation[Any].from_name(HttpTransport(http, service.url, style=style), NAME)
        with pytest.raises(RemoteProtocolError, match="text/html: '<html>Welcome!"):
            await getattr(handle, verb)()


async def test_headers_that_cannot_be_had_now_are_a_failed_poll(http: httpx.AsyncClient, service: Service) -> None:
    calls: list[int] = []

    async def headers() -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the token server is down")
        return {"authorization": None if len(calls) == 2 else "Bearer abc"}

    service.answers(DONE)
    transport = HttpTransport(http, service.url, headers=headers, retry=QUICK)
    assert (await RemoteOperation[Any].from_name(transport, NAME)).value == "ok"
    assert [asked.headers["authorization"] for asked in service.asked] == ["Bearer abc"]
