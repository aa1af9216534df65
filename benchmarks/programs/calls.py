"""Calls to ``server``, which runs in another process: GetOperation over gRPC, and over HTTP. CPU is the server's."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks.programs.common import Figures, callers, helper, main
from benchmarks.programs.http_calls import HttpCalls
from benchmarks.programs.lro_common import hello


class Program:
    def __init__(self, what: str, folder: Path) -> None:
        self._command = (sys.executable, "-m", "benchmarks.programs.server", what)
        self._folder = folder

    async def over_grpc(self, concurrency: int, seconds: float) -> Figures:
        async with helper(*self._command, "grpc", str(self._folder), cwd=self._folder) as (server, line):
            port, name = line.split()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]
                request = operations_pb2.GetOperationRequest(name=name)
                assert (await stub.GetOperation(request)).done

                async def once() -> None:
                    await stub.GetOperation(request)

                return await callers(once, concurrency, seconds, others=[server.pid], own=False)

    async def over_http(self, concurrency: int, seconds: float) -> Figures:
        async with helper(*self._command, "http", str(self._folder), cwd=self._folder) as (server, line):
            port, name = line.split()
            async with HttpCalls(int(port)) as http:
                answer = json.loads(await http.get(f"/v1/{name}"))
                assert answer["done"], answer

                async def once() -> None:
                    await http.get(f"/v1/{name}")

                return await callers(once, concurrency, seconds, others=[server.pid], own=False)


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    running = Program(arguments.server, arguments.folder)
    said = hello("SQLite, journal_mode=WAL, synchronous=FULL" if arguments.server == "lro" else "nothing is stored")
    said["versions"] |= {name: version(name) for name in ("fastapi", "uvicorn")}
    yield said, {"grpc": running.over_grpc, "http": running.over_http}


if __name__ == "__main__":
    main(program, "server")
