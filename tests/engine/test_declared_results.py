"""What a handler declares, with ``response=`` or by its annotations: what is checked, and what ``result()`` gives."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import pydantic
import pytest
from google.protobuf import empty_pb2, struct_pb2, wrappers_pb2
from google.protobuf.message import Message
from typing_extensions import TypedDict

import lro_aio as lro

from ..waiting import PATIENCE

if TYPE_CHECKING:
    from nowhere import Unknown


class Video(pydantic.BaseModel):
    url: str
    length: int = 0


class LongVideo(Video):
    parts: int = 2


@dataclass
class Cut:
    at: list[int] = field(default_factory=list)


class Pages(TypedDict):
    count: int


class Named(Protocol):
    name: str


async def result_of(client, handler, *state):
    op = await client.start(handler, *state)
    return await op.result(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("response", "returned", "result"),
    [
        (Video, Video(url="v"), Video(url="v")),
        (Video, {"url": "v"}, Video(url="v")),
        (list[Video], [Video(url="v")], [Video(url="v")]),
        (list[Video], [{"url": "v"}], [Video(url="v")]),
        (Pages, {"count": 3}, {"count": 3}),
        (Cut, Cut([1]), Cut([1])),
        (int, 3, 3),
        (float, 3, 3.0),
        (Video | None, None, None),
        (Video | wrappers_pb2.StringValue, wrappers_pb2.StringValue(value="x"), wrappers_pb2.StringValue(value="x")),
        (Video | wrappers_pb2.StringValue, Video(url="v"), Video(url="v")),
        (wrappers_pb2.StringValue, wrappers_pb2.StringValue(value="x"), wrappers_pb2.StringValue(value="x")),
        (Any, {"n": 1}, struct_pb2.Struct(fields={"n": struct_pb2.Value(number_value=1)})),
        (Message, empty_pb2.Empty(), empty_pb2.Empty()),
    ],
)
@pytest.mark.asyncio
async def test_the_result_is_of_the_declared_type(client, response, returned, result):
    @client.handler(response=response)
    async def make(op):
        return returned

    assert await result_of(client, make) == result
    op = await client.operation((await client.list_operations()).operations[0].name)
    assert (await op, op.value) == (result, result)


@pytest.mark.parametrize(
    ("response", "returned", "problem"),
    [
        (Video, {"url": 3}, r"response \(field 'url'\): Input should be a valid string"),
        (Video, 3, "response: expected Video, not int"),
        (Video, None, "response: expected Video, not None"),
        (Video, LongVideo(url="v"), r"response \(field 'parts'\): expected Video; LongVideo has more fields"),
        (Video, struct_pb2.Struct(), "response: expected Video, not google.protobuf.Struct"),
        (Pages, {"count": "many"}, r"response \(field 'count'\): Input should be a valid integer"),
        (str, 3, "response: expected str, not int"),
        (wrappers_pb2.StringValue, "x", "response: expected google.protobuf.StringValue, not str"),
        (type(None), 3, "response: expected NoneType, not int"),
    ],
)
@pytest.mark.asyncio
async def test_what_is_returned_is_checked(client, response, returned, problem):
    @client.handler(response=response)
    async def make(op):
        return returned

    with pytest.raises(lro.OperationFailedError, match=problem) as caught:
        await result_of(client, make)
    assert isinstance(caught.value.__cause__, lro.ResponseDataError)


@pytest.mark.asyncio
async def test_done_in_a_handler_is_checked_too(client):
    seen = []

    @client.handler(response=Video)
    async def make(op):
        with pytest.raises(lro.ResponseDataError, match="expected Video, not int"):
            await op.done(3)
        seen.append(await op.done({"url": "v"}))

    assert await result_of(client, make) == Video(url="v")
    assert len(seen) == 1


@pytest.mark.asyncio
async def test_a_return_annotation_says_nothing_of_an_end_by_hand(client):
    """A handler that ends its operation itself returns None, and says so."""

    @client.handler
    async def make(op) -> None:
        await op.done({"url": "v"})

    assert await result_of(client, make) == struct_pb2.Struct(fields={"url": struct_pb2.Value(string_value="v")})


@pytest.mark.asyncio
async def test_the_return_annotation_declares_it(client):
    """Types that are defined in the function that registers the handler too; ``Suspended`` is no result."""

    class Local(pydantic.BaseModel):
        n: int

    @client.handler
    async def local(op) -> Local | lro.Suspended:
        return Local(n=1)

    @client.handler
    async def message(op: lro.Operation[Any]) -> wrappers_pb2.StringValue | None:
        return None

    @client.handler
    async def nothing(op) -> None: ...

    @client.handler
    async def several(op) -> Annotated[int, pydantic.Field(gt=0)] | str:
        return "x"

    found = [await result_of(client, handler) for handler in (local, message, nothing, several)]
    assert found == [Local(n=1), None, None, "x"]


@pytest.mark.asyncio
async def test_an_annotation_that_means_nothing_at_run_time_declares_nothing(client):
    @client.handler
    async def unknown(op: Unknown) -> Unknown:
        return {"n": 1}

    @client.handler
    async def protocol(op) -> Named:
        return struct_pb2.Struct()

    @client.handler
    async def plain(op):
        return struct_pb2.Struct()

    for handler in (unknown, protocol, plain):
        assert isinstance(await result_of(client, handler), struct_pb2.Struct)


@pytest.mark.asyncio
async def test_annotations_are_found_behind_wrappers_partials_and_methods(client):
    async def cut(op: lro.Operation[Cut], add: int = 1) -> Video:
        return Video(url="v", length=sum(op.state.at) + add)

    @functools.wraps(cut)
    async def wrapped(op):
        return await cut(op)

    class Studio:
        async def cut(self, op: lro.Operation[Cut]) -> Video:
            return await cut(op)

    client.handler("wrapped")(wrapped)
    client.handler("partial")(functools.partial(cut, add=2))
    client.handler("method")(Studio().cut)
    found = [await result_of(client, name, Cut([5])) for name in ("wrapped", "partial", "method")]
    assert [video.length for video in found] == [6, 7, 6]


@pytest.mark.asyncio
async def test_segments_and_their_handler_declare_together(lro_client, lro_clock):
    @lro_client.handler
    async def make(op: lro.Operation[Cut]) -> lro.Suspended:
        return op.suspend(resume_at=render, sleep=1)

    @make.segment
    async def render(op: lro.Operation[Cut]) -> Video | lro.Suspended:
        return Video(url="v", length=len(op.state.at))

    op = await lro_client.start(make, Cut([1, 2]))
    await lro_clock.advance(2)
    assert await op == Video(url="v", length=2)


@pytest.mark.asyncio
async def test_a_clean_up_may_return_what_it_likes(client):
    @client.handler(response=Video, on_cancel="tidy")
    async def make(op):
        if op.resume_point == "tidy":
            return
        started.set()
        await asyncio.Event().wait()

    started = asyncio.Event()
    op = await client.start(make)
    await started.wait()
    await op.cancel()
    with pytest.raises(lro.OperationCancelledError):
        await op.result(timeout=PATIENCE)


def test_a_type_that_pydantic_does_not_know_is_refused_where_it_is_declared():
    async def make(op: lro.Operation[asyncio.Lock]): ...

    with pytest.raises(TypeError, match="Lock'> cannot be a response: Unable to generate"):
        lro.Handlers().handler("x", state=str, response=asyncio.Lock)(make)
    with pytest.raises(TypeError, match="cannot be handler state"):
        lro.Handlers().handler(make)


@pytest.mark.asyncio
async def test_the_states_type_is_read_from_the_annotation(client):
    @dataclass
    class Local:
        n: int = 4

    @client.handler
    async def cut(op: lro.Operation[Cut]) -> int:
        return op.state.at.append(1) or len(op.state.at)

    @client.handler("local")
    async def local(op: lro.Operation[Local, int]) -> int:
        return op.state.n

    @client.handler
    async def message(op: lro.Operation[wrappers_pb2.Int64Value]) -> int:
        return op.state.value

    states = ((cut, Cut([7])), (cut,), (local,), (message, wrappers_pb2.Int64Value(value=3)))
    assert [await result_of(client, *one) for one in states] == [2, 1, 4, 3]
    with pytest.raises(lro.StateCodecError, match="expected Cut, not dict"):
        await client.start(cut, {"at": [1]})


@pytest.mark.parametrize("kind", ["lro.Operation", "lro.Operation[Any]", "lro.Operation[None]", "Any", "Unknown"])
@pytest.mark.asyncio
async def test_without_a_states_type_any_json_value_is_state(client, kind):
    async def echo(op):
        return op.state

    echo.__annotations__ = {"op": kind}
    client.handler(echo)
    assert await (await client.start(echo, {"n": 1})).result(dict, timeout=PATIENCE) == {"n": 1}


@pytest.mark.asyncio
async def test_a_type_that_is_given_wins_over_the_annotation(client):
    @client.handler(state=list[int], response=str)
    async def echo(op: lro.Operation[Cut]) -> int:
        return f"{op.state}"

    assert await result_of(client, echo, [1]) == "[1]"
