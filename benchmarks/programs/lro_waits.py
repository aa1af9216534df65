"""``lro_aio``: from the call that ends an operation to whoever waits for it, here or in another process."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf import wrappers_pb2

import lro_aio as lro
from benchmarks.programs.common import IN_PLACE, Figures, helper, main, spread
from benchmarks.programs.lro_common import CountedPostgres, CountedStore, counted, hello
from lro_aio.servers.grpc import add_operations_servicer

LIFE = (1.0, 3.0)
"""Seconds that an operation lives, at random, where the waiter polls: how late it is depends on when it last looked."""
RESPONSE = wrappers_pb2.StringValue(value="done")


class Program:
    def __init__(self, client: lro.Client, folder: Path, store: str, port: int, watcher: tuple[str, ...]) -> None:
        self._client = client
        self._folder = folder
        self._targets = {"store": store, "wait": str(port), "poll": str(port)}
        self._watcher = watcher

    async def same_process(self, count: int) -> Figures:
        late: list[float] = []
        for _ in range(count):
            operation = await self._client.create()
            waiter = asyncio.create_task(self._noted(operation.name))
            await asyncio.sleep(IN_PLACE)
            began = time.monotonic()
            await operation.done(RESPONSE)
            late.append(await waiter - began)
        return spread(late)

    async def notified(self, how: str, count: int) -> Figures:
        """One after the other: the waiter is told."""
        late: list[float] = []
        async with helper(*self._command(how), cwd=self._folder) as (process, _):
            assert process.stdin is not None
            assert process.stdout is not None
            for _ in range(count):
                operation = await self._client.create()
                process.stdin.write(operation.name.encode() + b"\n")
                assert (await process.stdout.readline()).split()[0] == b"waiting"
                await asyncio.sleep(IN_PLACE + random.random() / 50)
                began = time.monotonic()
                await operation.done(RESPONSE)
                _, moment = (await process.stdout.readline()).split()
                late.append(float(moment) - began)
        return spread(late)

    async def polled(self, how: str, count: int) -> Figures:
        """All at a time: each waiter looks when its policy says so."""
        ended: dict[str, float] = {}
        seen: dict[str, float] = {}
        chance = random.Random(6)
        async with helper(*self._command(how), cwd=self._folder) as (process, _):
            assert process.stdin is not None
            assert process.stdout is not None
            operations = await asyncio.gather(*(self._client.create() for _ in range(count)))

            async def end(operation: lro.Operation[Any]) -> None:
                await asyncio.sleep(chance.uniform(*LIFE))
                ended[operation.name] = time.monotonic()
                await operation.done(RESPONSE)

            process.stdin.write(b"".join(operation.name.encode() + b"\n" for operation in operations))
            ends = asyncio.gather(*map(end, operations))
            while len(seen) < count:
                name, *moment = (await process.stdout.readline()).decode().split()
                if moment:  # else it only says that it waits
                    seen[name] = float(moment[0])
            await ends
        return spread([seen[name] - ended[name] for name in ended])

    def _command(self, how: str) -> tuple[str, ...]:
        return (*self._watcher, "--how", how, "--target", self._targets[how])

    async def _noted(self, name: str) -> float:
        operation = await self._client.operation(name)
        await operation.result(wrappers_pb2.StringValue)
        return time.monotonic()


async def version_of(name: str, python: str) -> str:
    """Of a distribution in another environment."""
    code = f"from importlib.metadata import version; print(version({name!r}))"
    process = await asyncio.create_subprocess_exec(python, "-c", code, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    with counted(arguments.folder, arguments.pg) as store:
        async with _serving(store, arguments) as opened:
            yield opened


@asynccontextmanager
async def _serving(
    store: CountedStore | CountedPostgres, arguments: argparse.Namespace
) -> AsyncIterator[tuple[Any, Any]]:
    client = lro.Client(store)
    server = grpc.aio.server()
    add_operations_servicer(client, server)
    port = server.add_insecure_port("127.0.0.1:0")
    module = "benchmarks.programs.api_core_peer" if arguments.python else "benchmarks.programs.lro_watcher"
    watcher = (arguments.python or sys.executable, "-m", module)
    async with client:
        await server.start()
        running = Program(client, arguments.folder, store.address, port, watcher)
        try:
            said = hello(store.durability())
            if arguments.python:
                said["versions"]["google-api-core"] = await version_of("google-api-core", arguments.python)
            yield (
                said,
                {
                    "same_process": running.same_process,
                    "other_process": partial(running.notified, "store"),
                    "wait_operation": partial(running.notified, "wait"),
                    "grpc_polling": partial(running.polled, "poll"),
                },
            )
        finally:
            await server.stop(0)


if __name__ == "__main__":
    main(program, "python", "pg")
