"""``lro_aio``: operations suspended until one common moment."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import lro_aio as lro
from benchmarks.programs.common import Figures, crowd_of, main, sleepers
from benchmarks.programs.lro_common import counted, hello

handlers = lro.Handlers()
ASLEEP: list[float] = []
WOKEN: list[float] = []


@handlers.handler("sleeper", state=float, resume_points=("woken",))
async def sleeper(op: lro.Operation[float]) -> lro.Suspended | None:
    if op.resume_point == "":
        ASLEEP.append(op.state)
        return op.suspend(resume_at="woken", until=op.state)
    WOKEN.append(time.time() - op.state)
    return None


def taken(values: list[float]) -> list[float]:
    """What has come since the last call."""
    new = values[:]
    values.clear()
    return new


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    with counted(arguments.folder, arguments.pg) as store:
        async with lro.Client(store, handlers=[handlers]) as client:

            async def start_one(due: float) -> None:
                await client.start("sleeper", due)

            async def begin(number: int, due: float) -> None:
                await crowd_of(number, 256, lambda _: start_one(due))

            async def measured(count: int, idle: float) -> Figures:
                return await sleepers(
                    count, idle, begin=begin, asleep=lambda: len(taken(ASLEEP)), woken=lambda: taken(WOKEN)
                )

            yield hello(store.durability()), {"sleepers": measured}


if __name__ == "__main__":
    main(program, "pg")
