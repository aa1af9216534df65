"""The dashboard over a large store: what each page takes at the server, and what a viewer costs those who write.

    python -m benchmarks.bench_dashboard [--finished 1000000] [--suspended 100000] [--failed 1000] [--rounds 5]
                                        [--store FILE] [--json]

The dashboard is in the process of the worker, and each page is made anew, from a look of its own. A viewer has the
overview open: each second, what it shows has changed, and the page is fetched again. Rounds with a viewer and without
one take turns; the ratio is the median of the rounds' own. On a machine that does other work, the CPU that an operation
takes says more: it has the viewer's own in it, whose pages are fetched in the same process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from google.protobuf import wrappers_pb2

import lro_aio as lro
from benchmarks.programs.lro_fill import fill
from lro_aio.dashboard import Dashboard

FAILED = 'state = FAILED AND handler = "trivial" AND error.code = NOT_FOUND AND error.reason = "SOURCE_GONE"'
PAGES = {
    "overview": "",
    "operations": "operations",
    "operations that failed alike": f"operations?{httpx.QueryParams(filter=FAILED)}",
    "operations by metadata": f"operations?{httpx.QueryParams(filter='metadata.progress > 0.5')}",
    "operation": "operation?name={name}",
    "failures": "failures",
    "workers": "workers",
}
TRIES = 20
CALLERS = 32

handlers = lro.Handlers()


@handlers.handler("trivial", state=str)
async def trivial(op: lro.Operation[str]) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=op.id)


@handlers.handler("sleeper", resume_points=("woken",))
async def sleeper(op: lro.Operation[Any]) -> None:
    """Sleeps for longer than anything here takes."""


@asynccontextmanager
async def browser(client: lro.Client) -> AsyncIterator[httpx.AsyncClient]:
    """Asks a dashboard that nobody has asked before, on the same event loop."""
    transport = httpx.ASGITransport(Dashboard(client))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/", timeout=60) as http:
        yield http


async def pages(client: lro.Client) -> dict[str, dict[str, float]]:
    """Milliseconds for each page: the median, that of the CPU alone, and the slowest."""
    found = {}
    [newest] = (await client.list_operations("state = FAILED", page_size=1)).operations
    for title, path in PAGES.items():
        took, cpu = [], []
        for _ in range(TRIES):
            async with browser(client) as http:
                began, worked = time.perf_counter(), time.process_time()
                answer = await http.get(path.format(name=newest.name))
                took.append((time.perf_counter() - began) * 1000)
                cpu.append((time.process_time() - worked) * 1000)
                assert answer.status_code == 200, answer.text
        found[title] = {
            "median ms": round(statistics.median(took), 1),
            "CPU ms": round(statistics.median(cpu), 1),
            "slowest ms": round(max(took), 1),
        }
    return found


class Pace(NamedTuple):
    """How callers get on."""

    rate: float
    """Operations a second."""
    cpu: float
    """Milliseconds of the CPU for each."""


async def writers(client: lro.Client, seconds: float) -> Pace:
    """Callers who start operations and wait for them."""
    ends = time.monotonic() + seconds
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.monotonic() < ends:
            await (await client.start("trivial")).result()
            done += 1

    began, worked = time.monotonic(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return Pace(done / (time.monotonic() - began), (time.process_time() - worked) * 1000 / done)


async def view(client: lro.Client) -> None:
    """Look at the overview for ever."""
    async with browser(client) as http:
        while True:
            await http.get("")
            await asyncio.sleep(1)


async def viewed(client: lro.Client, seconds: float) -> Pace:
    viewer = asyncio.create_task(view(client))
    try:
        return await writers(client, seconds)
    finally:
        viewer.cancel()
        await asyncio.gather(viewer, return_exceptions=True)


async def measure(path: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """All figures."""
    async with lro.Client(f"sqlite:///{path}", handlers=[handlers]) as client:
        found: dict[str, Any] = {"pages": await pages(client)}
        await writers(client, seconds)  # warm
        rates = []
        for number in range(rounds):
            alone, seen = (writers, viewed) if number % 2 == 0 else (viewed, writers)
            first, second = await alone(client, seconds), await seen(client, seconds)
            rates.append((first, second) if number % 2 == 0 else (second, first))
        found["operations/s"] = {
            "without a viewer": round(statistics.median(alone.rate for alone, _ in rates)),
            "with a viewer": round(statistics.median(seen.rate for _, seen in rates)),
            "ratio": round(statistics.median(seen.rate / alone.rate for alone, seen in rates), 3),
            "CPU ratio": round(statistics.median(alone.cpu / seen.cpu for alone, seen in rates), 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--suspended", type=int, default=100_000)
    parser.add_argument("--failed", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of the writers")
    parser.add_argument("--store", type=Path, help="a SQLite file that has been filled before, or is filled and kept")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lro-bench-") as folder:
        path = told.store or Path(folder, "operations.db")
        if not path.exists():
            fill(path, finished=told.finished, suspended=told.suspended, failed=told.failed)
        found = asyncio.run(measure(path, told.rounds, told.seconds))
    if told.json:
        print(json.dumps(found))
        return
    for title, figures in [*found["pages"].items(), ("writers, operations/s", found["operations/s"])]:
        print(f"{title:<32}" + "   ".join(f"{key} {value:>8,}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
