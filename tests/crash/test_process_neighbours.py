"""Processes on one file that are killed and stopped: the dead are known at once, the living keep what they have.

``tests/postgres`` has the same for those on one table.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from .processes import Workers

SOON = 15.0
"""Seconds: half of the lease, far above what a take-over takes."""
LEASE = 30


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_killed_process_is_followed_at_once(workers: Workers, store_url: str) -> None:
    first = workers.start(store_url, lease=LEASE, starts=[("relay", {"last_claim": 2}, "one")])
    await workers.seen("begin", pid=first)
    second = workers.start(store_url, lease=LEASE)
    await workers.seen("ready", pid=second)
    killed = workers.kill(first)
    (resumed,) = await workers.seen("begin", pid=second)
    assert resumed["time"] - killed < SOON
    assert resumed["attempt"] == 2, "it was a crash"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_only_process_goes_on_at_once_when_it_is_started_again(workers: Workers, store_url: str) -> None:
    first = workers.start(
        store_url, lease=LEASE, starts=[("relay", {"index": i, "last_claim": 2}, f"{i}") for i in range(50)]
    )
    await workers.seen("begin", count=50, pid=first)
    workers.kill(first)
    second = workers.start(store_url, lease=LEASE)
    (up,) = await workers.seen("up", pid=second)
    ends = await workers.seen("end", count=50, pid=second)
    assert ends[-1]["time"] - up["time"] < SOON


async def stop_between_writes(workers: Workers, pid: int, store_url: str) -> None:
    """Stop a process while it does not hold the lock of the file: nobody else could write then."""
    while True:
        workers.stop(pid)
        if not store_url.startswith("sqlite:"):  # a server takes the locks of one that stands still away
            return
        with contextlib.closing(sqlite3.connect(store_url.removeprefix("sqlite:///"), timeout=1.0)) as file:
            try:
                file.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                workers.go_on(pid)
                await asyncio.sleep(0.05)  # real time is what it writes in
            else:
                return


@pytest.mark.slow
@pytest.mark.asyncio
async def test_one_that_stands_still_keeps_what_it_has_while_others_die_beside_it(
    workers: Workers, store_url: str
) -> None:
    standing = workers.start(store_url, lease=LEASE, starts=[("part", {"work": 4.0}, "kept")])
    (kept,) = await workers.seen("begin", pid=standing)
    await workers.seen("ready", pid=standing)
    await stop_between_writes(workers, standing, store_url)
    dying = workers.start(store_url, lease=LEASE, starts=[("relay", {"last_claim": 2}, "lost")])
    (lost,) = await workers.seen("begin", pid=dying)
    workers.start(store_url, lease=LEASE)
    workers.kill(dying)
    await workers.seen("end", name=lost["name"])
    workers.go_on(standing)
    await workers.seen("end", pid=standing, name=kept["name"])
    assert len(workers.entries("begin", name=kept["name"])) == 1


@pytest.mark.slow
@pytest.mark.asyncio
async def test_without_its_files_a_dead_process_is_followed_after_its_lease(
    workers: Workers, store_url: str, files: Path
) -> None:
    first = workers.start(store_url, lease=1.5, starts=[("relay", {"last_claim": 2}, "one")])
    await workers.seen("begin", pid=first)
    shutil.rmtree(files)
    second = workers.start(store_url, lease=1.5)
    await workers.seen("ready", pid=second)
    killed = workers.kill(first)
    (resumed,) = await workers.seen("begin", pid=second)
    renewed = [entry["began"] for entry in workers.entries("moved", pid=first)][-1]
    assert resumed["time"] - renewed > 2.0, "a lease of 1.5 s, and half as long in which it did not move"
    assert resumed["time"] - killed < SOON, "long before the next sweep"


def start(workers: Workers, store_url: str, number: int) -> int:
    """A process that starts ten operations, each of a second and a half."""
    starts = [("part", {"index": index, "work": 1.5}, f"part-{number}-{index}") for index in range(10)]
    return workers.start(store_url, lease=LEASE, max_attempts=100, starts=starts)


async def disturb(workers: Workers, store_url: str, files: Path, dice: random.Random, running: list[int]) -> None:
    """Kill, stop, continue and start processes, and throw their files away; in the end, all that are left go on."""
    for number in range(3, 33):
        await asyncio.sleep(dice.uniform(0.05, 0.2))
        chosen = dice.choice(running)
        match dice.choice(("kill", "kill", "stop", "go on", "files")):
            case "kill":
                workers.kill(chosen)
                running.remove(chosen)
                running.append(start(workers, store_url, number))
            case "stop" if not workers.stands(chosen):
                workers.stop(chosen)
            case "go on" if workers.stands(chosen):
                workers.go_on(chosen)
            case "files":
                left = list(files.iterdir())
                with contextlib.suppress(FileNotFoundError):
                    dice.choice(left or [files / "none is left"]).unlink()
    for pid in filter(workers.stands, running):
        workers.go_on(pid)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
@pytest.mark.asyncio
async def test_no_operation_is_ever_run_by_two_at_a_time(
    workers: Workers, store_url: str, files: Path, seed: int
) -> None:
    """No lease is over within this test: whoever takes an operation has been told that its holder is dead."""
    dice = random.Random(seed)
    running = [start(workers, store_url, number) for number in range(3)]
    await workers.seen("ready", count=3)
    await disturb(workers, store_url, files, dice, running)
    await workers.until(lambda: any(one["claim"] > 1 for one in workers.entries("begin")), what="some are taken over")
    holders: dict[str, int] = {}
    for entry in workers.entries():
        holder = holders.get(entry.get("name", ""))
        if entry["event"] == "begin":
            died = holder is None or (holder in workers.killed and workers.killed[holder].begin < entry["time"])
            assert died, f"{entry} while {holder} had it\n{workers.report()}"
            holders[entry["name"]] = entry["pid"]
        elif entry["event"] in ("end", "stopped", "raised") and holder == entry["pid"]:
            del holders[entry["name"]]
