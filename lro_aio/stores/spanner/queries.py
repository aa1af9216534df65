"""The statements of the scans, and their parameters.

Every index of the table begins with ``Shard``, so that rows of the same time are not all written to one server. A
statement that wants the first rows of all shards seeks into each shard, takes no more than it needs there, and then
sorts what it found. The texts are constant, so Spanner keeps their plans.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.cloud.spanner_v1.types import StructType, Type, TypeCode
from google.protobuf import struct_pb2

from lro_aio.core.record import OUTCOMES, State
from lro_aio.ports import ListQuery, Route
from lro_aio.stores.spanner.entries import ENTRY
from lro_aio.stores.spanner.table import INDEXES, journal_of, quoted
from lro_aio.stores.spanner.values import earliest, latest, list_of, values_of

__all__ = [
    "DUE",
    "NEXT",
    "UNKNOWN",
    "Query",
    "array_of",
    "count_ended_well",
    "due",
    "expired",
    "failures",
    "journal",
    "listed",
    "look",
    "next_handler",
    "outcomes",
    "told_apart",
]

SHARDS = tuple("0123456789abcdef")
"""The values of the column ``Shard``."""

DUE, NEXT, UNKNOWN = 0, 1, 2
"""The kinds of rows that ``look`` finds."""

EPOCH = "1970-01-01T00:00:00Z"
"""``Due`` of a row that another program ended, until it has an ``ExpireTime``."""

BEGINNING = "0001-01-01T00:00:00Z"
"""The first TIMESTAMP."""

_INDEXES = {index.suffix: index for index in INDEXES}
_TERMINAL = tuple(state.value for state in State if state.terminal)
_STRING, _INT64, _TIMESTAMP = (Type(code=code) for code in (TypeCode.STRING, TypeCode.INT64, TypeCode.TIMESTAMP))
_STRINGS, _INT64S = (Type(code=TypeCode.ARRAY, array_element_type=element) for element in (_STRING, _INT64))


@dataclass(slots=True)
class Query:
    """A statement, with its parameters in Spanner's JSON form."""

    sql: str
    params: dict[str, Any] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)

    def text(self, **params: str) -> Query:
        """Bind STRINGs."""
        return self._bind(params, _STRING)

    def whole(self, **params: int) -> Query:
        """Bind INT64s."""
        return self._bind({name: str(value) for name, value in params.items()}, _INT64)

    def time(self, **params: str) -> Query:
        """Bind TIMESTAMPs."""
        return self._bind(params, _TIMESTAMP)

    def texts(self, **params: Iterable[str]) -> Query:
        """Bind ARRAY<STRING>s."""
        return self._bind({name: list_of(value) for name, value in params.items()}, _STRINGS)

    def wholes(self, **params: Iterable[int]) -> Query:
        """Bind ARRAY<INT64>s."""
        return self._bind({name: list_of(value) for name, value in params.items()}, _INT64S)

    def structs(self, kind: Type, **params: Iterable[Sequence[Any]]) -> Query:
        """Bind ARRAY<STRUCT>s, of the type that ``array_of`` makes."""
        for name, rows in params.items():
            cells = [struct_pb2.Value(list_value=values_of(*row)) for row in rows]
            self.params[name] = struct_pb2.Value(list_value=struct_pb2.ListValue(values=cells))
            self.types[name] = kind
        return self

    def _bind(self, params: Mapping[str, Any], kind: Type) -> Query:
        for name, value in params.items():
            self.params[name] = values_of(value).values[0] if isinstance(value, str) else value
            self.types[name] = kind
        return self


def array_of(*texts: str, times: Sequence[str] = ()) -> Type:
    """ARRAY<STRUCT> of these STRINGs, and TIMESTAMPs behind them."""
    kinds = dict.fromkeys(texts, _STRING) | dict.fromkeys(times, _TIMESTAMP)
    members = StructType(fields=[StructType.Field(name=name, type_=kind) for name, kind in kinds.items()])
    return Type(code=TypeCode.ARRAY, array_element_type=Type(code=TypeCode.STRUCT, struct_type=members))


def _from(since: float) -> str:
    return BEGINNING if since == -math.inf else earliest(since)


def _route_text(route: Route) -> str:
    """A route in the form of the statements; for all resume points the handler alone: no name has a line break."""
    handler, resume_point = route
    return handler if resume_point is None else f"{handler}\n{resume_point}"


def look(
    table: str,
    *,
    now: float,
    routes: Sequence[Route],
    limit: int,
    owner: str,
    own: bool,
    overdue: float | None,
    since: float = -math.inf,
    unknown_since: float = -math.inf,
) -> Query:
    """The keys that are due, the next time to scan, and an unknown route: (key, Due, Handler, ResumePoint, Kind).

    Those that are due are looked for from ``since`` on, the route from ``unknown_since`` on: before, there are none.
    """
    route = "CONCAT(IFNULL(Handler, ''), '\\n', IFNULL(ResumePoint, ''))"
    known = f"({route} IN UNNEST(@routes) OR IFNULL(Handler, '') IN UNNEST(@routes))"
    held = "IFNULL(Owner, '') <> @owner"

    def part(kind: int, condition: str, limit: str) -> str:
        return (
            f"ARRAY(SELECT AS STRUCT key, Due, Handler, ResumePoint, {kind} AS Kind"
            f" {_from_shard(table, 'Due')} AND {condition} ORDER BY Due LIMIT {limit})"
        )

    skipped = "" if own else f" AND {held}"
    parts = [
        part(DUE, f"Due = @epoch{skipped}", "@limit"),
        part(DUE, f"Due >= @since AND Due <= @now AND Due <> @epoch AND {known}{skipped}", "@limit"),
        part(NEXT, f"Due > @now AND {known} AND {held}", "1"),
    ]
    if overdue is not None:
        parts.append(
            part(UNKNOWN, f"Due >= @unknown_since AND Due > @epoch AND Due <= @overdue AND NOT {known} AND {held}", "1")
        )
    sql = (
        "SELECT r.key, r.Due, r.Handler, r.ResumePoint, r.Kind FROM UNNEST(@shards) AS s,"
        f" UNNEST(ARRAY_CONCAT({', '.join(parts)})) AS r ORDER BY r.Kind, r.Due, r.key"
    )
    query = Query(sql).texts(shards=SHARDS, routes=map(_route_text, routes))
    query.time(now=latest(now), since=_from(since), epoch=EPOCH).text(owner=owner or "\n").whole(limit=limit)
    return query if overdue is None else query.time(overdue=latest(overdue), unknown_since=_from(unknown_since))


def expired(table: str, *, now: float, limit: int, since: float = -math.inf) -> Query:
    """The keys of expired rows, the oldest first. Before ``since`` there are none."""
    sql = (
        "SELECT r.key FROM UNNEST(@shards) AS s, UNNEST(ARRAY(SELECT AS STRUCT key, ExpireTime"
        f" {_from_shard(table, 'Expiry')} AND ExpireTime >= @since AND ExpireTime <= @now"
        " ORDER BY ExpireTime LIMIT @limit)) AS r"
        " ORDER BY r.ExpireTime LIMIT @limit"
    )
    return Query(sql).texts(shards=SHARDS).time(now=latest(now), since=_from(since)).whole(limit=limit)


def journal(table: str, names: Sequence[str], kinds: Collection[str] | None) -> Query:
    """The entries of these operations, in no particular order."""
    sql = f"SELECT {', '.join(ENTRY)} FROM {journal_of(table)} WHERE key IN UNNEST(@names)"
    if kinds is None:
        return Query(sql).texts(names=names)
    return Query(f"{sql} AND Kind IN UNNEST(@kinds)").texts(names=names, kinds=map(str, kinds))


def listed(
    table: str,
    query: ListQuery,
    *,
    limit: int,
    after: tuple[float, str] | None,
    by_state: bool = True,
    paused: bool = True,
) -> Query:
    """(CreateTime, key) of the rows of one page.

    ``Status`` alone does not tell a row's state, so the page also has rows where it may be wrong.

    Args:
        table: The table of the operations.
        query: What to list.
        limit: The most rows.
        after: The place of the last row of the previous page.
        by_state: Leave out rows in other states, which no index tells: they are looked up.
        paused: Whether the table has a column for pauses.
    """
    index, conditions = _index(query)
    bound = (
        Query("").texts(shards=SHARDS).wholes(outcomes=outcomes(query)).whole(limit=limit).time(now=latest(query.now))
    )
    for name, value in (
        ("handler", query.handler),
        ("parent", query.parent),
        ("parent_operation", query.parent_operation),
    ):
        if value is not None:
            bound.text(**{name: value})
    last = query.created_to
    if after is not None:
        conditions.append("(CreateTime < @after_first OR key > @after_key)")
        bound.time(after_first=earliest(after[0])).text(after_key=after[1])
        last = after[0] if last is None else min(last, after[0])
    if last is not None:
        conditions.append("CreateTime <= @last")
        bound.time(last=latest(last))
    if query.created_from is not None:
        conditions.append("CreateTime >= @first")
        bound.time(first=earliest(query.created_from))
    if query.paused is not None and paused:
        conditions.append(f"{'' if query.paused else 'NOT '}IFNULL(Paused, FALSE)")
    if query.states is not None and by_state and not query.states.issuperset(_possible(query)):
        conditions.append(f"(Status IS NULL OR Status IN UNNEST(@states) OR {_SUSPECT})")
        bound.texts(states=[state.value for state in query.states], terminal=_TERMINAL)
    where = " AND ".join(conditions)
    ranges = "UNNEST(@shards) AS s" if index == "Children" else "UNNEST(@shards) AS s, UNNEST(@outcomes) AS o"
    bound.sql = (
        f"SELECT r.CreateTime, r.key FROM {ranges}, UNNEST(ARRAY("
        f"SELECT AS STRUCT key, CreateTime {_from_shard(table, index)} AND {where}"
        " AND NOT IFNULL(Deleted, FALSE) AND (ExpireTime IS NULL OR ExpireTime > @now)"
        " ORDER BY CreateTime DESC, key LIMIT @limit)) AS r ORDER BY r.CreateTime DESC, r.key LIMIT @limit"
    )
    return bound


def next_handler(table: str, after: str) -> Query:
    """The next handler that has rows, after this one; or no row."""
    sql = (
        "SELECT r.Handler FROM UNNEST(@shards) AS s, UNNEST(ARRAY(SELECT AS STRUCT Handler"
        f" {_from_shard(table, 'Handler')} AND Handler > @after ORDER BY Handler LIMIT 1)) AS r"
        " ORDER BY r.Handler LIMIT 1"
    )
    return Query(sql).texts(shards=SHARDS).text(after=after)


def count_ended_well(table: str, handlers: Sequence[str], limit: int) -> Query:
    """(handler, number) for each shard; none above the limit."""
    sql = (
        "SELECT h, ARRAY_LENGTH(ARRAY(SELECT CreateTime"
        f" {_from_shard(table, 'Handler')} AND Handler = h AND Outcome = 1 LIMIT @limit)) AS Found"
        " FROM UNNEST(@shards) AS s, UNNEST(@handlers) AS h"
    )
    return Query(sql).texts(shards=SHARDS, handlers=handlers).whole(limit=limit)


def told_apart(table: str, handlers: Sequence[str], outcomes: Iterable[int], limit: int, *, paused: bool) -> Query:
    """(shard, handler, outcome, status, owner, paused) of each shard's newest rows, so many of each outcome."""
    column = "IFNULL(Paused, FALSE)" if paused else "FALSE"
    sql = (
        "SELECT s, r.Handler, r.Outcome, r.Status, r.Owner, r.Stopped"
        " FROM UNNEST(@shards) AS s, UNNEST(@handlers) AS h, UNNEST(@outcomes) AS o, UNNEST(ARRAY("
        f"SELECT AS STRUCT Handler, Outcome, Status, Owner, {column} AS Stopped {_from_shard(table, 'Handler')}"
        " AND Handler = h AND Outcome = o AND NOT IFNULL(Deleted, FALSE) ORDER BY CreateTime DESC LIMIT @limit)) AS r"
    )
    return Query(sql).texts(shards=SHARDS, handlers=handlers).wholes(outcomes=outcomes).whole(limit=limit)


def due(table: str, *, now: float, limit: int, since: float = -math.inf) -> Query:
    """(shard, key, due, handler, resume point) of what has been due for longest in each shard, from ``since`` on."""
    sql = (
        "SELECT s, r.key, r.Due, r.Handler, r.ResumePoint FROM UNNEST(@shards) AS s, UNNEST(ARRAY("
        f"SELECT AS STRUCT key, Due, Handler, ResumePoint {_from_shard(table, 'Due')}"
        " AND Due >= @since AND Due > @epoch AND Due <= @now"
        " ORDER BY Due LIMIT @limit)) AS r ORDER BY r.Due, r.key"
    )
    return Query(sql).texts(shards=SHARDS).time(now=latest(now), since=_from(since), epoch=EPOCH).whole(limit=limit)


def failures(table: str, *, now: float, limit: int) -> Query:
    """The keys of those that have ended badly, the newest first."""
    sql = (
        "SELECT r.key FROM UNNEST(@shards) AS s, UNNEST(ARRAY("
        f"SELECT AS STRUCT key, CreateTime {_from_shard(table, 'Newest')} AND Outcome = 2"
        " AND NOT IFNULL(Deleted, FALSE) AND (ExpireTime IS NULL OR ExpireTime > @now)"
        " ORDER BY CreateTime DESC, key LIMIT @limit)) AS r ORDER BY r.CreateTime DESC, r.key LIMIT @limit"
    )
    return Query(sql).texts(shards=SHARDS).time(now=latest(now)).whole(limit=limit)


_SUSPECT = "(Outcome = 0) = (Status IN UNNEST(@terminal)) OR (Outcome = 1) <> (Status = 'SUCCEEDED')"
"""True for a row whose ``Status`` contradicts an ``Operation`` that another program wrote."""


def outcomes(query: ListQuery) -> list[int]:
    """The values of ``Outcome`` that rows of the page can have. Empty: no row can be on it."""
    states = set(State) if query.states is None else query.states
    if query.done is not None:
        states = {state for state in states if state.terminal == query.done}
    return sorted({OUTCOMES[state] for state in states})


def _possible(query: ListQuery) -> set[State]:
    """The states of rows with these outcomes."""
    known = outcomes(query)
    return {state for state, outcome in OUTCOMES.items() if outcome in known}


def _index(query: ListQuery) -> tuple[str, list[str]]:
    """The index that leaves the fewest rows to read, and the conditions, its own first."""
    outcome = "Outcome = o"
    parent = [] if query.parent is None else ["Parent = @parent"]
    # Rows of other programs have NULL where ours have "" for no handler or no parent operation.
    handler = (
        [] if query.handler is None else ["Handler = @handler" if query.handler else "IFNULL(Handler, '') = @handler"]
    )
    family = "ParentOperation = @parent_operation"
    if query.parent_operation:
        return "Children", [family, "Outcome IN UNNEST(@outcomes)", *parent, *handler]
    rest = [] if query.parent_operation is None else ["IFNULL(ParentOperation, '') = @parent_operation"]
    if query.handler:
        return "Handler", [handler[0], outcome, *parent, *rest]
    if query.parent is not None:
        return "Parent", [*parent, outcome, *handler, *rest]
    return "Newest", [outcome, *handler, *rest]


def _from_shard(table: str, suffix: str) -> str:
    """The rows of shard ``s`` in an index.

    For each column of a null-filtered index, the text says that no NULL is wanted: the service uses such an index only
    if the conditions rule out the rows that are not in it.
    """
    index = _INDEXES[suffix]
    columns = [key.removesuffix(" DESC") for key in index.keys] if index.null_filtered else []
    where = " AND ".join(["Shard = s", *(f"{column} IS NOT NULL" for column in columns)])
    return f"FROM {quoted(table)}@{{FORCE_INDEX={index.name(table)}}} WHERE {where}"
