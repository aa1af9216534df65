"""Queries of the fake's SQL: SELECT over tables and arrays, with correlated subqueries. Grammar: see ``syntax``.

A query is checked and turned into closures, and then read row by row: of a table only the rows that its conditions can
find in the index (or primary key) at hand, and no more of them than LIMIT asks for where they come in order already.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from lro_aio.testing.spanner import syntax
from lro_aio.testing.spanner.binding import NULL, Binder, Compiled, Context, EvaluationError, Frame, Test
from lro_aio.testing.spanner.expressions import Scope, compile_condition, compile_node
from lro_aio.testing.spanner.scans import KeyRange, Scan, Source
from lro_aio.testing.spanner.tokens import Cursor, place
from lro_aio.testing.spanner.values import INT64, Type

__all__ = ["EvaluationError", "KeyRange", "Result", "Scope", "Select", "Source", "parse_select"]

_AGGREGATES = frozenset({"COUNT(*)", "COUNT", "MIN", "MAX"})
_UNORDERED = frozenset({"ARRAY", "STRUCT", "PROTO"})


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a query."""

    names: tuple[str, ...]
    """Of the columns; "" for one without a name."""
    types: tuple[Type, ...]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Select:
    """A parsed query."""

    text: str
    query: syntax.Query

    def run(self, source: Source, params: Mapping[str, tuple[Type | None, Any]], now: int) -> Result:
        """Run it.

        Args:
            source: The rows.
            params: Type and value (in its Python form) by name; the type None is refused.
            now: Nanoseconds since the epoch, for ``CURRENT_TIMESTAMP()``.

        Raises:
            EvaluationError: A value broke an expression (OUT_OF_RANGE).
            ValueError: An unknown name, a wrong type, a missing parameter (INVALID_ARGUMENT).
        """

        def subquery(query: syntax.Query, parent: Binder) -> _Plan:
            return _plan(query, Binder(context, parent), source, self.text)

        context = Context(source.messages, params, subquery)
        plan = _plan(self.query, Binder(context), source, self.text)
        if any(item.type.code == "STRUCT" for item in plan.outputs) or self.query.as_struct:
            raise ValueError("Unsupported query shape: A struct value cannot be returned as a column value.")
        types = tuple(INT64 if item.type == NULL else item.type for item in plan.outputs)
        return Result(plan.names, types, plan.rows(context.frame(now)))


@lru_cache(maxsize=512)
def parse_select(text: str) -> Select:
    """Parse a query.

    Raises:
        ValueError: It does not follow the dialect; says where.
    """
    return Select(text, syntax.read_query(Cursor(text)))


@dataclass(frozen=True, slots=True)
class _Level:
    """One source of rows, and the conditions that can be held against it and those before it."""

    slot: int
    rows: Callable[[Frame], Iterator[Any]]
    filters: tuple[Callable[[Frame], Any], ...]


@dataclass(slots=True)
class _Plan:
    """A query ready to run."""

    names: tuple[str, ...]
    outputs: tuple[Compiled, ...]
    as_struct: bool
    levels: list[_Level]
    order: list[tuple[Compiled, bool]]
    sorted: bool
    """The rows come in the order asked for, or none is."""
    limit: Callable[[Frame], int] | None
    offset: Callable[[Frame], int] | None
    depends: frozenset[int]
    """The slots of queries around it that it reads."""
    aggregates: tuple[str, ...] = ()
    """Names of the functions over all rows that ``outputs`` are the arguments of."""
    columns: tuple[Callable[[Frame], Any], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = tuple(item.run for item in self.outputs)

    def value_type(self, what: str) -> Type:
        """Of its one column, or of its STRUCT.

        Raises:
            ValueError: It has more columns, or a STRUCT without a name for each.
        """
        types = [INT64 if item.type == NULL else item.type for item in self.outputs]
        if self.as_struct:
            lower = {name.lower() for name in self.names}
            if len(lower) < len(self.names) or "" in lower:
                raise ValueError("SELECT AS STRUCT: this fake needs a name of its own for each column")
            return Type("STRUCT", fields=tuple(zip(self.names, types)))
        if len(types) != 1:
            raise ValueError(f"{what} cannot have more than one column unless using SELECT AS STRUCT")
        return types[0]

    def values(self, frame: Frame) -> list[Any]:
        """Of each row its one column, or its STRUCT."""
        if self.as_struct:
            return [dict(zip(self.names, row)) for row in self.rows(frame)]
        return [row[0] for row in self.rows(frame)]

    def rows(self, frame: Frame) -> list[tuple[Any, ...]]:
        """All rows of the answer."""
        limit = None if self.limit is None else self.limit(frame)
        offset = 0 if self.offset is None else self.offset(frame)
        stop = None if limit is None else offset + limit
        columns = self.columns
        if self.aggregates:
            values = [tuple(column(frame) for column in columns) for _ in self._walk(frame, 0)]
            return [_aggregate(self.aggregates, values)][offset:stop]
        if self.sorted:
            found = (tuple([column(frame) for column in columns]) for _ in self._walk(frame, 0))
            return list(itertools.islice(found, offset, stop))
        keys = [item.run for item, _ in self.order]
        keyed = [
            (tuple([_sort_key(key(frame)) for key in keys]), tuple([column(frame) for column in columns]))
            for _ in self._walk(frame, 0)
        ]
        for position in reversed(range(len(keys))):
            keyed.sort(key=lambda pair: pair[0][position], reverse=self.order[position][1])
        return [row for _, row in keyed[offset:stop]]

    def _walk(self, frame: Frame, depth: int) -> Iterator[None]:
        """Once for each combination of rows that meets the conditions; the frame stands on it."""
        if depth == len(self.levels):
            yield None
            return
        level = self.levels[depth]
        slot, filters, last = level.slot, level.filters, depth + 1 == len(self.levels)
        for row in level.rows(frame):
            frame[slot] = row
            for condition in filters:
                if condition(frame) is not True:
                    break
            else:
                if last:
                    yield None
                else:
                    yield from self._walk(frame, depth + 1)


def _sort_key(value: Any) -> tuple[bool, bool, Any]:
    """NULL first, then NaN, which alone is not equal to itself."""
    return value is not None, value == value, value


def _aggregate(names: Sequence[str], rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    found: list[Any] = []
    for position, name in enumerate(names):
        values = [row[position] for row in rows if row[position] is not None]
        if name.startswith("COUNT"):
            found.append(len(values))
        else:
            found.append((min if name == "MIN" else max)(values, default=None))
    return tuple(found)


def _plan(query: syntax.Query, binder: Binder, source: Source, text: str) -> _Plan:
    sources = [_bind(item, binder, source, text) for item in query.sources]
    conditions = [compile_condition(node, binder, text) for node in _conjuncts(query.where)]
    tests = [test for condition in conditions for test in condition.tests]
    depends = frozenset[int]().union(*(condition.depends for condition in conditions))
    levels: list[_Level] = []
    scan: Scan | None = None
    remaining = conditions
    for position, (item, slot, elements) in enumerate(sources):
        later = {later_slot for _, later_slot, _ in sources[position + 1 :]}
        ready = [condition for condition in remaining if not condition.depends & later]
        remaining = [condition for condition in remaining if condition.depends & later]
        filters = tuple(condition.run for condition in ready)
        if elements is None:
            scan = _scan(item, slot, tests, source, text)
            levels.append(_Level(slot, scan.rows, filters))
        else:
            depends |= elements.depends
            levels.append(_Level(slot, _elements(elements), filters))
    names, outputs, aggregates = _outputs(query, binder, text)
    if aggregates and not sources:
        raise ValueError("An aggregate function needs FROM" + place(text, query.at))
    order = _order(query, names, outputs, binder, text)
    if aggregates and order:
        raise ValueError(f"ORDER BY after an aggregate function is not in this dialect{place(text, query.at)}")
    depends = depends.union(*(item.depends for item in outputs), *(item.depends for item, _ in order)) - binder.slots
    in_order = not order or (len(levels) == 1 and scan is not None and scan.in_order(order))
    limit, offset = (_count(node, binder, text) for node in (query.limit, query.offset))
    return _Plan(
        names, outputs, query.as_struct, levels, order, in_order, limit, offset, frozenset(depends), aggregates
    )


def _bind(item: syntax.From, binder: Binder, source: Source, text: str) -> tuple[syntax.From, int, Compiled | None]:
    """Add a source to the names: with its slot, and for an array what makes it."""
    if item.array is not None:
        array = compile_node(item.array, binder, text)
        if array.type.element is None:
            raise ValueError(f"Values referenced in UNNEST must be arrays, not {array.type}{place(text, item.at)}")
        return item, binder.array(item.alias, array.type.element), array
    try:
        columns = source.columns(item.table)
    except KeyError as exc:
        raise ValueError(f"Table not found: {item.table}{place(text, item.at)}") from exc
    return item, binder.table(item.alias, columns), None


def _scan(item: syntax.From, slot: int, tests: Sequence[Test], source: Source, text: str) -> Scan:
    index = None if item.index is None or item.index.upper() == "_BASE_TABLE" else item.index
    try:
        return Scan.plan(source, item.table, index, slot, tests)
    except KeyError as exc:
        what = f"The table {item.table} does not have a secondary index called {index}"
        raise ValueError(what + place(text, item.at)) from exc


def _elements(array: Compiled) -> Callable[[Frame], Iterator[Any]]:
    run = array.run
    return lambda frame: iter(run(frame) or ())


def _conjuncts(node: syntax.Node | None) -> list[syntax.Node]:
    """The conditions that AND joins."""
    if node is None:
        return []
    if isinstance(node, syntax.Binary) and node.operator == "AND":
        return [*_conjuncts(node.left), *_conjuncts(node.right)]
    return [node]


def _outputs(
    query: syntax.Query, binder: Binder, text: str
) -> tuple[tuple[str, ...], tuple[Compiled, ...], tuple[str, ...]]:
    """Names, columns, and if they are the arguments of functions over all rows, the names of these."""
    names: list[str] = []
    outputs: list[Compiled] = []
    aggregates: list[str] = []
    for item in query.items:
        node = item.expression
        if node is None:
            stars = binder.stars(item.star or "")
            names.extend(name for name, _ in stars)
            outputs.extend(column for _, column in stars)
            continue
        if isinstance(node, syntax.Call) and node.name in _AGGREGATES:
            aggregates.append(node.name)
            outputs.append(_argument(node, binder, text))
        else:
            outputs.append(compile_node(node, binder, text))
        names.append(item.name)
    if aggregates and len(aggregates) < len(outputs):
        raise ValueError(
            "SELECT list expression is neither grouped nor aggregated (GROUP BY is not in this dialect)"
            + place(text, query.at)
        )
    return tuple(names), tuple(outputs), tuple(aggregates)


def _argument(node: syntax.Call, binder: Binder, text: str) -> Compiled:
    """What COUNT, MIN or MAX is over; its type is that of their value."""
    if node.name == "COUNT(*)":
        return Compiled(INT64, lambda _frame: 1)
    if len(node.arguments) != 1:
        raise ValueError(f"Number of arguments does not match for function {node.name}{place(text, node.at)}")
    found = compile_node(node.arguments[0], binder, text)
    if node.name == "COUNT":
        return Compiled(INT64, found.run, found.depends)
    if found.type.code in _UNORDERED or found.type.code == "FLOAT64":
        raise ValueError(f"{node.name} is not defined here for arguments of type {found.type}{place(text, node.at)}")
    return found


def _order(
    query: syntax.Query, names: Sequence[str], outputs: Sequence[Compiled], binder: Binder, text: str
) -> list[tuple[Compiled, bool]]:
    """The keys of ORDER BY: a selected column by its number or name, or any expression."""
    keys: list[tuple[Compiled, bool]] = []
    for order in query.order:
        node = order.expression
        key: Compiled = _selected(node, names, outputs, text) or compile_node(node, binder, text)
        if key.type.code in _UNORDERED:
            raise ValueError(f"ORDER BY does not support expressions of type {key.type}{place(text, node.at)}")
        keys.append((key, order.descending))
    return keys


def _selected(node: syntax.Node, names: Sequence[str], outputs: Sequence[Compiled], text: str) -> Compiled | None:
    if isinstance(node, syntax.Literal):
        if node.type != INT64:
            raise ValueError(f"Cannot ORDER BY literal values{place(text, node.at)}")
        if not 1 <= node.value <= len(outputs):
            raise ValueError(f"ORDER BY is out of SELECT column number range: {node.value}{place(text, node.at)}")
        return outputs[int(node.value) - 1]
    if not isinstance(node, syntax.Name) or len(node.parts) != 1:
        return None
    chosen = [item for name, item in zip(names, outputs) if name.lower() == node.parts[0].lower()]
    if len(chosen) > 1:
        raise ValueError(f"Column name {node.parts[0]} is ambiguous{place(text, node.at)}")
    return chosen[0] if chosen else None


def _count(node: syntax.Node | None, binder: Binder, text: str) -> Callable[[Frame], int] | None:
    """The value of LIMIT or OFFSET."""
    if node is None:
        return None
    found = compile_node(node, binder, text)
    if found.type != INT64:
        raise ValueError(f"LIMIT expects an integer literal or parameter{place(text, node.at)}")

    def count(frame: Frame) -> int:
        value = found.run(frame)
        if value is None or value < 0:
            raise EvaluationError("Limit requires non-negative count and offset")
        return int(value)

    return count
