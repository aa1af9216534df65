"""Messages in an ``Any``: packed, and unpacked into what is asked for."""

from __future__ import annotations

import pytest
from google.protobuf import any_pb2, descriptor_pb2, empty_pb2, struct_pb2, timestamp_pb2

from lro_aio.core.codec import (
    pack,
    unpack,
)


def test_a_message_is_packed_and_an_any_is_taken_as_it_is() -> None:
    value = struct_pb2.Value(string_value="x")
    packed = any_pb2.Any.FromString(pack(value))
    assert unpack(packed) == value
    assert any_pb2.Any.FromString(pack(packed)) == packed


def test_only_messages_are_packed() -> None:
    with pytest.raises(TypeError, match="expected a protobuf message, not dict"):
        pack({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="required"):
        pack(descriptor_pb2.UninterpretedOption.NamePart())


def test_a_message_is_unpacked_into_a_class_or_an_instance() -> None:
    packed = any_pb2.Any.FromString(pack(timestamp_pb2.Timestamp(seconds=5)))
    target = timestamp_pb2.Timestamp(seconds=1, nanos=2)
    assert unpack(packed, timestamp_pb2.Timestamp).seconds == 5
    assert unpack(packed, target) is target
    assert target == timestamp_pb2.Timestamp(seconds=5)


def test_an_any_that_holds_nothing_is_an_empty() -> None:
    """As of an operation that ended with neither a response nor an error."""
    nothing, target = any_pb2.Any(), empty_pb2.Empty()
    assert unpack(nothing) == unpack(nothing, empty_pb2.Empty) == empty_pb2.Empty()
    assert unpack(nothing, target) is target
    with pytest.raises(TypeError, match=r"expected google\.protobuf\.Value, found nothing"):
        unpack(nothing, struct_pb2.Value)


def test_another_type_or_an_unknown_one_is_an_error() -> None:
    packed = any_pb2.Any.FromString(pack(empty_pb2.Empty()))
    with pytest.raises(TypeError, match=r"expected google\.protobuf\.Value, found 'google\.protobuf\.Empty'"):
        unpack(packed, struct_pb2.Value)
    with pytest.raises(LookupError, match=r"'acme\.Unknown' is not known here"):
        unpack(any_pb2.Any(type_url="type.googleapis.com/acme.Unknown"))
    with pytest.raises(LookupError, match=r"'google\.protobuf\.Empty' names no message type: it has no slash"):
        unpack(any_pb2.Any(type_url="google.protobuf.Empty"))
