"""JSON and request bodies, without a web framework."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, json_format, struct_pb2, wrappers_pb2
from google.rpc import code_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro_aio.core.codes import Code
from lro_aio.core.proto_json import SMALL, compact, operation_text
from lro_aio.core.status import make_status
from lro_aio.servers.errors import RequestError
from lro_aio.servers.http import (
    Reply,
    any_json,
    http_error,
    list_json,
    operation_json,
    parse_message,
    parse_object,
    read_body,
)


def packed(message: Any) -> any_pb2.Any:
    result = any_pb2.Any()
    result.Pack(message)
    return result


anys = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(lambda value: packed(wrappers_pb2.Int64Value(value=value))),
    st.text(max_size=20).map(lambda value: packed(wrappers_pb2.StringValue(value=value))),
    st.binary(max_size=20).map(lambda value: packed(wrappers_pb2.BytesValue(value=value))),
    st.builds(lambda code, text: packed(status_pb2.Status(code=code, message=text)), st.integers(0, 99), st.text()),
)
operations = st.builds(
    lambda name, metadata, result: operations_pb2.Operation(name=name, metadata=metadata, **result),
    st.text(max_size=20),
    st.none() | anys,
    st.one_of(
        st.just({}),
        anys.map(lambda response: {"done": True, "response": response}),
        st.builds(
            lambda code, details: {"done": True, "error": status_pb2.Status(code=code, message="m", details=details)},
            st.integers(1, 16),
            st.lists(anys, max_size=3),
        ),
    ),
)


@pytest.mark.slow
@given(operations)
def test_json_of_an_operation_is_what_the_protobuf_library_prints(operation: operations_pb2.Operation) -> None:
    assert operation_json(operation) == json_format.MessageToDict(operation)


@given(operations)
def test_text_of_an_operation_is_that_of_its_json(operation: operations_pb2.Operation) -> None:
    assert operation_text(operation) == compact(operation_json(operation))


@pytest.mark.parametrize(
    "found",
    [
        packed(wrappers_pb2.StringValue(value="ä" * SMALL)),
        any_pb2.Any(type_url="type.googleapis.com/nobody.Knows", value=b"\xff"),
        packed(struct_pb2.Value(number_value=float("nan"))),
        packed(struct_pb2.Value(number_value=12)),
        any_pb2.Any(),
    ],
    ids=["large", "unknown", "no JSON", "whole number", "empty"],
)
def test_text_of_an_operation_has_what_is_large_and_what_cannot_be_printed(found: any_pb2.Any) -> None:
    operation = operations_pb2.Operation(name="operations/ä", metadata=found, done=True, response=found)
    for _ in range(2):  # the second time as remembered
        assert operation_text(operation) == compact(operation_json(operation))


@given(st.lists(operations, max_size=3), st.text(max_size=5))
def test_json_of_a_page_is_what_the_protobuf_library_prints(found: list[operations_pb2.Operation], token: str) -> None:
    page = operations_pb2.ListOperationsResponse(operations=found, next_page_token=token)
    assert list_json(page) == json_format.MessageToDict(page)


@given(st.text(), st.binary())
def test_any_with_any_type_and_any_bytes_is_printed(type_url: str, value: bytes) -> None:
    printed = any_json(any_pb2.Any(type_url=type_url, value=value))
    json.dumps(printed, allow_nan=False).encode()


def test_integers_beyond_a_double_are_strings() -> None:
    assert any_json(packed(wrappers_pb2.Int64Value(value=2**60)))["value"] == str(2**60)


def test_what_is_printed_belongs_to_whoever_asked() -> None:
    """It is remembered, and whoever asks next must not get what somebody has altered."""
    struct = struct_pb2.Struct()
    struct.update({"secret": {"word": "xyzzy"}})
    any_json(packed(struct))["value"]["secret"].clear()
    assert any_json(packed(struct))["value"] == {"secret": {"word": "xyzzy"}}


def test_the_integers_of_a_struct_are_printed_as_integers() -> None:
    """Parsers of other languages refuse 12.0 where an integer is expected. A double beyond 2**53 is no integer."""
    struct = struct_pb2.Struct()
    struct.update({"of": [12, -1, 0.5, 2.0**60], "in": {"n": 3}})
    text = json.dumps(any_json(packed(struct))["value"], sort_keys=True)
    assert text == '{"in": {"n": 3}, "of": [12, -1, 0.5, 1.152921504606847e+18]}'


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_error_body_has_the_http_code_and_the_canonical_name(code: Code) -> None:
    reply = http_error(make_status(code, "a sentence", reason="A_REASON"))
    assert reply.status == code.http
    error = reply.body["error"]
    assert (error["code"], error["status"]) == (code.http, code_pb2.Code.Name(code))


@pytest.mark.parametrize(("delay", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.1, "2"), (90.0, "90")])
def test_retry_after_is_whole_seconds_and_at_least_one(delay: float, header: str) -> None:
    assert (
        http_error(make_status(Code.UNAVAILABLE, "m", reason="R", retry_after=delay)).headers["Retry-After"] == header
    )


def test_detail_that_cannot_be_read_does_not_cost_the_answer() -> None:
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff")
    reply = http_error(status_pb2.Status(code=14, message="m", details=[broken]))
    assert reply.body["error"]["details"] == [{"@type": broken.type_url, "value": "//8="}]


class TestBody:
    @staticmethod
    def receive(*messages: dict[str, Any]) -> Any:
        queue = list(messages)

        async def receive() -> dict[str, Any]:
            return queue.pop(0)

        return receive

    @pytest.mark.asyncio
    async def test_chunks_are_joined(self) -> None:
        receive = self.receive(
            {"type": "http.request", "body": b"ab", "more_body": True},
            {"type": "http.request", "more_body": True},
            {"type": "http.request", "body": b"c"},
        )
        assert await read_body(receive, {}, 3) == b"abc"

    @pytest.mark.asyncio
    @pytest.mark.parametrize("length", ["4", "9" * 400])
    async def test_declared_length_over_the_limit_is_refused_unread(self, length: str) -> None:
        with pytest.raises(RequestError, match="over 3 bytes") as caught:
            await read_body(self.receive(), {"content-length": length}, 3)
        assert caught.value.http == 413

    @pytest.mark.asyncio
    async def test_undeclared_length_over_the_limit_is_refused_as_soon_as_it_is_seen(self) -> None:
        receive = self.receive({"type": "http.request", "body": b"abcd", "more_body": True})
        with pytest.raises(RequestError, match="over 3 bytes"):
            await read_body(receive, {"content-length": "2"}, 3)

    @pytest.mark.asyncio
    async def test_caller_that_hangs_up_is_an_error(self) -> None:
        with pytest.raises(RequestError, match="body is incomplete"):
            await read_body(self.receive({"type": "http.disconnect"}), {}, 3)

    @pytest.mark.parametrize("body", [b"", b" \n"])
    def test_empty_body_is_an_empty_object(self, body: bytes) -> None:
        assert parse_object(body) == {}

    @given(st.binary(max_size=50))
    def test_any_bytes_are_an_object_or_a_refusal(self, body: bytes) -> None:
        try:
            value = parse_object(body)
        except RequestError:
            return
        assert isinstance(value, dict)

    @pytest.mark.parametrize("key", ["pageSize", "page_size"])
    def test_messages_are_read_in_both_spellings(self, key: str) -> None:
        request = parse_message(json.dumps({key: 3}).encode(), operations_pb2.ListOperationsRequest())
        assert request.page_size == 3

    @pytest.mark.asyncio
    async def test_reply_is_sent_with_its_length(self) -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await Reply(200, {"ä": 1}, {"X-Mine": "1"}).send(send)
        headers = dict(sent[0]["headers"])
        assert headers == {
            b"content-type": b"application/json",
            b"content-length": str(len(sent[1]["body"])).encode(),
            b"x-mine": b"1",
        }
        assert json.loads(sent[1]["body"]) == {"ä": 1}
