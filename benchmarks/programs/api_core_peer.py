"""google-api-core: ``AsyncOperation.result()`` with its defaults, as ``lro_watcher``. In an environment of its own."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import grpc.aio
from google.api_core import operation_async
from google.api_core.operations_v1 import OperationsAsyncClient
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--how")
    parser.add_argument("--target")
    arguments = parser.parse_args()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{arguments.target}") as channel, asyncio.TaskGroup() as tasks:
        client = OperationsAsyncClient(channel)

        async def watch(name: str) -> None:
            operation = operation_async.from_gapic(
                operations_pb2.Operation(name=name), client, wrappers_pb2.StringValue
            )
            print("waiting", flush=True)
            await operation.result()
            print(name, time.monotonic(), flush=True)

        print("ready", flush=True)
        while line := await reader.readline():
            tasks.create_task(watch(line.decode().strip()))


if __name__ == "__main__":
    asyncio.run(main())
