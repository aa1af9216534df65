"""l. A queue of ten places, and the line before it."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import floor, ours, ours_on_postgresql, peers

ABOUT = """\
A queue lets ten run at a time, over all processes (`lro.Queue("line", running=10)`, `global_concurrency=10` of DBOS).
Ten operations have its places while N more with a trivial handler are started, and wait; then the ten end. Measured
from there until the last one's handler is called: *operations/s*, which are hand-overs of a place, and the *longest
wait*. What is not alike: with us, the end of a run gives its place to the next one in the line. DBOS looks for free
places at an interval of 1 s, its default, and fills those that it finds: ten in a second, whatever the machine can do.
So it is there once more with an interval of 10 ms, which is not its default, and costs it queries while nothing waits.
Its process registers the queue, and has no other; only it works on the line, as with us. Restate has no queue of this
kind, and does not take part. The floor is a table of rows, and ten callers, each of which marks the next row as
running, and then as ended, in group commits. 10,000 that wait are asked of us alone: a hand-over should cost what it
costs with 1,000. CPU of a PostgreSQL server is not counted."""


def sides(plan: Plan) -> list[Side]:
    dbos = [side for side in peers(plan) if side.name in ("dbos", "dbos-pg")]
    often = [
        replace(
            side,
            name=f"{side.name}-often",
            title=f"{side.title}, looks every 10 ms",
            options=(*side.options, "--look", "0.01"),
        )
        for side in dbos
    ]
    return [ours("lro_queues"), ours_on_postgresql(plan, "lro_queues"), floor(), *dbos, *often]


def cases(plan: Plan) -> list[Case]:
    few, many = plan.pick((1000, 10_000), (20, 100))
    return [
        Case(title=_title(few), order={"do": "queue", "waiting": few}),
        Case(title=_title(many), order={"do": "queue", "waiting": many}, sides=frozenset({"lro", "lro-pg", "floor"})),
    ]


def _title(waiting: int) -> str:
    return f"{waiting:,} waiting"


BENCHMARK = Benchmark(
    key="l",
    title="Queues",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="rate", title="operations/s"),
        Figure(key="longest", title="longest wait s", digits=2),
        Figure(key="cpu", title="CPU us each"),
        Figure(key="commits", title="commits each", digits=3),
    ),
    compared="rate",
    more_is_better=True,
    aims=(
        Aim(
            what="l. 1,000 waiting: times the operations/s of DBOS on SQLite",
            case=_title(1000),
            figure="rate",
            against="dbos",
            at_least=20,
        ),
        Aim(
            what="l. 1,000 waiting: times the operations/s of DBOS on SQLite that looks every 10 ms",
            case=_title(1000),
            figure="rate",
            against="dbos-often",
            at_least=1,
        ),
        *(
            Aim(
                what=f"l. 10,000 waiting on {store}: cost of a hand-over, in time, over that with 1,000",
                case=_title(10_000),
                figure="rate",
                side=side,
                than=_title(1000),
                inverse=True,
                at_most=1.2,
            )
            for side, store in (("lro", "SQLite"), ("lro-pg", "PostgreSQL"))
        ),
    ),
)
