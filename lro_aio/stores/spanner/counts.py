"""The counts of ``Store.stats``, from the indexes that there are.

An index tells the handler of a row, and whether it has ended well, badly or not at all. So those that have ended well
are counted, and of the others a bounded number is looked at, the newest ones of each handler. Each shard has a bound of
its own, an eighth of the whole and a little more: rows are spread evenly over sixteen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from lro_aio.core.codes import Code
from lro_aio.core.record import State
from lro_aio.core.stats import Count, DueRoute, FailureGroup, FoundFailure, StateCount, Stats, arranged, grouped
from lro_aio.ports import StatsQuery
from lro_aio.stores.spanner import queries
from lro_aio.stores.spanner.values import blob, moment, number

__all__ = ["gather"]

Execute = Callable[[queries.Query], Iterable[struct_pb2.ListValue]]
Read = Callable[[Sequence[str], Sequence[str]], Iterable[struct_pb2.ListValue]]

_DUE = 100
"""Due rows of a shard that are looked at."""
_FAILURES = 200
"""Failed rows that are read: with their metadata, which is in one column with the error."""
_FAILED = ("key", "Handler", "EndTime", "UpdateTime", "Operation")
"""What is read of each."""
_SPARE = 16
"""By how much shards differ, where there are few rows in all."""
_TOLD_APART = {
    0: frozenset({State.PENDING, State.RUNNING, State.SUSPENDED}),
    2: frozenset({State.FAILED, State.CANCELLED}),
}
"""Values of ``Outcome`` that stand for several states."""
_OTHERWISE = {0: State.RUNNING, 2: State.FAILED}
"""The state of a row whose ``Status`` contradicts its ``Outcome``: another program wrote the ``Operation``."""


class _Seen(NamedTuple):
    """A row that was looked at."""

    handler: str
    outcome: int
    state: State
    owner: str
    paused: bool


def gather(
    execute: Execute, read: Read, table: str, query: StatsQuery, *, paused: bool, since: float = -math.inf
) -> Stats:
    """All of it: a statement for each handler, five more, and a read.

    Args:
        execute: Runs a statement.
        read: Reads columns of rows by their keys, in the order of these.
        table: The table of the operations.
        query: How far to count.
        paused: Whether the table has a column for pauses.
        since: Epoch seconds before which nothing is due.
    """
    handlers = list(_handlers(execute, table))
    seen, cut = _looked_at(execute, table, handlers, max(1, query.most // 10), paused=paused)
    states = Counter((row.handler, row.outcome, row.state) for row in seen)
    counts = [
        StateCount(handler=handler, state=state, count=Count(found, more=(handler, outcome) in cut))
        for (handler, outcome, state), found in states.items()
    ]
    counts += _succeeded(execute, table, handlers, query.most)
    more = any(outcome == 0 for _, outcome in cut)
    owners = Counter(row.owner for row in seen if row.state is State.RUNNING)
    return arranged(
        time=query.now,
        counts=counts,
        paused=Count(sum(row.paused and row.outcome == 0 for row in seen), more=more),
        owners=owners.items(),
        more=more,
        due=_due(execute, table, query.now, since),
        failures=_failures(execute, read, table, query),
    )


def _handlers(execute: Execute, table: str) -> Iterator[str]:
    """No handler, and each that has rows: one statement for each, with one seek in every shard."""
    handler = ""
    while True:
        yield handler
        found = [row.values[0].string_value for row in execute(queries.next_handler(table, handler))]
        if not found:
            return
        handler = found[0]


def _succeeded(execute: Execute, table: str, handlers: Sequence[str], most: int) -> Iterator[StateCount]:
    """From the index alone."""
    limit = most // 8 + _SPARE
    found: Counter[str] = Counter()
    cut = set()
    for row in execute(queries.count_ended_well(table, handlers, limit)):
        handler, here = row.values[0].string_value, number(row.values[1])
        found[handler] += here
        if here >= limit:
            cut.add(handler)
    for handler, total in found.items():
        count = Count(total, more=True) if handler in cut and total <= most else Count.up_to(total, most)
        if total:
            yield StateCount(handler=handler, state=State.SUCCEEDED, count=count)


def _looked_at(
    execute: Execute, table: str, handlers: Sequence[str], most: int, *, paused: bool
) -> tuple[list[_Seen], set[tuple[str, int]]]:
    """Rows that have not ended well, and of which (handler, outcome) there may be more than these."""
    limit = most // 8 + _SPARE
    asked = queries.told_apart(table, handlers, _TOLD_APART, limit, paused=paused)
    seen: list[_Seen] = []
    shards: Counter[tuple[str, str, int]] = Counter()
    for row in execute(asked):
        shard, handler, outcome, status, owner, stopped = row.values
        kind = number(outcome)
        state = next((state for state in _TOLD_APART[kind] if state == status.string_value), _OTHERWISE[kind])
        seen.append(_Seen(handler.string_value, kind, state, owner.string_value, stopped.bool_value))
        shards[shard.string_value, handler.string_value, kind] += 1
    cut = {(handler, kind) for (_, handler, kind), found in shards.items() if found >= limit}
    return seen, cut


def _due(execute: Execute, table: str, now: float, since: float) -> Iterator[DueRoute]:
    """Of what has been due for longest in each shard."""
    oldest: dict[tuple[str, str], tuple[float, str]] = {}
    found: Counter[tuple[str, str]] = Counter()
    shards: Counter[str] = Counter()
    for row in execute(queries.due(table, now=now, limit=_DUE, since=since)):
        shard, key, when, handler, resume_point = row.values
        route = handler.string_value, resume_point.string_value
        oldest.setdefault(route, (moment(when) or 0.0, key.string_value))
        found[route] += 1
        shards[shard.string_value] += 1
    more = any(number >= _DUE for number in shards.values())
    for route, (since, name) in oldest.items():
        count = Count(found[route], more=more)
        yield DueRoute(handler=route[0], resume_point=route[1], since=since, name=name, count=count)


def _failures(execute: Execute, read: Read, table: str, query: StatsQuery) -> tuple[FailureGroup, ...]:
    most = min(query.failures, _FAILURES)
    keys = [row.values[0].string_value for row in execute(queries.failures(table, now=query.now, limit=most + 1))]
    return grouped(_errors(read(_FAILED, keys[:most])), more=len(keys) > most)


def _errors(rows: Iterable[struct_pb2.ListValue]) -> Iterator[FoundFailure]:
    """The errors of those that were not cancelled. Only the message tells, which another program may have written."""
    for row in rows:
        key, handler, ended, updated, operation = row.values
        try:
            error = operations_pb2.Operation.FromString(blob(operation)).error
        except DecodeError:
            continue  # a list and a read of it say so
        if error.code != Code.CANCELLED:
            when = moment(ended) or moment(updated) or 0.0
            yield FoundFailure(key.string_value, handler.string_value, error.SerializeToString(), when)
