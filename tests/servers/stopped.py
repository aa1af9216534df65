"""The application of ``test_stopping.py``, in a process of its own: ``python stopped.py STORE``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvicorn
from fastapi import FastAPI

import lro_aio as lro
from lro_aio.servers.fastapi import install_error_handlers, lifespan, operation_response, operations_router

handlers = lro.Handlers()


@handlers.handler("job")
async def job(op: lro.Operation[None]) -> None:
    await asyncio.Event().wait()


@handlers.handler("month", resume_points=("over",))
async def month(op: lro.Operation[None]) -> lro.Suspended:
    return op.suspend(resume_at="over", sleep=30 * 86400)


client = lro.Client(os.environ["STORE"], handlers=[handlers], drain_timeout=1)
app = FastAPI(lifespan=lifespan(client))
install_error_handlers(app)


@app.post("/start/{kind}")
async def start(kind: str) -> object:
    return operation_response(await client.start(kind))


@app.get("/result/{kind}")
async def result(kind: str) -> object:
    return await (await client.start(kind)).result()


@app.get("/waited/{kind}")
async def waited(kind: str) -> object:
    return operation_response(await lro.wait_operation((await client.start(kind)).name, client, timeout=600))


@app.get("/handled/{kind}")
async def handled(kind: str) -> object:
    return await lro.RemoteOperation(lro.remote.LocalTransport(client), await client.start(kind))


@app.get("/waiting")
async def waiting() -> int:
    """How many requests wait for a change."""
    return len(client.engine.feed._all)


app.include_router(operations_router(client))


async def loop_handlers() -> None:
    """A server that has the event loop handle its signals, and waits for the open connections as uvicorn does."""
    server = uvicorn.Server(uvicorn.Config(app, port=0))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    await server._serve()


if __name__ == "__main__":
    if sys.argv[1] == "loop":
        asyncio.run(loop_handlers())
    else:
        uvicorn.run("stopped:app" if sys.argv[1] == "reload" else app, port=0, reload=sys.argv[1] == "reload")
