"""c. Operations that are suspended until one common moment."""

from __future__ import annotations

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import floor, ours, ours_on_postgresql, peers

ABOUT = """\
N operations are started and go to sleep until one common moment, 256 at a time (64 with Restate, whose calls are HTTP
requests). *To suspend* is the time until the last one sleeps, per operation. *Memory* is what the resident memory of
the processes grew by, per operation, with the allocator's and SQLite's caches in it. *Idle* is the CPU of those
processes while all sleep and none is due, in percent of a core. *Late* is how long after the moment a handler goes
on; all are due at once, so the last one has waited for all others. DBOS's sleepers are tasks in memory, and Restate
keeps the connection of one that sleeps for less than a minute: a fair picture of short sleeps, not of long ones. The
floor is a row with a moment, one timer, and an update of what is due in transactions of a thousand. DBOS does 10,000
only in a run with `--long`, and nobody but us and the floor 100,000."""


def sides(plan: Plan) -> list[Side]:
    found = [side for side in peers(plan) if side.name != "dbos-wal"]
    return [ours("lro_sleepers"), ours_on_postgresql(plan, "lro_sleepers"), floor(), *found]


def cases(plan: Plan) -> list[Case]:
    idle = plan.pick(5.0, 1.0)
    everybody = frozenset(side.name for side in sides(plan))
    few = frozenset({"lro", "lro-pg", "floor"})
    doing = {100: everybody, 1000: everybody, 10_000: everybody if plan.long else few | {"restate"}, 100_000: few}
    return [
        Case(title=f"{number:,} sleepers", order={"do": "sleepers", "count": number, "idle": idle}, sides=doing[number])
        for number in plan.pick((1000, 10_000, 100_000), (100,))
    ]


BENCHMARK = Benchmark(
    key="c",
    title="Durable sleepers",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="suspend", title="to suspend, us each"),
        Figure(key="suspend cpu", title="CPU us each"),
        Figure(key="memory", title="memory, bytes each"),
        Figure(key="idle", title="idle, % of a core", digits=2),
        Figure(key="p50", title="late p50 ms"),
        Figure(key="p99", title="late p99 ms"),
        Figure(key="last", title="last s", digits=2),
    ),
    compared="p99",
    more_is_better=False,
    aims=(
        Aim(
            what="c. 100,000 sleepers: bytes of memory for each",
            case="100,000 sleepers",
            figure="memory",
            at_most=300,
        ),
        Aim(
            what="c. 100,000 sleepers: CPU while nothing is due, % of a core",
            case="100,000 sleepers",
            figure="idle",
            at_most=1.0,
        ),
        Aim(
            what="c. 10,000 sleepers due at once: p99 of the lateness, ms",
            case="10,000 sleepers",
            figure="p99",
            at_most=1000,
        ),
        Aim(
            what="c. 10,000 sleepers due at once: Restate's p99 of the lateness over ours",
            case="10,000 sleepers",
            figure="p99",
            against="restate",
            inverse=True,
            at_least=1,
        ),
        Aim(
            what="c. 100,000 sleepers due at once: s until the last one",
            case="100,000 sleepers",
            figure="last",
            at_most=9,
        ),
    ),
)
