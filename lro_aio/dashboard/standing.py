"""What the pages of queues and of schedules tell, as plain values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lro_aio.core.queues import Bounds, KeyStatus, QueueStatus, Rate
from lro_aio.core.schedules import ScheduleInfo, info_json
from lro_aio.dashboard.showing import Shower
from lro_aio.dashboard.texts import Moment, exact_length

__all__ = ["of_queues", "of_schedules"]

MOST = 500
"""Queues or schedules that are told."""
MOST_KEYS = 10
"""Keys of a queue that are told: the longest lines."""


def of_queues(found: Sequence[QueueStatus] | None, show: Shower, problem: str = "") -> dict[str, Any]:
    """How it goes with the queues.

    Args:
        found: None where the store has none.
        show: Asked before keys are told: they are computed from payloads.
        problem: Why it has none, and what to do about it.
    """
    queues = found or ()
    return {
        "kept": found is not None,
        "problem": problem,
        "queues": [_queue(status, show) for status in queues[:MOST]],
        "more": len(queues) > MOST,
    }


def _queue(status: QueueStatus, show: Shower) -> dict[str, Any]:
    keys = [key for key in status.keys if key.key]  # what has none is in no line of its own
    return {
        "name": status.name,
        "paused": status.paused,
        "running": status.running,
        "waiting": status.waiting,
        "restsUntil": _moment(status.rests_until),
        "bounds": _bounds(status.bounds),
        "declared": _bounds(status.declared),
        "override": _bounds(status.override),
        "allows": _allowed(status.bounds),
        "declares": [] if status.declared is None else _allowed(status.declared),
        "keys": [_key(key, show) for key in keys[:MOST_KEYS]],
        "moreKeys": max(0, len(keys) - MOST_KEYS),
    }


def _key(key: KeyStatus, show: Shower) -> dict[str, Any]:
    return {
        "key": show.text(key.key, "", ""),
        "waiting": key.waiting,
        "running": key.running,
        "restsUntil": _moment(key.rests_until),
    }


def _bounds(bounds: Bounds | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None if bounds is None else json.loads(bounds.to_json())
    return found


def _allowed(bounds: Bounds) -> list[str]:
    """What holds, in words; nothing where there are no limits."""
    told = []
    for count, what in ((bounds.running, "at a time"), (bounds.per_key, "of each key at a time")):
        if count is not None:
            told.append(f"{count:,} {what}")
    for rate, what in ((bounds.rate, ""), (bounds.rate_per_key, " of each key")):
        if rate is not None:
            told.append(_rate(rate, what))
    return told


def _rate(rate: Rate, what: str) -> str:
    return f"{rate.count:,} start{'' if rate.count == 1 else 's'}{what} in {exact_length(rate.period)}"


def of_schedules(found: Sequence[ScheduleInfo], show: Shower, problem: str = "") -> dict[str, Any]:
    """How it goes with the schedules.

    Args:
        found: All of them.
        show: Asked before it is told why one rests.
        problem: Why this process cannot read them; "" where it can.
    """
    return {
        "schedules": [_schedule(info, show) for info in found[:MOST]],
        "more": len(found) > MOST,
        "problem": problem,
    }


def _schedule(info: ScheduleInfo, show: Shower) -> dict[str, Any]:
    """As servers and commands tell it; ``id`` is what its actions take."""
    return {
        **info_json(info),
        "id": info.name,
        "when": info.cron or f"every {exact_length(info.every)}",
        "reason": show.text(info.reason, info.operation, info.handler),
        "upcoming": [Moment(moment) for moment in info.upcoming],
        "last": _moment(info.last),
    }


def _moment(when: float | None) -> Moment | None:
    return None if when is None else Moment(when)
