"""Expressions of the fake's SQL: generated columns, defaults, conditions. Checked once, then run as closures.

Typed and three-valued as in GoogleSQL: a wrong type or name is found before the first row is looked at, and NULL is
neither TRUE nor FALSE. Functions: see ``functions``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, ClassVar

from google.protobuf.descriptor_pool import DescriptorPool

from lro_aio.testing.spanner import syntax
from lro_aio.testing.spanner.binding import (
    NULL,
    Binder,
    Compiled,
    Context,
    EvaluationError,
    Frame,
    Test,
    access,
    coerce,
    common,
    element_of,
    list_of,
    memoized,
)
from lro_aio.testing.spanner.functions import call, lift
from lro_aio.testing.spanner.tokens import Cursor, place
from lro_aio.testing.spanner.values import BOOL, INT64, Type

__all__ = ["Bound", "EvaluationError", "Expression", "Scope", "compile_condition", "compile_node", "parse_expression"]

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
class Scope:
    """What the names of an expression may stand for."""

    columns: Mapping[str, Type] = field(default_factory=dict)
    messages: DescriptorPool | None = None
    """The proto bundle: where PROTO types are looked up by name; None: there is none."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An expression whose names and types were checked against a scope; call it once a row."""

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

    def bind(self, scope: Scope) -> Bound:
        """Check it against a scope.

        Raises:
            ValueError: An unknown name, or a wrong type.
        """
        context = Context(scope.messages)
        binder = Binder(context)
        slot = binder.table("", scope.columns)
        compiled = compile_node(self.node, binder, self.text)
        run = compiled.run

        def function(row: Mapping[str, Any], now: int) -> Any:
            frame = context.frame(now)
            frame[slot] = row
            return run(frame)

        return Bound(INT64 if compiled.type == NULL else compiled.type, function)

    def evaluate(self, scope: Scope, row: Mapping[str, Any], now: int) -> Any:
        """``bind(scope)(row, now)``: to evaluate it once."""
        return self.bind(scope)(row, now)


@lru_cache(maxsize=512)
def parse_expression(text: str) -> Expression:
    """Parse an expression (``Operation.name``, ``IF(a, 1, 2)``). One with a query in it cannot be bound.

    Raises:
        ValueError: It does not follow the dialect; says where.
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
    """Settle the names and types of an expression.

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
    condition = coerce(found, BOOL)
    if condition is None:
        raise ValueError(f"WHERE clause should return type BOOL, but returns {found.type}{place(text, node.at)}")
    return condition


class _Compiler:
    """One method for each kind of node."""

    __slots__ = ("_binder", "_text")

    def __init__(self, binder: Binder, text: str) -> None:
        self._binder = binder
        self._text = text

    def compile(self, node: syntax.Node) -> Compiled:
        try:
            return self._KINDS[type(node)](self, node)
        except EvaluationError:
            raise
        except ValueError as exc:
            if " [at " in str(exc):  # said already, and nearer
                raise
            raise ValueError(f"{exc}{place(self._text, node.at)}") from exc

    def _literal(self, node: syntax.Literal) -> Compiled:
        value = node.value
        return Compiled(NULL if node.type is None else node.type, lambda _frame: value, literal=True)

    def _parameter(self, node: syntax.Parameter) -> Compiled:
        return self._binder.context.parameter(node.name)

    def _name(self, node: syntax.Name) -> Compiled:
        return self._binder.resolve(node.parts)

    def _field(self, node: syntax.Field) -> Compiled:
        return access(self.compile(node.item), node.name, self._binder.context.messages)

    def _call(self, node: syntax.Call) -> Compiled:
        return call(node.name, [self.compile(argument) for argument in node.arguments])

    def _unary(self, node: syntax.Unary) -> Compiled:
        item = self.compile(node.item)
        if node.operator == "-":
            return call("-", [item])
        if item.type == NULL:
            raise ValueError("Operands of NOT cannot be literal NULL")
        negated = lift(BOOL, operator.not_, [self._bool(item, "NOT")])
        if isinstance(node.item, syntax.IsNull):
            return replace(negated, tests=(Test("NOT NULL", self.compile(node.item.item)),))
        return negated

    def _binary(self, node: syntax.Binary) -> Compiled:
        left, right = self.compile(node.left), self.compile(node.right)
        if node.operator in ("AND", "OR"):
            return _junction(
                self._bool(left, node.operator), self._bool(right, node.operator), decisive=node.operator == "OR"
            )
        if node.operator in _COMPARE:
            return _comparison(node.operator, left, right)
        return call(node.operator, [left, right])

    @staticmethod
    def _bool(item: Compiled, name: str) -> Compiled:
        found = coerce(item, BOOL)
        if found is None:
            raise ValueError(f"No matching signature for operator {name} for argument types: {item.type}")
        return found

    def _is_null(self, node: syntax.IsNull) -> Compiled:
        item = self.compile(node.item)
        run = item.run
        return Compiled(BOOL, lambda frame: run(frame) is None, item.depends)

    def _is_truth(self, node: syntax.IsTruth) -> Compiled:
        item = self._bool(self.compile(node.item), "IS TRUE")
        run, truth = item.run, node.truth
        return Compiled(BOOL, lambda frame: run(frame) is truth, item.depends)

    def _array(self, node: syntax.ArrayItems) -> Compiled:
        items = [self.compile(item) for item in node.items]
        return _list(items, node.element or common(items))

    def _in(self, node: syntax.In) -> Compiled:
        item = self.compile(node.item)
        if node.items:
            items = [self.compile(one) for one in node.items]
            values = _list(items, common([item, *items]))
        else:
            values = self._query("ARRAY", node.query) if node.array is None else self.compile(node.array)
        element = element_of(values, "Second argument of IN UNNEST")
        found = coerce(item, element)
        if found is None or element.code in _INCOMPARABLE:
            raise ValueError(f"No matching signature for operator IN for argument types {item.type} and {{{element}}}")
        return self._membership(found, values)

    def _membership(self, item: Compiled, values: Compiled) -> Compiled:
        fetch = values.run

        def collect(frame: Frame) -> tuple[Collection[Any], bool]:
            """The values, and whether there is a NULL among them. NaN is equal to nothing."""
            found = fetch(frame) or ()
            present = frozenset(value for value in found if value is not None and value == value)
            return present, any(value is None for value in found)

        collected = memoized(self._binder.context, Compiled(values.type, collect, values.depends))
        run, members = item.run, collected.run

        def contains(frame: Frame) -> Any:
            present, null = members(frame)
            if not present and not null:
                return False
            value = run(frame)
            if value is not None and value in present:
                return True
            return None if null or value is None else False

        known = Compiled(values.type, lambda frame: members(frame)[0], values.depends)
        return Compiled(BOOL, contains, item.depends | values.depends, tests=(Test("IN", item, known),))

    def _subquery(self, node: syntax.Subquery) -> Compiled:
        return self._query(node.kind, node.query)

    def _query(self, kind: str, query: syntax.Query | None) -> Compiled:
        context = self._binder.context
        if context.subquery is None or query is None:
            raise ValueError("a query cannot stand in this expression")
        plan = context.subquery(query, self._binder)
        if kind == "EXISTS":
            return memoized(context, Compiled(BOOL, lambda frame: bool(plan.rows(frame)), plan.depends))
        type_ = plan.value_type(f"{kind or 'Scalar'} subquery")
        if kind == "ARRAY":
            return memoized(context, Compiled(list_of(type_), plan.values, plan.depends))

        def single(frame: Frame) -> Any:
            values = plan.values(frame)
            if len(values) > 1:
                raise EvaluationError("More than one element")
            return values[0] if values else None

        return memoized(context, Compiled(type_, single, plan.depends))

    _KINDS: ClassVar[dict[type[syntax.Node], Callable[[_Compiler, Any], Compiled]]] = {
        syntax.Literal: _literal,
        syntax.Parameter: _parameter,
        syntax.Name: _name,
        syntax.Field: _field,
        syntax.Call: _call,
        syntax.Unary: _unary,
        syntax.Binary: _binary,
        syntax.IsNull: _is_null,
        syntax.IsTruth: _is_truth,
        syntax.ArrayItems: _array,
        syntax.In: _in,
        syntax.Subquery: _subquery,
    }


def _list(items: list[Compiled], element: Type | None) -> Compiled:
    """An array of these, if they can all be of this type."""
    coerced = [None if element is None else coerce(item, element) for item in items]
    runs = [item.run for item in coerced if item is not None]
    if element is None or len(runs) < len(items):
        types = ", ".join(str(item.type) for item in items)
        raise ValueError(f"Elements of types {{{types}}} do not have a common supertype, or not the one needed")
    depends = frozenset[int]().union(*(item.depends for item in items))
    return Compiled(list_of(element), lambda frame: [run(frame) for run in runs], depends)


def _junction(left: Compiled, right: Compiled, *, decisive: bool) -> Compiled:
    """OR if ``decisive`` is True, AND if it is False: the one value that settles it, whatever the other side."""
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


def _comparison(operator_: str, left: Compiled, right: Compiled) -> Compiled:
    if NULL in (left.type, right.type):
        raise ValueError(f"Operands of {operator_} cannot be literal NULL")
    type_ = common([left, right])
    one = None if type_ is None else coerce(left, type_)
    other = None if type_ is None else coerce(right, type_)
    if one is None or other is None:
        types = f"{left.type}, {right.type}"
        raise ValueError(f"No matching signature for operator {operator_} for argument types: {types}")
    if one.type.code in _INCOMPARABLE:
        raise ValueError(f"{operator_} is not defined for arguments of type {one.type}")
    found = lift(BOOL, _COMPARE[operator_], [one, other])
    turned = _TURNED.get(operator_)
    return found if turned is None else replace(found, tests=(Test(operator_, one, other), Test(turned, other, one)))
