"""g. The same on a store with a million finished operations, of a year, with their journals; and by ten processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import ours

ABOUT = """\
Benchmark a on an empty store, and on one that already holds 1,000,000 finished operations, each with a journal of
three steps, and 100,000 suspended ones; the oldest is a year old. The rows are those that the engine would have left
behind. On both: a page of 100 operations that live is listed with a filter (`done = false AND handler = "sleeper"`);
the repair pass is run that looks for what is due and for what has expired; 2,000 sleepers are due at once; steps are
done in sequence (*operations/s* are steps/s there); the timeline of one operation is read (`client.describe`); and
expired rows are removed with their journals, in transactions of 500, as a sweep does it. *Each* is a wake-up, an entry
of the timeline, or an expired row. Then several processes share one file, each with 32 callers of its own: the rate is
that of all of them, the delays are those of one."""

FULL = "lro-full"
ONE = frozenset({"lro"})
LIST, SWEEP = "list with a filter", "repair pass"


def sides(plan: Plan) -> list[Side]:
    finished, suspended = plan.pick((1_000_000, 100_000), (20_000, 2000))
    title = f"lro-aio, {finished + suspended:,} rows before"
    full = ours("lro_runs", "--fill", f"{finished},{suspended}", name=FULL, title=title)
    return [ours("lro_runs", title="lro-aio, empty store"), replace(full, keeps=True)]


def processes(number: int) -> str:
    """Title of a case."""
    return f"{number} process{'es' if number > 1 else ''} on one file, concurrency 32 each"


def due(number: int) -> str:
    """Title of a case."""
    return f"{number:,} due at once"


def steps(number: int) -> str:
    """Title of a case."""
    return f"{number:,} steps in sequence"


def timeline(number: int) -> str:
    """Title of a case."""
    return f"timeline of {number:,} steps"


def purge(number: int) -> str:
    """Title of a case."""
    return f"purge of {number:,} expired"


def cases(plan: Plan) -> list[Case]:
    seconds = plan.pick(3.0, 0.5)
    repeats, sleepers = plan.pick((100, 2000), (10, 100))
    runs = [
        Case(title=f"a, concurrency {number}", order={"do": "lifecycle", "concurrency": number, "seconds": seconds})
        for number in (1, 32, 256)
    ]
    crowds = [
        Case(
            title=processes(number),
            order={"do": "together", "processes": number, "concurrency": 32, "seconds": seconds},
            sides=ONE,
        )
        for number in plan.pick((1, 2, 4, 10), (1, 2))
    ]
    return [
        *runs,
        *crowds,
        Case(title=LIST, order={"do": "list", "repeats": repeats}),
        Case(title=SWEEP, order={"do": "sweep", "repeats": repeats}),
        Case(title="size", order={"do": "size"}),
        Case(title=due(sleepers), order={"do": "wake", "count": sleepers}),
        *_of_one_operation(plan, repeats),
        *(
            Case(title=purge(number), order={"do": "purge", "count": number}, sides=who)
            for number, who in zip(plan.pick((2000, 10_000), (500, 1000)), (None, ONE), strict=True)
        ),
    ]


def _of_one_operation(plan: Plan, repeats: int) -> Sequence[Case]:
    few, many = plan.pick((100, 1000), (10, 50))
    return [
        Case(title=steps(few), order={"do": "sequence", "steps": few, "repeats": plan.pick(5, 1)}),
        Case(title=steps(many), order={"do": "sequence", "steps": many, "repeats": 1}, sides=ONE),
        Case(title=timeline(few), order={"do": "timeline", "steps": few, "repeats": repeats}),
        Case(title=timeline(many), order={"do": "timeline", "steps": many, "repeats": repeats}, sides=ONE),
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
        Figure(key="each", title="us each"),
        Figure(key="cpu", title="CPU us each"),
        Figure(key="commits", title="commits each", digits=3),
        Figure(key="bytes", title="bytes of file per row"),
    ),
    compared="p50",
    more_is_better=False,
    aims=(
        *(
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
        Aim(
            what="g. two processes on one file: operations/s, as a multiple of one's",
            case=processes(2),
            figure="rate",
            than=processes(1),
            at_least=1.2,
        ),
    ),
)
