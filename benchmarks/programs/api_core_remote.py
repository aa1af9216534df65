"""google-api-core: ``AsyncOperation`` of a service in another process. Runs in an environment of its own."""

from __future__ import annotations

import argparse
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import grpc.aio
from google.api_core import operation_async
from google.api_core.operations_v1 import OperationsAsyncClient
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2

from benchmarks.programs.common import main
from benchmarks.programs.remote_waits import Start, by_name, commands, service


@asynccontextmanager
async def polling(address: str) -> AsyncIterator[Start]:
    async with grpc.aio.insecure_channel(address) as channel:
        client = OperationsAsyncClient(channel)

        async def wait(name: str) -> float:
            started = operations_pb2.Operation(name=name)
            future = operation_async.from_gapic(started, client, wrappers_pb2.DoubleValue)
            return float((await future.result()).value)

        yield by_name(wait)


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    versions = {name: version(name) for name in ("google-api-core", "protobuf", "grpcio")}
    said = {"versions": {**versions, "python": platform.python_version()}, "durability": "nothing is stored"}
    async with service(arguments.service, arguments.folder) as asked:
        yield said, commands(asked, {kind: (kind, polling) for kind in ("waiting", "polled")})


if __name__ == "__main__":
    main(program, "service")
