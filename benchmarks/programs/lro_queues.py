"""``lro_aio``: operations that wait in the line of a queue."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import lro_aio as lro
from benchmarks.programs.common import Figures, crowd_of, main
from benchmarks.programs.lro_common import CountedPostgres, CountedStore, counted, hello
from benchmarks.programs.queued import PLACES, Line

QUEUE = lro.Queue("line", running=PLACES)


def handlers_of(line: Line) -> lro.Handlers:
    handlers = lro.Handlers()

    @handlers.handler("held", queue=QUEUE)
    async def held(_op: lro.Operation[None]) -> None:
        await line.hold()

    @handlers.handler("trivial", queue=QUEUE)
    async def trivial(_op: lro.Operation[None]) -> None:
        line.note()

    return handlers


async def queue(client: lro.Client, store: CountedStore | CountedPostgres, line: Line, waiting: int) -> Figures:
    """So many in the line; when it is over, all of them have ended."""
    started: list[lro.Operation[Any]] = []

    async def start(handler: str, count: int) -> None:
        started.extend(await crowd_of(count, 256, lambda _: client.start(handler)))

    figures = await line.measure(
        waiting,
        hold=lambda: start("held", PLACES),
        join=lambda count: start("trivial", count),
        commits=lambda: store.commits,
    )
    await asyncio.gather(*(operation.result() for operation in started))
    return figures


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    line = Line()
    with counted(arguments.folder, arguments.pg) as store:
        async with lro.Client(store, handlers=[handlers_of(line)]) as client:

            async def measured(waiting: int) -> Figures:
                return await queue(client, store, line, waiting)

            yield hello(store.durability()), {"queue": measured}


if __name__ == "__main__":
    main(program, "pg")
