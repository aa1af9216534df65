"""azure-core: ``AsyncLROPoller`` of a service in another process. Runs in an environment of its own."""

from __future__ import annotations

import argparse
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from azure.core import AsyncPipelineClient
from azure.core.pipeline.policies import RequestIdPolicy
from azure.core.polling import AsyncLROPoller
from azure.core.polling.async_base_polling import AsyncLROBasePolling
from azure.core.rest import HttpRequest

from benchmarks.programs.common import main
from benchmarks.programs.remote_waits import Start, Wait, commands, service


@asynccontextmanager
async def polling(address: str, *, interval: str) -> AsyncIterator[Start]:
    """Args: interval: Seconds; "" for azure-core's default."""
    async with AsyncPipelineClient(address, policies=[RequestIdPolicy()]) as client:

        async def start(name: str) -> Wait:
            request = HttpRequest("POST", f"{address}/{name}")
            answer: Any = await client.send_request(request, _return_pipeline_response=True)

            async def wait() -> float:
                method = AsyncLROBasePolling(float(interval)) if interval else AsyncLROBasePolling()
                poller: Any = AsyncLROPoller(client, answer, lambda last: last.http_response.json(), method)
                return float((await poller.result())["result"])

            return wait

        yield start


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    versions = {name: version(name) for name in ("azure-core", "aiohttp")}
    said = {"versions": {**versions, "python": platform.python_version()}, "durability": "nothing is stored"}
    handle = partial(polling, interval=arguments.interval)
    async with service(arguments.service, arguments.folder) as asked:
        yield said, commands(asked, {"azure": ("azure", handle)})


if __name__ == "__main__":
    main(program, "service", "interval")
