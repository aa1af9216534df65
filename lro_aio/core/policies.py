"""Options as small frozen values, validated where they are made.

Durations are given as ``float`` seconds or ``datetime.timedelta`` and read back as ``float`` seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import fields
from datetime import timedelta

from lro_aio.core.errors import PayloadTooLargeError
from lro_aio.core.journal import MOST_ENTRIES
from lro_aio.core.quick import dataclass

__all__ = [
    "Duration",
    "LeasePolicy",
    "Limits",
    "PollPolicy",
    "RetentionPolicy",
    "RetryPolicy",
    "SweepPolicy",
    "grown",
    "seconds",
    "spread",
    "whole",
]

MOST_ROWS = 1_000_000_000
"""Rows that one pass may ask for: databases take no number of any size."""

Duration = float | timedelta
"""A length of time: seconds, or a timedelta."""


def seconds(value: Duration, name: str, *, positive: bool = False) -> float:
    """Return a duration as seconds.

    Raises:
        TypeError: Neither a number nor a timedelta.
        ValueError: Negative, not finite, or zero where it must be positive.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be seconds or a timedelta, not {type(value).__name__}")
    if isinstance(value, int) and abs(value) > 2**53:  # more than a float can say exactly, or at all
        value = math.inf
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} must be {'positive' if positive else 'zero or more'} and finite, not {value!r}")
    return float(value)


def whole(value: object, name: str, *, most: int | None = None) -> int:
    """Return a whole number of 1 or more.

    Args:
        value: What was given.
        name: What it is, for the error.
        most: The greatest that makes sense; None: any that there is.

    Raises:
        ValueError: It is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}")
    if most is not None and value > most:  # its digits may be more than can be printed
        raise ValueError(f"{name} must be a whole number of at most {most:,}")
    return value


def grown(first: float, multiplier: float, times: int, most: float) -> float:
    """``first * multiplier ** times``, at most ``most``; a power too large for a float is capped too."""
    try:
        return min(first * float(multiplier) ** times, most)
    except OverflowError:
        return most if first else 0.0


def spread(delay: float, *, shorter: float = 0.0, longer: float = 0.0) -> float:
    """A delay that differs at random, so that those who wait do not run in step.

    Args:
        delay: Seconds.
        shorter: Share of the delay by which it may be shorter.
        longer: Share of the delay by which it may be longer.
    """
    return delay * random.uniform(1 - shorter, 1 + longer)  # noqa: S311 (not for secrets)


class _Seconds:
    """Mixin: every field that is a duration becomes a float at construction."""

    __slots__ = ()

    def _durations(self, *names: str, positive: bool = True) -> None:
        for name in names:
            value = seconds(getattr(self, name), f"{type(self).__name__}.{name}", positive=positive)
            object.__setattr__(self, name, value)

    def _counts(self, *names: str, most: int | None = None) -> None:
        for name in names:
            whole(getattr(self, name), f"{type(self).__name__}.{name}", most=most)

    def _growth(self, multiplier: float, jitter: float) -> None:
        if not (math.isfinite(multiplier) and multiplier >= 1):
            raise ValueError(f"{type(self).__name__}.multiplier must be 1 or more")
        if not 0 <= jitter < 1:
            raise ValueError(f"{type(self).__name__}.jitter must be from 0 to below 1")


@dataclass(frozen=True, slots=True)
class LeasePolicy(_Seconds):
    """How long a claim lasts without a sign of life."""

    duration: float = 30.0
    """Seconds. A run whose process died is claimed again this long after its last renewal."""
    max_stall: float = 600.0
    """Seconds that the event loop may show no sign of life before its leases are no longer renewed."""

    def __post_init__(self) -> None:
        self._durations("duration", "max_stall")

    @property
    def renew_interval(self) -> float:
        """Seconds between renewals: a third of the duration, so that two may be lost."""
        return self.duration / 3


@dataclass(frozen=True, slots=True)
class PollPolicy(_Seconds):
    """How often to poll what cannot announce a change itself."""

    interval: float = 1.0
    """Seconds before the second poll."""
    multiplier: float = 1.5
    """Growth of the interval from one poll to the next."""
    max_interval: float = 10.0
    """Seconds; the interval grows no further."""
    jitter: float = 0.1
    """Share of the interval by which it may differ, at random, so that pollers do not run in step."""

    def __post_init__(self) -> None:
        self._durations("interval", "max_interval")
        self._growth(self.multiplier, self.jitter)

    def delay(self, attempt: int) -> float:
        """Seconds to wait after poll number ``attempt`` (0 is the first)."""
        delay = grown(self.interval, self.multiplier, attempt, self.max_interval)
        return spread(delay, shorter=self.jitter, longer=self.jitter)


@dataclass(frozen=True, slots=True)
class RetryPolicy(_Seconds):
    """Which failures are retried, and when: runs of a handler's segment, or a caller's polls of an operation."""

    on: tuple[type[Exception], ...] = ()
    """Exception classes that are worth another try. For a handler, ``RetryLater`` always is; for a poll, every
    ``RemoteCallError`` that is transient."""
    max_attempts: int = 5
    """Tries in all, of one segment or of one poll. The last failure ends the operation, or the wait for it."""
    initial_delay: float = 1.0
    """Seconds before the second try."""
    multiplier: float = 2.0
    """Growth of the delay from one try to the next."""
    max_delay: float = 300.0
    """Seconds; the delay grows no further."""
    jitter: float = 0.1
    """Share of the delay by which it may differ, at random."""

    def __post_init__(self) -> None:
        given: object = self.on
        on = (given,) if isinstance(given, type) else tuple(self.on)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in on):
            raise TypeError("RetryPolicy.on must be exception classes (not BaseException: a cancel is not a failure)")
        object.__setattr__(self, "on", on)
        self._counts("max_attempts")
        self._durations("initial_delay", "max_delay", positive=False)
        self._growth(self.multiplier, self.jitter)

    def delay(self, retries: int) -> float:
        """Seconds before the next run, after ``retries`` retries so far (0 after the first failure)."""
        delay = grown(self.initial_delay, self.multiplier, retries, self.max_delay)
        return spread(delay, shorter=self.jitter, longer=self.jitter)


@dataclass(frozen=True, slots=True)
class RetentionPolicy(_Seconds):
    """How long a finished operation can be read. AIP-151 suggests 30 days."""

    duration: float = 30 * 86400.0
    """Seconds from the end of the operation."""

    def __post_init__(self) -> None:
        self._durations("duration")


@dataclass(frozen=True, slots=True)
class SweepPolicy(_Seconds):
    """The repair pass that finds what a lost hint or a dead process left behind."""

    interval: float = 30.0
    """Seconds between passes in one worker; up to a fifth longer, at random, so that workers do not run in step."""
    batch: int = 256
    """Rows that one read of the pass takes."""
    purge_batch: int = 500
    """Expired rows that one transaction removes."""

    def __post_init__(self) -> None:
        self._durations("interval")
        self._counts("batch", "purge_batch", most=MOST_ROWS)


@dataclass(frozen=True, slots=True)
class Limits(_Seconds):
    """Sizes in bytes of what a row and its journal may hold, checked before a write, and bounds of a list page."""

    metadata: int = 64 * 1024
    state: int = 1024 * 1024
    response: int = 2 * 1024 * 1024
    error: int = 256 * 1024
    """Of a failed operation: message and details. What is over it is cut, since the operation has to end."""
    children: int = 1024 * 1024
    """The names of what one suspend waits for."""
    step: int = 1024 * 1024
    """The result of one step."""
    message: int = 1024 * 1024
    """What is sent to an operation in one message."""
    entries: int = MOST_ENTRIES
    """Entries in the journal of one operation: steps, sleeps and messages."""
    page_bytes: int = 3 * 1024 * 1024
    """A list page is clipped here: gRPC clients refuse messages over 4 MiB."""
    page_size: int = 100
    """Operations on a page where the caller names no size."""
    max_page_size: int = 1000
    """A larger page_size is taken as this one (AIP-158)."""
    scan_rows: int = 10_000
    """Rows that one page scans before it is returned short (AIP-158 allows it). A row counts once more for every 16 KiB
    of its payloads, and all of them count again for every ten conditions of the filter."""

    def __post_init__(self) -> None:
        self._counts(*(field.name for field in fields(self)))

    def check(self, field: str, size: int) -> None:
        """Refuse a payload that is too large for its column (rule 9).

        Args:
            field: "metadata", "state", "response", "error", "children", "step" or "message".
            size: Its bytes.

        Raises:
            PayloadTooLargeError: Names the field and its limit.
        """
        limit: int = getattr(self, field)
        if size > limit:
            raise PayloadTooLargeError(field, size, limit)
