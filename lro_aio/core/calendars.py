"""When a schedule's moments are: cron's calendar in a time zone, or a fixed interval.

Moments are epoch seconds, and whole ones. At a change to or from summer time, cron's own rules hold: a moment that the
clocks skip comes at the end of the gap, one that they show twice comes once, and what has a star in its minutes or
hours goes by the time that has passed.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import math
from collections.abc import Iterator
from contextlib import suppress

__all__ = ["Calendar", "calendar_of", "epoch", "iso"]

_PROBE = 1_704_067_200
"""Epoch seconds at which the search for a first moment begins: 2024-01-01, before a leap day."""
_SPAN = 600
"""Seconds that are looked through at a time, at first."""
_LAST = 253_402_300_799
"""The last second of the year 9999, in UTC."""


class Calendar:
    """The moments of one schedule.

    Args:
        cron: Five fields as Debian's cron has them, or six with the seconds first; "" with ``every``.
        every: Seconds between two moments, counted from 1970-01-01 UTC; 0 with ``cron``.
        timezone: Name of the zone in which ``cron`` is meant.

    Raises:
        ValueError: A field is malformed, or there is no such zone, or no moment ever comes. It names the field.
        ImportError: ``cron`` needs a package that is not installed.
    """

    def __init__(self, cron: str, every: float, timezone: str) -> None:
        self._cron = cron
        self._every = int(every)
        self._zone = _zone(timezone)
        if not cron:
            if next(self.after(_PROBE), None) is None:
                raise ValueError(f"every {every:g} never comes: the years end with 9999")
            return
        try:
            from cronsim import CronSim, CronSimError
        except ModuleNotFoundError as exc:
            raise ImportError(
                "Schedule(cron=...) needs an extra that is not installed: pip install 'lro-aio[schedules]'"
            ) from exc
        self._simulator = CronSim
        try:
            first = next(self.after(_PROBE), None)
        except CronSimError as exc:
            raise ValueError(f"cron {cron!r} is malformed, or no month has its day: {exc}") from exc
        if first is None:
            raise ValueError(f"cron {cron!r} never comes")

    def after(self, moment: float) -> Iterator[int]:
        """The moments after this one, soonest first. They end with the year 9999."""
        if self._cron:
            yield from self._by_cron(moment)
            return
        first = math.floor(moment) // self._every * self._every + self._every
        yield from range(first, _LAST + 1, self._every)

    def _by_cron(self, moment: float) -> Iterator[int]:
        last = moment
        with suppress(OverflowError):  # a time after the year 9999, in whichever zone
            for local in self._simulator(self._cron, self._local(math.floor(moment))):
                found = int(local.timestamp())
                if found > _LAST:
                    return
                if found > last:  # at the end of summer time, the local time goes back, and a gap has one end for all
                    last = found
                    yield found

    def before(self, moment: float, until: float) -> Iterator[int]:
        """The moments at or before ``moment`` and after ``until``, newest first."""
        if not self._cron:
            found = math.floor(moment) // self._every * self._every
            while found > until:
                yield found
                found -= self._every
            return
        end, span = math.floor(moment), _SPAN
        while end > until:  # a span at a time, each of them forwards: only so do the rules of cron hold
            begin = max(math.floor(until), end - span)
            here = list(itertools.takewhile(lambda found: found <= end, self.after(begin)))  # noqa: B023 (used at once)
            yield from reversed(here)
            end, span = begin, span if here else 2 * span

    def _local(self, moment: int) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(moment, self._zone)


calendar_of = functools.lru_cache(maxsize=1024)(Calendar)
"""The calendar of these arguments; made once."""


def epoch(value: datetime.datetime | float, name: str) -> float:
    """A moment as epoch seconds.

    Args:
        value: An aware datetime or epoch seconds.
        name: Of the argument, for the error.

    Raises:
        ValueError: A datetime without a time zone, or a number that is not finite.
        TypeError: Neither.
    """
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name} must have a time zone: a naive datetime means another moment on another machine")
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be an aware datetime or epoch seconds, not {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return float(value)


def iso(moment: float) -> str:
    """A moment in UTC, in the form of RFC 3339."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _zone(name: str) -> datetime.tzinfo:
    if name == "UTC":
        return datetime.UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as exc:  # a directory of the data base is an OSError
        raise ValueError(
            f"timezone {name!r} is not known: it must be a name such as 'Europe/Berlin'. Where the system has no zones,"
            " pip install tzdata"
        ) from exc
