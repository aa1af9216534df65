"""A service for ``bench_remote``: operations that end by themselves at a known moment, on gRPC and in the Azure style.

Nothing of this package runs in it. It prints its addresses as one JSON object, what it was asked for each line "count"
of its input, and runs until that closes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import grpc
import grpc.aio
import uvicorn
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import wrappers_pb2


class Operations(operations_pb2_grpc.OperationsServicer):
    """An operation's name says when it ends: ``operations/{number}-{epoch seconds}``."""

    def __init__(self, asked: Counter[str], *, waits: bool) -> None:
        self._asked = asked
        self._waits = waits

    async def GetOperation(self, request: Any, context: Any) -> operations_pb2.Operation:  # noqa: N802, ARG002
        self._asked["get"] += 1
        return _operation(request.name)

    async def WaitOperation(self, request: Any, context: Any) -> operations_pb2.Operation:  # noqa: N802
        self._asked["wait"] += 1
        if not self._waits:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "poll")
        left = _end(request.name) - time.time()
        await asyncio.sleep(min(left, request.timeout.seconds or 60))
        return _operation(request.name)


def azure(asked: Counter[str]) -> Any:
    """A bare ASGI application: the same operations in the Azure style."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 (ASGI's signature)
        if scope["type"] != "http":
            return
        name = scope["path"].strip("/")
        headers = [(b"content-type", b"application/json")]
        if scope["method"] == "POST":
            status, body = 202, {"status": "Running"}
            location = f"http://{dict(scope['headers'])[b'host'].decode()}/{name}"
            headers.append((b"operation-location", location.encode()))
        else:
            asked["get"] += 1
            end = _end(name)
            done = time.time() >= end
            status, body = 200, {"status": "Succeeded", "result": end} if done else {"status": "Running"}
        content = json.dumps(body).encode()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


def _end(name: str) -> float:
    return float(name.rpartition("-")[2])


def _operation(name: str) -> operations_pb2.Operation:
    end = _end(name)
    operation = operations_pb2.Operation(name=name, done=time.time() >= end)
    if operation.done:
        operation.response.Pack(wrappers_pb2.DoubleValue(value=end))
    return operation


async def main() -> None:
    addresses, servers, asked = {}, [], Counter[str]()
    for kind, waits in (("waiting", True), ("polled", False)):
        server = grpc.aio.server()
        operations_pb2_grpc.add_OperationsServicer_to_server(Operations(asked, waits=waits), server)
        addresses[kind] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        servers.append(server)
    config = uvicorn.Config(azure(asked), host="127.0.0.1", port=0, log_level="error", access_log=False)
    http = uvicorn.Server(config)
    serving = asyncio.create_task(http._serve())
    while not http.started:
        await asyncio.sleep(0.01)
    addresses["azure"] = f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}"
    print(json.dumps(addresses), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        assert line == "count\n", line
        print(json.dumps(dict(asked)), flush=True)
        asked.clear()
    for server in servers:
        await server.stop(None)
    http.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
