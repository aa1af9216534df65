"""g. The same on a store with a million finished operations, of a year, with their journals; and by ten processes."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import ours

ABOUT = """\
Benchmark a on an empty store, and on one that already holds 1,000,000 finished operations, each with a journal of
three steps, and 100,000 suspended ones; the oldest is a year old. On both, a page of 100 operations that live is
listed with a filter (`done = false AND handler = "sleeper"`), whose page is empty on the empty store, and the repair
pass is run that looks for what is due and for what has expired. The rows are those that the engine would have left
behind. Then several processes share one file, each with 32 callers of its own: the rate is that of all of them, the
delays are those of one."""

FULL = "lro-full"


def sides(plan: Plan) -> list[Side]:
    finished, suspended = plan.pick((1_000_000, 100_000), (20_000, 2000))
    title = f"lro-aio, {finished + suspended:,} rows before"
    full = ours("lro_runs", "--fill", f"{finished},{suspended}", name=FULL, title=title)
    return [ours("lro_runs", title="lro-aio, empty store"), replace(full, keeps=True)]


def cases(plan: Plan) -> list[Case]:
    seconds = plan.pick(3.0, 0.5)
    repeats = plan.pick(100, 10)
    runs = [
        Case(title=f"a, concurrency {number}", order={"do": "lifecycle", "concurrency": number, "seconds": seconds})
        for number in (1, 32, 256)
    ]
    crowds = [
        Case(
            title=f"{number} process{'es' if number > 1 else ''} on one file, concurrency 32 each",
            order={"do": "together", "processes": number, "concurrency": 32, "seconds": seconds},
            sides=frozenset({"lro"}),
        )
        for number in plan.pick((1, 2, 4, 10), (1, 2))
    ]
    return [
        *runs,
        *crowds,
        Case(title="list with a filter", order={"do": "list", "repeats": repeats}),
        Case(title="repair pass", order={"do": "sweep", "repeats": repeats}),
        Case(title="size", order={"do": "size"}),
    ]


BENCHMARK = Benchmark(
    key="g",
    title="Growth",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="rate", title="operations/s"),
        Figure(key="p50", title="p50 ms", digits=2),
        Figure(key="p99", title="p99 ms", digits=2),
        Figure(key="cpu", title="CPU us each"),
        Figure(key="commits", title="commits each", digits=3),
        Figure(key="bytes", title="bytes of file per row"),
    ),
    compared="p50",
    more_is_better=False,
    aims=tuple(
        Aim(
            what=f"g. concurrency {number}: operations/s on the full store, as a share of the empty one's",
            case=f"a, concurrency {number}",
            figure="rate",
            side=FULL,
            against="lro",
            at_least=0.8,
        )
        for number in (1, 32, 256)
    ),
)
