"""The service that a Restate server calls: its handlers behind Hypercorn, in a process of their own.

    python -m benchmarks.programs.restate_service PORT LEDGER

What the handlers measure goes to the file LEDGER, a line each: a name, a number, a value.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from datetime import timedelta
from pathlib import Path

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

work = restate.Service("work")
GO = Path("go")
"""Once this file is there, interrupted work takes no more time."""


def note(what: str, number: int, value: float) -> None:
    print(what, number, value, file=LEDGER, flush=True)


@work.handler()
async def trivial(_ctx: restate.Context, index: int) -> str:
    return str(index)


@work.handler()
async def family(ctx: restate.Context, children: int) -> int:
    calls = [ctx.service_call(trivial, index) for index in range(children)]
    return len(await restate.gather(*calls))


async def same(value: int) -> int:
    return value


@work.handler()
async def in_sequence(ctx: restate.Context, steps: int) -> int:
    return sum([await ctx.run_typed("same", same, value=index) for index in range(steps)])


@work.handler()
async def in_parallel(ctx: restate.Context, steps: int) -> int:
    return len(await restate.gather(*(ctx.run_typed("same", same, value=index) for index in range(steps))))


@work.handler()
async def sleeper(ctx: restate.Context, due: float) -> None:
    note("asleep", 0, due)
    await ctx.sleep(timedelta(seconds=max(0.0, due - time.time())))
    note("woken", 0, time.time() - due)


@work.handler()
async def ends(_ctx: restate.Context, index: int) -> int:
    await asyncio.sleep(0.005)
    note("ended", index, time.monotonic())
    return index


@work.handler()
async def interrupted(_ctx: restate.Context, index: int) -> int:
    """Work that outlives the first process, and takes no time in the second."""
    note("running", index, 0.0)
    while not GO.exists():
        await asyncio.sleep(0.5)
    note("finished", index, time.time())
    return index


async def main(port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    config.h2_max_concurrent_streams = 2_147_483_647
    config.keep_alive_max_requests = 2_147_483_647
    config.keep_alive_timeout = 2_147_483_647
    print("ready", flush=True)
    await serve(restate.app([work]), config)  # type: ignore[arg-type]


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    LEDGER = open(sys.argv[2], "a", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    asyncio.run(main(int(sys.argv[1])))
