"""a. Start -> result of a trivial handler, with 1, 32 and 256 callers at a time."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import floor, ours, ours_on_postgresql, peers

ABOUT = """\
So many callers, each of which starts an operation with a trivial handler and waits for its result, again and again.
Both ends of an operation are durable before they are told. *Two bare commits* is one thread that does nothing but
insert a row and commit, update it and commit. *Group commit* is the least that coalesces: a queue, a writer thread,
and a future for each caller. DBOS starts a workflow and awaits its handle; Restate gets one call of its ingress,
which waits for the result, and its CPU is that of server, service and caller together. Commits are transactions that
wrote; Restate's cannot be counted from outside. CPU of a PostgreSQL server is not counted."""


def sides(plan: Plan) -> list[Side]:
    bare = replace(floor(lifecycle="two_commits"), name="two-commits", title="floor: two bare commits, one thread")
    return [ours("lro_runs"), ours_on_postgresql(plan, "lro_runs"), floor(), bare, *peers(plan)]


def cases(plan: Plan) -> list[Case]:
    seconds = plan.pick(3.0, 0.5)
    everybody = frozenset(side.name for side in sides(plan)) - {"two-commits"}
    return [
        Case(
            title=f"concurrency {number}",
            order={"do": "lifecycle", "concurrency": number, "seconds": seconds},
            sides=None if number == 1 else everybody,
        )
        for number in (1, 32, 256)
    ]


BENCHMARK = Benchmark(
    key="a",
    title="Start to result",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="rate", title="operations/s"),
        Figure(key="p50", title="p50 ms", digits=2),
        Figure(key="p99", title="p99 ms", digits=2),
        Figure(key="cpu", title="CPU us each"),
        Figure(key="commits", title="commits each", digits=3),
    ),
    compared="rate",
    more_is_better=True,
    aims=(
        Aim(
            what="a. concurrency 256: times the operations/s of DBOS on SQLite",
            case="concurrency 256",
            figure="rate",
            against="dbos",
            at_least=45,
        ),
        Aim(
            what="a. concurrency 256: times the operations/s of Restate",
            case="concurrency 256",
            figure="rate",
            against="restate",
            at_least=12,
        ),
        Aim(
            what="a. concurrency 1: times the operations/s of DBOS on SQLite",
            case="concurrency 1",
            figure="rate",
            against="dbos",
            at_least=5,
        ),
        Aim(
            what="a. concurrency 1: times the operations/s of Restate",
            case="concurrency 1",
            figure="rate",
            against="restate",
            at_least=5,
        ),
        Aim(
            what="a. concurrency 1: operations/s of two bare durable commits over ours",
            case="concurrency 1",
            figure="rate",
            against="two-commits",
            inverse=True,
            at_most=2.5,
        ),
        *(
            Aim(
                what=f"a. concurrency {callers}, on PostgreSQL: times the operations/s of DBOS on PostgreSQL",
                case=f"concurrency {callers}",
                figure="rate",
                side="lro-pg",
                against="dbos-pg",
                at_least=times,
            )
            for callers, times in ((256, 15), (1, 1))
        ),
        Aim(what="a. concurrency 256: commits per operation", case="concurrency 256", figure="commits", at_most=0.05),
    ),
)
