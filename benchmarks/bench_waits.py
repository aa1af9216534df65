"""d. From completion to whoever waits for it."""

from __future__ import annotations

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import api_core, floor, ours, ours_on_postgresql, peers

ABOUT = """\
How long after the call that ends an operation its waiter goes on; the commit between the two is part of it. *Same
process*: the waiter awaits the result beside whoever ends it, and nothing else has happened for 20 ms. *Another
process*: it waits on the same store; DBOS's client polls the database there, and Restate's caller waits for the answer
of the ingress. *WaitOperation* and *polling* are over gRPC, from another process; polling is `lro.wait_operation` with
its default policy, and google-api-core's `AsyncOperation.result()` with its defaults against the same server. Pollers
wait for operations that live for 1 to 3 s, at random. The floor is a bare commit and a future across two threads."""

NOTICED = frozenset({"lro", "lro-pg", "floor", "dbos", "dbos-pg"})


def sides(plan: Plan) -> list[Side]:
    found = [side for side in peers(plan) if side.name != "dbos-wal"]
    return [ours("lro_waits"), ours_on_postgresql(plan, "lro_waits"), floor(), *found, api_core(plan)]


def cases(plan: Plan) -> list[Case]:
    count = plan.pick(150, 15)
    polled = plan.pick(100, 10)
    return [
        Case(title="same process", order={"do": "same_process", "count": count}, sides=NOTICED),
        Case(
            title="another process",
            order={"do": "other_process", "count": count},
            sides=frozenset({"lro", "lro-pg", "dbos", "dbos-pg", "restate"}),
        ),
        Case(title="WaitOperation", order={"do": "wait_operation", "count": count}, sides=frozenset({"lro"})),
        Case(
            title="polling over gRPC",
            order={"do": "grpc_polling", "count": polled},
            sides=frozenset({"lro", "api-core"}),
        ),
    ]


BENCHMARK = Benchmark(
    key="d",
    title="Completion to waiter",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(Figure(key="p50", title="p50 ms", digits=2), Figure(key="p99", title="p99 ms", digits=2)),
    compared="p50",
    more_is_better=False,
    aims=(
        Aim(what="d. same process: p99 ms", case="same process", figure="p99", at_most=5),
        Aim(what="d. another process: p50 ms", case="another process", figure="p50", at_most=2),
        Aim(what="d. another process: p99 ms", case="another process", figure="p99", at_most=10),
        Aim(
            what="d. another process, on PostgreSQL: p50 ms",
            case="another process",
            figure="p50",
            side="lro-pg",
            at_most=10,
        ),
        Aim(
            what="d. same process, on PostgreSQL: DBOS on PostgreSQL takes so many times as long (p50)",
            case="same process",
            figure="p50",
            side="lro-pg",
            against="dbos-pg",
            inverse=True,
            at_least=1,
        ),
        Aim(what="d. WaitOperation: p99 ms", case="WaitOperation", figure="p99", at_most=20),
    ),
)
