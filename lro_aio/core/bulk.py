"""What is done to many operations at once: what can be done, and how far it has come."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from lro_aio.core.counts import Count, count_json
from lro_aio.core.quick import dataclass

__all__ = [
    "EVERYTHING",
    "FASTEST",
    "HANDLER",
    "RERUN",
    "SLOWEST",
    "VERBS",
    "BulkPreview",
    "BulkResult",
    "BulkState",
    "Verb",
    "preview_json",
]

HANDLER = "lro.bulk"
"""Name of the handler."""
RERUN = "rerun"
EVERYTHING = "*"
"""The filter for every operation. It has to be said."""
SLOWEST, FASTEST = 0.001, 10_000.0
"""Operations a second that can be asked for."""
_LATE = {"defer_build": True}
"""Every client has the handler, and few processes run it: pydantic looks into its types when it needs them."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that can be done, and to which operations it says anything."""

    name: str
    done: bool | None = None
    """Whether they have ended."""
    paused: bool | None = None


VERBS = {
    verb.name: verb
    for verb in (
        Verb("cancel", done=False),
        Verb("pause", done=False, paused=False),
        Verb("unpause", done=False, paused=True),
        Verb(RERUN, done=True),
        Verb("delete"),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPreview:
    """What a bulk action would act on. Nothing was done."""

    verb: str
    """cancel, pause, unpause, rerun or delete."""
    filter: str
    count: Count
    """How many operations."""
    sample: tuple[str, ...]
    """Names of some of them, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """What a bulk action has done."""

    __pydantic_config__ = _LATE

    done: int
    """Operations that it acted on."""
    skipped: int
    """Those that had ended, or were gone, before it was their turn."""
    failed: int
    """Those that refused."""
    errors: tuple[str, ...] = ()
    """Of some that refused: the name, and why."""


@dataclass(kw_only=True)
class BulkState:
    """The state of a bulk action: what was asked for, and how far it has come."""

    __pydantic_config__ = _LATE

    verb: str
    filter: str
    parent: str = "-"
    reason: str = ""
    per_second: float = 50.0
    total: int | None = None
    """How many operations there were to act on at the start; None where they were too many to count."""
    counted: bool = False
    position: tuple[float, str] | None = None
    """(create_time, name) of the last operation that was looked at; they come newest first."""
    exhausted: bool = False
    """There is none behind it."""
    pending: list[str] = field(default_factory=list)
    """Those that are being acted on: after a crash again, which does no harm."""
    done: int = 0
    skipped: int = 0
    """Those that had ended, or were gone, before it was their turn."""
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    """Of some that failed: the name, and why."""


def preview_json(found: BulkPreview) -> dict[str, Any]:
    """A preview as the JSON object in which servers and commands tell it."""
    return {**count_json(found.count), "sample": list(found.sample)}
