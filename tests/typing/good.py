"""What type checkers infer from a decorated function. Read by ``test_typing.py``, never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from google.protobuf import wrappers_pb2
from google.protobuf.message import Message

import lro_aio as lro
from lro_aio.engine.handlers import Registered


@dataclass
class Video:
    url: str = ""


@dataclass
class VideoResult:
    url: str


handlers = lro.Handlers()
client = lro.Client(handlers=handlers)


@handlers.handler("make-video", retry=lro.RetryPolicy())
async def make_video(op: lro.Operation[Video]) -> VideoResult:
    assert_type(op.state, Video)
    return VideoResult(op.state.url)


@handlers.handler
async def bare(op: lro.Operation[Video]) -> VideoResult | lro.Suspended:
    return op.suspend(resume_at="later", sleep=1)


@handlers.handler("waits")
async def waits(op: lro.Operation[Video]) -> lro.Suspended:
    return op.suspend(resume_at="later", sleep=1)


@client.handler("declared", response=VideoResult)
async def declared(op: lro.Operation[Video]) -> dict[str, str] | lro.Suspended:
    return {"url": op.state.url}


@client.handler
async def nothing(op: lro.Operation[None]) -> None: ...


@handlers.handler()
async def message(op: lro.Operation[Any]) -> wrappers_pb2.Int64Value | None:
    child = await op.start_child(make_video, Video(), key="one")
    assert_type(child, lro.Operation[Video, VideoResult])
    assert_type(await op.start_child("by-name", 3, key="two"), lro.Operation[Any, Any])
    hook = lro.Webhook("https://hooks.example.com")
    assert_type(await op.call(make_video, Video(), key="three", webhook=hook), VideoResult)
    return None


@handlers.handler(state=Video)
async def untyped(op: Any) -> Any:
    return None


class Studio:
    async def cut(self, op: lro.Operation[Video]) -> VideoResult:
        return VideoResult("v")


async def starts() -> None:
    assert_type(make_video, Registered[lro.Operation[Video], VideoResult])
    assert_type(await client.start(make_video, Video(), request_id="a"), lro.Operation[Video, VideoResult])
    assert_type(await client.start(bare), lro.Operation[Video, VideoResult])
    assert_type(await client.start(waits), lro.Operation[Video, Any])
    assert_type(await client.start(declared, Video()), lro.Operation[Video, VideoResult])
    assert_type(await client.start(Studio().cut, Video()), lro.Operation[Video, VideoResult])
    assert_type(await client.start("by-name", 3), lro.Operation[Any, Any])
    assert_type(await client.operation("operations/a", response=VideoResult), lro.Operation[Any, VideoResult])
    assert_type(await client.cancel_operations("*", reason="no"), lro.BulkPreview)
    acting = await client.cancel_operations("*", force=True, request_id="a", per_second=5)
    assert_type(await acting, lro.BulkResult)
    assert_type(await client.operation("operations/a"), lro.Operation[Any, Any])


async def results() -> None:
    op = await client.start(make_video, Video())
    assert_type(op.state, Video)
    assert_type(await op, VideoResult)
    assert_type(await op.result(timeout=5), VideoResult)
    assert_type(await op.result(dict[str, int]), dict[str, int])
    assert_type(op.value, VideoResult)
    assert_type(op.is_done, bool)
    assert_type(await (await client.start(nothing)), None)
    assert_type(await (await client.start(message)), wrappers_pb2.Int64Value | None)
    assert_type(await lro.wait_operation(op.name, client, response_type=VideoResult), VideoResult)
    assert_type(lro.unmarshal_operation(op.proto, VideoResult)[0], VideoResult | None)
    assert_type(lro.unmarshal_operation(op.proto, wrappers_pb2.Int64Value())[0], wrappers_pb2.Int64Value | None)


def takes_any(op: lro.Operation[Video]) -> Message | None:
    return None


async def passes() -> None:
    """Where the result's type does not matter, it is left out."""
    takes_any(await client.start(make_video, Video()))
