"""The values of the Spanner that is for tests: what goes over the wire, and what is refused there."""

import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from lro_aio.testing.spanner.tokens import Cursor
from lro_aio.testing.spanner.values import (
    BOOL,
    BYTES,
    INT64,
    STRING,
    TIMESTAMP,
    Type,
    array,
    check_size,
    decode,
    encode,
    format_timestamp,
    parse_timestamp,
    read_type,
)

OPERATION = Type("PROTO", proto="google.longrunning.Operation")
EARLIEST, LATEST = parse_timestamp("0001-01-01T00:00:00Z"), parse_timestamp("9999-12-31T23:59:59.999999999Z")

VALUES = {
    BOOL: st.booleans(),
    INT64: st.integers(-(2**63), 2**63 - 1),
    STRING: st.text(),
    BYTES: st.binary(),
    OPERATION: st.binary(),
    TIMESTAMP: st.integers(EARLIEST, LATEST),
}


def text(value: str) -> struct_pb2.Value:
    return struct_pb2.Value(string_value=value)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_value_comes_back_from_the_wire_as_it_was(data: st.DataObject) -> None:
    type_ = data.draw(st.sampled_from(list(VALUES)))
    values = data.draw(st.lists(st.none() | VALUES[type_], max_size=3))
    sent = [encode(type_, value) for value in values]
    assert [decode(type_, struct_pb2.Value.FromString(value.SerializeToString())) for value in sent] == values
    assert decode(array(type_), struct_pb2.Value(list_value=struct_pb2.ListValue(values=sent))) == values


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        (INT64, text("x"), "Could not parse x as an integer"),
        (INT64, text("1_2"), "as an integer"),
        (INT64, text("9223372036854775808"), "as an integer"),
        (INT64, text("\u0663"), "as an integer"),
        (INT64, struct_pb2.Value(number_value=2), "as INT64"),
        (STRING, struct_pb2.Value(bool_value=True), "as STRING"),
        (BOOL, text("true"), "as BOOL"),
        (BYTES, text("x"), "must be base64-encoded"),
        (BYTES, text("____"), "must be base64-encoded"),
        (OPERATION, struct_pb2.Value(number_value=1), "as PROTO<google.longrunning.Operation>"),
        (TIMESTAMP, text("2020-01-01T00:00:00+01:00"), "must end with an uppercase literal 'Z'"),
        (TIMESTAMP, text("2020-02-30T00:00:00Z"), "Out-of-range"),
        (TIMESTAMP, text("2020-01-01T24:00:00Z"), "as a TIMESTAMP"),
        (TIMESTAMP, text("2020-01-01 00:00:00Z"), "as a TIMESTAMP"),
        (array(INT64), text("1"), "as ARRAY<INT64>"),
        (array(INT64), struct_pb2.Value(list_value=struct_pb2.ListValue(values=[text("x")])), "x as an integer"),
        (STRING, struct_pb2.Value(), "a Value without a kind"),
    ],
)
def test_a_value_in_the_wrong_form_is_refused(type_: Type, value: struct_pb2.Value, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(type_, value)


def test_a_timestamp_is_written_with_the_digits_it_needs() -> None:
    for written in ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00.1Z", "2020-01-01T00:00:00.123456789Z"):
        assert format_timestamp(parse_timestamp(written)) == written
    assert parse_timestamp("1970-01-01T00:00:00.000000001Z") == 1


def parse(written: str) -> Type:
    cursor = Cursor(written)
    found = read_type(cursor)
    cursor.end()
    return found


@pytest.mark.parametrize("written", ["STRING(MAX)", "STRING(36)", "BYTES(5)", "INT64", "BOOL", "TIMESTAMP", "`a.b.C`"])
def test_a_type_is_written_as_it_is_declared(written: str) -> None:
    assert parse(written).ddl == written


def test_a_message_may_be_named_without_backticks_unless_a_part_of_its_name_is_a_keyword() -> None:
    names = ("`google.protobuf.Any`", "google.protobuf.`Any`")
    assert {parse(name) for name in names} == {Type("PROTO", proto="google.protobuf.Any")}
    assert parse("google.rpc.Status") == Type("PROTO", proto="google.rpc.Status")
    with pytest.raises(ValueError, match="Expected a name but got Any"):
        parse("google.protobuf.Any")


@pytest.mark.parametrize(
    "written", ["STRING", "STRING(0)", "STRING(2621441)", "BYTES(10485761)", "ARRAY<INT64>", "JSON", "INT64 x", ""]
)
def test_what_is_no_type_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"Bad length|Syntax error|not one that this fake knows"):
        parse(written)


def test_the_type_of_an_expression_has_no_lengths() -> None:
    assert parse("BYTES(3)").plain == BYTES
    assert parse("INT64").plain == INT64


def test_a_column_takes_no_more_than_its_length_in_characters_or_bytes() -> None:
    check_size(Type("STRING", length=5), "äöüßé")
    check_size(Type("STRING", length=5), None)
    for type_, value in [(Type("STRING", length=5), "abcdef"), (Type("BYTES", length=5), b"abcdef")]:
        with pytest.raises(ValueError, match=r"size: 6, limit: 5\."):
            check_size(type_, value)


def test_no_cell_is_over_ten_mebibytes() -> None:
    check_size(OPERATION, bytes(10 * 2**20))
    with pytest.raises(ValueError, match="limit: 10485760"):
        check_size(OPERATION, bytes(10 * 2**20 + 1))
    with pytest.raises(ValueError, match="limit: 2621440"):
        check_size(STRING, "x" * 2_621_441)


def test_types_go_over_the_wire_and_come_back() -> None:
    types = pytest.importorskip("google.cloud.spanner_v1").types
    for type_ in (BOOL, INT64, STRING, BYTES, TIMESTAMP):
        assert Type.from_proto(type_.to_proto()) == type_
        sent = types.Type.pb(types.Type(code=types.TypeCode.ARRAY))
        sent.array_element_type.CopyFrom(type_.to_proto())
        assert Type.from_proto(sent) == array(type_)
    assert OPERATION.to_proto().proto_type_fqn == "google.longrunning.Operation"


def test_a_type_that_the_fake_does_not_know_is_refused() -> None:
    types = pytest.importorskip("google.cloud.spanner_v1").types
    with pytest.raises(ValueError, match="JSON"):
        Type.from_proto(types.Type.pb(types.Type(code=types.TypeCode.JSON)))
