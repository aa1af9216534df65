"""A paid pipeline: split a script, render its scenes side by side, ask a person, publish.

Usage: uvicorn pipeline:app
"""

import asyncio
from datetime import timedelta

import model
from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

import lro_aio as lro
from lro_aio.servers.fastapi import install_error_handlers, lifespan, operation_response, operations_router

BUSY = lro.RetryPolicy(max_attempts=8, on=(model.BusyError,), initial_delay=0.5)

client = lro.Client("sqlite:///videos.db")  # no I/O yet
app = FastAPI(lifespan=lifespan(client))  # opens the client at the start, drains it at the end
install_error_handlers(app)


class NewVideo(BaseModel):
    script: str = Field(min_length=1)
    request_id: str = ""


class Decision(BaseModel):
    ok: bool
    by: str = ""


class Video(BaseModel):
    url: str
    clips: list[str]
    approved_by: str


@client.handler("make-video")
async def make_video(op: lro.Operation[NewVideo]) -> Video:
    scenes = await op.step("split", model.split, op.state.script)
    clips = await asyncio.gather(*(render(op, number, scene) for number, scene in enumerate(scenes)))
    decision = await op.receive("approval", Decision, timeout=timedelta(days=3))  # no process waits for it
    if not decision.ok:
        raise lro.OperationFailedError(f"{decision.by} said no", code=lro.Code.FAILED_PRECONDITION)
    url = await op.step("publish", model.publish, clips, op.idempotency_key("publish"))
    return Video(url=url, clips=clips, approved_by=decision.by)


async def render(op: lro.Operation[NewVideo], number: int, scene: str) -> str:
    paid_once = op.idempotency_key("render", number)  # by which the model knows a repeat
    return await op.step("render", model.render, scene, paid_once, key=number, retry=BUSY)


@app.post("/v1/videos")
async def new_video(video: NewVideo) -> Response:
    op = await client.start(make_video, video, request_id=video.request_id)
    return operation_response(op)


app.include_router(operations_router(client))  # get, wait, cancel, and send: POST /v1/{name}:send
