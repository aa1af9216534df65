"""What is done to many operations at once: which ones it is for, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lro_aio.core import filters
from lro_aio.core.errors import InvalidFilterError
from lro_aio.core.names import OWN
from lro_aio.core.record import Record
from lro_aio.core.rerunning import links
from lro_aio.core.stats import Count, count_json

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
    "made_meanwhile",
    "preview_json",
    "spared",
    "wanted",
]

HANDLER = "lro.bulk"
"""Name of the handler."""
RERUN = "rerun"
EVERYTHING = "*"
"""The filter for every operation. It has to be said."""
SLOWEST, FASTEST = 0.001, 10_000.0
"""Operations a second that can be asked for."""


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


def wanted(text: str) -> filters.Filter:
    """The filter of a bulk action.

    Raises:
        InvalidFilterError: It does not parse, or is empty: everything has to be said.
    """
    if text.strip() == EVERYTHING:
        return filters.parse("")
    found = filters.parse(text)
    if found.empty:
        raise InvalidFilterError(f"say which operations; {EVERYTHING!r} is every one", 0)
    return found


def preview_json(found: BulkPreview) -> dict[str, Any]:
    """A preview as the JSON object in which servers and commands tell it."""
    return {**count_json(found.count), "sample": list(found.sample)}


def spared(record: Record, text: str) -> bool:
    """Whether a row is the package's own, such as a bulk action or a schedule: a filter has to name it to touch it."""
    if not record.handler.startswith(OWN) or record.name in text:
        return False
    kind = OWN + record.handler.removeprefix(OWN).partition(".")[0]  # each schedule has a handler of its own
    return kind not in text


def made_meanwhile(record: Record, until: float) -> bool:
    """Whether a row is a rerun that was made in the very moment in which the bulk action began: by itself, that is."""
    if record.create_time < until:
        return False
    return bool(links(record.trail, "of"))
