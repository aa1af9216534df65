"""i. Steps: one operation of many in sequence, and many operations of a few in parallel."""

from __future__ import annotations

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import ours, ours_on_postgresql, peers

ABOUT = """\
A step whose function returns its argument: what is measured is how its result is kept. First one operation awaits N
steps, one after the other; then many operations, all started at once, gather ten steps each. DBOS has steps
(`@DBOS.step`), Restate has `ctx.run_typed`. Each result is durable before the next line of the handler runs, on every
side, with the durability that the table names."""


def sides(plan: Plan) -> list[Side]:
    return [ours("lro_runs"), ours_on_postgresql(plan, "lro_runs"), *peers(plan)]


def cases(plan: Plan) -> list[Case]:
    sequence, operations = plan.pick((100, 100), (20, 10))
    return [
        Case(title=f"1 x {sequence} in sequence", order={"do": "sequence", "steps": sequence, "repeats": 5}),
        Case(title=f"{operations} x 10 in parallel", order={"do": "parallel", "operations": operations, "steps": 10}),
    ]


BENCHMARK = Benchmark(
    key="i",
    title="Steps",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="rate", title="steps/s"),
        Figure(key="cpu", title="CPU us per step"),
        Figure(key="commits", title="commits per step", digits=3),
    ),
    compared="rate",
    more_is_better=True,
    aims=(
        Aim(
            what="i. 100 operations of 10 parallel steps: steps/s, as a multiple of DBOS on SQLite",
            case="100 x 10 in parallel",
            figure="rate",
            against="dbos",
            at_least=20,
        ),
        Aim(
            what="i. 100 steps in sequence: steps/s, as a multiple of DBOS on SQLite",
            case="1 x 100 in sequence",
            figure="rate",
            against="dbos",
            at_least=4,
        ),
        *(
            Aim(
                what=f"i. {case}: steps/s, as a multiple of Restate",
                case=case,
                figure="rate",
                against="restate",
                at_least=1,
            )
            for case in ("100 x 10 in parallel", "1 x 100 in sequence")
        ),
    ),
)
