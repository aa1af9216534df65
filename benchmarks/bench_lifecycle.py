"""Start -> complete of a trivial handler, and waiting on children, on a SQLite file with ``synchronous=FULL``.

    python -m benchmarks.bench_lifecycle [--seconds 3] [--json]

Each line of the first table is one concurrency: so many callers, each of which starts an operation and waits for its
result, again and again. The floor is the same file system doing nothing but two durable SQLite commits per operation,
from one thread: what a program that commits each start and each end by itself could reach at best.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.testing import FaultyStore

handlers = lro.Handlers()


@handlers.handler("trivial")
async def trivial(op: lro.Operation[None]) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=op.id)


@handlers.handler("family", state=int, resume_points=("gather",))
async def family(op: lro.Operation[int]) -> wrappers_pb2.Int64Value | lro.Suspended:
    if op.resume_point == "":
        children = await asyncio.gather(*(op.start_child("trivial", key=str(index)) for index in range(op.state)))
        return op.suspend(resume_at="gather", children=[child.name for child in children])
    return wrappers_pb2.Int64Value(value=sum(child.HasField("response") for child in op.children))


async def lifecycle(folder: Path, concurrency: int, duration: float) -> dict[str, float | str]:
    store = FaultyStore(lro.SqliteStore(folder / f"c{concurrency}.db"))  # it counts the calls
    latencies: list[float] = []
    async with lro.Client(store, handlers=[handlers], max_running=max(256, concurrency)) as client:
        end = time.perf_counter() + duration

        async def caller() -> None:
            while (began := time.perf_counter()) < end:
                operation = await client.start("trivial")
                await operation.result(wrappers_pb2.StringValue)
                latencies.append(time.perf_counter() - began)

        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(concurrency)))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    count = len(latencies)
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "benchmark": f"start -> complete, concurrency {concurrency}",
        "operations/s": round(count / wall),
        "p50 ms": round(cuts[49] * 1e3, 2),
        "p99 ms": round(cuts[98] * 1e3, 2),
        "CPU us/operation": round(cpu / count * 1e6),
        "transactions/operation": round(store.calls["apply"] / count, 4),
        "reads/operation": round((store.calls["read"] + store.calls["unfinished"]) / count, 4),
    }


async def fan_out(folder: Path, children: int) -> dict[str, float | str]:
    store = FaultyStore(lro.SqliteStore(folder / f"f{children}.db"))
    async with lro.Client(store, handlers=[handlers]) as client:
        cpu, began = time.process_time(), time.perf_counter()
        operation = await client.start("family", children)
        done = await operation.result(wrappers_pb2.Int64Value)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert done.value == children, done
    return {
        "benchmark": f"one parent, {children} children",
        "seconds": round(wall, 3),
        "CPU us/child": round(cpu / children * 1e6),
        "transactions/child": round(store.calls["apply"] / children, 4),
        "looks at children": store.calls["unfinished"],
    }


def floor(folder: Path, duration: float) -> dict[str, float | str]:
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE operations (name TEXT PRIMARY KEY, response BLOB)")
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < duration:
        connection.execute("INSERT INTO operations VALUES (?, NULL)", (str(count),))
        connection.execute("UPDATE operations SET response = ? WHERE name = ?", (b"x" * 64, str(count)))
        count += 1
    wall = time.perf_counter() - began
    connection.close()
    return {"benchmark": "floor: two bare durable commits", "operations/s": round(count / wall)}


def show(result: dict[str, float | str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result), flush=True)
        return
    figures = "   ".join(f"{key} {value:,}" for key, value in result.items() if not isinstance(value, str))
    print(f"{result['benchmark']:<36}{figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    machine = {
        "benchmark": "machine",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cores": os.cpu_count() or 0,
        "platform": platform.platform(),
        "durability": "WAL, synchronous=FULL",
    }
    if arguments.json:
        show(machine, as_json=True)
    else:
        print(
            f"Python {machine['python']}, SQLite {machine['sqlite']} (WAL, synchronous=FULL), {machine['cores']} cores"
        )
    with tempfile.TemporaryDirectory(prefix="lro-bench-") as name:
        folder = Path(name)
        show(floor(folder, arguments.seconds), as_json=arguments.json)
        for concurrency in (1, 32, 256):
            show(asyncio.run(lifecycle(folder, concurrency, arguments.seconds)), as_json=arguments.json)
        show(asyncio.run(fan_out(folder, 1000)), as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
