"""The servers that ``calls`` measures: the operations service, or a bare method that answers with the same message.

    python -m benchmarks.programs.server {lro,echo} {grpc,http} FOLDER

Says its port and the name of a finished operation, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import uvicorn
from fastapi import FastAPI, Request, Response
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.servers.fastapi import operations_router
from lro_aio.servers.grpc import add_operations_servicer

NAME = "operations/00000000-0000-4000-8000-000000000000"


def example(name: str) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(name=name, done=True)
    operation.response.Pack(wrappers_pb2.StringValue(value="done"))
    return operation


class Echo(operations_pb2_grpc.OperationsServicer):
    async def GetOperation(self, request: Any, context: Any) -> operations_pb2.Operation:  # noqa: ARG002, N802
        return example(request.name)


def echo_app() -> FastAPI:
    app = FastAPI()

    @app.get("/v1/{name:path}")
    async def get(request: Request) -> Response:
        name = request.path_params["name"]
        body = f'{{"name":"{name}","done":true,"response":{{"@type":"type.googleapis.com/google.protobuf.StringValue",'
        return Response(f'{body}"value":"done"}}}}', media_type="application/json")

    return app


@contextlib.asynccontextmanager
async def over_grpc(client: lro.Client | None) -> AsyncIterator[int]:
    server = grpc.aio.server()
    if client is None:
        operations_pb2_grpc.add_OperationsServicer_to_server(Echo(), server)  # type: ignore[no-untyped-call]
    else:
        add_operations_servicer(client, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def over_http(client: lro.Client | None) -> AsyncIterator[int]:
    if client is None:
        app = echo_app()
    else:
        app = FastAPI()
        app.include_router(operations_router(client))
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    # The protocol is named, or asyncio would not see that it is TCP, and leave Nagle's algorithm on.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def main(what: str, how: str, folder: Path) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with contextlib.AsyncExitStack() as stack:
        client, name = None, NAME
        if what == "lro":
            client = await stack.enter_async_context(lro.Client(lro.SqliteStore(folder / "operations.db")))
            operation = await client.create()
            await operation.done(wrappers_pb2.StringValue(value="done"))
            name = operation.name
        port = await stack.enter_async_context(over_grpc(client) if how == "grpc" else over_http(client))
        print(port, name, flush=True)
        await reader.read()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
