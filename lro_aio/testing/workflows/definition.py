"""What a definition is once it is read: the steps of its workflows, with expressions that can be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lro_aio.testing.workflows.expressions import Evaluate

__all__ = [
    "DEFAULT_PREDICATES",
    "Action",
    "Assign",
    "Block",
    "Call",
    "Definition",
    "For",
    "Parallel",
    "Raise",
    "Retry",
    "Return",
    "Step",
    "Switch",
    "Target",
    "Try",
    "Workflow",
]

DEFAULT_PREDICATES = ("http.default_retry_predicate", "http.default_retry_predicate_non_idempotent")
"""https://cloud.google.com/workflows/docs/reference/syntax/retrying"""


class Target(NamedTuple):
    """What an assignment sets: a variable, or a place in it."""

    name: str
    path: tuple[Evaluate, ...]
    """The keys and indexes on the way to the place."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, or an arm of a ``switch``, which has no name."""

    name: str
    action: Action | None
    next: str
    """The step to go to afterwards, "end", "break" or "continue"; "" for the one that follows."""


@dataclass(frozen=True, slots=True)
class Block:
    """A list of steps."""

    steps: tuple[Step, ...]
    places: Mapping[str, int]
    """Index of each step in ``steps``, by name."""


@dataclass(frozen=True, slots=True)
class Assign:
    """``assign``."""

    entries: tuple[tuple[Target, Evaluate], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """``call``."""

    function: str
    arguments: Mapping[str, Evaluate]
    result: str
    """The variable that gets the result; "" for none."""


@dataclass(frozen=True, slots=True)
class Switch:
    """``switch``."""

    arms: tuple[tuple[Evaluate, Step], ...]


@dataclass(frozen=True, slots=True)
class For:
    """``for``."""

    value: str
    index: str
    """The variable of the index; "" for none."""
    items: Evaluate
    """The list to go through; if ``ranged``, its first and last number."""
    ranged: bool
    block: Block


@dataclass(frozen=True, slots=True)
class Parallel:
    """``parallel``."""

    loop: For
    shared: frozenset[str]
    limit: Evaluate
    """How many iterations may run at a time."""


@dataclass(frozen=True, slots=True)
class Retry:
    """``retry``."""

    predicate: str
    """A subworkflow, or one of ``DEFAULT_PREDICATES``."""
    max_retries: Evaluate
    initial_delay: Evaluate
    max_delay: Evaluate
    multiplier: Evaluate


@dataclass(frozen=True, slots=True)
class Try:
    """``try``."""

    body: Action
    retry: Retry | None
    error: str
    """The variable that ``except`` binds."""
    handler: Block | None


@dataclass(frozen=True, slots=True)
class Return:
    """``return``."""

    value: Evaluate


@dataclass(frozen=True, slots=True)
class Raise:
    """``raise``."""

    value: Evaluate


Action = Assign | Call | Switch | For | Parallel | Try | Return | Raise | Block


@dataclass(frozen=True, slots=True)
class Workflow:
    """The main workflow, or a subworkflow."""

    parameters: Mapping[str, Evaluate | None]
    """Default values by name; None for a required parameter."""
    block: Block


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition that can be run."""

    workflows: Mapping[str, Workflow]
    expressions: tuple[str, ...]
    """The text of every expression, with ``${`` and ``}``."""
