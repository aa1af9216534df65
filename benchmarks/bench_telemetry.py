"""k. Start -> result as in a, with and without OpenTelemetry."""

from __future__ import annotations

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import ours

ABOUT = """\
The callers of *a*. *Telemetry on* makes two spans and some metrics for each operation, and gives them to the SDK of
OpenTelemetry: a batch processor, and a reader that keeps the metrics in memory. Its exporter keeps the last batch and
drops the one before, as one that sends them would: *every span kept* shows what it costs to keep them, since Python's
search for cycles then walks through all of them. The *floor* is the same spans and entries, made by the callers by hand
and with the SDK alone, with telemetry off: what is lost there is the SDK's, and what is above it ours.
*Nobody listens* has OpenTelemetry installed, and no provider set."""


def sides(plan: Plan) -> list[Side]:  # noqa: ARG001 (all benchmarks have one signature)
    return [
        ours("lro_telemetry", title="telemetry on"),
        ours("lro_runs", "--telemetry", "off", name="off", title="telemetry off"),
        ours("lro_telemetry", "--by", "hand", name="hand", title="floor: telemetry off, spans and metrics by hand"),
        ours("lro_telemetry", "--keep", "all", name="kept", title="telemetry on, every span kept"),
        ours("lro_runs", name="nobody", title="nobody listens"),
    ]


def cases(plan: Plan) -> list[Case]:
    order = {"do": "lifecycle", "concurrency": 256, "seconds": plan.pick(3.0, 0.5)}
    return [Case(title="concurrency 256", order=order)]


BENCHMARK = Benchmark(
    key="k",
    title="Telemetry",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(Figure(key="rate", title="operations/s"), Figure(key="cpu", title="CPU us each")),
    compared="rate",
    more_is_better=True,
    aims=(
        Aim(
            what="k. concurrency 256: operations/s with telemetry on, over those with it off",
            case="concurrency 256",
            figure="rate",
            against="off",
            at_least=0.7,
        ),
        Aim(
            what="k. concurrency 256: CPU of an operation with telemetry on, over that of the floor",
            case="concurrency 256",
            figure="cpu",
            against="hand",
            at_most=1.1,
        ),
    ),
)
