"""What must hold after a crash campaign, and while it goes on."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from google.protobuf import struct_pb2

import lro_aio as lro
from lro_aio.core.record import Record, State
from lro_aio.ports import ListQuery, Store

from .plans import Plan, Report
from .processes import Entry, Span, Workers

POINTS = ("", "slept", "collect")
"""The segments of the handler "campaign", in order."""


class Watcher:
    """Looks at all rows all the time: what has ended stays as it is, nothing goes back, nothing disappears."""

    def __init__(self, store: Store, plan: Plan, report: Report, deleted: Collection[str]) -> None:
        self.rows: dict[str, Record] = {}
        self._deleted = deleted
        self._store = store
        self._plan = plan
        self._report = report

    async def look(self) -> None:
        query = ListQuery(now=time.time(), limit=10_000)
        try:
            rows = {row.name: row for row in await asyncio.to_thread(self._store.list, query)}
        except lro.StoreUnavailableError:
            return
        for name, old in self.rows.items():
            new = rows.get(name)
            if new is None and name in self._deleted:
                continue
            if new is None:
                self._problem(f"{name} has disappeared: {old}")
            elif old.done and _end_of(new) != _end_of(old):
                self._problem(f"{name} had ended and has changed: {old} -> {new}")
            elif new.uid != old.uid or new.claim < old.claim or new.revision < old.revision:
                self._problem(f"{name} went back: {old} -> {new}")
        self.rows.update(rows)

    def all_ended(self) -> bool:
        """Whether there are as many rows as there must be, and all have ended."""
        ended = Counter(row.handler for row in self.rows.values() if row.done)
        plan = self._plan
        return ended["campaign"] >= plan.operations and ended["part"] >= plan.operations * plan.fan

    def progress(self) -> int:
        """How many segments of the operations are committed."""
        rows = [row for row in self.rows.values() if row.handler in ("campaign", "part")]
        return sum(len(POINTS) if row.done else POINTS.index(row.resume_point) for row in rows)

    def states(self) -> dict[str, int]:
        """How many rows are in which state."""
        return Counter(f"{row.handler}/{row.resume_point} {row.state}" for row in self.rows.values())

    def _problem(self, text: str) -> None:
        self._report.problems.append(f"watcher: {text}")


def _end_of(row: Record) -> tuple[Any, ...]:
    """What a reader sees of a row that has ended: the rest is bookkeeping."""
    return row.uid, row.state, row.end_time, row.metadata, row.response, row.error


class Account:
    """Holds the rows against the ledger: each run explained, each response made by a run that is in it."""

    def __init__(
        self, plan: Plan, workers: Workers, report: Report, rows: Iterable[Record], still: Sequence[Span]
    ) -> None:
        self._plan = plan
        self._killed = workers.killed
        self._stopped = workers.stopped
        self._still = still
        self._report = report
        self._rows = [row for row in rows if row.handler in ("campaign", "part")]
        self._moved: dict[tuple[str, int], list[float]] = defaultdict(list)
        """By name and process, when the process has moved the lease."""
        self._runs: dict[str, list[list[Entry]]] = defaultdict(list)
        """By name, the entries of each run, in the order in which the runs began."""
        by_claim: dict[tuple[str, int, int], list[Entry]] = {}
        for entry in workers.entries():
            if entry["event"] == "moved":
                for name in entry["names"]:
                    self._moved[name, entry["pid"]].append(entry["began"])
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
        for runs in self._runs.values():
            runs.sort(key=lambda run: run[0]["claim"])  # who stood still between claim and run may begin late

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
        ran = {name for name, runs in self._runs.items() if runs[0][0]["handler"] in ("campaign", "part")}
        for name in ran - {row.name for row in self._rows}:
            self._problem(name, "ran and is not in the store")
        for name, runs in self._runs.items():
            for run, following in itertools.pairwise(runs):
                self._check_taken(name, run, following)

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
        if len(claims) > len(set(claims)):
            self._problem(name, f"two runs have one claim: {claims}")
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
            # A claim that is given back, by a process that stops or does not reach the store, is no attempt.
            given_back = self._plan.gentle or self._plan.lost or self._plan.stop_every
            # Nor is one that had company when its process died, from the third on: see core.trials.
            least = 1 if given_back else min(claim - before, 3)
            if not least <= begin["attempt"] <= claim - before:
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
        elif self._was_taken(run, following):
            return  # `_check_taken` says whether it may
        elif last["event"] == "raised":
            if "StoreUnavailableError" not in last["error"]:
                self._problem(name, f"a run raised: {run}")
        elif last["event"] == "stopped" and last["reason"] == "SHUTDOWN" and self._plan.gentle:
            self._report.handed_over.append(following[0]["time"] - last["time"])
        elif killed is not None and killed.end >= last["time"] - 0.001:
            self._report.cut += 1
            self._report.recovery.append(following[0]["time"] - killed.begin)
        elif last["event"] == "end" and (killed is None or killed.begin > following[0]["time"]):
            self._judge_taken(name, run, following)  # its end was to be written yet
        else:
            self._problem(name, f"nothing explains why a run left nothing: {run}, killed {killed}, then {following}")

    def _was_taken(self, run: list[Entry], following: list[Entry]) -> bool:
        """Whether a run was another's before it had left the handler."""
        last, taken = run[-1], following[0]["time"]
        if last["event"] == "stopped" and last["reason"] == "LEASE_LOST":
            return True
        killed = self._killed.get(last["pid"])
        died = killed.begin if killed is not None else math.inf
        return taken < (died if last["event"] == "begin" else last["time"])

    def _check_taken(self, name: str, run: list[Entry], following: list[Entry]) -> None:
        if self._was_taken(run, following):
            self._judge_taken(name, run, following)

    def _judge_taken(self, name: str, run: list[Entry], following: list[Entry]) -> None:
        """A lease may be taken from a process that lives only where it has not moved for long (rule 4)."""
        pid, taken = run[0]["pid"], following[0]["time"]
        moved = max((when for when in self._moved[name, pid] if when <= taken), default=taken)
        still = sum(span.within(moved, taken) for span in self._still)
        stood = sum(span.within(moved, taken) for span in self._stopped[pid])
        # It must stand for 1.5 renew intervals after its end, and a clock that is set may end it at once.
        least = self._plan.lease * (0.5 if self._plan.step_every or still else 1.5)
        if taken - moved - still < least:
            self._report.taken += 1
            self._problem(
                name, f"was taken from the living {taken - moved - still:.2f} s after its renewal: {run}, {following}"
            )
        elif stood > still:
            self._report.stood += 1
        else:
            self._report.starved += 1

    def _problem(self, name: str, text: str) -> None:
        self._report.problems.append(f"{name}: {text}")
