"""Straight code under SIGKILL: no operation lost, no stored step run again, each message received once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import defaultdict
from typing import Any

import pytest

import lro_aio as lro

from .processes import Entry, Workers
from .straight_handlers import CHILDREN, MESSAGES, PARTS

WORKERS = 3
LEASE = 1.0
EVERY = 0.3
"""Seconds between two kills."""
DEADLINE = 240.0
MODULE = "tests.crash.straight_handlers"


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_that_was_stored_is_done_again(workers: Workers, store_url: str, seed: int) -> None:
    await campaign(workers, store_url, seed=seed, operations=60, kills=60)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_short_campaign(workers: Workers, store_url: str) -> None:
    await campaign(workers, store_url, seed=7, operations=8, kills=6)


async def campaign(workers: Workers, store_url: str, *, seed: int, operations: int, kills: int) -> None:
    """Kill a worker every 300 ms while the operations run; then let them end, and account for every run of a step."""
    dice = random.Random(seed)
    running = [start(workers, store_url, dice) for _ in range(WORKERS)]
    async with lro.Client(store_url, worker=False, linger=0) as client:
        names = [
            (await client.start("pipeline", {"n": number}, request_id=f"{seed}-{number}")).name
            for number in range(operations)
        ]
        sending = asyncio.create_task(send_all(client, names, dice))
        began = time.monotonic()
        left = set(names)
        while left:
            assert time.monotonic() - began < DEADLINE, await told(client, left)
            await asyncio.sleep(EVERY)
            if sending.done():
                sending.result()
            if kills:
                kills -= 1
                victim = running.pop(dice.randrange(len(running)))
                workers.kill(victim)
                running.append(start(workers, store_url, dice))
            left = {name for name in left if not (await client.get_operation(name)).done}
        await sending
        problems = [problem for name in names for problem in await account(client, name)]
        problems += await steps(client, workers)
        assert not problems, "\n".join(problems[:20])


def start(workers: Workers, store_url: str, dice: random.Random) -> int:
    return workers.start(store_url, lease=LEASE, sweep=1.0, more=[MODULE], linger=dice.choice([0, 0.2, 1.0]))


async def send_all(client: lro.Client, names: list[str], dice: random.Random) -> None:
    """Every message of every operation, some of them twice, in no order."""
    messages = [(name, number) for name in names for number in range(MESSAGES)]
    messages += dice.sample(messages, len(messages) // 2)
    dice.shuffle(messages)
    for name, number in messages:
        await send(client, name, number)
        await asyncio.sleep(0.01)


async def send(client: lro.Client, name: str, number: int) -> None:
    """Send a message until the store has it: a busy one may not answer, and a repeat is the same message."""
    while True:
        with contextlib.suppress(lro.StoreUnavailableError):
            await client.send(name, "go", number, message_id=f"m{number}")
            return
        await asyncio.sleep(EVERY)


async def account(client: lro.Client, name: str) -> list[str]:
    """What is wrong with the result of one operation."""
    operation = await client.operation(name, response=dict[str, Any])
    found = await operation.result()
    problems = []
    if sorted(found["received"]) != list(range(MESSAGES)) or found["late"] != "late":
        problems.append(f"{name} received {found['received']} and {found['late']!r}")
    if found["children"] != list(range(CHILDREN)):
        problems.append(f"{name} has the children {found['children']}")
    if found["parts"] != ["first", *(f"part {number}" for number in range(PARTS)), "last"]:
        problems.append(f"{name} has the parts {found['parts']}")
    return problems


async def steps(client: lro.Client, workers: Workers) -> list[str]:
    """What is wrong with the steps of all operations, children among them."""
    problems = []
    paid: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for line in workers.entries("paid"):
        paid[line["name"]][line["key"]].append(line)
    for name, runs in paid.items():
        stored = {step_of(entry): entry.time for entry in await client.history(name) if entry.kind == "STEP"}
        for key, lines in runs.items():
            alive = [one["pid"] for one, later in itertools.pairwise(lines) if not may_be_taken(workers, one, later)]
            if key not in stored:
                problems.append(f"{name}: the result of {key!r} is not there")
            elif alive:
                problems.append(f"{name}: {key!r} was run again, and processes {alive} had not died: {lines}")
            elif lines[-1]["time"] > stored[key] + 0.001:
                problems.append(f"{name}: {key!r} was run again after its result was stored: {lines}, {stored[key]}")
    return problems


def may_be_taken(workers: Workers, line: Entry, later: Entry) -> bool:
    """Whether the process of a run was killed, or had not renewed its lease for as long as rule 4 says."""
    if line["pid"] in workers.killed:
        return True
    moved = [one["began"] for one in workers.entries("moved", pid=line["pid"]) if line["name"] in one["names"]]
    last = max((began for began in moved if began <= later["time"]), default=line["time"])
    return later["time"] - last >= 1.5 * LEASE  # by a machine that was too busy to let it


def step_of(entry: lro.HistoryEntry) -> str:
    """As the ledger calls it."""
    return f"part {entry.key}" if entry.name == "part" else entry.name


async def told(client: lro.Client, left: set[str]) -> str:
    """The histories of some operations that have not ended."""
    lines = []
    for name in sorted(left)[:2]:
        lines.append(str((await client.engine.rows.record(name)).outline()))
        lines += [str(entry) for entry in (await client.history(name))[-12:]]
    return f"{len(left)} have not ended:\n" + "\n".join(lines)
