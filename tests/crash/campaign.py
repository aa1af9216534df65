"""The crash campaign over any store that several processes can share: run it, and account for every run."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import struct_pb2

import lro_aio as lro
from lro_aio.core.record import Record, State
from lro_aio.ports import ListQuery, Store

from .processes import Entry, Workers

POINTS = ("", "slept", "collect")
"""The segments of the handler "campaign", in order."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How hard the campaign is. Times in seconds."""

    operations: int = 200
    least_work: float = 0.2
    most_work: float = 1.0
    fan: int = 2
    nap: float = 0.2
    processes: int = 3
    max_running: int = 10
    """Per process: keeps the campaign going for long enough to be killed often enough."""
    lease: float = 1.0
    max_attempts: int = 100
    kill_every: float = 0.3
    least_kills: int = 20
    gentle: float = 0.0
    """Share of the processes that are told to stop (SIGTERM) instead of killed."""
    look_every: float = 0.05
    deadline: float = 240.0
    seed: int = 0


@dataclass
class Report:
    """What a campaign came to."""

    seconds: float = 0.0
    kills: int = 0
    runs: int = 0
    cut: int = 0
    """Runs that a kill ended, or whose result it kept from being committed."""
    lost: int = 0
    """Runs that went on for so long without a renewal (a machine under load) that another process took over."""
    recovery: list[float] = field(default_factory=list)
    """Seconds from a kill to the next run of what it cut."""
    handed_over: list[float] = field(default_factory=list)
    """Seconds from the stop of a run by SIGTERM to the next run."""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        recovery = sorted(self.recovery) or [0.0]
        middle, high, most = recovery[len(recovery) // 2], recovery[int(len(recovery) * 0.95)], recovery[-1]
        return (
            f"{self.seconds:.1f} s, {self.kills} kills, {self.runs} runs of which {self.cut} were cut and {self.lost}"
            f" lost; {len(self.handed_over)} handed over;"
            f" recovery p50 {middle:.2f} s, p95 {high:.2f} s, max {most:.2f} s"
        )


async def campaign(store_url: str, workers: Workers, plan: Plan | None = None) -> Report:
    """Run the operations while killing the processes that run them.

    Raises:
        AssertionError: Something was lost, done twice, or not explained; or the deadline passed.
    """
    plan = plan if plan is not None else Plan()
    report = Report()
    began = time.monotonic()
    async with lro.Client(store_url, worker=False) as client:
        watcher = Watcher(client.store, plan, report)
        try:
            async with asyncio.timeout(plan.deadline):
                await _kill_until_ended(store_url, workers, plan, watcher)
                await _stop(workers)
        except TimeoutError:
            report.problems.append(f"not all have ended after {plan.deadline:g} s: {watcher.states()}")
        await watcher.look()
        report.seconds = time.monotonic() - began
        report.kills = len(workers.killed)
        if report.kills < plan.least_kills:
            report.problems.append(f"only {report.kills} kills: the campaign is too easy")
        report.problems += [f"a worker failed: {entry}" for entry in workers.entries("failed")]
        Account(plan, workers, report, watcher.rows.values()).check()
    if report.problems:
        shown = "\n".join(report.problems[:30])
        raise AssertionError(f"{len(report.problems)} problems; {report}\n{shown}\n{workers.report()}")
    return report


async def _kill_until_ended(store_url: str, workers: Workers, plan: Plan, watcher: Watcher) -> None:
    chance = random.Random(plan.seed)
    spread = plan.most_work - plan.least_work
    starts = []
    for index in range(plan.operations):
        work = plan.least_work + spread * index / max(1, plan.operations - 1)
        starts.append(("campaign", {"index": index, "work": work, "fan": plan.fan, "nap": plan.nap}, f"op-{index}"))
    chance.shuffle(starts)

    def start() -> int:
        # Each starts all operations: a repeated request finds what an earlier one made, whoever died in between.
        return workers.start(
            store_url, lease=plan.lease, max_attempts=plan.max_attempts, max_running=plan.max_running, starts=starts
        )

    running = [start() for _ in range(plan.processes)]
    next_kill = time.monotonic() + plan.kill_every
    while not watcher.all_ended():
        if time.monotonic() >= next_kill:
            next_kill += plan.kill_every
            place = chance.randrange(plan.processes)
            if chance.random() < plan.gentle:
                workers.terminate(running[place])
            else:
                workers.kill(running[place])
            running[place] = start()
        await asyncio.sleep(max(0.0, min(plan.look_every, next_kill - time.monotonic())))
        await watcher.look()


async def _stop(workers: Workers) -> None:
    for pid in workers.started():
        if workers.alive(pid):
            workers.terminate(pid)
    await workers.until(lambda: not any(map(workers.alive, workers.started())), what="the workers end on SIGTERM")


class Watcher:
    """Looks at all rows all the time: what has ended stays as it is, nothing goes back, nothing disappears."""

    def __init__(self, store: Store, plan: Plan, report: Report) -> None:
        self.rows: dict[str, Record] = {}
        self._store = store
        self._plan = plan
        self._report = report

    async def look(self) -> None:
        query = ListQuery(now=time.time(), limit=self._plan.operations * (1 + self._plan.fan) + 10)
        try:
            rows = {row.name: row for row in await asyncio.to_thread(self._store.list, query)}
        except lro.StoreUnavailableError:
            return
        for name, old in self.rows.items():
            new = rows.get(name)
            if new is None:
                self._problem(f"{name} has disappeared: {old}")
            elif old.done and new != old:
                self._problem(f"{name} had ended and has changed: {old} -> {new}")
            elif new.uid != old.uid or new.claim < old.claim or new.revision < old.revision:
                self._problem(f"{name} went back: {old} -> {new}")
        self.rows.update(rows)

    def all_ended(self) -> bool:
        """Whether there are as many rows as there must be, and all have ended."""
        expected = self._plan.operations * (1 + self._plan.fan)
        return len(self.rows) >= expected and all(row.done for row in self.rows.values())

    def states(self) -> dict[str, int]:
        """How many rows are in which state."""
        return Counter(f"{row.handler}/{row.resume_point} {row.state}" for row in self.rows.values())

    def _problem(self, text: str) -> None:
        self._report.problems.append(f"watcher: {text}")


class Account:
    """Holds the rows against the ledger: each run explained, each response made by a run that is in it."""

    def __init__(self, plan: Plan, workers: Workers, report: Report, rows: Iterable[Record]) -> None:
        self._plan = plan
        self._killed = workers.killed
        self._report = report
        self._rows = list(rows)
        self._runs: dict[str, list[list[Entry]]] = defaultdict(list)
        """By name, the entries of each run, in the order in which the runs began."""
        by_claim: dict[tuple[str, int, int], list[Entry]] = {}
        for entry in workers.entries():
            if "claim" not in entry:
                continue
            key = (entry["name"], entry["claim"], entry["pid"])
            if entry["event"] == "begin":
                if key in by_claim:
                    self._problem(entry["name"], f"began twice in one process with one claim: {entry}")
                by_claim[key] = [entry]
                self._runs[entry["name"]].append(by_claim[key])
            else:
                by_claim[key].append(entry)

    def check(self) -> None:
        """Find the problems."""
        expected = Counter(campaign=self._plan.operations, part=self._plan.operations * self._plan.fan)
        found = Counter(row.handler for row in self._rows)
        if found != expected:
            self._problem("all", f"{found} operations instead of {expected}")
        indexes = Counter(self._check_row(row) for row in self._rows)
        doubled = [index for index, count in indexes.items() if count > 1]
        if doubled:
            self._problem("all", f"several operations did the work of one: {doubled}")
        for name in self._runs.keys() - {row.name for row in self._rows}:
            self._problem(name, "ran and is not in the store")

    def _check_row(self, row: Record) -> tuple[str, int]:
        """Check one operation; returns what it was for."""
        if row.state is not State.SUCCEEDED:
            self._problem(row.name, f"did not end well: {row}")
            return row.handler, -1
        checked = row.check_time is not None and not row.parent_operation  # a child is kept for its parent
        if row.owner or row.lease_expire_time is not None or checked or row.wait is not None:
            self._problem(row.name, f"is still held or waited for: {row}")
        response = struct_pb2.Struct()
        row.to_operation().response.Unpack(response)
        members: dict[str, Any] = dict(response)
        index = int(members["index"])
        committed = [*map(int, members["claims"]), int(members["claim"])]
        if committed[-1] != row.claim:
            self._problem(row.name, f"its response is of claim {committed[-1]}, the row of claim {row.claim}")
        if row.handler == "campaign" and list(members["parts"]) != [index * 100 + n for n in range(self._plan.fan)]:
            self._problem(row.name, f"has the wrong parts: {list(members['parts'])}")
        points = POINTS if row.handler == "campaign" else ("",)
        if len(committed) != len(points):
            self._problem(row.name, f"committed {committed}, which should be one run for each of {points}")
        else:
            self._check_runs(row.name, dict(zip(committed, points)))
        return row.handler, index

    def _check_runs(self, name: str, committed: dict[int, str]) -> None:
        runs = self._runs[name]
        self._report.runs += len(runs)
        claims = [run[0]["claim"] for run in runs]
        if claims != sorted(set(claims)):
            self._problem(name, f"its claims are not unique and rising: {claims}")
        if missing := committed.keys() - set(claims):
            self._problem(name, f"claims {missing} committed something and are not in the ledger")
        for run, following in zip(runs, [*runs[1:], None]):
            begin, last = run[0], run[-1]
            claim = begin["claim"]
            before = max((each for each in committed if each < claim), default=0)
            after = min((each for each in committed if each >= claim), default=None)
            if after is None:
                self._problem(name, f"ran again after its end: {run}")
            elif begin["point"] != committed[after]:
                self._problem(name, f"ran {begin['point']!r} where {committed[after]!r} was next: {run}")
            # A claim that a process gives back as it stops is no attempt, and may never have come to a run.
            if begin["attempt"] > claim - before or (begin["attempt"] < claim - before and not self._plan.gentle):
                self._problem(name, f"is in attempt {claim - before}, and was told {begin['attempt']}")
            if claim not in committed:
                self._explain(name, run, following)
            elif last["event"] != "end":
                self._problem(name, f"was committed by a run that did not end: {run}")

    def _explain(self, name: str, run: list[Entry], following: list[Entry] | None) -> None:
        """A run that left nothing in the row: killed, or taken over while it was under way."""
        begin, last = run[0], run[-1]
        killed = self._killed.get(begin["pid"])
        if following is None:
            self._problem(name, f"a run without a trace is its last: {run}")
        elif last["event"] == "raised":
            self._problem(name, f"a run raised: {run}")
        elif last["event"] == "stopped" and last["reason"] == "LEASE_LOST":
            self._report.lost += 1
        elif last["event"] == "stopped" and last["reason"] == "SHUTDOWN" and self._plan.gentle:
            self._report.handed_over.append(following[0]["time"] - last["time"])
        elif killed is not None and killed >= last["time"] - 0.001:
            self._report.cut += 1
            self._report.recovery.append(following[0]["time"] - killed)
            if following[0]["time"] < killed and following[0]["time"] < last["time"]:
                self._report.lost += 1  # was taken over before it was killed
        elif last["event"] == "end" and following[0]["time"] <= last["time"]:
            self._report.lost += 1
        else:
            self._problem(name, f"nothing explains why a run left nothing: {run}, killed {killed}, then {following}")

    def _problem(self, name: str, text: str) -> None:
        self._report.problems.append(f"{name}: {text}")
