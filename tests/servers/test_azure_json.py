"""Status monitors, without a web framework."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import (
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    json_format,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro_aio.core.codes import Code
from lro_aio.core.progress_pb2 import Progress
from lro_aio.core.record import Record, State
from lro_aio.servers.azure import error_json, monitor_reply, status_monitor


def packed(message: Any) -> bytes:
    result = any_pb2.Any()
    result.Pack(message)
    return result.SerializeToString()


def row(state: State = State.RUNNING, **columns: Any) -> Record:
    return Record(name="operations/a", uid="u", state=state, create_time=100.0, update_time=100.0, **columns)


def struct(**members: Any) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(members)
    return message


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.PENDING, "NotStarted"),
        (State.RUNNING, "Running"),
        (State.SUSPENDED, "Running"),
        (State.SUCCEEDED, "Succeeded"),
        (State.FAILED, "Failed"),
        (State.CANCELLED, "Canceled"),
    ],
)
def test_every_state_has_its_status(state: State, status: str) -> None:
    monitor = status_monitor(row(state))
    assert monitor["status"] == status
    assert ("error" in monitor) is (state is State.FAILED)
    assert "result" not in monitor


def test_every_state_is_mapped() -> None:
    for state in State:
        assert status_monitor(row(state))["status"]


def test_one_that_was_handed_back_has_been_started() -> None:
    assert status_monitor(row(State.PENDING, claim=1))["status"] == "Running"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (struct(a=1.5, b=[True, None]), {"a": 1.5, "b": [True, None]}),
        (struct_pb2.Value(string_value="x"), "x"),
        (struct_pb2.Value(bool_value=False), False),
        (struct_pb2.ListValue(values=[struct_pb2.Value(number_value=1.5)]), [1.5]),
        (wrappers_pb2.StringValue(value=""), ""),
        (wrappers_pb2.Int64Value(value=2**60), str(2**60)),
        (wrappers_pb2.BytesValue(value=b"\x01"), "AQ=="),
        (duration_pb2.Duration(seconds=3), "3s"),
        (timestamp_pb2.Timestamp(seconds=0), "1970-01-01T00:00:00Z"),
        (field_mask_pb2.FieldMask(paths=["a.b_c"]), "a.bC"),
        (status_pb2.Status(code=3), {"@type": "type.googleapis.com/google.rpc.Status", "code": 3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_result_is_plain_where_json_has_such_a_value_and_else_names_its_type(message: Any, expected: Any) -> None:
    assert status_monitor(row(State.SUCCEEDED, response=packed(message)))["result"] == expected


def test_every_well_known_message_that_any_wraps_is_plain() -> None:
    """Asks the protobuf library itself which they are."""
    modules = (struct_pb2, wrappers_pb2, duration_pb2, timestamp_pb2, field_mask_pb2, empty_pb2)
    for module in modules:
        for name in module.DESCRIPTOR.message_types_by_name:
            message = getattr(module, name)()
            if name == "Value":
                message.bool_value = True
            wrapped = any_pb2.Any()
            wrapped.Pack(message)
            printed = json_format.MessageToDict(wrapped)
            result = status_monitor(row(State.SUCCEEDED, response=wrapped.SerializeToString())).get("result")
            assert result == printed.get("value"), name


@pytest.mark.parametrize("message", [empty_pb2.Empty(), struct_pb2.Value(null_value=0)], ids=["Empty", "null"])
def test_nothing_is_no_result(message: Any) -> None:
    assert "result" not in status_monitor(row(State.SUCCEEDED, response=packed(message)))


@pytest.mark.parametrize(
    "unprintable",
    [
        any_pb2.Any(type_url="type.example.com/unknown.Type", value=b"\x01"),
        any_pb2.Any(type_url="type.googleapis.com/google.protobuf.StringValue", value=b"\xff"),
        any_pb2.Any(
            type_url="type.googleapis.com/google.protobuf.Struct", value=struct(x=float("nan")).SerializeToString()
        ),
    ],
    ids=["unknown type", "broken bytes", "NaN"],
)
def test_what_cannot_be_printed_is_never_taken_for_a_plain_value(unprintable: any_pb2.Any) -> None:
    stored = unprintable.SerializeToString()
    monitor = status_monitor(row(State.SUCCEEDED, response=stored, metadata=stored))
    assert monitor["result"] == monitor["metadata"]
    assert set(monitor["result"]) == {"@type", "value"}
    assert "percentComplete" not in monitor


@pytest.mark.parametrize(
    ("progress", "percent"),
    [(0, 0), (1, 100), (0.29, 29), (0.333333, 33.33), (0.5, 50), (1.01, None), (-0.1, None), (True, None), ("1", None)],
)
def test_percent_complete_comes_from_a_progress_between_0_and_1(progress: Any, percent: float | None) -> None:
    monitor = status_monitor(row(metadata=packed(struct(progress=progress))))
    assert monitor.get("percentComplete") == percent
    assert monitor["metadata"] == {"progress": progress}
    if isinstance(percent, int):
        assert isinstance(monitor["percentComplete"], int)


@pytest.mark.parametrize(
    ("counts", "percent"), [(Progress(done=3, total=4), 75), (Progress(done=3), None), (Progress(total=4), 0)]
)
def test_percent_complete_comes_from_counts_with_a_total(counts: Progress, percent: float | None) -> None:
    monitor = status_monitor(row(metadata=packed(counts)))
    assert monitor.get("percentComplete") == percent
    broken = any_pb2.Any(type_url="type.googleapis.com/lro.v1.Progress", value=b"\xff")
    assert "percentComplete" not in status_monitor(row(metadata=broken.SerializeToString()))


def test_metadata_of_another_type_is_shown_with_its_type() -> None:
    monitor = status_monitor(row(metadata=packed(operations_pb2.WaitOperationRequest(name="progress"))))
    assert monitor["metadata"] == {
        "@type": "type.googleapis.com/google.longrunning.WaitOperationRequest",
        "name": "progress",
    }


def test_clock_that_went_back_asks_for_a_second() -> None:
    assert monitor_reply(row(), now=50.0).headers == {"Retry-After": "1"}


@given(st.integers(-1, 99), st.text(max_size=20))
def test_code_of_an_error_can_be_read_back(code: int, message: str) -> None:
    """The rule by which a client finds the canonical code: PascalCase to UPPER_SNAKE_CASE; it stands within, too."""
    error = error_json(status_pb2.Status(code=code, message=message))
    canonical = Code.of(code)
    snake = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in error["code"]).lstrip("_")
    assert error["innererror"] == {"code": canonical.name, "details": []}
    assert snake == canonical.name or canonical is Code.OK
    assert error["message"] == message
    json.dumps(error)
