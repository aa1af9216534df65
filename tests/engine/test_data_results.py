"""Results that are data: what handlers and creators may end an operation with, and what clients read."""

import asyncio
import dataclasses
import datetime
import enum
import uuid

import pydantic
import pytest
from google.protobuf import empty_pb2, struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2

import lro_aio as lro

from ..waiting import PATIENCE


class Chunk(pydantic.BaseModel):
    id: int
    size: float = 1.0


class Video(pydantic.BaseModel):
    url: str
    chunks: list[Chunk] = []


@dataclasses.dataclass
class Page:
    number: int
    made: datetime.date


class Text(str):
    """pydantic has no schema for it."""

    __slots__ = ()


class Members(dict):
    """Neither for this."""


@dataclasses.dataclass
class Loose:
    """Nor for the type of its field."""

    at: Text


class Colour(enum.Enum):
    RED = "red"


def reason(error):
    found = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(found) for detail in error.details)
    return found.reason


async def end_of(client, name):
    op = await client.start(name)
    return await asyncio.wait_for(client.wait_operation(op.name), PATIENCE)


def returning(client, value, name="make", **options):
    @client.handler(name, **options)
    async def make(op):
        return value

    return make


OBJECTS = [
    ({"n": 7, "of": [1, 2.5, None, True, "x"], "in": {}}, {"n": 7, "of": [1, 2.5, None, True, "x"], "in": {}}),
    (Video(url="v", chunks=[Chunk(id=2**53)]), {"url": "v", "chunks": [{"id": 2**53, "size": 1.0}]}),
    (Page(3, datetime.date(2026, 1, 2)), {"number": 3, "made": "2026-01-02"}),
    ({"page": Page(3, datetime.date(2026, 1, 2))}, {"page": {"number": 3, "made": "2026-01-02"}}),
    ({1: "one"}, {"1": "one"}),
    (Members(n=Text("x")), {"n": "x"}),
    (Loose(Text("x")), {"at": "x"}),
    ({}, {}),
]


@pytest.mark.parametrize(("value", "stored"), OBJECTS)
@pytest.mark.asyncio
async def test_an_object_is_stored_as_a_struct(client, value, stored):
    returning(client, value)
    struct = struct_pb2.Struct()
    assert (await end_of(client, "make")).response.Unpack(struct)
    assert struct == stored


OTHERS = [
    ("text", "text"), (Text("x"), "x"), (7, 7), (-(2**53), -(2**53)), (2.5, 2.5), (1e300, 1e300), (True, True),
    (False, False),
    ([1, "a", None], [1, "a", None]), ((1, 2), [1, 2]), ([], []), (Colour.RED, "red"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"), ([Chunk(id=1)], [{"id": 1, "size": 1.0}]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "stored"), OTHERS)
@pytest.mark.asyncio
async def test_anything_else_is_stored_as_a_value(client, value, stored):
    returning(client, value)
    packed = struct_pb2.Value()
    assert (await end_of(client, "make")).response.Unpack(packed)
    kind = packed.WhichOneof("kind")
    assert (list(packed.list_value) if kind == "list_value" else getattr(packed, kind)) == stored


INEXACT = [
    ({"of": [{"n": 2**53 + 1}]}, "of.0.n", "2\\*\\*53"),
    (-(2**53) - 1, "", "2\\*\\*53"),
    (10**100, "", "2\\*\\*53"),
    ({"n": float("nan")}, "n", "NaN"),
    ([float("inf")], "0", "infinity"),
    (float("-inf"), "", "infinity"),
    (Video(url="v", chunks=[Chunk(id=2**60)]), "chunks.0.id", "2\\*\\*53"),
    (Video(url="v", chunks=[Chunk(id=1, size=float("nan"))]), "chunks.0.size", "NaN"),
    ({"x": {1: "a", "1": "b"}}, "1", "two keys"),
]


@pytest.mark.parametrize(("value", "field", "problem"), INEXACT)
@pytest.mark.asyncio
async def test_what_json_cannot_hold_exactly_fails_the_handler_and_names_the_field(client, value, field, problem):
    returning(client, value)
    error = (await end_of(client, "make")).error
    assert (error.code, reason(error)) == (lro.Code.INTERNAL, "RESPONSE_DATA")
    assert not field or f"(field {field!r})" in error.message
    op = await client.create()
    with pytest.raises(lro.ResponseDataError, match=problem) as caught:
        await op.done(value)
    assert caught.value.field == field
    assert not (await op.fetch()).done


@pytest.mark.asyncio
async def test_a_result_that_is_refused_is_retried_as_any_other_failure(client, lro_clock):
    """The handler is run again where the policy says so: nothing has ended by then."""
    runs = []

    @client.handler("make", retry=lro.RetryPolicy(on=lro.ResponseDataError, initial_delay=10, jitter=0))
    async def make(op):
        runs.append(lro_clock.time())
        return {"n": float("nan") if len(runs) == 1 else 5}

    op = await client.start("make")
    await lro_clock.advance(0)
    assert not (await op.fetch()).done
    await lro_clock.advance(10)
    assert (await op.result(struct_pb2.Struct, timeout=5))["n"] == 5
    assert len(runs) == 2


@pytest.mark.parametrize("make", [lambda inner: {"a": inner}, lambda inner: [inner]])
@pytest.mark.asyncio
async def test_the_deepest_result_that_is_taken_can_be_read_and_a_deeper_one_is_refused(client, make):
    def nested(depth):
        value = 1
        for _ in range(depth):
            value = make(value)
        return value

    op = await client.create()
    with pytest.raises(lro.ResponseDataError, match="nested more than 32 levels"):
        await op.done(nested(33))
    await op.done(nested(32))
    await (await client.operation(op.name)).result()


@pytest.mark.asyncio
async def test_data_over_the_limit_is_refused_as_any_response(open_client, store):
    client = await open_client(store, limits=lro.Limits(response=100))
    returning(client, {"text": "x" * 200})
    assert reason((await end_of(client, "make")).error) == "RESPONSE_TOO_LARGE"


@pytest.mark.asyncio
async def test_a_creator_ends_an_operation_with_data_too(client):
    for value, expected in (({"n": 1}, struct_pb2.Struct), ("x", struct_pb2.Value), (None, empty_pb2.Empty)):
        op = await client.create()
        ended = await op.done(value)
        assert ended.response.Is(expected.DESCRIPTOR)
    op = await client.create()
    with pytest.raises(TypeError, match="Lock cannot be serialized: Unable to serialize unknown type"):
        await op.done(asyncio.Lock())


READ = [
    ({"of": [1, {"n": 2.5}]}, dict, {"of": [1, {"n": 2.5}]}),
    ({"n": 7}, dict[str, int], {"n": 7}),
    ([1, 2.5, "x"], list, [1, 2.5, "x"]),
    ((1, 2), tuple[int, int], (1, 2)),
    ("text", str, "text"),
    (2**53, int, 2**53),
    (2.5, float, 2.5),
    (True, bool, True),
    (Video(url="v", chunks=[Chunk(id=2**53)]), Video, Video(url="v", chunks=[Chunk(id=2**53)])),
    (Page(3, datetime.date(2026, 1, 2)), Page, Page(3, datetime.date(2026, 1, 2))),
    ([Chunk(id=1)], list[Chunk], [Chunk(id=1)]),
    (None, Video | None, None),
    ({"url": "v"}, Video | None, Video(url="v")),
    (5, int | str, 5),
    (struct_pb2.Value(string_value="x"), str | struct_pb2.Struct, "x"),
    (struct_pb2.Struct(), str | struct_pb2.Struct, struct_pb2.Struct()),
    (wrappers_pb2.Int64Value(value=2**60), int, 2**60),
]


def exactly(value):
    """With its types: 1 is not 1.0."""
    return repr(value)


@pytest.mark.parametrize(("value", "kind", "read"), READ)
@pytest.mark.asyncio
async def test_clients_read_data_as_the_type_they_name(client, value, kind, read):
    """Whichever way they wait for it; integers come back as integers."""
    returning(client, value)
    op = await client.start("make")
    handle = lro.RemoteOperation(lro.remote.LocalTransport(client), op, response_type=kind)
    async with asyncio.timeout(PATIENCE):
        found = [
            await op.result(kind),
            await handle,
            await lro.wait_operation(op.name, client, response_type=kind),
            lro.unmarshal_operation(await client.get_operation(op.name), kind)[0],
            (await client.unmarshal_operation(op.name, kind))[0],
        ]
    assert [exactly(one) for one in found] == [exactly(read)] * 5


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    made: datetime.datetime
    of: set[int]
    rate: float


@pytest.mark.asyncio
async def test_a_strict_type_reads_what_it_wrote(client):
    written = Strict(made=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), of={1, 2}, rate=3.0)
    returning(client, written)
    op = await client.start("make")
    assert await op.result(Strict, timeout=PATIENCE) == written


@pytest.mark.asyncio
async def test_data_of_another_type_is_a_type_error_that_names_the_field(client):
    returning(client, {"url": 5})
    op = await client.start("make")
    with pytest.raises(TypeError, match=r"expected Video, found 'google.protobuf.Struct': url: Input should be"):
        await op.result(Video, timeout=PATIENCE)
    with pytest.raises(TypeError, match=r"expected int, found 'google.protobuf.Struct'"):
        await lro.wait_operation(op.name, client, response_type=int)
    with pytest.raises(TypeError, match=r"expected google.protobuf.Value, found 'google.protobuf.Struct'"):
        await op.result(struct_pb2.Value)


@pytest.mark.asyncio
async def test_without_a_type_the_result_is_the_message_that_is_stored(client):
    returning(client, {"n": 5})
    assert await (await client.start("make")).result(timeout=PATIENCE) == struct_pb2.Struct(
        fields={"n": struct_pb2.Value(number_value=5)}
    )


@pytest.mark.asyncio
async def test_a_wait_for_the_response_raises_how_the_operation_failed(client):
    op = await client.create()
    await op.fail(lro.failures.DataLossError("gone"))
    with pytest.raises(lro.failures.DataLossError, match="gone"):
        await lro.wait_operation(op.name, client, response_type=dict)
