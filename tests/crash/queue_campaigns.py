"""Campaigns against queues: no limit is exceeded, not by one, whatever becomes of the processes."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import lro_aio as lro

from .processes import Entry, Workers

__all__ = ["of_operations", "of_steps"]

LEASE = 2.0
PROCESSES = 4
OPERATIONS = 120
FAULTS_FOR = 25.0
"""Seconds for which processes are killed, stopped and shut down."""
RESTARTS = 0.2
"""Of the faults, those that come with a restart of the server."""
RUNNING, PER_KEY, KEYS = 4, 2, 3
"""As the handler "queued" declares them; "calls" has one place less."""


def key_of(name: str) -> str:
    return str(int(name.rpartition("-")[2]) % KEYS)


def held(entries: list[Entry]) -> Iterator[tuple[float, float, str]]:
    """From when to when each operation had a place, and whose it was: never longer than it had it.

    A run begins in the ledger after its claim was committed, and leaves it before its end is. Of a process that died,
    or that stood still for longer than its lease, the place goes over to the next claim of the same operation: what the
    old run writes from then on, the store refuses, and it counts no more here either.
    """
    runs: dict[str, dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if entry["event"] in ("begin", "end", "stopped", "raised"):
            runs[entry["name"]][entry["claim"]].append(entry)
    for name, claims in runs.items():
        numbers = sorted(claims)
        for number, following in zip(numbers, [*numbers[1:], None], strict=True):
            begin, *left = [entry["time"] for entry in claims[number]]
            limit = claims[following][0]["time"] if following is not None else float("inf")
            yield begin, min([*left[:1], limit]), name


def called(entries: list[Entry]) -> Iterator[tuple[float, float, str]]:
    """From when to when each call had a place, and the key: never longer than it had it.

    The place of a call of a process that died, or stood still for too long, is given back by the next claim, and may
    be another's before the run of that claim begins. Where that claim is not in the ledger, for its process was killed
    between the commit and the line, nobody knows since when.
    """
    begun = {(entry["name"], entry["claim"]): entry["time"] for entry in entries if entry["event"] == "begin"}
    for entry in entries:
        if entry["event"] == "moved":
            for name, claim in entry["claims"].items():
                begun[name, claim] = min(entry["began"], begun.get((name, claim), entry["began"]))
    ended = {(e["name"], e["claim"], e["key"]): e["time"] for e in entries if e["event"] == "called"}
    left = {(e["name"], e["claim"]): e["time"] for e in entries if e["event"] in ("stopped", "end", "raised")}
    for entry in entries:
        if entry["event"] == "call":
            name, claim, key = entry["name"], entry["claim"], entry["key"]
            later = [time for (other, number), time in begun.items() if other == name and number > claim]
            missed = bool(later) and (name, claim + 1) not in begun
            next_one = entry["time"] if missed else min(later, default=None)
            stops = [ended.get((name, claim, key)), left.get((name, claim)), next_one]
            yield entry["time"], min((stop for stop in stops if stop is not None), default=float("inf")), key


def most_at_a_time(spans: list[tuple[float, float, str]]) -> int:
    """Of these spans."""
    edges = sorted([(begin, 1) for begin, _, _ in spans] + [(end, -1) for _, end, _ in spans])
    most = now = 0
    for _, edge in edges:
        now += edge
        most = max(most, now)
    return most


Restart = Callable[[], None]
"""Restarts the server of the store, at once; returns when it answers again."""


async def tormented(workers: Workers, url: str, rng: random.Random, restart: Restart | None) -> None:
    """Kill, stop and shut down processes, and the server too where there is one; each is replaced."""
    until = time.monotonic() + FAULTS_FOR
    alive: set[int] = set()
    while time.monotonic() < until:
        while len(alive) < PROCESSES:
            alive.add(workers.start(url, lease=LEASE, max_attempts=100))
        await asyncio.sleep(rng.uniform(0.1, 0.6))
        if restart is not None and rng.random() < RESTARTS:
            await asyncio.to_thread(restart)
        # One that begins while its server is away has not begun: a supervisor would start it again.
        alive = {pid for pid in alive if workers.alive(pid)} if restart is not None else alive
        if not alive:
            continue
        pid = rng.choice(sorted(alive))
        what = rng.choice(["kill", "kill", "stop", "terminate"])
        if what == "stop":
            workers.stop(pid)
            await asyncio.sleep(LEASE * rng.uniform(0.5, 2.0))
            workers.go_on(pid)
            continue
        (workers.kill if what == "kill" else workers.terminate)(pid)
        alive.discard(pid)
    for _ in range(PROCESSES):
        workers.start(url, lease=LEASE, max_attempts=100)


async def of_operations(workers: Workers, store_url: str, seed: int, restart: Restart | None = None) -> None:
    """Operations wait for places, and processes die."""
    rng = random.Random(seed)
    async with lro.Client(store_url, worker=False) as client:
        ops = [
            await client.start("queued", {"index": n, "work": rng.uniform(0.02, 0.5)}, operation_id=f"q-{n}")
            for n in range(OPERATIONS)
        ]
        await tormented(workers, store_url, rng, restart)
        async with asyncio.timeout(120):
            await asyncio.gather(*(op.result() for op in ops))
        spans = list(held(workers.entries()))
        assert most_at_a_time(spans) == RUNNING, workers.report()
        for key in map(str, range(KEYS)):
            assert most_at_a_time([span for span in spans if key_of(span[2]) == key]) <= PER_KEY, workers.report()
        assert {name for _, _, name in spans} == {op.name for op in ops}
        seen = await client.queues.get("crash")
        assert (seen.running, seen.waiting) == (0, 0)


async def of_steps(workers: Workers, store_url: str) -> None:
    """Calls of handlers wait for places, and processes die."""
    rng = random.Random(3)
    async with lro.Client(store_url, worker=False) as client:
        ops = [
            await client.start("calls", {"index": n, "work": rng.uniform(0.02, 0.3), "fan": 4}, operation_id=f"c-{n}")
            for n in range(30)
        ]
        await tormented(workers, store_url, rng, None)
        async with asyncio.timeout(120):
            await asyncio.gather(*(op.result() for op in ops))
        spans = list(called(workers.entries()))
        assert most_at_a_time(spans) == RUNNING - 1, workers.report()
        for key in map(str, range(4)):
            assert most_at_a_time([span for span in spans if span[2] == key]) <= PER_KEY, workers.report()
        seen = await client.queues.get("calls")
        assert (seen.running, seen.waiting) == (0, 0)
