"""Queries of the fake's SQL: SELECT over tables and arrays, with correlated subqueries. Grammar: see ``syntax``.

A query is checked and turned into closures, and then run row by row: of a table it reads only the rows that its
conditions can find in the index (or primary key) at hand, and no more of them than LIMIT asks for where they come in
order already.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lro_aio.testing.spanner import syntax
from lro_aio.testing.spanner.binding import Binder, Compiled, Context, EvaluationError, Frame, Test
from lro_aio.testing.spanner.expressions import compile_condition, compile_node
from lro_aio.testing.spanner.scans import KeyRange, Scan, Source
from lro_aio.testing.spanner.tokens import Cursor, place
from lro_aio.testing.spanner.values import INT64, Type

__all__ = ["EvaluationError", "KeyRange", "Result", "Select", "Source", "parse_select"]

_UNORDERED = frozenset({"ARRAY", "STRUCT", "PROTO"})


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a query."""

    names: tuple[str, ...]
    """One for each column; "" for one without a name."""
    types: tuple[Type, ...]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Select:
    """A parsed query."""

    text: str
    query: syntax.Query

    def run(self, source: Source, params: Mapping[str, tuple[Type, Any]], now: int) -> Result:
        """Run it.

        Args:
            source: The rows.
            params: Type and value (in its Python form) by name.
            now: Nanoseconds since the epoch, for ``CURRENT_TIMESTAMP()``.

        Raises:
            EvaluationError: A value broke an expression (OUT_OF_RANGE).
            ValueError: An unknown name, a wrong type, a missing parameter (INVALID_ARGUMENT).
        """

        def subquery(query: syntax.Query, parent: Binder) -> _Plan:
            return _plan(query, Binder(context, parent), source, self.text)

        context = Context(source.messages, params, subquery)
        plan = _plan(self.query, Binder(context), source, self.text)
        types = tuple(item.type for item in plan.outputs)
        if self.query.as_struct or any(type_.code == "STRUCT" for type_ in types):
            raise ValueError("Unsupported query shape: A struct value cannot be returned as a column value.")
        return Result(plan.names, types, plan.rows(context.frame(now)))


@lru_cache(maxsize=512)
def parse_select(text: str) -> Select:
    """Parse a query.

    Raises:
        ValueError: It is not in the dialect; says where.
    """
    return Select(text, syntax.read_query(Cursor(text)))


@dataclass(frozen=True, slots=True)
class _Level:
    """One source of rows, and the conditions that can be checked on it and those before it."""

    slot: int
    rows: Callable[[Frame], Iterator[Any]]
    filters: tuple[Callable[[Frame], Any], ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A query ready to run."""

    names: tuple[str, ...]
    outputs: tuple[Compiled, ...]
    as_struct: bool
    levels: list[_Level]
    order: list[tuple[Compiled, bool]]
    sorted: bool
    """The rows come in the requested order, or there is none."""
    limit: Callable[[Frame], int] | None
    depends: frozenset[int]
    """The slots of outer queries that it reads."""

    @property
    def value_type(self) -> Type:
        """The type of its one column, or of its STRUCT.

        Raises:
            ValueError: It has more columns, or a STRUCT without a name for each.
        """
        if self.as_struct:
            lower = {name.lower() for name in self.names}
            if len(lower) < len(self.names) or "" in lower:
                raise ValueError("SELECT AS STRUCT: this fake needs a name of its own for each column")
            return Type("STRUCT", fields=tuple(zip(self.names, (item.type for item in self.outputs))))
        if len(self.outputs) != 1:
            raise ValueError("ARRAY subquery cannot have more than one column unless using SELECT AS STRUCT")
        return self.outputs[0].type

    def values(self, frame: Frame) -> list[Any]:
        """The only column of each row, or its STRUCT."""
        if self.as_struct:
            return [dict(zip(self.names, row)) for row in self.rows(frame)]
        return [row[0] for row in self.rows(frame)]

    def rows(self, frame: Frame) -> list[tuple[Any, ...]]:
        """All rows of the answer."""
        stop = None if self.limit is None else self.limit(frame)
        columns = [item.run for item in self.outputs]
        if self.sorted:
            found = (tuple([column(frame) for column in columns]) for _ in self._walk(frame, 0))
            return list(itertools.islice(found, stop))
        keys = [item.run for item, _ in self.order]
        keyed = [
            (tuple([_sort_key(key(frame)) for key in keys]), tuple([column(frame) for column in columns]))
            for _ in self._walk(frame, 0)
        ]
        for position in reversed(range(len(keys))):
            keyed.sort(key=lambda pair: pair[0][position], reverse=self.order[position][1])
        return [row for _, row in keyed[:stop]]

    def _walk(self, frame: Frame, depth: int) -> Iterator[None]:
        """Yield once for each combination of rows that meets the conditions; the frame holds it."""
        if not self.levels:
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


def _sort_key(value: Any) -> tuple[bool, Any]:
    """NULL first."""
    return value is not None, value


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
            scan = _scan(item, slot, tests, source, text, binder.needs(slot))
            levels.append(_Level(slot, scan.rows, filters))
        else:
            depends |= elements.depends
            levels.append(_Level(slot, _elements(elements), filters))
    names = tuple(item.name for item in query.items)
    outputs = tuple(compile_node(item.expression, binder, text) for item in query.items)
    order = _order(query, binder, text)
    depends = depends.union(*(item.depends for item in outputs), *(item.depends for item, _ in order)) - binder.slots
    in_order = not order or (len(levels) == 1 and scan is not None and scan.in_order(order))
    limit = _count(query.limit, binder, text)
    return _Plan(names, outputs, query.as_struct, levels, order, in_order, limit, frozenset(depends))


def _bind(item: syntax.From, binder: Binder, source: Source, text: str) -> tuple[syntax.From, int, Compiled | None]:
    """Add a source to the names; returns its slot, and the expression of an array."""
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


def _scan(
    item: syntax.From, slot: int, tests: Sequence[Test], source: Source, text: str, needs: Collection[str]
) -> Scan:
    try:
        return Scan.plan(source, item.table, item.index, slot, tests, needs)
    except KeyError as exc:
        what = f"The table {item.table} does not have a secondary index called {item.index}"
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


def _order(query: syntax.Query, binder: Binder, text: str) -> list[tuple[Compiled, bool]]:
    """The keys of ORDER BY: names of columns, or of fields of an array's elements."""
    keys: list[tuple[Compiled, bool]] = []
    for order in query.order:
        node = order.expression
        key = compile_node(node, binder, text)
        if not isinstance(node, syntax.Name) or key.type.code in _UNORDERED:
            raise ValueError(f"ORDER BY: this fake takes the name of a column of a simple type{place(text, node.at)}")
        keys.append((key, order.descending))
    return keys


def _count(node: syntax.Node | None, binder: Binder, text: str) -> Callable[[Frame], int] | None:
    """The value of LIMIT."""
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
