"""What every measured program shares: how it is told what to do, and how it measures. The standard library alone.

A program reads one JSON object a line, ``{"do": command, ...}``, runs that command and answers with one line: its
figures under "figures", or the traceback under "error". The first line that it writes says what it is: versions,
durability. At the end of the input it closes what it opened, and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

IN_PLACE = 0.02
"""Seconds after which a waiter has certainly begun to wait. Nothing else happens then, on any side."""

Figures = dict[str, float | None]
Command = Callable[..., Awaitable[Figures]]
Opened = AbstractAsyncContextManager[tuple[Mapping[str, Any], Mapping[str, Command]]]


def main(program: Callable[[argparse.Namespace], Opened], *options: str) -> None:
    """Run a program.

    Args:
        program: An async context manager that gives what to say first, and the commands.
        options: Names of arguments that it takes beside ``--folder``.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    for option in options:
        parser.add_argument(f"--{option}", default="")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    asyncio.run(_serve(program, arguments, lambda message: print(json.dumps(message), file=answers, flush=True)))


async def _serve(
    program: Callable[[argparse.Namespace], Opened],
    arguments: argparse.Namespace,
    answer: Callable[[dict[str, Any]], None],
) -> None:
    try:
        async with program(arguments) as (hello, commands):
            answer({"hello": hello})
            async for order in _orders():
                command = commands[order.pop("do")]
                try:
                    answer({"figures": await command(**order)})
                except Exception:  # the harness says which command it was, and stops
                    answer({"error": traceback.format_exc()})
    except Exception:
        answer({"error": traceback.format_exc()})
        raise


async def _orders() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


class Meter:
    """Wall time and CPU seconds of this process, and of others that work for it, from its making on.

    Args:
        others: Their process ids.
        own: Whether this process counts.
    """

    def __init__(self, others: Iterable[int] = (), *, own: bool = True) -> None:
        self._others = tuple(others)
        self._own = own
        self._cpu = self._seconds()
        self._wall = time.perf_counter()

    def _seconds(self) -> float:
        return (time.process_time() if self._own else 0.0) + sum(map(cpu_of, self._others))

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def cpu(self) -> float:
        return self._seconds() - self._cpu


def cpu_of(pid: int) -> float:
    """CPU seconds of another process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(*others: int) -> int:
    """Resident bytes of this process, and of others (Linux)."""
    gc.collect()
    pages = 0
    for pid in (os.getpid(), *others):
        pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def spread(values: Sequence[float], unit: float = 1e3) -> Figures:
    """p50 and p99, in milliseconds unless told otherwise."""
    if len(values) == 1:
        return {"p50": values[0] * unit, "p99": values[0] * unit}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49] * unit, "p99": cuts[98] * unit}


async def callers(
    once: Callable[[], Awaitable[Any]],
    concurrency: int,
    seconds: float,
    *,
    others: Iterable[int] = (),
    own: bool = True,
    commits: Callable[[], int] | None = None,
) -> Figures:
    """So many callers, each of which does it again and again; a quarter of the time more at first, as a warm-up.

    Args:
        once: What they do.
        concurrency: How many callers.
        seconds: For how long.
        others: Processes whose CPU counts too.
        own: Whether the CPU of this one does.
        commits: How many transactions there were so far.
    """

    async def caller(end: float, latencies: list[float]) -> None:
        while (began := time.perf_counter()) < end:
            await once()
            latencies.append(time.perf_counter() - began)

    async def crowd(duration: float) -> list[float]:
        latencies: list[float] = []
        end = time.perf_counter() + duration
        await asyncio.gather(*(caller(end, latencies) for _ in range(concurrency)))
        return latencies

    await crowd(seconds / 4)
    before = commits() if commits is not None else 0
    meter = Meter(others, own=own)
    latencies = await crowd(seconds)
    wall, cpu, count = meter.wall, meter.cpu, len(latencies)
    return {
        "rate": count / wall,
        **spread(latencies),
        "cpu": cpu / count * 1e6,
        "commits": None if commits is None else (commits() - before) / count,
    }


async def crowd_of(count: int, concurrency: int, once: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """``once`` for each number below ``count``, so many at a time; what they gave, in order."""
    numbers = iter(range(count))
    results: list[Any] = [None] * count

    async def caller() -> None:
        for number in numbers:
            results[number] = await once(number)

    await asyncio.gather(*(caller() for _ in range(min(concurrency, count))))
    return results


async def sleepers(
    count: int,
    idle: float,
    *,
    begin: Callable[[int, float], Awaitable[Any]],
    asleep: Callable[[], int],
    woken: Callable[[], list[float]],
    others: Sequence[int] = (),
    settle: float = 1.0,
) -> Figures:
    """So many that sleep until one common moment: what it costs to go to sleep, to sleep, and to wake.

    Args:
        count: How many.
        idle: Seconds, while all sleep, over which the CPU is measured.
        begin: ``begin(count, due)`` starts so many that sleep until ``due`` (epoch seconds).
        asleep: How many have gone to sleep since the last call, or are just about to.
        woken: By how many seconds those that woke since the last call did so late.
        others: Processes that work for this one.
        settle: Seconds in which what was begun last falls asleep.
    """
    first = min(count, 200)  # a warm-up, which also says how long the others will take
    meter = Meter()
    await begin(first, time.time() + settle)
    await _all_asleep(first, asleep)
    each = meter.wall / first
    await _all_woken(first, woken, patience=60)

    before = resident(*others)
    due = time.time() + 2 * settle + idle + 3 * count * each
    meter = Meter(others)
    await begin(count, due)
    await _all_asleep(count, asleep)
    suspended, cpu = meter.wall, meter.cpu
    await asyncio.sleep(settle)
    memory = (resident(*others) - before) / count
    resting = Meter(others)
    await asyncio.sleep(idle)
    share = resting.cpu / resting.wall
    early = time.time() < due
    waking = Meter(others)
    late = await _all_woken(count, woken, patience=max(0.0, due - time.time()) + 60 + count * each * 5)
    return {
        "suspend": suspended / count * 1e6,
        "suspend cpu": cpu / count * 1e6,
        "memory": memory,
        "idle": share * 100 if early else None,  # else some were due already
        **spread(late),
        "last": max(late),
        "wake cpu": waking.cpu / count * 1e6,
    }


async def _all_asleep(count: int, asleep: Callable[[], int]) -> None:
    """Those that were started may still wait for a free place."""
    while (count := count - asleep()) > 0:
        await asyncio.sleep(0.01)


async def _all_woken(count: int, woken: Callable[[], list[float]], *, patience: float) -> list[float]:
    late: list[float] = []
    end = time.monotonic() + patience
    while len(late) < count:
        if time.monotonic() > end:
            raise RuntimeError(f"only {len(late)} of {count} sleepers have woken")
        await asyncio.sleep(0.1)
        late += woken()
    return late


@contextlib.asynccontextmanager
async def helper(*command: str, cwd: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process that works for a program: it says one line when it is ready, and ends with its standard input."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
        if not line:
            raise RuntimeError(f"{command} ended before it was ready, with status {await process.wait()}")
        yield process, line
    finally:
        await stop(process)


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a process by closing its input, by SIGTERM where that is not enough, by SIGKILL in the end."""
    if process.stdin is not None:
        process.stdin.close()
    for end in (lambda: None, process.terminate, process.kill):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 3)
