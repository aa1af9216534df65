"""Expressions of the fake's SQL: generated columns, defaults, conditions. Checked once, then run as closures.

Typed and three-valued as in GoogleSQL: a wrong type or name is found before the first row is read, and NULL is neither
TRUE nor FALSE. Functions: see ``functions``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar

from google.protobuf.descriptor_pool import DescriptorPool

from lro_aio.testing.spanner import syntax
from lro_aio.testing.spanner.binding import (
    Binder,
    Compiled,
    Context,
    EvaluationError,
    Frame,
    Test,
    constant,
    memoized,
)
from lro_aio.testing.spanner.functions import call, lift
from lro_aio.testing.spanner.tokens import Cursor, place
from lro_aio.testing.spanner.values import BOOL, INT64, Type, array

__all__ = ["Bound", "EvaluationError", "Expression", "compile_condition", "compile_node", "parse_expression"]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TURNED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_INCOMPARABLE = frozenset({"ARRAY", "STRUCT", "PROTO"})


@dataclass(frozen=True, slots=True)
class Bound:
    """An expression with checked names and types; call it for each row."""

    type: Type
    function: Callable[[Mapping[str, Any], int], Any]

    def __call__(self, row: Mapping[str, Any], now: int) -> Any:
        """Its value for a row (columns by name; nanoseconds since the epoch for ``CURRENT_TIMESTAMP()``).

        Raises:
            EvaluationError: A value broke it.
        """
        return self.function(row, now)


@dataclass(frozen=True, slots=True)
class Expression:
    """One parsed expression."""

    text: str
    node: syntax.Node

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it reads, as written."""
        return frozenset(_names(self.node))

    def bind(self, columns: Mapping[str, Type], messages: DescriptorPool | None) -> Bound:
        """Check it against the columns of a table, and the proto bundle if there is one.

        Raises:
            ValueError: An unknown name, or a wrong type.
        """
        context = Context(messages)
        binder = Binder(context)
        slot = binder.table("", columns)
        compiled = compile_node(self.node, binder, self.text)
        run = compiled.run

        def function(row: Mapping[str, Any], now: int) -> Any:
            frame = context.frame(now)
            frame[slot] = row
            return run(frame)

        return Bound(compiled.type, function)


@lru_cache(maxsize=512)
def parse_expression(text: str) -> Expression:
    """Parse an expression (``Operation.name``, ``IF(a, 1, 2)``). One with a query in it cannot be bound.

    Raises:
        ValueError: It is not in the dialect; says where.
    """
    cursor = Cursor(text)
    node = syntax.read_expression(cursor)
    cursor.end()
    return Expression(text, node)


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, syntax.Name):
        yield node.parts[0]
    elif isinstance(node, tuple):
        for item in node:
            yield from _names(item)
    elif isinstance(node, syntax.Node):
        for part in fields(node):
            yield from _names(getattr(node, part.name))


def compile_node(node: syntax.Node, binder: Binder, text: str) -> Compiled:
    """Resolve the names and types of an expression.

    Args:
        node: The expression.
        binder: Its names.
        text: The statement, to say in errors where they are.

    Raises:
        ValueError: An unknown name, or a wrong type.
    """
    return _Compiler(binder, text).compile(node)


def compile_condition(node: syntax.Node, binder: Binder, text: str) -> Compiled:
    """The same for a condition.

    Raises:
        ValueError: Likewise, or it is not a BOOL.
    """
    found = compile_node(node, binder, text)
    if found.type != BOOL:
        raise ValueError(f"WHERE clause should return type BOOL, but returns {found.type}{place(text, node.at)}")
    return found


class _Compiler:
    """One method for each kind of node."""

    __slots__ = ("_binder", "_text")

    def __init__(self, binder: Binder, text: str) -> None:
        self._binder = binder
        self._text = text

    def compile(self, node: syntax.Node) -> Compiled:
        try:
            return self._KINDS[type(node)](self, node)
        except ValueError as exc:
            if " [at " in str(exc):  # has a more precise position
                raise
            raise ValueError(f"{exc}{place(self._text, node.at)}") from exc

    def _literal(self, node: syntax.Literal) -> Compiled:
        return constant(node.type, node.value)

    def _parameter(self, node: syntax.Parameter) -> Compiled:
        return self._binder.context.parameter(node.name)

    def _name(self, node: syntax.Name) -> Compiled:
        return self._binder.resolve(node.parts)

    def _call(self, node: syntax.Call) -> Compiled:
        return call(node.name, [self.compile(argument) for argument in node.arguments])

    def _not(self, node: syntax.Not) -> Compiled:
        negated = lift(BOOL, operator.not_, [_bool(self.compile(node.item), "NOT")])
        if isinstance(node.item, syntax.IsNull):
            return replace(negated, tests=(Test("NOT NULL", self.compile(node.item.item)),))
        return negated

    def _binary(self, node: syntax.Binary) -> Compiled:
        left, right = self.compile(node.left), self.compile(node.right)
        if node.operator in _COMPARE:
            return _comparison(node.operator, left, right)
        if node.operator == "-":
            return _difference(left, right)
        return _junction(_bool(left, node.operator), _bool(right, node.operator), decisive=node.operator == "OR")

    def _is_null(self, node: syntax.IsNull) -> Compiled:
        item = self.compile(node.item)
        run = item.run
        return Compiled(BOOL, lambda frame: run(frame) is None, item.depends)

    def _in(self, node: syntax.In) -> Compiled:
        item, values = self.compile(node.item), self.compile(node.array)
        if values.type != array(item.type) or item.type.code in _INCOMPARABLE:
            raise ValueError(f"No matching signature for operator IN for argument types {item.type} and {values.type}")
        fetch = values.run

        def collect(frame: Frame) -> tuple[Collection[Any], bool]:
            """The values, and whether there is a NULL among them."""
            found = fetch(frame) or ()
            return frozenset(value for value in found if value is not None), None in found

        members = memoized(self._binder.context, Compiled(values.type, collect, values.depends)).run
        run = item.run

        def contains(frame: Frame) -> Any:
            present, null = members(frame)
            value = run(frame)
            if value is not None and value in present:
                return True
            return None if null or (value is None and present) else False

        known = Compiled(values.type, lambda frame: members(frame)[0], values.depends)
        return Compiled(BOOL, contains, item.depends | values.depends, tests=(Test("IN", item, known),))

    def _subquery(self, node: syntax.Subquery) -> Compiled:
        context = self._binder.context
        if context.subquery is None:
            raise ValueError("a query cannot stand in this expression")
        plan = context.subquery(node.query, self._binder)
        return memoized(context, Compiled(array(plan.value_type), plan.values, plan.depends))

    _KINDS: ClassVar[dict[type[syntax.Node], Callable[[_Compiler, Any], Compiled]]] = {
        syntax.Literal: _literal,
        syntax.Parameter: _parameter,
        syntax.Name: _name,
        syntax.Call: _call,
        syntax.Not: _not,
        syntax.Binary: _binary,
        syntax.IsNull: _is_null,
        syntax.In: _in,
        syntax.Subquery: _subquery,
    }


def _bool(item: Compiled, name: str) -> Compiled:
    if item.type != BOOL:
        raise ValueError(f"No matching signature for operator {name} for argument types: {item.type}")
    return item


def _junction(left: Compiled, right: Compiled, *, decisive: bool) -> Compiled:
    """OR if ``decisive`` is True, AND if it is False: one such value decides, whatever the other side is."""
    first, second = left.run, right.run

    def run(frame: Frame) -> Any:
        one = first(frame)
        if one is decisive:
            return decisive
        other = second(frame)
        if other is decisive:
            return decisive
        return None if one is None or other is None else not decisive

    return Compiled(BOOL, run, left.depends | right.depends)


def _difference(left: Compiled, right: Compiled) -> Compiled:
    if left.type != INT64 or right.type != INT64:
        raise ValueError(f"No matching signature for operator - for argument types: {left.type}, {right.type}")
    return lift(INT64, _subtract, [left, right])


def _subtract(one: int, other: int) -> int:
    if not -(2**63) <= one - other < 2**63:
        raise EvaluationError(f"int64 overflow: {one} - {other}")
    return one - other


def _comparison(operator_: str, left: Compiled, right: Compiled) -> Compiled:
    if left.type != right.type or left.type.code in _INCOMPARABLE:
        types = f"{left.type}, {right.type}"
        raise ValueError(f"No matching signature for operator {operator_} for argument types: {types}")
    found = lift(BOOL, _COMPARE[operator_], [left, right])
    turned = _TURNED.get(operator_)
    return found if turned is None else replace(found, tests=(Test(operator_, left, right), Test(turned, right, left)))
