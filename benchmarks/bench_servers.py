"""e. GetOperation over gRPC and HTTP, against methods that do nothing."""

from __future__ import annotations

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import ours

ABOUT = """\
A server process and a process that calls it, with 1 and 64 calls under way. Ours reads a finished operation from its
file for each call (calls that come together share a read). The echo is the bare method: `grpc.aio` with the same
generated servicer and message, FastAPI with a route that formats the same JSON. Both FastAPI servers are uvicorn with
its defaults. The HTTP caller is a minimal client on kept connections. CPU is the server's alone; the caller takes a
good part of the second core."""


def sides(_plan: Plan) -> list[Side]:
    return [
        ours("calls", "--server", "lro"),
        ours("calls", "--server", "echo", name="echo", title="floor: bare echo"),
    ]


def cases(plan: Plan) -> list[Case]:
    seconds = plan.pick(3.0, 0.5)
    return [
        Case(title=f"{title}, concurrency {number}", order={"do": how, "concurrency": number, "seconds": seconds})
        for how, title in (("grpc", "gRPC"), ("http", "FastAPI"))
        for number in (1, 64)
    ]


BENCHMARK = Benchmark(
    key="e",
    title="Server throughput: GetOperation",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="rate", title="calls/s"),
        Figure(key="p50", title="p50 ms", digits=2),
        Figure(key="p99", title="p99 ms", digits=2),
        Figure(key="cpu", title="server CPU us each"),
    ),
    compared="rate",
    more_is_better=True,
    aims=(
        *(
            Aim(
                what=f"e. {server}, concurrency {callers}: share of the bare echo's calls/s",
                case=f"{server}, concurrency {callers}",
                figure="rate",
                against="echo",
                at_least=share,
            )
            for server, callers, share in (
                ("gRPC", 1, 0.75),
                ("gRPC", 64, 0.85),
                ("FastAPI", 1, 0.6),
                ("FastAPI", 64, 0.65),
            )
        ),
    ),
)
