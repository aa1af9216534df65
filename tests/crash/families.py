"""Parents that are cancelled or deleted while they start children: no child may be left behind."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

import lro_aio as lro
from lro_aio.core.record import Record, State
from lro_aio.core.transitions import PASS_ON

from .plans import Plan, Report
from .processes import Workers
from .worker_process import Job, insist

FAN = 8
"""Children that a parent starts, one after the other."""
PAUSE = 0.03
"""Seconds between two of them."""


class Families:
    """Starts such parents, and strikes when a parent has some of its children.

    A doomed parent and its children end only by its cancel: one that it does not reach is there for ever. Half of the
    cancels are given to worker processes, which may die before they have passed them on. Half of the cancelled are
    deleted as soon as the cancel is committed.
    """

    def __init__(self, client: lro.Client, workers: Workers, plan: Plan, report: Report) -> None:
        self.deleted: set[str] = set()
        self._client = client
        self._workers = workers
        self._plan = plan
        self._report = report
        self._dice = random.Random(f"{plan.seed} families")
        self._struck_at: dict[str, int] = {}
        """Of each parent that lives on: how many children it has when it is struck."""
        self._doomed: list[str] = []
        self._forgotten: list[str] = []
        self._by_workers: list[str] = []
        self._to_delete: set[str] = set()
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        """Start the parents."""
        for handler, count, names in (
            ("doomed", self._plan.doomed, self._doomed),
            ("forgotten", self._plan.forgotten, self._forgotten),
        ):
            for index in range(count):
                job = Job(index=index, fan=FAN, nap=PAUSE)
                op = await insist(lambda h=handler, j=job, i=index: self._client.start(h, j, request_id=f"{h}-{i}"))
                names.append(op.name)
                self._struck_at[op.name] = self._dice.randint(1, FAN)
        self._to_delete = {name for name in self._doomed if self._dice.random() < 0.5}
        if self._plan.kill_every:  # else none begins later
            self._by_workers = [name for name in self._doomed if self._dice.random() < 0.5]

    def cancels(self) -> list[str]:
        """What a process that begins now is to cancel."""
        return [name for name in self._by_workers if name not in self._struck_at]

    async def act(self, rows: Mapping[str, Record]) -> None:
        """Strike whoever has as many children as was drawn for him."""
        children = self._children(rows)
        for name, count in list(self._struck_at.items()):
            if len(children.get(name, ())) < count:
                continue
            del self._struck_at[name]
            if name in self._forgotten:
                self.deleted.add(name)
                self._spawn(insist(lambda n=name: self._client.delete_operation(n)))
            elif name not in self._by_workers:
                self._spawn(insist(lambda n=name: self._client.cancel_operation(n)))
        for name in [name for name in self._to_delete if name in rows and rows[name].cancel_requested]:
            self._to_delete.discard(name)
            self.deleted.add(name)
            self._spawn(insist(lambda n=name: self._client.delete_operation(n)))

    def over(self, rows: Mapping[str, Record]) -> bool:
        """Whether all have been struck, and nobody is left who has not ended."""
        if self._struck_at or self._to_delete or not all(task.done() for task in self._tasks):
            return False
        names = {*self._doomed, *self._forgotten}
        return all(
            row.done or (row.name in self.deleted and row.name in names)
            for row in rows.values()
            if row.name in names or row.parent_operation in names
        ) and all(self._waits_for_clock(row) for row in self._hidden())

    def check(self, rows: Mapping[str, Record]) -> None:
        """Find the problems."""
        for task in self._tasks:
            if task.done() and task.exception() is not None:
                self._problem(f"a cancel or a delete failed: {task.exception()!r}")
        self._report.problems += [
            f"families: a child was started too late: {e}" for e in self._workers.entries("too_late")
        ]
        self._report.refused = len(self._workers.entries("refused"))
        for row in self._hidden():
            if not self._waits_for_clock(row):
                self._problem(f"was deleted and is still there: {row}")
        children = self._children(rows)
        for name in self._doomed:
            if name not in self.deleted and rows[name].state is not State.CANCELLED:
                self._problem(f"was cancelled, and is {rows[name]}")
            for child in children.get(name, ()):
                if child.state is not State.CANCELLED:
                    self._problem(f"is an orphan of a cancelled parent: {child}")
        for name in self._forgotten:
            states = [child.state for child in children.get(name, ())]
            if states != [State.SUCCEEDED] * FAN:
                self._problem(f"{name} was deleted, and its children are {states}")

    def _hidden(self) -> list[Record]:
        """Deleted rows that are still there."""
        return self._client.store.read(sorted(self.deleted)) if self.deleted else []

    def _waits_for_clock(self, row: Record) -> bool:
        """Whether all that is left to do is to note that its cancel was passed on, an hour later by the clocks."""
        ahead = bool(self._plan.step_every) and (row.check_time or 0.0) > time.time() + 2 * PASS_ON
        return row.done and row.cancel_children and ahead

    def _children(self, rows: Mapping[str, Record]) -> dict[str, list[Record]]:
        children: dict[str, list[Record]] = {}
        for row in rows.values():
            if row.handler in ("held", "left"):
                children.setdefault(row.parent_operation, []).append(row)
        return children

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _problem(self, text: str) -> None:
        self._report.problems.append(f"families: {text}")
