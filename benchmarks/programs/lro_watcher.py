"""Waits in another process for the operations whose names come in, a line each, and says when each wait ended.

``--how store`` is a client of its own on the same store, ``wait`` is WaitOperation over gRPC, ``poll`` is
``lro.wait_operation`` over gRPC with its default policy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2

import lro_aio as lro

TIMEOUT = 60


@contextlib.asynccontextmanager
async def waits(how: str, target: str) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    if how == "store":
        async with lro.Client(target, worker=False) as client:
            yield lambda name: client.wait_operation(name, timeout=TIMEOUT)
        return
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target}") as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]
        if how == "wait":
            limit = duration_pb2.Duration(seconds=TIMEOUT)
            yield lambda name: stub.WaitOperation(operations_pb2.WaitOperationRequest(name=name, timeout=limit))
        else:
            yield lambda name: lro.wait_operation(name, stub, timeout=TIMEOUT)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--how")
    parser.add_argument("--target")
    arguments = parser.parse_args()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with waits(arguments.how, arguments.target) as wait, asyncio.TaskGroup() as tasks:

        async def watch(name: str) -> None:
            print("waiting", flush=True)
            await wait(name)
            print(name, time.monotonic(), flush=True)

        print("ready", flush=True)
        while line := await reader.readline():
            tasks.create_task(watch(line.decode().strip()))


if __name__ == "__main__":
    asyncio.run(main())
