"""Queues as their users see them: what a queue allows, what asks it for a rest, and how it goes with it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import field, fields, replace
from datetime import datetime
from typing import Any, Literal

from lro_aio.core.counts import Count
from lro_aio.core.names import MalformedIdError, check_given
from lro_aio.core.policies import Duration, seconds, whole
from lro_aio.core.quick import dataclass

__all__ = [
    "LIVES",
    "MAX_KEY",
    "MOST_COUNTED",
    "Bounds",
    "InLine",
    "KeyStatus",
    "Queue",
    "QueueStatus",
    "QueueTerms",
    "Rate",
    "RateLimited",
    "check_key",
]

LIVES = 600.0
"""Seconds for which what a process declared of a queue holds, unless it says so again or takes it back."""

MOST_PLACES = 1_000_000_000
"""Places, or starts in a time, that a queue may allow: more is no limit, and databases take no number of any size."""

LEAST_PERIOD, MOST_PERIOD = 0.001, 10 * 366 * 86_400.0
"""Seconds that a rate may count its starts for."""

MAX_KEY = 256
"""Characters of a queue key."""

MOST_COUNTED = 10_000
"""Up to which those who wait in a queue are counted."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many starts in a time: never more than ``count`` in any ``per`` seconds, wherever they begin."""

    count: int
    per: Duration
    """Seconds, or a timedelta."""

    def __post_init__(self) -> None:
        whole(self.count, "count", most=MOST_PLACES)
        per = seconds(self.per, "per", positive=True)
        if not LEAST_PERIOD <= per <= MOST_PERIOD:
            raise ValueError(f"per must be from {LEAST_PERIOD:g} s to ten years, not {per:g} s")
        object.__setattr__(self, "per", per)

    @property
    def period(self) -> float:
        """``per`` in seconds."""
        return seconds(self.per, "per")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a queue allows. None: as much as there is."""

    running: int | None = None
    """Places in all."""
    per_key: int | None = None
    """Places for each key."""
    rate: Rate | None = None
    """Starts in all."""
    rate_per_key: Rate | None = None
    """Starts for each key."""

    def __post_init__(self) -> None:
        for name in ("running", "per_key"):
            value = getattr(self, name)
            if value is not None:
                whole(value, name, most=MOST_PLACES)
        for name in ("rate", "rate_per_key"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Rate):
                raise TypeError(f"{name} must be a Rate, not {type(value).__name__}")

    def to_json(self) -> str:
        """Compact JSON: the inverse of ``from_json``."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = {n: [v.count, v.period] if isinstance(v, Rate) else v for n, v in found.items() if v is not None}
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Bounds:
        """The bounds of a text; what a newer release has put there is ignored.

        What an older one let be larger than makes sense is the most that does: nobody could handle the queue else.
        """
        known = {item.name for item in fields(cls)}
        found: dict[str, Any] = {name: value for name, value in json.loads(text).items() if name in known}
        for name, value in found.items():
            if isinstance(value, list):
                count, per = value
                found[name] = Rate(min(count, MOST_PLACES), per=min(max(per, LEAST_PERIOD), MOST_PERIOD))
            elif value is not None:
                found[name] = min(value, MOST_PLACES)
        return cls(**found)

    @classmethod
    def strictest(cls, several: Iterable[Bounds]) -> Bounds:
        """Of each bound, the strictest. Of two rates, the one that lets fewer start in the long run."""
        found: dict[str, Any] = {}
        several = list(several)
        for item in fields(cls):
            values = [value for bounds in several if (value := getattr(bounds, item.name)) is not None]
            if values:
                found[item.name] = min(values, key=_strictness)
        return cls(**found)

    def __str__(self) -> str:
        told = []
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Rate):
                told.append(f"{item.name}={value.count} per {value.period:g} s")
            elif value is not None:
                told.append(f"{item.name}={value}")
        return ", ".join(told) or "no limits"


def _strictness(value: int | Rate) -> tuple[float, int]:
    return (value.count / value.period, value.count) if isinstance(value, Rate) else (value, 0)


@dataclass(frozen=True, slots=True)
class Queue:
    """Bounds what runs at a time, and what starts in a time, over all processes of a store.

    Give it to handlers, or to steps. The processes of a store share it by its name: what waits in it waits in one line.
    """

    name: str
    """1 to 128 printable characters, and not ``lro.`` at the beginning."""
    running: int | None = field(default=None, kw_only=True)
    """So many at a time."""
    per_key: int | None = field(default=None, kw_only=True)
    """So many at a time for each key."""
    rate: Rate | None = field(default=None, kw_only=True)
    """So many starts in a time."""
    rate_per_key: Rate | None = field(default=None, kw_only=True)
    """So many starts in a time for each key."""
    scope: Literal["run", "operation"] = field(default="run", kw_only=True)
    """What has a place: "run" an operation while a run of it lasts, "operation" from its first run to its end, waits
    included."""

    def __post_init__(self) -> None:
        check_given("queue", self.name)
        if self.scope not in ("run", "operation"):
            raise ValueError(f'scope must be "run" or "operation", not {self.scope!r}')
        _ = self.bounds

    @property
    def bounds(self) -> Bounds:
        """What it allows."""
        return Bounds(running=self.running, per_key=self.per_key, rate=self.rate, rate_per_key=self.rate_per_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTerms:
    """What holds of a queue, and who says so."""

    override: Bounds | None = None
    """What an operator has set, which goes before everything that is declared."""
    declared: tuple[tuple[str, Bounds, float], ...] = ()
    """(owner, bounds, epoch seconds): what processes declare, and when they last did."""
    paused: bool = False

    def declare(self, owner: str, bounds: Bounds, now: float) -> QueueTerms:
        """The terms with what a process declares, and without those who have not been heard of for ``LIVES``.

        Args:
            owner: The process.
            bounds: What it declares.
            now: Epoch seconds.
        """
        others = [entry for entry in self.declared if entry[0] != owner and now - entry[2] < LIVES]
        return replace(self, declared=(*others, (owner, bounds, now)))

    def undeclare(self, owner: str) -> QueueTerms:
        """The terms without a process that closes. The last one's stay, for what still waits in the queue."""
        others = tuple(entry for entry in self.declared if entry[0] != owner)
        return replace(self, declared=others or self.declared)

    @property
    def strictest(self) -> Bounds | None:
        """Of what is declared; None: nothing is."""
        return Bounds.strictest(bounds for _, bounds, _ in self.declared) if self.declared else None

    @property
    def bounds(self) -> Bounds:
        """What holds."""
        return self.override or self.strictest or Bounds()

    def declared_json(self) -> str:
        """``declared`` as compact JSON: the inverse of ``declared_of``."""
        return json.dumps([[owner, bounds.to_json(), seen] for owner, bounds, seen in self.declared])

    @staticmethod
    def declared_of(text: str) -> tuple[tuple[str, Bounds, float], ...]:
        """What ``declared_json`` wrote."""
        return tuple((owner, Bounds.from_json(bounds), float(seen)) for owner, bounds, seen in json.loads(text))


class RateLimited(Exception):  # noqa: N818 (a request, not an error)
    """Raised by a handler or a step whose peer wants a rest: its queue's key rests for everybody, and it runs again.

    Without a key, the whole queue rests; without a queue, the operation or the step alone. Neither an attempt nor a
    retry is counted. It runs again by itself, as one that is first in line.

    Args:
        message: For the log.
        retry_after: Seconds or a timedelta from now.
        until: Instead of it: an aware datetime or epoch seconds.

    Raises:
        TypeError: Both, or none of the two.
        ValueError: A negative duration, or a time without a zone.
    """

    def __init__(
        self,
        message: str = "the peer asked for a rest",
        *,
        retry_after: Duration | None = None,
        until: datetime | float | None = None,
    ) -> None:
        if (retry_after is None) == (until is None):
            raise TypeError("give retry_after or until")
        self.retry_after = None if retry_after is None else seconds(retry_after, "retry_after")
        self.until: float | None = None
        if isinstance(until, datetime):
            if until.tzinfo is None:
                raise ValueError("until must have a time zone")
            self.until = until.timestamp()
        elif until is not None:
            self.until = seconds(until, "until")
        super().__init__(message)

    def ends(self, now: float) -> float:
        """Epoch seconds at which the rest is over."""
        return now + self.retry_after if self.retry_after is not None else self.until or now


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """One key of a queue."""

    key: str
    """"" for what has no key."""
    waiting: int = 0
    running: int = 0
    """Places that are taken."""
    rests_until: float | None = None
    """Epoch seconds; None where it does not rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """How it goes with a queue."""

    name: str
    bounds: Bounds = Bounds()
    """What holds now."""
    declared: Bounds | None = None
    """The strictest that the handlers of live processes declare; None where none does."""
    override: Bounds | None = None
    """What ``client.queues.set`` has put in its place; None where nothing has."""
    paused: bool = False
    """Nothing gets a place."""
    waiting: int = 0
    running: int = 0
    """Places that are taken."""
    rests_until: float | None = None
    """Epoch seconds; None where the queue as a whole does not rest."""
    keys: tuple[KeyStatus, ...] = ()
    """Those that have something waiting or running, or rest: up to a hundred, the longest lines first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InLine:
    """Where an operation, or a step of it, stands in a queue. Times are epoch seconds."""

    queue: str
    key: str = ""
    """"" for none."""
    step: str = ""
    """Name of the step; "" where it is the operation itself."""
    step_key: str = ""
    """The step's own key; "" for none."""
    priority: int = 0
    """Lower ones come first."""
    held: bool = False
    """Whether it has a place, and waits for none."""
    since: float = 0.0
    """Since when it waits, or has its place."""
    ahead: Count = Count(0)
    """How many stand before it. Those whose keys are at their limits are in nobody's way: it may be its turn sooner."""
    paused: bool = False
    """Whether the queue gives no place to anybody."""
    rests_until: float | None = None
    """Until when its key, or the whole queue, rests; None where neither does."""


def check_key(key: object) -> str:
    """Return a queue key.

    Raises:
        MalformedIdError: It is not a text of 1 to 256 printable characters.
    """
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or not key.isprintable():
        long = isinstance(key, str) and len(key) > MAX_KEY
        told = f"one of {len(key)}" if isinstance(key, str) and long else repr(key)
        raise MalformedIdError("queue_key", f"must be a text of 1 to {MAX_KEY} printable characters, not {told}")
    return key
