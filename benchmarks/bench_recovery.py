"""f. kill -9 with operations in flight, and the time until another process has finished them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import Program
from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side, Taken
from benchmarks.sides import floor, ours, ours_on_postgresql, peers

LEASE = 30.0
QUICK_LEASE = 2.0

ABOUT = f"""\
1,000 handlers are in the middle of their work when their process is killed with SIGKILL (with Restate, server and
service both). Another process is started at once; there, the work takes no time. *Until finished* runs from its
start, with the interpreter's own, to the last commit. Ours finds that a lock is free which the dead process held, and
does not wait for its leases ({LEASE:g} s, the default): on PostgreSQL, that takes two processes of one machine. DBOS
recovers at launch what its own executor id left, without leases: with several processes, its Conductor, a service,
has to say which of them is dead.
Restate's server knows that its connections are gone. The floor updates the rows in one transaction."""


def sides(plan: Plan) -> list[Side]:
    lease = plan.pick(LEASE, QUICK_LEASE)
    found = [side for side in peers(plan) if side.name != "dbos-wal"]
    everybody = [
        ours("lro_recovers", "--lease", str(lease)),
        ours_on_postgresql(plan, "lro_recovers", "--lease", str(lease)),
        *found,
    ]
    return [*(replace(side, again=("--go", "1")) for side in everybody), floor()]


def cases(plan: Plan) -> list[Case]:
    count = plan.pick(1000, 100)
    return [Case(title=f"{count:,} in flight", order={"count": count})]


def take(side: Side, cases: Sequence[Case], folder: Path, said: dict[str, Any]) -> Taken:
    """Two lives of a program: the first is killed."""
    for case in cases:
        with Program(side, folder) as first:
            first.ask(replace(case, order={"do": "leave_running", **case.order}))
            first.kill()
        began = time.perf_counter()
        with Program(side, folder, again=True) as second:
            up = time.perf_counter() - began
            said[side.name] = second.hello
            figures = second.ask(replace(case, order={"do": "recover", **case.order}))
            yield case, {**figures, "seconds": time.perf_counter() - began, "up": up}


BENCHMARK = Benchmark(
    key="f",
    title="Recovery",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="seconds", title="until finished, s", digits=2),
        Figure(key="up", title="of it until the new process is up, s", digits=2),
    ),
    compared="seconds",
    more_is_better=False,
    aims=(
        Aim(
            what="f. 1,000 in flight: seconds until all are finished",
            case="1,000 in flight",
            figure="seconds",
            at_most=1,
        ),
        Aim(
            what="f. 1,000 in flight, on PostgreSQL: DBOS on PostgreSQL takes so many times as long",
            case="1,000 in flight",
            figure="seconds",
            side="lro-pg",
            against="dbos-pg",
            inverse=True,
            at_least=1,
        ),
    ),
    take=take,
)
