"""Many operations of another process awaited at once: this package's handle beside the handles in use today.

    python -m benchmarks.bench_remote [--operations 1000] [--seconds 5] [--spread 0] [--rounds 3] [--json]

All start together and end ``--seconds`` later, or each at a moment within ``--spread`` seconds around that. Measured:
requests made, CPU of this process (the service has its own), and the delay from an operation's end to the moment at
which its waiter goes on. Contenders take turns, ``--rounds`` times; medians are shown. Each has its own defaults, but
for the last of azure-core, whose default interval of 30 s no caller would keep for operations of seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import grpc.aio
import httpx
from azure.core import AsyncPipelineClient
from azure.core.pipeline.policies import RequestIdPolicy
from azure.core.polling import AsyncLROPoller
from azure.core.polling.async_base_polling import AsyncLROBasePolling
from azure.core.rest import HttpRequest
from google.api_core import operation_async
from google.api_core.operations_v1 import OperationsAsyncClient
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2, wrappers_pb2

import lro_aio as lro

Wait = Callable[[str], Awaitable[float]]
"""Waits for the operation of a name, and gives the moment at which it ended."""
Contender = Callable[[dict[str, str]], contextlib.AbstractAsyncContextManager[Wait]]


def _running(name: str) -> operations_pb2.Operation:
    return operations_pb2.Operation(name=name)


def ours_on_grpc(kind: str) -> Contender:
    @contextlib.asynccontextmanager
    async def contender(addresses: dict[str, str]) -> AsyncIterator[Wait]:
        async with grpc.aio.insecure_channel(addresses[kind]) as channel:
            transport = lro.remote.GrpcTransport(channel)

            async def wait(name: str) -> float:
                handle = lro.RemoteOperation(transport, _running(name), response_type=wrappers_pb2.DoubleValue)
                return (await handle).value

            yield wait

    return contender


def api_core(kind: str) -> Contender:
    @contextlib.asynccontextmanager
    async def contender(addresses: dict[str, str]) -> AsyncIterator[Wait]:
        async with grpc.aio.insecure_channel(addresses[kind]) as channel:
            client = OperationsAsyncClient(channel)

            async def wait(name: str) -> float:
                future = operation_async.from_gapic(_running(name), client, wrappers_pb2.DoubleValue)
                return (await future.result()).value

            yield wait

    return contender


@contextlib.asynccontextmanager
async def bare_waits(addresses: dict[str, str]) -> AsyncIterator[Wait]:
    async with grpc.aio.insecure_channel(addresses["waiting"]) as channel:
        stub: Any = operations_pb2_grpc.OperationsStub(channel)
        request = duration_pb2.Duration(seconds=60)

        async def wait(name: str) -> float:
            operation = await stub.WaitOperation(operations_pb2.WaitOperationRequest(name=name, timeout=request))
            return wrappers_pb2.DoubleValue.FromString(operation.response.value).value

        yield wait


@contextlib.asynccontextmanager
async def ours_in_azure_style(addresses: dict[str, str]) -> AsyncIterator[Wait]:
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(limits=limits, timeout=60) as http:
        transport = lro.remote.HttpTransport(http, addresses["azure"], style="azure")

        async def wait(name: str) -> float:
            handle: lro.RemoteOperation[float] = lro.RemoteOperation(
                transport, await http.post(f"{addresses['azure']}/{name}"), response_type=float
            )
            return await handle

        yield wait


def azure_core(interval: float | None) -> Contender:
    @contextlib.asynccontextmanager
    async def contender(addresses: dict[str, str]) -> AsyncIterator[Wait]:
        async with AsyncPipelineClient(addresses["azure"], policies=[RequestIdPolicy()]) as client:

            async def wait(name: str) -> float:
                started = await client.send_request(HttpRequest("POST", f"{addresses['azure']}/{name}"))
                answer = _pipeline_response(client, started)
                method = AsyncLROBasePolling() if interval is None else AsyncLROBasePolling(interval)
                poller: Any = AsyncLROPoller(client, answer, lambda last: last.http_response.json(), method)
                return float((await poller.result())["result"])

            yield wait

    return contender


def _pipeline_response(client: Any, response: Any) -> Any:
    from azure.core.pipeline import PipelineResponse

    return PipelineResponse(response.request, response, None)  # type: ignore[arg-type]


CONTENDERS: dict[str, Contender] = {
    "WaitOperation: this package": ours_on_grpc("waiting"),
    "WaitOperation: bare calls": bare_waits,
    "WaitOperation: api_core AsyncOperation": api_core("waiting"),
    "GetOperation only: this package": ours_on_grpc("polled"),
    "GetOperation only: api_core AsyncOperation": api_core("polled"),
    "Azure style: this package": ours_in_azure_style,
    "Azure style: azure-core AsyncLROPoller": azure_core(None),
    "Azure style: azure-core, polling_interval=1": azure_core(1.0),
}


class Service:
    """The other process."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.remote_service"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addresses: dict[str, str] = self._line()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)

    def asked(self) -> int:
        """Requests since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write("count\n")
        self._process.stdin.flush()
        return sum(self._line().values())

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


async def measure(
    contender: Contender, service: Service, count: int, seconds: float, spread: float
) -> dict[str, float]:
    service.asked()
    gc.collect()
    async with contender(service.addresses) as wait:
        end = time.time() + seconds
        ends = [end + random.uniform(-spread / 2, spread / 2) for _ in range(count)]
        delays: list[float] = []

        async def one(name: str) -> None:
            ended = await wait(name)
            delays.append(time.time() - ended)

        cpu = time.process_time()
        await asyncio.gather(*(one(f"operations/{number}-{moment:.6f}") for number, moment in enumerate(ends)))
        cpu = time.process_time() - cpu
    cuts = statistics.quantiles(delays, n=100)
    return {
        "requests": service.asked(),
        "CPU s": round(cpu, 3),
        "delay p50 ms": round(cuts[49] * 1e3, 1),
        "delay p99 ms": round(cuts[98] * 1e3, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0, help="until they end")
    parser.add_argument("--spread", type=float, default=0.0, help="seconds over which the ends are spread")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="contenders whose names contain this")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    chosen = {name: made for name, made in CONTENDERS.items() if arguments.only in name}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    with Service() as service:
        for _ in range(arguments.rounds):
            for name, contender in chosen.items():
                made = measure(contender, service, arguments.operations, arguments.seconds, arguments.spread)
                results[name].append(asyncio.run(made))
    if not arguments.json:
        print(f"Python {platform.python_version()}, {arguments.operations} operations, medians of {arguments.rounds}")
    for name, rounds in results.items():
        medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        if arguments.json:
            settings = {key: getattr(arguments, key) for key in ("operations", "seconds", "spread", "rounds")}
            print(json.dumps({"benchmark": name, **settings, **medians, "all": rounds}), flush=True)
        else:
            print(f"{name:<46}" + "   ".join(f"{key} {value:>9,}" for key, value in medians.items()), flush=True)


if __name__ == "__main__":
    main()
