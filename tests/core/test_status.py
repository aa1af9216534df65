"""The one table: exception to status and back, and canonical codes to HTTP."""

from __future__ import annotations

import asyncio
import http
import math
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api_core import exceptions as api_exceptions
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lro_aio.core import errors, failures
from lro_aio.core.codes import HTTP_STATUS, Code
from lro_aio.core.status import (
    DOMAIN,
    HIDDEN_MESSAGE,
    error_of,
    from_status,
    make_status,
    reason_of,
    retry_delay,
    to_status,
)


class RpcLike(Exception):
    """As grpc.RpcError: the code is a method."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__("hunter2")
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    infos = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            infos.append(info)
    assert len(infos) == 1
    return infos[0]


def test_the_codes_are_those_of_google_rpc() -> None:
    assert {code.name: code.value for code in Code} == dict(code_pb2.Code.items())
    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}


def test_every_code_has_its_http_status() -> None:
    expected = {
        "OK": 200, "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504,
        "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401,
        "RESOURCE_EXHAUSTED": 429, "FAILED_PRECONDITION": 400, "ABORTED": 409, "OUT_OF_RANGE": 400,
        "UNIMPLEMENTED": 501, "INTERNAL": 500, "UNAVAILABLE": 503, "DATA_LOSS": 500,
    }  # fmt: skip
    assert {code.name: code.http for code in Code} == expected
    assert {code.name: number for code, number in HTTP_STATUS.items()} == expected
    assert all(number == 499 or http.HTTPStatus(number) for number in expected.values())


@pytest.mark.parametrize("number", [17, -1, 99])
def test_a_number_that_no_code_has_is_unknown(number: int) -> None:
    assert Code.of(number) is Code.UNKNOWN


@pytest.mark.parametrize("code", [code for code in Code if code])
def test_a_failed_operation_comes_out_of_its_status_as_it_went_in(code: Code) -> None:
    detail = any_pb2.Any(type_url="type.googleapis.com/acme.Detail", value=b"v")
    status = to_status(errors.OperationFailedError("no disk", code=code, details=[detail]))
    error = from_status(status, name="operations/a")
    assert type(error) is failures.BY_CODE[code]
    assert (error.code, error.message, error.name) == (code, "no disk", "operations/a")
    assert error.details[0] == detail
    assert to_status(error) == status, "a second passage adds nothing"


def test_a_detail_type_comes_once() -> None:
    """AIP-193. The service's own ErrorInfo stays; ours is not added to it."""
    own = any_pb2.Any()
    own.Pack(error_details_pb2.ErrorInfo(reason="THEIRS", domain="acme"))
    status = to_status(errors.OperationFailedError("no", details=[own]))
    assert info_of(status).reason == "THEIRS"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_an_exception_of_grpc_keeps_its_code(code: grpc.StatusCode) -> None:
    assert to_status(RpcLike(code)).code == code.value[0]
    real = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="hunter2")
    assert to_status(real).code == code.value[0]
    assert "hunter2" not in str(to_status(real))


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (api_exceptions.NotFound("x"), Code.NOT_FOUND),
        (api_exceptions.PermissionDenied("x"), Code.PERMISSION_DENIED),
        (api_exceptions.Aborted("x"), Code.ABORTED),
        (api_exceptions.ServiceUnavailable("x"), Code.UNAVAILABLE),
        (api_exceptions.DeadlineExceeded("x"), Code.DEADLINE_EXCEEDED),
        (api_exceptions.GoogleAPICallError("x"), Code.UNKNOWN),
        (TimeoutError("x"), Code.DEADLINE_EXCEEDED),
        (asyncio.CancelledError("x"), Code.CANCELLED),
        (ValueError("x"), Code.UNKNOWN),
        (RpcLike(grpc.StatusCode.OK), Code.UNKNOWN),
    ],
    ids=lambda v: type(v).__name__,
)
def test_an_exception_of_another_library_keeps_its_code(exc: BaseException, code: Code) -> None:
    assert to_status(exc).code == code


def test_the_text_of_an_unknown_exception_is_hidden() -> None:
    status = to_status(ValueError("hunter2"))
    assert status.message == HIDDEN_MESSAGE
    assert "hunter2" not in str(status)
    assert "ValueError" not in str(status)
    assert (info_of(status).reason, info_of(status).domain) == ("HANDLER_ERROR", DOMAIN)


def test_the_text_is_shown_where_the_service_says_so() -> None:
    status = to_status(ValueError("hunter2"), expose=True)
    assert status.message == "ValueError: hunter2"
    assert dict(info_of(status).metadata) == {"exception": "ValueError"}


def test_an_error_of_this_package_is_always_shown() -> None:
    assert to_status(errors.OperationNotFoundError("operations/a")).message == "operation 'operations/a' does not exist"


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def code(self, needed: int) -> int:
        return needed


class Odd(Exception):
    @property
    def grpc_status_code(self) -> object:
        raise RuntimeError("no code")


class Numbered(Exception):
    code = 404


class Weird(Exception):
    def code(self) -> Any:
        return type("C", (), {"value": ("NOT_FOUND",)})()


@pytest.mark.parametrize("exc", [Broken(), Odd(), Numbered(), Weird(), SystemExit(3)], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("expose", [True, False])
def test_no_exception_is_too_odd_for_a_status(exc: BaseException, expose: bool) -> None:
    """Otherwise an operation whose handler raised it could never end."""
    assert to_status(exc, expose=expose).code == Code.UNKNOWN


@pytest.mark.parametrize(
    "exc", [ValueError("a\udcff"), errors.OperationFailedError("a\udcff"), errors.StoreSchemaError("a\udcff")], ids=str
)
def test_text_that_utf8_cannot_hold_is_escaped(exc: Exception) -> None:
    """Names of files can have lone surrogates, and a protobuf string cannot."""
    status = to_status(exc, expose=True)
    assert status.message.endswith("a\\udcff")
    assert status_pb2.Status.FromString(status.SerializeToString()) == status


def test_retry_info_is_added_where_a_repeat_has_a_chance() -> None:
    def delays(retry_after: float | None) -> list[int]:
        found = []
        for detail in make_status(Code.UNAVAILABLE, "m", reason="R", retry_after=retry_after).details:
            info = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                found.append(info.retry_delay.ToMilliseconds())
        return found

    assert delays(1.5) == [1500]
    assert delays(0) == [0]
    assert delays(-3) == [0]
    assert delays(None) == delays(math.inf) == delays(math.nan) == []


def test_a_detail_that_cannot_be_read_hides_none_behind_it() -> None:
    unreadable = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    status = make_status(Code.UNAVAILABLE, "m", reason="R", retry_after=2)
    status.details.insert(0, unreadable)
    assert (reason_of(status), retry_delay(status.details)) == ("R", 2.0)
    assert (reason_of(status_pb2.Status(details=[unreadable])), retry_delay([unreadable])) == ("", None)


def test_only_an_operation_that_ended_with_an_error_has_one() -> None:
    assert error_of(operations_pb2.Operation(name="operations/a")) is None
    assert error_of(operations_pb2.Operation(name="operations/a", done=True, response=any_pb2.Any())) is None
    failed = operations_pb2.Operation(name="operations/a", done=True, error=status_pb2.Status(code=5, message="m"))
    error = error_of(failed)
    assert error is not None
    assert (error.code, error.message, error.name) == (Code.NOT_FOUND, "m", "operations/a")
    cancelled = operations_pb2.Operation(name="operations/a", done=True, error=status_pb2.Status(code=1))
    assert isinstance(error_of(cancelled), errors.OperationCancelledError)
