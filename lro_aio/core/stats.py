"""How it goes with all operations of a store, as numbers that an index gives: never a scan of everything."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.counts import Count, count_json, total
from lro_aio.core.quick import dataclass
from lro_aio.core.record import State
from lro_aio.core.status import reason_of

__all__ = [
    "Count",
    "DueRoute",
    "FailureGroup",
    "FoundFailure",
    "OwnerCount",
    "QueueCount",
    "StateCount",
    "Stats",
    "arranged",
    "count_json",
    "grouped",
    "total",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCount:
    """How many operations of one handler are in one state."""

    handler: str
    """"" where their creators drive them."""
    state: State
    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerCount:
    """How many operations one process runs."""

    owner: str
    """The process; "" for those that are driven from outside."""
    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCount:
    """How many stand in one queue: operations, and steps of some."""

    queue: str
    waiting: Count
    """For a place."""
    running: Count
    """With a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRoute:
    """What is due at one resume point of a handler, and has not been taken yet."""

    handler: str
    resume_point: str
    since: float
    """Epoch seconds: since when the oldest has been due."""
    name: str
    """Of the oldest."""
    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failed operations of one handler that failed alike."""

    handler: str
    code: str
    """Canonical name, such as NOT_FOUND."""
    reason: str
    """``ErrorInfo.reason``; "" for none."""
    count: Count
    name: str
    """Of the newest."""
    message: str
    """Of the newest."""
    time: float
    """Epoch seconds at which the last of them ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How it goes with all operations of a store.

    Operations that are past their retention count until they are removed.
    """

    time: float
    """Epoch seconds."""
    counts: tuple[StateCount, ...] = ()
    """By handler and state; of what there is none, there is no entry."""
    paused: Count = Count(0)
    """How many of them are paused."""
    running: tuple[OwnerCount, ...] = ()
    """By process, the busiest first."""
    due: tuple[DueRoute, ...] = ()
    """What should run now, the oldest first."""
    unserved: tuple[DueRoute, ...] = ()
    """Those of ``due`` that nobody seems to run: overdue, unknown to this process, and no process runs any such."""
    failures: tuple[FailureGroup, ...] = ()
    """Of the newest failed operations, the most frequent first."""
    queues: tuple[QueueCount, ...] = ()
    """Those in which anybody waits or has a place, the longest lines first."""

    @property
    def states(self) -> dict[State, Count]:
        """How many operations are in each state."""
        return {state: total(c.count for c in self.counts if c.state is state) for state in State}

    @property
    def suspended(self) -> Count:
        """How many operations wait, and hold nobody."""
        return self.states[State.SUSPENDED]

    @property
    def oldest_due(self) -> DueRoute | None:
        """What has been due for longest; None where nothing is."""
        return self.due[0] if self.due else None

    @property
    def lateness(self) -> float:
        """Seconds for which that has been due; 0 where nothing is."""
        return max(0.0, self.time - self.due[0].since) if self.due else 0.0


def arranged(
    *,
    time: float,
    counts: Iterable[StateCount],
    paused: Count,
    owners: Iterable[tuple[str, int]],
    more: bool,
    due: Iterable[DueRoute],
    failures: tuple[FailureGroup, ...],
) -> Stats:
    """What a store has counted, each part in its order.

    Args:
        time: Epoch seconds.
        counts: In any order, as everything else but the failures.
        paused: See ``Stats``.
        owners: Processes, and how many operations each runs.
        more: Whether they run more than these.
        due: See ``Stats``.
        failures: From ``grouped``.
    """
    order = list(State)
    running = [OwnerCount(owner=owner, count=Count(found, more=more)) for owner, found in owners]
    return Stats(
        time=time,
        counts=tuple(sorted(counts, key=lambda cell: (cell.handler, order.index(cell.state)))),
        paused=paused,
        running=tuple(sorted(running, key=lambda owner: (-owner.count.number, owner.owner))),
        due=tuple(sorted(due, key=lambda route: (route.since, route.name))),
        failures=failures,
    )


SMALL = 1024
"""Bytes of an error up to which it is remembered what it says."""


class FoundFailure(NamedTuple):
    """A failed operation, as a store finds it."""

    name: str
    handler: str
    error: bytes
    """Serialized ``google.rpc.Status``."""
    time: float
    """Epoch seconds."""


def grouped(found: Iterable[FoundFailure], *, more: bool) -> tuple[FailureGroup, ...]:
    """Failures by handler, code and reason, the most frequent first.

    Args:
        found: The newest first.
        more: Whether there may be more than these.
    """
    groups: dict[tuple[str, str, str], list[tuple[FoundFailure, str]]] = {}
    for failure in found:
        told = _remembered(failure.error) if len(failure.error) <= SMALL else _read(failure.error)
        groups.setdefault((failure.handler, told.code, told.reason), []).append((failure, told.message))
    made = [
        FailureGroup(
            handler=handler,
            code=code,
            reason=reason,
            count=Count(len(members), more=more),
            name=members[0][0].name,
            message=members[0][1],
            time=max(failure.time for failure, _ in members),
        )
        for (handler, code, reason), members in groups.items()
    ]
    return tuple(sorted(made, key=lambda group: (-group.count.number, group.handler, group.code, group.reason)))


class _Told(NamedTuple):
    """What an error says."""

    code: str
    reason: str
    message: str


def _read(error: bytes) -> _Told:
    try:
        status = status_pb2.Status.FromString(error)
    except DecodeError:
        return _Told(Code.UNKNOWN.name, "", "its error cannot be read")
    return _Told(Code.of(status.code).name, reason_of(status), status.message)


_remembered = functools.lru_cache(maxsize=2048)(_read)
"""More than are read for one answer: who looks each second finds the same errors again."""
