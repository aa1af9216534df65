"""``lro_aio``: ``RemoteOperation`` of a service in another process; and the floor, bare calls of grpc and of httpx."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import grpc.aio
import httpx
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2, wrappers_pb2

import lro_aio as lro
from benchmarks.programs.common import main
from benchmarks.programs.lro_common import hello
from benchmarks.programs.remote_waits import Start, Wait, by_name, commands, service


@asynccontextmanager
async def over_grpc(address: str) -> AsyncIterator[Start]:
    async with grpc.aio.insecure_channel(address) as channel:
        transport = lro.remote.GrpcTransport(channel)

        async def wait(name: str) -> float:
            started = operations_pb2.Operation(name=name)
            return (await lro.RemoteOperation(transport, started, response_type=wrappers_pb2.DoubleValue)).value

        yield by_name(wait)


@asynccontextmanager
async def in_azure_style(address: str) -> AsyncIterator[Start]:
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        transport = lro.remote.HttpTransport(http, address, style="azure")

        async def start(name: str) -> Wait:
            started = await http.post(f"/{name}")

            async def wait() -> float:
                return await lro.RemoteOperation(transport, started, response_type=float)

            return wait

        yield start


@asynccontextmanager
async def bare(address: str) -> AsyncIterator[Start]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = operations_pb2_grpc.OperationsStub(channel)
        timeout = duration_pb2.Duration(seconds=60)

        async def wait(name: str) -> float:
            operation = await stub.WaitOperation(operations_pb2.WaitOperationRequest(name=name, timeout=timeout))
            return wrappers_pb2.DoubleValue.FromString(operation.response.value).value

        yield by_name(wait)


@asynccontextmanager
async def bare_in_azure_style(address: str) -> AsyncIterator[Start]:
    """Polls as often as a handle does, two at a time, which is what costs httpx least. No error is looked at."""
    pauses, few = lro.remote.transport.DEFAULT_POLL, asyncio.Semaphore(2)
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:

        async def start(name: str) -> Wait:
            url = httpx.URL((await http.post(f"/{name}")).headers["operation-location"])

            async def wait() -> float:
                due = time.monotonic()
                for count in itertools.count(1):
                    async with few:
                        answer = (await http.get(url)).json()
                    if answer["status"] == "Succeeded":
                        break
                    pause = pauses.delay(count)
                    await asyncio.sleep(max(pause - (time.monotonic() - due), pause / 2))
                    due = time.monotonic()
                return float(answer["result"])

            return wait

        yield start


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    said = hello("nothing is stored")
    said["versions"]["httpx"] = version("httpx")
    async with service(arguments.service, arguments.folder) as asked:
        yield (
            said,
            commands(
                asked,
                {
                    "waiting": ("waiting", over_grpc),
                    "bare_waiting": ("waiting", bare),
                    "polled": ("polled", over_grpc),
                    "azure": ("azure", in_azure_style),
                    "bare_azure": ("azure", bare_in_azure_style),
                },
            ),
        )


if __name__ == "__main__":
    main(program, "service")
