"""The crash campaign over any store that several processes can share: run it, and account for every run."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any

import lro_aio as lro

from .accounts import Account, Watcher
from .families import Families
from .plans import Plan, Report
from .processes import Span, Workers

__all__ = ["Plan", "campaign"]


async def campaign(store_url: str, workers: Workers, plan: Plan | None = None) -> Report:
    """Run the operations under the faults of the plan: processes die, stand still, have wrong clocks, lose answers.

    Raises:
        AssertionError: Something was lost, done twice, or not explained; or the deadline passed.
    """
    plan = plan if plan is not None else Plan()
    report = Report()
    began = time.monotonic()
    async with lro.Client(store_url, worker=False) as client:
        families = Families(client, workers, plan, report)
        watcher = Watcher(client.store, plan, report, families.deleted)
        course = Course(store_url, workers, plan, report, families)
        try:
            async with asyncio.timeout(plan.deadline):
                await course.run(watcher)
                await _stop(workers)
        except TimeoutError:
            report.problems.append(f"not all have ended after {plan.deadline:g} s: {watcher.states()}")
        await watcher.look()
        report.seconds = time.monotonic() - began
        report.kills = len(workers.killed)
        if report.kills < (min(1, plan.least_kills) if course.slow else plan.least_kills):
            report.problems.append(f"only {report.kills} kills: the campaign is too easy")
        report.problems += [f"a worker failed: {entry}" for entry in workers.entries("failed")]
        families.check(watcher.rows)
        Account(plan, workers, report, watcher.rows.values(), course.still).check()
    if report.problems:
        shown = "\n".join(report.problems[:30])
        raise AssertionError(f"{len(report.problems)} problems; {report}\n{shown}\n{workers.report()}")
    return report


class Course:
    """The processes of a campaign, and what happens to them. Each kind of fault has its own dice, of the same seed."""

    def __init__(self, store_url: str, workers: Workers, plan: Plan, report: Report, families: Families) -> None:
        self.still: list[Span] = []
        """When all processes stood still at once."""
        self._store_url = store_url
        self._workers = workers
        self._plan = plan
        self._report = report
        self._families = families
        self._dice = {
            kind: random.Random(f"{plan.seed} {kind}") for kind in ("starts", "inside", "kill", "stop", "step")
        }
        self._next = {
            kind: time.monotonic() + interval if interval else math.inf
            for kind, interval in (("kill", plan.kill_every), ("stop", plan.stop_every), ("step", plan.step_every))
        }
        self._go_on_at = math.inf
        self._off = [0.0] * plan.processes
        """By how much the clock of each process is off."""
        self._starts = self._plan_starts()
        self._running: list[int] = []
        self._leaving: list[int] = []
        """Who was told to stop, and is still there."""
        self._pause = plan.kill_every
        self.slow = False
        """The machine had no time to start processes as often as the plan kills them: fewer were killed."""
        self._progress = 0
        """How far the operations were at the last kill."""

    async def run(self, watcher: Watcher) -> None:
        """Let everything happen until all operations have ended."""
        self._running = [self._start(place) for place in range(self._plan.processes)]
        await self._families.start()
        while not (watcher.all_ended() and self._families.over(watcher.rows)):
            self._replace_dead()
            self._stop_and_go_on()
            if not self._all_still:
                self._kill(watcher.progress())
                self._step()
            await self._families.act(watcher.rows)
            due = min(self._go_on_at, *self._next.values()) - time.monotonic()
            await asyncio.sleep(max(0.0, min(self._plan.look_every, due)))
            await watcher.look()
        self._go_on()

    @property
    def _all_still(self) -> bool:
        return bool(self.still) and self.still[-1].end == math.inf

    def _plan_starts(self) -> list[Any]:
        plan = self._plan
        spread = plan.most_work - plan.least_work
        starts = []
        for index in range(plan.operations):
            work = plan.least_work + spread * index / max(1, plan.operations - 1)
            job = {"index": index, "work": work, "fan": plan.fan, "nap": plan.nap}
            if plan.step_every:
                job["timeout"] = None  # a clock that is set ends it early, or late
            starts.append(("campaign", job, f"op-{index}"))
        self._dice["starts"].shuffle(starts)
        return starts

    def _start(self, place: int) -> int:
        # Each starts all operations: a repeated request finds what an earlier one made, whoever died in between.
        plan, dice = self._plan, self._dice["inside"]
        config: dict[str, Any] = {"starts": self._starts, "cancels": self._families.cancels()}
        if plan.lost:
            config["lose"] = {"lost": plan.lost, "seed": dice.random()}
        if dice.random() < plan.inside:
            config["kill"] = {"nth": dice.randint(2, 40), "when": "inside"}
        if plan.step_every:
            config["clock"] = self._workers.clock(self._off[place])
        return self._workers.start(
            self._store_url,
            lease=plan.lease,
            sweep=plan.sweep,
            max_attempts=plan.max_attempts,
            max_running=plan.max_running,
            **config,
        )

    def _due(self, kind: str, interval: float) -> bool:
        if time.monotonic() < self._next[kind]:
            return False
        self._next[kind] = time.monotonic() + interval  # what a busy machine made late is not made up for in a burst
        return True

    def _replace_dead(self) -> None:
        if self._plan.inside:
            for place, pid in enumerate(self._running):
                if self._workers.has_died(pid):
                    self._running[place] = self._start(place)

    def _kill(self, progress: int) -> None:
        """Kill, or stop for good, one of the processes, but leave them the time to come on in.

        On a machine on which a process needs longer for its start than it has, nothing would ever be done.
        """
        if not self._due("kill", self._pause):
            return
        self._leaving = [pid for pid in self._leaving if self._workers.alive(pid)]
        if len(self._leaving) >= self._plan.processes:
            return
        stuck = progress <= self._progress
        self._pause = 2 * self._pause if stuck else self._plan.kill_every
        self.slow = self.slow or self._pause > 2 * self._plan.kill_every
        self._progress = progress
        dice, place = self._dice["kill"], self._dice["kill"].randrange(self._plan.processes)
        pid = self._running[place]
        gentle = dice.random() < self._plan.gentle and not self._workers.stands(pid)
        if self._workers.alive(pid):
            (self._workers.terminate if gentle else self._workers.kill)(pid)
            self._leaving += [pid] if gentle else []
        elif self._plan.inside:
            self._workers.has_died(pid)
        self._running[place] = self._start(place)

    def _stop_and_go_on(self) -> None:
        if time.monotonic() >= self._go_on_at:
            self._go_on()
        if self._due("stop", self._plan.stop_every) and self._go_on_at == math.inf:
            dice = self._dice["stop"]
            everybody = dice.random() < self._plan.stop_all
            pids = list(self._running) if everybody else [dice.choice(self._running)]
            for pid in filter(self._workers.alive, pids):
                self._workers.stop(pid)
            if everybody:
                self.still.append(Span(time.time()))
            self._report.stops += 1
            self._go_on_at = time.monotonic() + self._plan.stop_for

    def _go_on(self) -> None:
        if self._all_still:
            self.still[-1].end = time.time()
        for pid in filter(self._workers.stands, self._running):
            self._workers.go_on(pid)
        self._go_on_at = math.inf

    def _step(self) -> None:
        if not self._due("step", self._plan.step_every):
            return
        dice = self._dice["step"]
        off = dice.choice((0.0, *self._plan.steps))
        everybody = dice.random() < self._plan.step_all
        for place in range(self._plan.processes) if everybody else [dice.randrange(self._plan.processes)]:
            self._off[place] = off
            self._workers.step(self._running[place], off)
        self._report.steps += 1


async def _stop(workers: Workers) -> None:
    for pid in workers.started():
        if workers.alive(pid):
            workers.terminate(pid)
    await workers.until(lambda: not any(map(workers.alive, workers.started())), what="the workers end on SIGTERM")
