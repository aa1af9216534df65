"""j. Operations of another process, awaited many at a time by the handles that clients have."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side
from benchmarks.sides import ours, peer

ABOUT = """\
1,000 operations of a service in another process, all awaited at once, five seconds before all of them end. *CPU* is
that of the process that waits, in seconds for 1,000 operations; *requests* are those that ask how an operation is, by
the service's own count; *late* is how long after the end its waiter goes on. To start them is not measured: no handle
does that. The service is a bare one, without a store, and the same for all: gRPC with `WaitOperation`, gRPC where
that is UNIMPLEMENTED, and HTTP in Azure's style. Each handle has its defaults: `lro.RemoteOperation` waits with one
call, or polls after 1 s, at intervals that grow to 20 s; google-api-core's `AsyncOperation` polls after 1 s, at
intervals that grow to 60 s; azure-core's `AsyncLROPoller` polls each 30 s. So who asks less often spends less and
comes later, and one figure is not to be read without the other: azure-core is there a second time with
`polling_interval=1`, which comes nearer to what our handle does. Our handle asks with httpx, azure-core with aiohttp,
whose parser is compiled: most of the CPU of a poll over HTTP is theirs. The floor is bare calls of `WaitOperation`,
and bare GETs with httpx, two at a time, after the pauses that our handle makes."""

WAITED, POLLED, AZURE = "gRPC with WaitOperation", "gRPC, polled", "HTTP in Azure's style"


def sides(plan: Plan) -> list[Side]:
    ours_remote = ours("lro_remote")
    bare = replace(
        ours_remote,
        name="floor",
        title="floor: bare calls",
        commands={"waiting": "bare_waiting", "azure": "bare_azure"},
    )
    azure = peer(plan, "azure-core", "azure-core AsyncLROPoller", "azure_core_peer")
    often = replace(azure, name="azure-core-1s", title="azure-core, polling_interval=1", options=("--interval", "1"))
    patient = replace(azure, missing=azure.missing or ("only in a full run" if plan.quick else ""))
    api_core = peer(plan, "api-core", "google-api-core AsyncOperation", "api_core_remote")
    return [_served(side) for side in (ours_remote, bare, api_core, patient, often)]


def _served(side: Side) -> Side:
    """The service runs on our interpreter, whoever asks: a peer's environment has no web server."""
    return replace(side, options=(*side.options, "--service", sys.executable))


def cases(plan: Plan) -> Sequence[Case]:
    count, seconds = plan.pick((1000, 5.0), (50, 1.0))

    def case(title: str, command: str, *who: str) -> Case:
        return Case(title=title, order={"do": command, "count": count, "seconds": seconds}, sides=frozenset(who))

    return [
        case(WAITED, "waiting", "lro", "floor", "api-core"),
        case(POLLED, "polled", "lro", "api-core"),
        case(AZURE, "azure", "lro", "floor", "azure-core", "azure-core-1s"),
    ]


BENCHMARK = Benchmark(
    key="j",
    title="Operations of another service",
    about=ABOUT,
    sides=sides,
    cases=cases,
    figures=(
        Figure(key="cpu", title="CPU s for 1,000", digits=2),
        Figure(key="requests", title="requests each", digits=2),
        Figure(key="p50", title="late p50 ms"),
        Figure(key="p99", title="late p99 ms"),
    ),
    compared="cpu",
    more_is_better=False,
    aims=(
        Aim(
            what="j. RemoteOperation, Azure style: CPU for 1,000 operations against azure-core",
            case=AZURE,
            figure="cpu",
            against="azure-core",
            inverse=True,
            at_least=1,
        ),
        *(
            Aim(
                what=f"j. RemoteOperation, {case}: CPU for 1,000 operations against google-api-core",
                case=case,
                figure="cpu",
                against="api-core",
                inverse=True,
                at_least=1,
            )
            for case in (WAITED, POLLED)
        ),
    ),
)
