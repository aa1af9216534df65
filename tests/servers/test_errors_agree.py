"""gRPC and HTTP say the same of every error: one table, two translators."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from fastapi import FastAPI
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2, json_format
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import lro_aio as lro
from lro_aio.core import errors
from lro_aio.servers.fastapi import install_error_handlers
from lro_aio.servers.grpc import ErrorInterceptor
from lro_aio.servers.http import any_json

SAMPLES: list[errors.LroError] = [
    errors.LroError("any sentence"),
    errors.InvalidOperationNameError("x y"),
    errors.OperationNotFoundError("operations/a"),
    errors.OperationAlreadyExistsError("operations/a"),
    errors.OperationDoneError("operations/a", "FAILED"),
    errors.OperationNotDoneError("operations/a"),
    errors.OperationFailedError("no disk", name="operations/a", code=lro.Code.DATA_LOSS),
    errors.OperationCancelledError(name="operations/a"),
    errors.WaitDeadlineExceededError(2.5, ["operations/a", "operations/b"]),
    errors.RemoteCallError("operations/a", "no route", code=lro.Code.UNAVAILABLE, retry_after=2),
    errors.RemoteProtocolError("operations/a", "it has no status"),
    errors.LeaseLostError("operations/a", 7),
    errors.UnknownHandlerError("nobody", ["b", "a"]),
    errors.UnknownResumePointError("report", "nowhere", ["collect"]),
    errors.InvalidTransitionError("operations/a", "SUSPENDED", "release"),
    errors.OperationBusyError("operations/a", 12.25),
    errors.StateCodecError("not JSON", field="a.b"),
    errors.ResponseDataError("not JSON", field="a.b"),
    errors.PayloadTooLargeError("metadata", 70_000, 65_536),
    errors.InvalidPageTokenError(),
    errors.InvalidFilterError("unknown field 'färbe'", 3),
    errors.InvalidTokenError("operations/a"),
    errors.StoreUnavailableError("locked", retry_after=1.5),
    errors.StoreDataError("operations/a", "not a message"),
    errors.StoreRefusedError("operations/a", "DataError"),
    errors.StoreSchemaError("it is newer"),
    errors.ClockSkewError(-12.25, 7.5),
    errors.SchedulerUnavailableError("no answer"),
    errors.WorkerUnavailableError("it is full"),
]


def test_every_error_class_has_a_sample() -> None:
    classes = {value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, errors.LroError)}
    assert {type(sample) for sample in SAMPLES} == classes


async def over_grpc(exc: Exception, serve_grpc: Callable[..., Any]) -> tuple[grpc.StatusCode, status_pb2.Status]:
    async def method(request: Any, context: Any) -> Any:
        raise exc

    handler = grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=operations_pb2.GetOperationRequest.FromString,
        response_serializer=operations_pb2.Operation.SerializeToString,
    )

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Fail": handler}),))

    async with serve_grpc(add=add, interceptors=(ErrorInterceptor(),)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            call = channel.unary_unary("/test.Service/Fail", lambda _: b"", lambda data: data)
            await asyncio.wait_for(call(None), 10)
    status = rpc_status.from_call(caught.value)
    assert status is not None
    return caught.value.code(), status


async def over_http(exc: Exception, http_to: Callable[..., httpx.AsyncClient]) -> httpx.Response:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/fail")
    async def fail() -> None:
        raise exc

    async with http_to(app) as http:
        return await http.get("/fail")


@pytest.mark.asyncio
@pytest.mark.parametrize("exc", SAMPLES, ids=lambda exc: type(exc).__name__)
async def test_both_translators_agree(
    exc: errors.LroError, serve_grpc: Callable[..., Any], http_to: Callable[..., httpx.AsyncClient]
) -> None:
    code, status = await over_grpc(exc, serve_grpc)
    answer = await over_http(exc, http_to)
    error = answer.json()["error"]

    canonical = lro.Code[code.name]
    assert canonical is exc.code
    assert (error["status"], error["code"], answer.status_code) == (code.name, canonical.http, canonical.http)
    assert error["message"] == status.message == exc.message
    assert error["details"] == [any_json(detail) for detail in status.details]

    info = error_details_pb2.ErrorInfo()
    assert sum(detail.Unpack(info) for detail in status.details) == 1
    assert (info.reason, dict(info.metadata)) == (exc.reason, exc.metadata)

    retry = [detail["retryDelay"] for detail in error["details"] if detail["@type"].endswith("/google.rpc.RetryInfo")]
    if exc.retry_after is None:
        assert not retry
        assert "retry-after" not in answer.headers
    else:
        delay = json_format.ParseDict(retry[0], duration_pb2.Duration())
        assert delay.ToNanoseconds() == exc.retry_after * 1e9
        assert int(answer.headers["retry-after"]) >= max(1, exc.retry_after)
