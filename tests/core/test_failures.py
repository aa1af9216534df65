"""The classes of operations that failed: one for each code, and what they tell."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from lro_aio.core import failures
from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationFailedError
from lro_aio.core.status import from_status, to_status


def test_every_code_with_which_an_operation_can_fail_has_a_class_of_its_own() -> None:
    assert set(failures.BY_CODE) == set(Code) - {Code.OK}
    assert len(set(failures.BY_CODE.values())) == len(failures.BY_CODE)
    named = {kind.__name__ for code, kind in failures.BY_CODE.items() if code is not Code.CANCELLED}
    assert named == set(failures.__all__) - {"BY_CODE"}


@pytest.mark.parametrize("code", [code for code in Code if code])
def test_a_status_becomes_the_class_of_its_code_and_the_class_that_status_again(code: Code) -> None:
    error = from_status(status_pb2.Status(code=code, message="no"), name="operations/a")
    assert type(error) is failures.BY_CODE[code]
    assert isinstance(error, OperationFailedError)
    assert (error.code, error.message, error.name) == (code, "no", "operations/a")
    assert to_status(error).code == code
    assert error.grpc_code is grpc.StatusCode[code.name]


def test_a_class_raised_by_a_handler_needs_no_code() -> None:
    error = failures.NotFoundError("no such page")
    assert (error.code, to_status(error).code) == (Code.NOT_FOUND, Code.NOT_FOUND)


def test_details_come_unpacked_and_go_in_either_way() -> None:
    info = error_details_pb2.ErrorInfo(reason="NO_PAPER", domain="printers", metadata={"tray": "2"})
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3))
    packed = any_pb2.Any()
    packed.Pack(retry)
    error = OperationFailedError("no", details=[info, packed])
    assert error.details == (info, retry)
    assert from_status(to_status(error)).details == (info, retry)


@pytest.mark.parametrize(
    "packed",
    [
        any_pb2.Any(type_url="type.googleapis.com/acme.Unknown", value=b"\x08\x01"),
        any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff"),
        any_pb2.Any(type_url="google.rpc.ErrorInfo"),
        any_pb2.Any(type_url="", value=b"x"),
    ],
)
def test_a_detail_that_nobody_here_can_read_stays_as_it_came(packed: any_pb2.Any) -> None:
    assert OperationFailedError("no", details=[packed]).details == (packed,)
