"""What type checkers refuse, on the lines that end with ``# wrong``. Read by ``test_typing.py``, never run."""

from __future__ import annotations

from dataclasses import dataclass

import lro_aio as lro


@dataclass
class Video:
    url: str = ""


handlers = lro.Handlers()
client = lro.Client(handlers=handlers)


@handlers.handler("make-video")
async def make_video(op: lro.Operation[Video]) -> int:
    op.state = 3  # wrong
    await op.start_child(make_video, "state", key="one")  # wrong
    return 3


@handlers.handler("options", retries=3)  # wrong
async def options(op: lro.Operation[Video]) -> int:
    return 3


@handlers.handler("not-async")  # wrong
def not_async(op: lro.Operation[Video]) -> int:
    return 3


async def starts() -> None:
    await client.start(make_video, {"url": "v"})  # wrong
    await client.start(make_video, Video(), id="a")  # wrong
    op = await client.start(make_video, Video())
    text: str = await op  # wrong
    text = await op.result()  # wrong
    text = await op.result(int)  # wrong
    text = op.value  # wrong
    text = op.state.length  # wrong
    op.is_done = True  # wrong
    await client.cancel_operations("*", request_id="a")  # wrong
    await client.cancel_operations("*", force=True, rate=5)  # wrong
    print(text)
