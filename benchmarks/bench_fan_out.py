"""b. One parent starts many children and waits for all of them."""

from __future__ import annotations

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import floor, ours, ours_on_postgresql, peers

ABOUT = """\
One operation starts N children with a trivial handler, and ends when all have ended. Ours starts them with
`asyncio.gather`, suspends until they are done, and counts their responses; as calls, it gathers `op.call(...)`. DBOS
starts child workflows one after the other, as its rule of deterministic order asks for, and gathers their results.
Restate gathers N service calls. The floor commits N starts and N ends in groups, and has no parent. Peers do 10,000
only in a run with `--long`."""


def sides(plan: Plan) -> list[Side]:
    return [ours("lro_runs"), ours_on_postgresql(plan, "lro_runs"), floor(), *peers(plan)]


def cases(plan: Plan) -> list[Case]:
    few = frozenset({"lro", "floor"})
    return [
        Case(
            title=f"{number:,} children",
            order={"do": "fan_out", "children": number},
            sides=few if number == 10_000 and not plan.long else None,
        )
        for number in plan.pick((100, 1000, 10_000), (100,))
    ] + [
        Case(
            title=f"{number:,} calls",
            order={"do": "fan_out", "children": number, "handler": "calls"},
            sides=frozenset({"lro"}),
        )
        for number in plan.pick((1000,), (100,))
    ]


BENCHMARK = Benchmark(
    key="b",
    title="Fan-out",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="seconds", title="seconds", digits=3),
        Figure(key="cpu", title="CPU us per child"),
        Figure(key="commits", title="commits per child", digits=3),
    ),
    compared="seconds",
    more_is_better=False,
    aims=(
        Aim(
            what="b. 1,000 children: DBOS on SQLite takes so many times as long",
            case="1,000 children",
            figure="seconds",
            against="dbos",
            inverse=True,
            at_least=45,
        ),
        Aim(
            what="b. 1,000 children: Restate takes so many times as long",
            case="1,000 children",
            figure="seconds",
            against="restate",
            inverse=True,
            at_least=6,
        ),
    ),
)
