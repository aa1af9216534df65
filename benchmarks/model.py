"""What a benchmark is, as data: who takes part, what is asked of each, which figures come back, what is aimed at."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(os.environ.get("LRO_BENCH_PEERS", ROOT / ".venv-peers"))
"""Where ``make bench-peers`` has put their environments."""

T = TypeVar("T")
Figures = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    quick: bool = False
    """A short look at every part, to see that it runs; its figures mean little."""
    rounds: int = 3
    long: bool = False
    """Peers do the largest sizes too, for minutes each."""
    pg: str = ""
    """DSN of a PostgreSQL server, for us and DBOS."""
    peers: bool = True
    """Whether other products take part, where they are installed."""

    def pick(self, full: T, quick: T) -> T:
        """One of two settings."""
        return quick if self.quick else full


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of those who do the same work: a program, and the interpreter that runs it."""

    name: str
    title: str
    module: str
    python: Path = field(default_factory=lambda: Path(sys.executable))
    options: Sequence[str] = ()
    again: Sequence[str] = ()
    """Options of its second life, after a kill."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """Its own names for commands, where they are not the common ones."""
    missing: str = ""
    """Why it is left out."""
    keeps: bool = False
    """Its folder lives through all rounds: what is in it takes long to make."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure."""

    title: str
    order: Mapping[str, Any]
    """For ``programs.common``: the command under "do", and its arguments."""
    sides: frozenset[str] | None = None
    """Who does it; None: all."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A column of the table."""

    key: str
    title: str
    digits: int = 0


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A number to reach: of a figure, or of its ratio to another side's, or another case's, in the same round."""

    what: str
    case: str
    figure: str
    side: str = "lro"
    against: str = ""
    """Another side; "": the same one."""
    than: str = ""
    """Another case; "": the same one."""
    inverse: bool = False
    """Theirs over ours: for figures of which less is better."""
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        """Whether a value is what was aimed at."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


Taken = Iterator[tuple[Case, Figures]]
Take = Callable[[Side, Sequence[Case], Path, dict[str, Any]], Taken]
"""One side's part of a round, in a folder; what its program says first goes into the dictionary, under its name."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A page's section: what is measured, and how to read it."""

    key: str
    title: str
    about: str
    """Markdown: the same work on every side, and what a reader must know to judge it."""
    sides: Callable[[Plan], Sequence[Side]]
    cases: Callable[[Plan], Sequence[Case]]
    figures: Sequence[Figure]
    compared: str
    """The figure whose ratio to ours is shown, and that is drawn."""
    more_is_better: bool
    aims: Sequence[Aim] = ()
    take: Take | None = None
    """Where it is more than one life of a program."""
