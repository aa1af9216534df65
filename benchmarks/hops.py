"""How often a call changes files on its way through the package: ``python -m benchmarks.hops``.

A number for readers, not for machines: whoever follows a start, a wake-up or a cancel through the code opens another
file so many times. Counted with ``sys.setprofile`` over the calls and returns on the event loop's thread, from the call
until nothing is left to do; the store's own files and core's are places that one looks things up in, and count too.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import lro_aio as lro

ROOT = str(Path(lro.__file__).parent)
SETTLED = 0.15
"""Real seconds after which nothing of a call is left to do."""


class Hops:
    """Counts changes of file within the package while it is installed as a profile function."""

    def __init__(self) -> None:
        self.total = 0
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.calls: Counter[str] = Counter()
        self._here = ""

    def __call__(self, frame: Any, event: str, _argument: object) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(ROOT):
            return
        name = path.removeprefix(ROOT)
        self.calls[f"{name}:{frame.f_code.co_qualname}"] += 1
        if name != self._here:
            if self._here:
                self.total += 1
                self.pairs[self._here, name] += 1
            self._here = name


async def counted(what: Callable[[], Awaitable[object]]) -> Hops:
    hops = Hops()
    sys.setprofile(hops)
    try:
        await what()
        await asyncio.sleep(SETTLED)
    finally:
        sys.setprofile(None)
    return hops


async def measure() -> dict[str, Hops]:
    handlers = lro.Handlers()
    running = asyncio.Event()

    @handlers.handler("ends")
    async def ends(_op: lro.Operation[Any]) -> None:
        return None

    @handlers.handler("sleeps", resume_points=("rested",))
    async def sleeps(op: lro.Operation[Any]) -> Any:
        return op.suspend(resume_at="rested", sleep=2 * SETTLED) if op.resume_point == "" else None

    @handlers.handler("runs")
    async def runs(_op: lro.Operation[Any]) -> None:
        running.set()
        await asyncio.Event().wait()

    found: dict[str, Hops] = {}
    async with lro.Client("sqlite://", handlers=[handlers]) as client:
        for _ in range(2):  # the first round fills caches
            await asyncio.sleep(SETTLED)
            found["start"] = await counted(lambda: client.start("ends"))
            await client.start("sleeps")
            await asyncio.sleep(SETTLED)
            found["wake-up"] = await counted(lambda: asyncio.sleep(2 * SETTLED))
            running.clear()
            op = await client.start("runs")
            await running.wait()
            await asyncio.sleep(SETTLED)
            found["cancel"] = await counted(partial(client.cancel_operation, op.name))
    return found


def main() -> None:
    for name, hops in asyncio.run(measure()).items():
        print(f"{name}: {hops.total} changes of file, {sum(hops.calls.values())} calls")
        if "-v" in sys.argv:
            for (before, after), count in hops.pairs.most_common(12):
                print(f"  {count:3} {before} -> {after}")
            for call, count in hops.calls.most_common(25):
                print(f"  {count:3} {call}")


if __name__ == "__main__":
    main()
