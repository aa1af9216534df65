"""How hard a crash campaign is, and what it came to; the faults of which there are campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How hard the campaign is. Times in seconds."""

    operations: int = 200
    least_work: float = 0.2
    most_work: float = 1.0
    fan: int = 2
    nap: float = 0.2
    processes: int = 3
    max_running: int = 10
    """Per process: keeps the campaign going for long enough to be killed often enough."""
    lease: float = 1.0
    sweep: float = 30.0
    max_attempts: int = 100
    kill_every: float = 0.3
    """0: nobody is killed."""
    least_kills: int = 20
    gentle: float = 0.0
    """Share of the processes that are told to stop (SIGTERM) instead of killed."""
    inside: float = 0.0
    """Share of the processes that kill themselves between a statement and its commit."""
    lost: float = 0.0
    """Share of all writes whose answer is lost."""
    stop_every: float = 0.0
    """0: nobody is stopped (SIGSTOP)."""
    stop_for: float = 0.0
    stop_all: float = 0.0
    """Share of the stops that hit all processes at once: as a machine that is suspended."""
    step_every: float = 0.0
    """0: no clock is set."""
    steps: Sequence[float] = (25.0, -25.0, 3600.0, -3600.0)
    step_all: float = 0.5
    """Share of the steps that hit all processes at once: as one machine has one clock."""
    doomed: int = 0
    """Operations that are cancelled while they start children; these never end by themselves."""
    forgotten: int = 0
    """Operations that are deleted while they start children."""
    look_every: float = 0.05
    deadline: float = 240.0
    seed: int = 0


FAULTS = {
    "stops longer than a lease, of one process": {"stop_every": 7.0, "stop_for": 5.0, "max_running": 2},
    "stops longer than a lease, of all at once": {
        "stop_every": 6.0,
        "stop_for": 4.0,
        "stop_all": 1.0,
        "max_running": 2,
    },
    "clocks that are set": {"step_every": 0.5, "max_running": 2},
    "clocks that are set, and kills": {"step_every": 0.5, "kill_every": 1.0, "max_running": 4},
    "kills inside of transactions": {"inside": 0.7, "kill_every": 3.0, "lease": 1.0},
    "lost answers": {"lost": 0.15},
    "lost answers, and kills": {"lost": 0.15, "kill_every": 1.0, "lease": 1.0},
    "cancels and deletes": {"doomed": 8, "forgotten": 6, "max_running": 60},
    "cancels and deletes, and kills": {"doomed": 8, "forgotten": 6, "max_running": 60, "kill_every": 1.5, "lease": 1.0},
}
"""What happens to the processes, by what it is called."""
EVERYTHING = {
    "stop_every": 7.0, "stop_for": 5.0, "stop_all": 0.3, "inside": 0.3, "lost": 0.05,
    "doomed": 8, "forgotten": 6, "kill_every": 2.0, "step_every": 0.5, "max_running": 60,
}  # fmt: skip
"""All of them at once."""


def faulty(seed: int, **faults: Any) -> Plan:
    """A campaign of sixty operations with these faults, and no other."""
    return Plan(
        **{"operations": 60, "least_kills": 0, "kill_every": 0.0, "lease": 3.0, "sweep": 1.0, "seed": seed, **faults}
    )


@dataclass
class Report:
    """What a campaign came to."""

    seconds: float = 0.0
    kills: int = 0
    runs: int = 0
    cut: int = 0
    """Runs that a kill ended, or whose result it kept from being committed."""
    starved: int = 0
    """Runs that went on for so long without a renewal (a machine under load) that another process took over."""
    stood: int = 0
    """The same, of a process that was stopped while others were not."""
    taken: int = 0
    """Runs that were taken from a process that lived, and had renewed its lease in time."""
    stops: int = 0
    steps: int = 0
    refused: int = 0
    """Children that a cancelled operation was not allowed to start."""
    recovery: list[float] = field(default_factory=list)
    """Seconds from a kill to the next run of what it cut."""
    handed_over: list[float] = field(default_factory=list)
    """Seconds from the stop of a run by SIGTERM to the next run."""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        recovery = sorted(self.recovery) or [0.0]
        middle, high, most = recovery[len(recovery) // 2], recovery[int(len(recovery) * 0.95)], recovery[-1]
        return (
            f"{self.seconds:.1f} s, {self.kills} kills, {self.stops} stops, {self.steps} steps of clocks;"
            f" {self.runs} runs of which {self.cut} were cut, {self.starved} starved, {self.stood} stood still and"
            f" {self.taken} were taken from the living; {len(self.handed_over)} handed over, {self.refused} refused;"
            f" recovery p50 {middle:.2f} s, p95 {high:.2f} s, max {most:.2f} s"
        )
