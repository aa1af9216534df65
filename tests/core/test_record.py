"""The row: what readers see of it, when it is hidden, and the JSON of its parts."""

from __future__ import annotations

import dataclasses
import json
import math

import hypothesis.strategies as st
import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, struct_pb2
from google.rpc import status_pb2
from hypothesis import given, settings

from lro_aio.core.codec import pack
from lro_aio.core.errors import OperationNotFoundError
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason

TERMINAL = {State.SUCCEEDED, State.FAILED, State.CANCELLED}


def a_row(state: State = State.RUNNING, **changes: object) -> Record:
    base = Record(name="operations/a", uid="u", state=state, create_time=1.0, update_time=1.0)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", State)
def test_exactly_three_states_are_done(state: State) -> None:
    assert state.terminal is (state in TERMINAL)
    assert a_row(state).done is (state in TERMINAL)


@pytest.mark.parametrize("state", [state for state in State if state not in TERMINAL])
def test_an_unfinished_operation_has_neither_error_nor_response(state: State) -> None:
    operation = a_row(state).to_operation()
    assert isinstance(operation, operations_pb2.Operation)
    assert operation == operations_pb2.Operation(name="operations/a")
    assert not operation.HasField("metadata")


def test_a_succeeded_operation_shows_response_and_metadata() -> None:
    text, number = struct_pb2.Value(string_value="x"), struct_pb2.Value(number_value=1)
    operation = a_row(State.SUCCEEDED, response=pack(text), metadata=pack(number)).to_operation()
    assert operation.done
    assert operation.WhichOneof("result") == "response"
    unpacked = struct_pb2.Value()
    assert operation.response.Unpack(unpacked)
    assert unpacked == text
    assert operation.metadata.Unpack(unpacked)
    assert unpacked == number


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_an_operation_that_failed_shows_its_status(state: State) -> None:
    status = status_pb2.Status(code=5, message="m", details=[any_pb2.Any(type_url="t/x", value=b"v")])
    operation = a_row(state, error=status.SerializeToString()).to_operation()
    assert operation.done
    assert operation.WhichOneof("result") == "error"
    assert operation.error == status


def test_each_reader_gets_a_message_of_its_own() -> None:
    row = a_row()
    row.to_operation().name = "changed"
    assert row.to_operation().name == "operations/a"


def test_a_row_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_row().state = State.FAILED  # type: ignore[misc]


def test_a_row_is_hidden_when_deleted_or_from_its_expire_time_on() -> None:
    assert not a_row().hidden(1e12)
    assert a_row(deleted=True).hidden(0)
    row = a_row(State.SUCCEEDED, expire_time=10.0)
    assert not row.hidden(9.999)
    assert row.check_visible(9.999) is row
    assert row.hidden(10.0)
    with pytest.raises(OperationNotFoundError):
        row.check_visible(10.0)


def test_a_lease_is_live_until_its_moment_and_only_while_running() -> None:
    row = a_row(lease_expire_time=10.0)
    assert row.lease_live(9.999)
    assert not row.lease_live(10.0)
    assert a_row(lease_expire_time=None).lease_live(1e12), "driven from outside: it has no end"
    assert not a_row(State.PENDING, lease_expire_time=99.0).lease_live(0)


def test_the_size_counts_every_payload() -> None:
    empty = a_row().size
    for field in ("metadata", "response", "error", "state_data"):
        assert a_row(**{field: bytes(1000)}).size == empty + 1000


def test_the_state_of_a_handler_is_not_in_the_repr() -> None:
    assert "secret" not in repr(a_row(state_data=b"secret"))


finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.lists(st.text(max_size=8), max_size=3).map(tuple)
waits = st.builds(
    Wait,
    token=st.text(),
    sleep_until=finite,
    children=names,
    service=st.text(),
    deadline=st.none() | finite,
    poll_interval=finite,
    max_poll_interval=st.none() | finite,
    poll_endpoint=st.text(),
    on_cancel=st.text(),
    rerun=st.booleans(),
)
wakes = st.builds(
    Wake,
    reason=st.sampled_from(WakeReason),
    children=names,
    service=st.text(),
    pending=names,
    error=st.text(),
)


@given(waits)
@settings(max_examples=60, deadline=None)
def test_a_wait_comes_back_from_json_as_it_was(wait: Wait) -> None:
    assert Wait.from_json(wait.to_json()) == wait


@given(wakes)
@settings(max_examples=60, deadline=None)
def test_a_wake_comes_back_from_json_as_it_was(wake: Wake) -> None:
    again = Wake.from_json(wake.to_json())
    assert again == wake
    assert type(again.reason) is WakeReason


def test_json_is_compact_and_leaves_out_what_has_its_default() -> None:
    assert Wait(token="t", sleep_until=5.0).to_json() == '{"token":"t","sleep_until":5.0}'
    assert Wake(reason=WakeReason.ELAPSED).to_json() == '{"reason":"ELAPSED"}'


def test_zero_is_written_where_it_is_not_the_default() -> None:
    wait = Wait(token="t", sleep_until=0.0, deadline=0.0, poll_interval=0.0)
    assert json.loads(wait.to_json()) == {"token": "t", "sleep_until": 0.0, "deadline": 0.0, "poll_interval": 0.0}


def test_a_wait_without_end_comes_back() -> None:
    assert Wait.from_json(Wait(token="t", sleep_until=math.inf).to_json()).sleep_until == math.inf


def test_two_releases_can_share_a_store() -> None:
    """Members of a newer release are ignored; those that an older one did not write have their defaults."""
    newer = '{"token":"t","sleep_until":1,"from_the_future":[1,2]}'
    assert Wait.from_json(newer) == Wait(token="t", sleep_until=1.0)


def test_a_wait_that_is_written_again_keeps_what_a_newer_release_put_into_it() -> None:
    newer = '{"token":"t","sleep_until":1,"from_the_future":[1,2]}'
    wait = Wait.from_json(newer)
    assert wait.to_json() == newer
    assert dataclasses.replace(wait, token="u").to_json() == '{"token":"u","sleep_until":1}'


def test_a_wake_takes_the_name_of_a_reason_and_keeps_one_of_a_newer_release() -> None:
    """A row that cannot be read would stop every scan that meets it."""
    assert Wake(reason="ELAPSED").reason is WakeReason.ELAPSED  # type: ignore[arg-type]
    newer = Wake(reason="SNEEZED")  # type: ignore[arg-type]
    assert Wake.from_json(newer.to_json()) == newer


def full_row() -> Record:
    """Every field differs from its default."""
    return a_row(
        State.SUSPENDED,
        **{
            item.name: (7 if item.name in ("claim", "attempt", "retries", "handover", "revision") else 2.5)
            if "float" in str(item.type) or "int" in str(item.type)
            else True
            if item.type == "bool"
            else b"x"
            if item.type == "bytes"
            else Wait(token="t", sleep_until=1.0)
            if item.name == "wait"
            else Wake(reason=WakeReason.ELAPSED)
            if item.name == "wake"
            else "x"
            for item in dataclasses.fields(Record)
            if item.name not in ("name", "uid", "state", "create_time", "update_time")
        },
    )


@pytest.mark.parametrize("change", [{}, {"claim": 9}, {"wait": None, "metadata": b"", "state": State.FAILED}])
def test_an_evolved_row_differs_in_what_was_named_and_in_nothing_else(change: dict[str, object]) -> None:
    """However often these columns are changed: a function is written out for those that often are."""
    row = full_row()
    before = dataclasses.astuple(row)
    for _ in range(50):
        evolved = row.evolve(**change)
        assert evolved == dataclasses.replace(row, **change)  # type: ignore[arg-type]
        assert type(evolved) is Record
        assert evolved is not row
        assert dataclasses.astuple(row) == before
        with pytest.raises(dataclasses.FrozenInstanceError):
            evolved.claim = 1  # type: ignore[misc]


def test_the_order_of_the_columns_does_not_matter() -> None:
    for _ in range(50):
        assert a_row().evolve(claim=3, attempt=4) == a_row().evolve(attempt=4, claim=3)


def test_a_row_evolves_in_no_field_that_it_does_not_have() -> None:
    for _ in range(50):
        with pytest.raises(AttributeError):
            a_row().evolve(cliam=1)
