"""The demo's server process: gRPC, HTTP and the worker over one store.

::

    python -m lro_aio.cli.demo.server --store sqlite:////tmp/operations.db --lease 2

It listens on free ports of 127.0.0.1, and writes one JSON line with them to its output once it answers. It stops on
SIGTERM or SIGINT, and when its input ends: the process that started it is gone then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator

import grpc.aio
import uvicorn
from fastapi import FastAPI
from google.longrunning import operations_pb2

from lro_aio.cli.demo import indexer_pb2
from lro_aio.cli.demo.handlers import INDEX_DIRECTORY, PARALLEL, check_path, handlers
from lro_aio.cli.demo.indexer_pb2_grpc import IndexerServiceServicer, add_IndexerServiceServicer_to_server
from lro_aio.client import Client
from lro_aio.core.policies import LeasePolicy
from lro_aio.servers.fastapi import install_error_handlers, operations_router
from lro_aio.servers.grpc import ErrorInterceptor, add_operations_servicer

__all__ = ["serve"]

HOST = "127.0.0.1"
STOP_GRACE = 2.0
"""Seconds that calls under way get when the server stops."""


class Indexer(IndexerServiceServicer):
    """``IndexerService``: turns requests into operations. ``ErrorInterceptor`` turns exceptions into statuses."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def IndexDirectory(  # noqa: N802 (the name of the RPC)
        self,
        request: indexer_pb2.IndexDirectoryRequest,
        context: grpc.aio.ServicerContext[indexer_pb2.IndexDirectoryRequest, operations_pb2.Operation],
    ) -> operations_pb2.Operation:
        """Start the operation, or find the one that the same ``request_id`` started."""
        try:
            path = check_path(request.path)
        except ValueError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        operation = await self._client.start(
            INDEX_DIRECTORY,
            indexer_pb2.IndexState(path=path, pace=request.pace.ToTimedelta().total_seconds()),
            metadata=indexer_pb2.IndexMetadata(path=path),
            parent=request.parent,
            request_id=request.request_id or None,
        )
        return operation.proto


async def serve(store: str, *, lease: float) -> None:
    """Serve until a signal, or until the input ends.

    Args:
        store: URL of the store.
        lease: Seconds after which a dead process's runs are taken over.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client = Client(store, handlers=[handlers], max_running=PARALLEL, lease=LeasePolicy(lease), drain_timeout=0.3)
    async with client, _grpc_server(client) as grpc_port, _http_server(client) as http_port:
        print(json.dumps({"pid": os.getpid(), "grpc": grpc_port, "http": http_port}), flush=True)
        orphaned = asyncio.create_task(_input_ended(stop))
        await stop.wait()
        await client.drain()
        orphaned.cancel()


@contextlib.asynccontextmanager
async def _grpc_server(client: Client) -> AsyncIterator[int]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    add_operations_servicer(client, server)
    add_IndexerServiceServicer_to_server(Indexer(client), server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(STOP_GRACE)


@contextlib.asynccontextmanager
async def _http_server(client: Client) -> AsyncIterator[int]:
    app = FastAPI(title="lro demo")  # the client is opened above, for both servers: no lifespan here
    app.include_router(operations_router(client))
    install_error_handlers(app)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=int(STOP_GRACE))
    server = uvicorn.Server(config)
    with socket.create_server((HOST, 0)) as listener:
        # uvicorn replaces our signal handlers with its own; the loop still gets the signals, so both stop.
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="demo-http")
        while not server.started and not serving.done():  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def _input_ended(stop: asyncio.Event) -> None:
    """Stop when the other end of the input is closed, as it is once the process that holds it has died."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        await reader.read()
        stop.set()
    finally:
        transport.close()


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m lro_aio.cli.demo.server", description=__doc__)
    parser.add_argument("--store", required=True, help="URL of the store")
    parser.add_argument("--lease", type=float, default=30.0, help="seconds that a claim lasts without renewal")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(serve(arguments.store, lease=arguments.lease))


if __name__ == "__main__":
    main()
