"""Start -> complete, and looking at 1,000 children, on Spanner: ``FakeSpanner`` in another process, 0 and 5 ms away.

    python -m benchmarks.bench_spanner [--quick] [--seconds 1.2] [--rounds 3] [--json]

Three programs do the same work with the same concurrency, in turns, so that what else the machine does hits all alike.
Each figure is the median of the rounds; ``ratio`` is the median of the rounds' own ratios.

- ``lro``: so many callers of one ``lro.Client``, each of which starts an operation with a trivial handler and waits
  for its result, again and again. The calls of the sweep count too.
- ``database``: what a service does on Google's high-level client. One commit creates the row; the work; one read and
  one commit finish it. Each blocking call goes to a thread pool with a thread for every caller. It stores nothing
  but the Operation, and its caller is told of the end by nobody: it knows.
- ``floor``: on the generated client, nothing but two Read + Commit transactions of one row, from plain threads: the
  least that a program does which writes both ends of an operation in transactions of their own.

The fake runs on the same machine and is no measure of Spanner: figures compare only within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self
from unittest import mock

import grpc
from google.cloud import spanner
from google.cloud.spanner_v1 import SpannerClient, types
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.stores.spanner.location import Location

CONCURRENCIES = (1, 32, 256)
LATENCIES = (0.0, 0.005)
CHILDREN = 1000
POLLERS = 256
"""Threads that read children one by one."""
WAYS = ("lro", "database", "floor")

handlers = lro.Handlers()


@handlers.handler("trivial")
async def trivial(op: lro.Operation[None]) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=op.id)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    seconds: float = 1.2
    rounds: int = 3
    concurrencies: Sequence[int] = CONCURRENCIES
    latencies: Sequence[float] = LATENCIES
    children: int = CHILDREN


QUICK = Plan(seconds=0.1, rounds=1, concurrencies=(1, 32), children=100)


@dataclass(frozen=True)
class Sample:
    """One measurement of one way."""

    count: int
    wall: float
    cpu: float
    """Seconds of this process."""
    rpcs: int
    fake_cpu: float

    @property
    def rate(self) -> float:
        return self.count / self.wall


class Fake:
    """``FakeSpanner`` in a process of its own."""

    def __init__(self, latency: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lro_aio.testing.spanner", "--latency", str(latency)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self.location = Location.parse(self.url)

    def ask(self, question: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def rpcs(self) -> int:
        return sum(json.loads(self.ask("rpcs")).values())

    def cpu(self) -> float:
        return float(self.ask("cpu"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)  # closes its standard input, which ends it


class Meter:
    """Measures a piece of work."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self._rpcs, self._fake_cpu = fake.rpcs(), fake.cpu()
        self._cpu, self._began = time.process_time(), time.perf_counter()

    def stop(self, count: int) -> Sample:
        wall, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        return Sample(count, wall, cpu, self._fake.rpcs() - self._rpcs, self._fake.cpu() - self._fake_cpu)


async def callers(once: Callable[[], Awaitable[object]], concurrency: int, seconds: float, fake: Fake) -> Sample:
    """So many callers of ``once``, again and again for so long."""
    count = 0
    meter = Meter(fake)
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await once()
            count += 1

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return meter.stop(count)


class Lro:
    """This library."""

    def __init__(self, fake: Fake, concurrency: int) -> None:
        self._fake, self._concurrency = fake, concurrency

    def run(self, seconds: float) -> Sample:
        return asyncio.run(self._run(seconds))

    async def _run(self, seconds: float) -> Sample:
        limit = max(256, self._concurrency)
        async with lro.Client(self._fake.url, handlers=[handlers], max_running=limit) as client:

            async def once() -> None:
                operation = await client.start("trivial")
                await operation.result(wrappers_pb2.StringValue)

            await once()
            return await callers(once, self._concurrency, seconds, self._fake)

    def close(self) -> None:
        pass


class HighLevel:
    """The same on Google's high-level client: one commit to create; read, then commit to finish."""

    def __init__(self, fake: Fake, concurrency: int) -> None:
        self._fake, self._concurrency = fake, concurrency
        self._table = fake.location.table
        self._database = high_level(fake)
        self._pool = ThreadPoolExecutor(concurrency)
        self._create("operations/warm")

    def run(self, seconds: float) -> Sample:
        return asyncio.run(callers(self._once, self._concurrency, seconds, self._fake))

    async def _once(self) -> None:
        loop = asyncio.get_running_loop()
        name = f"operations/{uuid.uuid4()}"
        await loop.run_in_executor(self._pool, self._create, name)
        response = await trivial(SimpleNamespace(id=name.removeprefix("operations/")))  # type: ignore[arg-type]
        await loop.run_in_executor(self._pool, self._finish, name, response)

    def _create(self, name: str) -> None:
        operation = operations_pb2.Operation(name=name)
        with self._database.batch() as batch:
            batch.insert(self._table, ("Operation", "ResumePoint"), [(operation, "")])

    def _finish(self, name: str, response: wrappers_pb2.StringValue) -> None:
        operation = self.read(name)
        operation.done = True
        operation.response.Pack(response)
        with self._database.batch() as batch:
            batch.update(self._table, ("key", "Operation"), [(name, operation)])

    def read(self, name: str) -> operations_pb2.Operation:
        with self._database.snapshot() as snapshot:
            rows = snapshot.read(
                self._table,
                ("Operation", "State", "ResumePoint"),
                spanner.KeySet(keys=[[name]]),
                column_info={"Operation": operations_pb2.Operation()},
            )
            operation: operations_pb2.Operation = rows.one()[0]
        return operation

    def read_all(self, names: Sequence[str]) -> list[operations_pb2.Operation]:
        return list(self._pool.map(self.read, names))

    def close(self) -> None:
        self._pool.shutdown()


class Floor:
    """Two bare transactions an operation on the generated client, each a Read and a Commit of one row."""

    def __init__(self, fake: Fake, concurrency: int) -> None:
        self._fake, self._concurrency = fake, concurrency
        location = fake.location
        self._table = location.table
        self._channel = grpc.insecure_channel(str(location.host))
        self._client = SpannerClient(transport=SpannerGrpcTransport(channel=self._channel))
        request = types.CreateSessionRequest(database=location.database_path, session=types.Session(multiplexed=True))
        self._session = self._client.create_session(request=request, retry=None, timeout=10).name

    def run(self, seconds: float) -> Sample:
        counts = [0] * self._concurrency
        barrier = threading.Barrier(self._concurrency + 1)
        end = 0.0

        def caller(place: int) -> None:
            barrier.wait()
            while time.perf_counter() < end:
                name = f"operations/{uuid.uuid4()}"
                operation = operations_pb2.Operation(name=name)
                self._transaction(name, "insert", ("Operation", "ResumePoint"), (encoded(operation), ""))
                operation.done = True
                operation.response.Pack(wrappers_pb2.StringValue(value=name))
                self._transaction(name, "update", ("key", "Operation"), (name, encoded(operation)))
                counts[place] += 1

        threads = [threading.Thread(target=caller, args=(place,), daemon=True) for place in range(self._concurrency)]
        for thread in threads:
            thread.start()
        meter = Meter(self._fake)
        end = time.perf_counter() + seconds
        barrier.wait()
        for thread in threads:
            thread.join()
        return meter.stop(sum(counts))

    def _transaction(self, name: str, kind: str, columns: Sequence[str], values: Sequence[str]) -> None:
        read = types.ReadRequest(session=self._session, table=self._table, columns=("key", "Operation"))
        pb = types.ReadRequest.pb(read)
        pb.transaction.begin.read_write.SetInParent()
        pb.key_set.keys.add().values.add(string_value=name)
        result: Any = types.ResultSet.pb(self._client.read(request=read, retry=None, timeout=10))
        commit = types.CommitRequest(session=self._session, transaction_id=result.metadata.transaction.id)
        pb = types.CommitRequest.pb(commit)
        pb.precommit_token.CopyFrom(result.precommit_token)
        write = getattr(pb.mutations.add(), kind)
        write.table = self._table
        write.columns.extend(columns)
        write.values.add(values=[struct_pb2.Value(string_value=value) for value in values])
        self._client.commit(request=commit, retry=None, timeout=10)

    def close(self) -> None:
        self._channel.close()


def encoded(operation: operations_pb2.Operation) -> str:
    return base64.b64encode(operation.SerializeToString()).decode()


def high_level(fake: Fake) -> Any:
    """The high-level database. It is never closed: that may wait for its maintenance thread, a daemon, for minutes."""
    # Its metrics would ask Google where this machine is.
    environment = {"SPANNER_EMULATOR_HOST": str(fake.location.host), "SPANNER_DISABLE_BUILTIN_METRICS": "true"}
    with mock.patch.dict(os.environ, environment):
        client = spanner.Client(project=fake.location.project)
        database = client.instance(fake.location.instance).database(fake.location.database)
        assert database.spanner_api is not None  # made here, while the environment names the fake
    return database


@contextmanager
def programs(fake: Fake, concurrency: int) -> Iterator[dict[str, Lro | HighLevel | Floor]]:
    made: dict[str, Lro | HighLevel | Floor] = {
        "lro": Lro(fake, concurrency),
        "database": HighLevel(fake, concurrency),
        "floor": Floor(fake, concurrency),
    }
    try:
        yield made
    finally:
        for program in made.values():
            program.close()


def lifecycle(latency: float, concurrency: int, plan: Plan) -> Iterator[dict[str, float | str]]:
    samples: dict[str, list[Sample]] = {way: [] for way in WAYS}
    with Fake(latency) as fake, programs(fake, concurrency) as made:
        for number in range(plan.rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                samples[way].append(made[way].run(plan.seconds))
    for way, found in samples.items():
        yield {
            "benchmark": f"{latency * 1e3:g} ms, concurrency {concurrency}: {way}",
            "operations/s": round(median(sample.rate for sample in found)),
            "CPU us/operation": round(median(sample.cpu / sample.count for sample in found) * 1e6),
            "RPCs/operation": round(median(sample.rpcs / sample.count for sample in found), 3),
            "fake CPU us/operation": round(median(sample.fake_cpu / sample.count for sample in found) * 1e6),
        }
    yield {
        "benchmark": f"{latency * 1e3:g} ms, concurrency {concurrency}: ratio",
        "lro / database": round(ratio(samples["lro"], samples["database"]), 2),
        "lro / floor": round(ratio(samples["lro"], samples["floor"]), 2),
        "CPU of database / lro": round(cpu_ratio(samples["database"], samples["lro"]), 2),
    }


def children(latency: float, plan: Plan) -> Iterator[dict[str, float | str]]:
    """One poll of many children: which of them have not ended, and, at the end, all of them with their results."""
    names = [f"operations/{uuid.uuid4()}" for _ in range(plan.children)]
    with Fake(latency) as fake:
        program = HighLevel(fake, min(POLLERS, plan.children))
        store = lro.SpannerStore.from_url(fake.url)
        store.open()
        create(fake, names)
        polls: dict[str, Callable[[], int]] = {
            "lro": lambda: len(store.unfinished(names)),
            "database": lambda: sum(not operation.done for operation in program.read_all(names)),
        }
        ends: dict[str, Callable[[], int]] = {
            "lro": lambda: len(store.unfinished(names)) + len([row.to_operation() for row in store.read(names)]),
            "database": lambda: len(program.read_all(names)),
        }
        for what, ways in (("poll", polls), ("read", ends)):
            samples: dict[str, list[Sample]] = {way: [] for way in ways}
            for _ in range(plan.rounds):
                for way, poll in ways.items():
                    meter = Meter(fake)
                    seen = poll()
                    samples[way].append(meter.stop(1))
                    assert seen == len(names) * (2 if (way, what) == ("lro", "read") else 1), seen
            for way, found in samples.items():
                yield {
                    "benchmark": f"{latency * 1e3:g} ms, {what} {len(names)} children: {way}",
                    "ms": round(median(sample.wall for sample in found) * 1e3, 1),
                    "CPU ms": round(median(sample.cpu for sample in found) * 1e3, 1),
                    "RPCs": round(median(sample.rpcs for sample in found)),
                }
            yield {
                "benchmark": f"{latency * 1e3:g} ms, {what} {len(names)} children: ratio",
                "lro / database": round(ratio(samples["lro"], samples["database"]), 2),
            }
        store.close()
        program.close()


def create(fake: Fake, names: Sequence[str]) -> None:
    """Operations that somebody else drives, and that do not end."""

    async def run() -> None:
        async with lro.Client(fake.url) as client:
            ids = [name.removeprefix("operations/") for name in names]
            await asyncio.gather(*(client.create(lease=False, operation_id=id_) for id_ in ids))

    asyncio.run(run())


def median(values: Iterator[float]) -> float:
    return statistics.median(list(values))


def ratio(these: Sequence[Sample], those: Sequence[Sample]) -> float:
    return median(this.rate / that.rate for this, that in zip(these, those, strict=True))


def cpu_ratio(these: Sequence[Sample], those: Sequence[Sample]) -> float:
    """Of the seconds of this process for each operation: it depends less on what else the machine does."""
    return median(this.cpu / this.count / (that.cpu / that.count) for this, that in zip(these, those, strict=True))


def settings(plan: Plan) -> dict[str, float | str]:
    lanes = lro.SpannerStore(project="project", instance="instance", database="database").lanes
    return {
        "benchmark": "settings",
        "python": platform.python_version(),
        "google-cloud-spanner": importlib.metadata.version("google-cloud-spanner"),
        "grpcio": importlib.metadata.version("grpcio"),
        "cores": os.cpu_count() or 0,
        "platform": platform.platform(),
        "store": "FakeSpanner in another process, variant proto, latency slept before every call",
        "client": f"defaults, with {lanes} lanes of writes",
        "seconds": plan.seconds,
        "rounds": plan.rounds,
    }


def show(result: dict[str, float | str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result), flush=True)
        return
    figures = "   ".join(f"{key} {value:,}" for key, value in result.items() if not isinstance(value, str))
    print(f"{result['benchmark']:<42}{figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help="of all measurements of one setting")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    plan = Plan(seconds=arguments.seconds, rounds=arguments.rounds)
    if arguments.quick:
        plan = QUICK
    if arguments.json:
        show(settings(plan), as_json=True)
    else:
        print("\n".join(f"{key}: {value}" for key, value in settings(plan).items() if key != "benchmark"))
    for latency in plan.latencies:
        for concurrency in plan.concurrencies:
            for result in lifecycle(latency, concurrency, plan):
                show(result, as_json=arguments.json)
        for result in children(latency, plan):
            show(result, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
