"""Promises of filters about metadata and responses: how a path is walked, and how its end is compared."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from lro_aio.core.codec import pack
from lro_aio.core.filters import parse
from lro_aio.core.record import Record, State


def _probe() -> Any:
    """A message with a field of each kind, declared here."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="lro_aio_tests/probe.proto", package="lro.tests", syntax="proto3")
    for imported in ("any", "duration", "struct", "timestamp", "wrappers"):
        file.dependency.append(f"google/protobuf/{imported}.proto")
    message = file.message_type.add(name="Probe")
    phase = message.enum_type.add(name="Phase")
    for number, name in enumerate(("PHASE_UNSPECIFIED", "READING", "WRITING")):
        phase.value.add(name=name, number=number)
    number = 0

    def add(name: str, kind: int, type_name: str = "", *, repeated: bool = False) -> Any:
        nonlocal number
        number += 1
        label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        return message.field.add(name=name, number=number, type=kind, type_name=type_name or None, label=label)

    def add_map(name: str, key: int) -> None:
        entry_name = "".join(part.title() for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=key, label=kinds.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
        add(name, kinds.TYPE_MESSAGE, f".lro.tests.Probe.{entry_name}", repeated=True)

    add("text", kinds.TYPE_STRING)
    add("item_count", kinds.TYPE_INT64)
    add("flag", kinds.TYPE_BOOL)
    add("ratio", kinds.TYPE_FLOAT)
    add("exact_ratio", kinds.TYPE_DOUBLE)
    add("phase", kinds.TYPE_ENUM, ".lro.tests.Probe.Phase")
    add("data", kinds.TYPE_BYTES)
    add("begun", kinds.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    add("elapsed", kinds.TYPE_MESSAGE, ".google.protobuf.Duration")
    add("limit", kinds.TYPE_MESSAGE, ".google.protobuf.Int32Value")
    add("sub", kinds.TYPE_MESSAGE, ".lro.tests.Probe")
    add("subs", kinds.TYPE_MESSAGE, ".lro.tests.Probe", repeated=True)
    add("numbers", kinds.TYPE_INT32, repeated=True)
    add("tags", kinds.TYPE_STRING, repeated=True)
    add("details", kinds.TYPE_MESSAGE, ".google.protobuf.Any", repeated=True)
    add("detail", kinds.TYPE_MESSAGE, ".google.protobuf.Any")
    add("extra", kinds.TYPE_MESSAGE, ".google.protobuf.Struct")
    add("huge", kinds.TYPE_UINT64)
    add("maybe", kinds.TYPE_INT32).proto3_optional = True
    message.field[-1].oneof_index = 0
    message.oneof_decl.add(name="_maybe")
    add_map("labels", kinds.TYPE_STRING)
    add_map("by_number", kinds.TYPE_INT32)
    add_map("by_flag", kinds.TYPE_BOOL)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName("lro.tests.Probe"))


Probe = _probe()


def record(state: State = State.RUNNING, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "name": "operations/a",
        "uid": "u",
        "state": state,
        "create_time": 0.0,
        "update_time": 0.0,
        "handler": "render",
    }
    return Record(**(fields | changes))


def with_metadata(message: Message, **changes: Any) -> Record:
    return record(metadata=pack(message), **changes)


def struct(**members: Any) -> struct_pb2.Struct:
    value = struct_pb2.Struct()
    value.update(members)
    return value


def matches(text: str, row: Record) -> bool:
    return parse(text).matches(row)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata:*", True),
        ("metadata.@type:*", True),
        ("metadata.@type=google.protobuf.Struct", True),
        ("metadata.@type=type.googleapis.com/google.protobuf.Struct", True),
        ("metadata.@type:google.protobuf.Struct", True),
        ("metadata.@type=type.example.com/google.protobuf.Struct", False),
        ("metadata.@type!=google.protobuf.Struct", False),
        ("metadata.@type!=google.protobuf.Value", True),
        ('metadata.@type="google.protobuf.*"', True),
        ('metadata.@type="*.Struct"', True),
        ("metadata.pages=3", True),
        ("metadata.pages=3.0", True),
        ("metadata.pages!=3", False),
        ("metadata.pages>2", True),
        ("metadata.pages>20", False),
        ("metadata.pages=three", False),
        ("metadata.pages!=three", False),
        ("metadata.pages=-3", False),
        ("metadata.title=Report", True),
        ('metadata.title="Rep*"', True),
        ("metadata.title!=Other", True),
        ("metadata.ready=true", True),
        ("metadata.ready!=false", True),
        ("metadata.ready>false", False),
        ("metadata.ready=yes", False),
        ("metadata.nothing:*", False),
        ("metadata.nothing!=1", False),
        ("metadata:nothing", True),
        ("metadata:absent", False),
        ("metadata.absent!=1", False),
        ("metadata.absent.deeper!=1", False),
        ("NOT metadata.absent=1", True),
        ("metadata.inner.depth=2", True),
        ("metadata.inner:depth", True),
        ("metadata.inner=2", False),
        ("metadata.inner!=2", False),
        ("metadata.list:2", True),
        ("metadata.list:4", False),
        ("metadata.list=2", False),
        ("metadata.list:two", True),
        ("metadata.rows.id:7", True),
        ("metadata.rows.id:9", False),
        ("metadata.rows.id=7", False),
        ("metadata.rows.id:*", True),
        ("metadata.rows.title:*", False),
        ('metadata."odd key.with dot"=1', True),
        ("metadata.fields:*", False),
        ("metadata.zero:*", True),
    ],
)
def test_a_struct_is_walked_by_its_keys(text: str, expected: bool) -> None:
    members = {"pages": 3, "title": "Report", "ready": True, "nothing": None, "inner": {"depth": 2}, "zero": 0}
    members |= {"list": [1, 2, "two"], "rows": [{"id": 5}, {"id": 7}], "odd key.with dot": 1}
    assert matches(text, with_metadata(struct(**members))) is expected


@pytest.fixture(scope="module")
def probe_row() -> Record:
    probe = Probe(text="hello", item_count=2**53 + 1, flag=True, ratio=0.1, exact_ratio=0.1, phase=2, data=b"x")
    probe.begun.FromJsonString("2024-05-01T00:00:00.000000001Z")
    probe.elapsed.CopyFrom(duration_pb2.Duration(seconds=20, nanos=500_000_000))
    probe.limit.value = 0
    probe.sub.text = "inner"
    probe.subs.add(text="one", numbers=[1])
    probe.subs.add(text="two")
    probe.numbers.extend([40, 42])
    probe.tags.extend(["red", "green"])
    probe.details.add().Pack(error_details_pb2.ErrorInfo(reason="WHY"))
    probe.detail.Pack(struct_pb2.Value(string_value="boxed"))
    probe.extra.update({"k": {"v": 1}})
    probe.huge = 2**64 - 1
    probe.labels["env"] = "prod"
    probe.labels["empty"] = ""
    probe.by_number[7] = "seven"
    probe.by_flag[True] = "yes"
    return with_metadata(probe)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("text=hello", True),
        ("text<jello", True),
        ("item_count=9007199254740993", True),
        ("itemCount=9007199254740993", True),
        ("item_count=9007199254740992", False),
        ("item_count>9007199254740992", True),
        ('item_count="9007199254740993"', True),
        ("item_count=1e3", False),
        ("huge=18446744073709551615", True),
        ("huge<99999999999999999999999999", True),
        ("flag=true", True),
        ("flag!=true", False),
        ("flag=TRUE", False),
        ("ratio=0.1", True),
        ("ratio<1e39", True),
        ("ratio>-1e39", True),
        ("ratio<1e400", True),
        ("exact_ratio=0.1", True),
        ("exactRatio>=0.10000001", False),
        ("phase=WRITING", True),
        ("phase!=READING", True),
        ("phase=writing", False),
        ("phase!=NO_SUCH_PHASE", False),
        ("phase=2", False),
        ("phase>READING", False),
        ("data:*", True),
        ("data=x", False),
        ("begun=2024-05-01T00:00:00.000000001Z", True),
        ("begun>2024-05-01T00:00:00Z", True),
        ("begun!=2024-05-01T00:00:00Z", True),
        ("begun>yesterday", False),
        ("begun!=yesterday", False),
        ("begun.nanos=1", True),
        ("elapsed=20.5s", True),
        ("elapsed>20s", True),
        ("elapsed>-1s", True),
        ("elapsed<20", False),
        ("limit=0", True),
        ("limit:*", True),
        ("limit.value=0", True),
        ("sub.text=inner", True),
        ("sub.item_count=0", True),
        ("sub:text", True),
        ("sub:item_count", False),
        ("sub:*", True),
        ("sub=inner", False),
        ("sub.sub.text!=x", False),
        ("sub.sub:*", False),
        ("sub.text.deeper:*", False),
        ("subs.text:two", True),
        ("subs.text:three", False),
        ("subs.text=two", False),
        ("subs.text!=two", False),
        ("subs.numbers:1", True),
        ("numbers:42", True),
        ("numbers:43", False),
        ("numbers=42", False),
        ("numbers!=42", False),
        ("numbers:*", True),
        ("sub.numbers:*", False),
        ("tags:red", True),
        ('tags:"gr*"', True),
        ("details.reason:WHY", True),
        ("details.@type:google.rpc.ErrorInfo", True),
        ("detail=boxed", True),
        ("detail.@type=google.protobuf.Value", True),
        ("extra.k.v=1", True),
        ("extra:k", True),
        ("labels:env", True),
        ("labels:prod", False),
        ("labels.env=prod", True),
        ("labels.env!=dev", True),
        ("labels.none!=dev", False),
        ("labels.empty:*", True),
        ("labels:*", True),
        ("by_number.7=seven", True),
        ("byNumber:7", True),
        ("by_number:8", False),
        ("by_number:99999999999999999999", False),
        ("by_number:seven", False),
        ("by_flag:true", True),
        ("by_flag:false", False),
        ("maybe=0", False),
        ("maybe!=1", False),
        ("maybe:*", False),
        ("no_such_field=1", False),
        ("no_such_field!=1", False),
        ("@type=lro.tests.Probe", True),
    ],
)
def test_the_type_of_the_field_decides(probe_row: Record, condition: str, expected: bool) -> None:
    assert matches(f"metadata.{condition}", probe_row) is expected


def test_an_optional_field_that_is_set_to_its_default_is_present() -> None:
    assert matches("metadata.maybe=0 metadata.maybe:*", with_metadata(Probe(maybe=0)))


@pytest.mark.parametrize("condition", ["x=1", "x!=1", "x:*", "x<1"])
@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"\xff\xff",
        any_pb2.Any(type_url="type.googleapis.com/not.known.Here", value=b"\x08\x01").SerializeToString(),
        any_pb2.Any(type_url="type.googleapis.com/lro.tests.Probe", value=b"\xff").SerializeToString(),
        any_pb2.Any(type_url="nonsense", value=b"\xff").SerializeToString(),
        any_pb2.Any(value=b"\xff").SerializeToString(),
    ],
    ids=["unset", "broken", "unknown type", "broken payload", "no type", "empty type"],
)
def test_metadata_that_cannot_be_read_never_matches_and_never_raises(metadata: bytes, condition: str) -> None:
    assert not matches(f"metadata.{condition}", record(metadata=metadata))
    assert matches(f"NOT metadata.{condition}", record(metadata=metadata))


def test_the_type_of_metadata_is_compared_even_where_it_is_not_known() -> None:
    unknown = any_pb2.Any(type_url="type.googleapis.com/not.known.Here", value=b"\x08\x01")
    assert matches("metadata:* metadata.@type=not.known.Here", record(metadata=unknown.SerializeToString()))


def test_an_any_inside_an_any_a_thousand_times_is_not_followed() -> None:
    inner: Message = struct(x=1)
    for _ in range(1000):
        packed = any_pb2.Any()
        packed.Pack(inner)
        inner = packed
    assert not matches("metadata.x=1", with_metadata(inner))


def test_a_response_exists_in_a_succeeded_row_only() -> None:
    response = pack(wrappers_pb2.StringValue(value="ok"))
    done = record(State.SUCCEEDED, response=response)
    assert matches("response:* response.value=ok response.@type=google.protobuf.StringValue", done)
    assert not matches("response.value=ok", record(State.RUNNING, response=response))
    assert matches("response.@type=google.protobuf.Empty", record(State.SUCCEEDED, response=pack(empty_pb2.Empty())))


def test_rows_with_other_metadata_types_are_passed_over() -> None:
    rows = [with_metadata(struct(seconds=True)), with_metadata(timestamp_pb2.Timestamp(seconds=9)), record()]
    assert [matches("metadata.seconds!=5", row) for row in rows] == [False, True, False]


def test_a_detail_of_unknown_type_is_present_and_has_a_type_but_no_fields() -> None:
    probe = Probe(detail=any_pb2.Any(type_url="type.googleapis.com/not.known.Here", value=b"\x08\x01"))
    probe.details.add(type_url="type.googleapis.com/lro.tests.Probe", value=b"\xff")
    row = with_metadata(probe)
    assert matches("metadata.detail:* metadata:detail metadata.detail.@type=not.known.Here", row)
    assert not matches("metadata.detail.x!=1 OR metadata.detail:x OR metadata.details.text:x", row)


def test_metadata_that_is_a_list_or_a_single_value_can_be_asked_what_it_holds() -> None:
    numbers = struct_pb2.ListValue()
    numbers.extend([1, 2])
    assert matches("metadata:2", with_metadata(numbers))
    assert not matches("metadata:3", with_metadata(numbers))
    assert matches("metadata:done", with_metadata(wrappers_pb2.StringValue(value="done")))


def test_an_envelope_without_a_type_compares_with_no_type() -> None:
    row = record(metadata=any_pb2.Any(value=b"x").SerializeToString())
    assert matches("metadata:*", row)
    assert not matches("metadata.@type!=a.B OR metadata.@type:*", row)
