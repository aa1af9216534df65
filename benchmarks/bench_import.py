"""h. What the package costs before it does anything: import time and installed size."""

from __future__ import annotations

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import ours

ABOUT = """\
The median over fresh interpreters of `import lro_aio` and a client on SQLite, which loads the store too. *What it
loads* is the same interpreter importing just those dependencies that this loads; *base dependencies* imports all that
the base package installs, grpc among them, which `import lro_aio` leaves alone. Size is what is installed, without
compiled Python: of lro-aio its own files, of the others the base dependencies'. A test holds the list of modules that
the import must not load."""


def sides(_plan: Plan) -> list[Side]:
    return [
        ours("imports", "--what", "lro"),
        ours("imports", "--what", "loaded", name="loaded", title="floor: what it loads"),
        ours("imports", "--what", "base", name="base", title="base dependencies"),
    ]


def cases(plan: Plan) -> list[Case]:
    return [Case(title="import", order={"do": "imports", "repeats": plan.pick(11, 3)})]


BENCHMARK = Benchmark(
    key="h",
    title="Import time and size",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="wall", title="ms"),
        Figure(key="cpu", title="CPU ms"),
        Figure(key="modules", title="modules loaded"),
        Figure(key="size", title="installed MB", digits=2),
    ),
    compared="wall",
    more_is_better=False,
    aims=(
        Aim(
            what="h. import time over that of the base dependencies alone",
            case="import",
            figure="wall",
            against="base",
            at_most=1.25,
        ),
        Aim(
            what="h. import time over that of just the dependencies that it loads",
            case="import",
            figure="wall",
            against="loaded",
            at_most=1.25,
        ),
    ),
)
