"""The grammar of the fake's SQL: text to a tree, knowing nothing of tables and types.

::

    query  = [ "@{" hint "=" value "}" ] SELECT [ AS STRUCT ] item, ... [ FROM source, ... ] [ WHERE expression ]
             [ ORDER BY expression [ ASC | DESC ], ... ] [ LIMIT count [ OFFSET count ] ]
    item   = "*" | name ".*" | expression [ [ AS ] name ]
    source = table [ "@{FORCE_INDEX=" index "}" ] [ [ AS ] name ] | UNNEST(expression) [ [ AS ] name ]

    expression, from the loosest to the tightest: OR; AND; NOT; comparison, [NOT] IN, [NOT] BETWEEN, IS [NOT] NULL,
    IS [NOT] TRUE (none of them chained); + -; *, ||; unary -; a field (x.y); literal, @parameter, name, function,
    (expression), [array], ARRAY(query), (query), EXISTS(query), CASE WHEN

Precedence as in GoogleSQL. Everything else (joins, grouping, DISTINCT, WITH, CAST, /, LIKE, ...) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lro_aio.testing.spanner.tokens import RESERVED, Cursor
from lro_aio.testing.spanner.values import BOOL, BYTES, FLOAT64, INT64, STRING, TIMESTAMP, Type, parse_timestamp

__all__ = [
    "ArrayItems",
    "Binary",
    "Call",
    "Field",
    "From",
    "In",
    "IsNull",
    "IsTruth",
    "Item",
    "Literal",
    "Name",
    "Node",
    "Order",
    "Parameter",
    "Query",
    "Subquery",
    "Unary",
    "read_expression",
    "read_query",
]

COMPARISONS = {"=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "<>": "<>", "!=": "<>"}
MAX_DEPTH = 60
"""Expressions inside one another."""
_INT64_LIMIT = 2**63
_HINTS = frozenset(
    {
        "LOCK_SCANNED_RANGES",
        "USE_ADDITIONAL_PARALLELISM",
        "SPANNER_EMULATOR.DISABLE_QUERY_NULL_FILTERED_INDEX_CHECK",
    }
)
"""Statement hints that do not change the answer."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression."""

    at: int = field(kw_only=True, compare=False)
    """Where it begins in the text."""


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A value written down; the type None: NULL."""

    type: Type | None
    value: Any


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """``@name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Name(Node):
    """``a`` or ``a.b.c``: a column, an alias, and fields of it."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field(Node):
    """``(item).name``."""

    item: Node
    name: str


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """``NOT item`` or ``-item``."""

    operator: str
    item: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """AND, OR, a comparison (never ``!=``, which is ``<>``), or arithmetic."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class IsNull(Node):
    """``item IS NULL``."""

    item: Node


@dataclass(frozen=True, slots=True)
class IsTruth(Node):
    """``item IS TRUE``, ``item IS FALSE``."""

    item: Node
    truth: bool


@dataclass(frozen=True, slots=True)
class In(Node):
    """``item IN`` (a, b), UNNEST(array) or a query: one of the three."""

    item: Node
    items: tuple[Node, ...] = ()
    array: Node | None = None
    query: Query | None = None


@dataclass(frozen=True, slots=True)
class Call(Node):
    """``NAME(arguments)``, the name in upper case; that of ``COUNT(*)`` is ``COUNT(*)``."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ArrayItems(Node):
    """``[a, b]`` or ``ARRAY<type>[a, b]``."""

    element: Type | None
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Subquery(Node):
    """A query as an expression; kind: ARRAY, EXISTS, or "" for its only value."""

    kind: str
    query: Query


@dataclass(frozen=True, slots=True)
class Item:
    """What a query selects: an expression with its name ("": none), or all columns (of one source)."""

    at: int
    expression: Node | None
    name: str = ""
    star: str | None = None
    """Before ``.*``; "" is all sources."""


@dataclass(frozen=True, slots=True)
class From:
    """A source of rows: a table, or the elements of an array."""

    at: int
    alias: str
    table: str = ""
    index: str | None = None
    array: Node | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One key of ORDER BY."""

    expression: Node
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query."""

    at: int
    as_struct: bool
    items: tuple[Item, ...]
    sources: tuple[From, ...]
    where: Node | None
    order: tuple[Order, ...]
    limit: Node | None
    offset: Node | None


def read_query(cursor: Cursor) -> Query:
    """A whole statement; a semicolon may end it."""
    parser = _Parser(cursor)
    parser.hints(_HINTS)
    query = parser.query()
    cursor.take(";")
    cursor.end()
    return query


def read_expression(cursor: Cursor) -> Node:
    """The expression where the cursor is."""
    return _Parser(cursor).expression()


class _Parser:
    """Recursive descent, one method a rule."""

    __slots__ = ("_cursor", "_depth")

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._depth = 0

    def hints(self, known: frozenset[str]) -> dict[str, str]:
        cursor = self._cursor
        found: dict[str, str] = {}
        if not cursor.take("@{"):
            return found
        while True:
            start = cursor.token
            name = cursor.identifier()
            if cursor.take("."):
                name = f"{name}.{cursor.identifier()}"
            if name.upper() not in known or name.upper() in found:
                raise ValueError(f"Unsupported hint: {name} [in {cursor.text[start.start : start.start + 60]!r}]")
            cursor.expect("=")
            found[name.upper()] = str(cursor.next().value)
            if cursor.take("}"):
                return found
            cursor.expect(",")

    def query(self) -> Query:
        cursor = self._cursor
        at = cursor.token.start
        cursor.expect("SELECT")
        as_struct = cursor.take("AS", "STRUCT")
        items = [self._item()]
        while cursor.take(",") and not cursor.ahead("FROM"):
            items.append(self._item())
        sources = self._list(self._source) if cursor.take("FROM") else ()
        if not sources and (cursor.ahead("WHERE") or cursor.ahead("ORDER")):
            raise cursor.unexpected("Expected FROM, which WHERE and ORDER BY need,")
        where = self.expression() if cursor.take("WHERE") else None
        order = self._list(self._order) if cursor.take("ORDER", "BY") else ()
        limit = self._count() if cursor.take("LIMIT") else None
        offset = self._count() if limit is not None and cursor.take("OFFSET") else None
        return Query(at, as_struct, tuple(items), sources, where, order, limit, offset)

    def _list(self, read: Any) -> tuple[Any, ...]:
        found = [read()]
        while self._cursor.take(","):
            found.append(read())
        return tuple(found)

    def _item(self) -> Item:
        cursor = self._cursor
        at = cursor.token.start
        if cursor.take("*"):
            return Item(at, None, star="")
        if cursor.token.kind in ("word", "name") and cursor.token.text not in RESERVED:
            saved = cursor.mark()
            name = cursor.identifier()
            if cursor.take(".", "*"):
                return Item(at, None, star=name)
            cursor.reset(saved)
        expression = self.expression()
        # A column keeps its name, and a field its own.
        implied = expression.parts[-1] if isinstance(expression, Name) else ""
        implied = expression.name if isinstance(expression, Field) else implied
        return Item(at, expression, self._alias() or implied)

    def _alias(self) -> str:
        cursor = self._cursor
        token = cursor.token
        if cursor.take("AS") or token.kind == "name" or (token.kind == "word" and token.text not in RESERVED):
            return cursor.identifier()
        return ""

    def _source(self) -> From:
        cursor = self._cursor
        at = cursor.token.start
        if cursor.take("UNNEST", "("):
            array = self.expression()
            cursor.expect(")")
            return From(at, self._alias(), array=array)
        parts = [cursor.identifier()]
        while cursor.take("."):
            parts.append(cursor.identifier())
        index = self.hints(frozenset({"FORCE_INDEX"})).get("FORCE_INDEX")
        return From(at, self._alias() or parts[-1], ".".join(parts), index)

    def _order(self) -> Order:
        expression = self.expression()
        descending = self._cursor.take("DESC")
        if not descending:
            self._cursor.take("ASC")
        return Order(expression, descending)

    def _count(self) -> Node:
        token = self._cursor.token
        if token.kind not in ("int", "param"):
            raise self._cursor.unexpected("Expected an integer literal or parameter")
        return self._primary()

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._cursor.unexpected(f"Expected at most {MAX_DEPTH} expressions inside one another")
        left = self._conjunction()
        while self._cursor.take("OR"):
            left = Binary("OR", left, self._conjunction(), at=left.at)
        self._depth -= 1
        return left

    def _conjunction(self) -> Node:
        left = self._negation()
        while self._cursor.take("AND"):
            left = Binary("AND", left, self._negation(), at=left.at)
        return left

    def _negation(self) -> Node:
        at = self._cursor.token.start
        negations = 0
        while self._cursor.take("NOT"):
            negations += 1
        node = self._comparison()
        for _ in range(negations):
            node = Unary("NOT", node, at=at)
        return node

    def _comparison(self) -> Node:
        cursor = self._cursor
        left = self._sum()
        at = left.at
        if cursor.token.kind == "op" and cursor.token.text in COMPARISONS:
            operator = COMPARISONS[cursor.next().text]
            return Binary(operator, left, self._sum(), at=at)
        if cursor.take("IS"):
            negated = cursor.take("NOT")
            return self._negated(self._truth(left), negated=negated)
        negated = cursor.take("NOT")
        if cursor.take("IN"):
            return self._negated(self._membership(left), negated=negated)
        if cursor.take("BETWEEN"):
            low = self._sum()
            cursor.expect("AND")
            high = Binary("<=", left, self._sum(), at=at)
            return self._negated(Binary("AND", Binary(">=", left, low, at=at), high, at=at), negated=negated)
        if negated:
            raise cursor.unexpected("Expected IN or BETWEEN")
        return left

    @staticmethod
    def _negated(node: Node, *, negated: bool) -> Node:
        return Unary("NOT", node, at=node.at) if negated else node

    def _truth(self, left: Node) -> Node:
        cursor = self._cursor
        if cursor.take("NULL"):
            return IsNull(left, at=left.at)
        if cursor.ahead("TRUE") or cursor.ahead("FALSE"):
            return IsTruth(left, cursor.next().text == "TRUE", at=left.at)
        raise cursor.unexpected("Expected NULL, TRUE or FALSE")

    def _membership(self, left: Node) -> Node:
        cursor = self._cursor
        if cursor.take("UNNEST", "("):
            found = In(left, array=self.expression(), at=left.at)
        else:
            cursor.expect("(")
            if cursor.ahead("SELECT"):
                found = In(left, query=self.query(), at=left.at)
            else:
                found = In(left, self._list(self.expression), at=left.at)
        cursor.expect(")")
        return found

    def _sum(self) -> Node:
        left = self._product()
        while self._cursor.ahead("+") or self._cursor.ahead("-"):
            operator = self._cursor.next().text
            left = Binary(operator, left, self._product(), at=left.at)
        return left

    def _product(self) -> Node:
        left = self._signed()
        while self._cursor.ahead("*") or self._cursor.ahead("||"):
            if self._cursor.next().text == "*":
                left = Binary("*", left, self._signed(), at=left.at)
            else:
                left = Call("CONCAT", (left, self._signed()), at=left.at)
        return left

    def _signed(self) -> Node:
        at = self._cursor.token.start
        if not self._cursor.take("-"):
            return self._fields()
        token = self._cursor.token
        if token.kind == "int" and token.value == _INT64_LIMIT:  # the one number that exists only with its sign
            self._cursor.next()
            return Literal(INT64, -_INT64_LIMIT, at=at)
        return Unary("-", self._signed(), at=at)

    def _fields(self) -> Node:
        node = self._primary()
        while self._cursor.take("."):
            node = Field(node, self._cursor.identifier(), at=node.at)
        return node

    def _primary(self) -> Node:
        cursor = self._cursor
        token = cursor.token
        at = token.start
        if token.kind in ("string", "bytes", "int", "float"):
            return self._literal()
        if token.kind == "param":
            return Parameter(str(cursor.next().value), at=at)
        if cursor.take("("):
            node: Node = Subquery("", self.query(), at=at) if cursor.ahead("SELECT") else self.expression()
            cursor.expect(")")
            return node
        if cursor.ahead("["):
            return self._array(None)
        if token.kind == "word" and token.text in _KEYWORDS:
            return self._keyword(token.text)
        name = cursor.identifier()
        if token.kind == "word" and cursor.ahead("("):
            return self._call(name.upper(), at)
        if token.text == "CURRENT_TIMESTAMP" and token.kind == "word":
            return Call(token.text, (), at=at)
        parts = [name]
        while cursor.take("."):
            parts.append(cursor.identifier())
        return Name(tuple(parts), at=at)

    def _literal(self) -> Node:
        cursor = self._cursor
        token = cursor.next()
        if token.kind == "int" and token.value >= _INT64_LIMIT:
            raise ValueError(f"Invalid integer literal: {token.text}")
        if cursor.token.kind in ("string", "bytes"):
            raise cursor.unexpected(
                "Concatenation of subsequent string literals is not supported (use ||): expected an operator"
            )
        kinds = {"string": STRING, "bytes": BYTES, "int": INT64, "float": FLOAT64}
        return Literal(kinds[token.kind], token.value, at=token.start)

    def _keyword(self, word: str) -> Node:
        cursor = self._cursor
        at = cursor.token.start
        if word == "TIMESTAMP":
            return self._timestamp()
        cursor.next()
        if word in ("TRUE", "FALSE"):
            return Literal(BOOL, word == "TRUE", at=at)
        if word == "NULL":
            return Literal(None, None, at=at)
        if word == "IF":
            return self._call(word, at)
        if word == "CASE":
            return self._case(at)
        if word == "ARRAY" and not cursor.ahead("("):
            cursor.expect("<")
            element = _SCALARS.get(cursor.token.text)
            if element is None:
                raise cursor.unexpected(f"Expected {', '.join(_SCALARS)}")
            cursor.next()
            cursor.expect(">")
            return self._array(element)
        cursor.expect("(")  # ARRAY or EXISTS
        node = Subquery(word, self.query(), at=at)
        cursor.expect(")")
        return node

    def _timestamp(self) -> Node:
        """A literal, or else a column of that name: the word is not reserved."""
        cursor = self._cursor
        at = cursor.token.start
        name = cursor.identifier()
        if cursor.token.kind != "string":
            return Name((name,), at=at)
        text = cursor.next().value
        if not text.endswith("Z"):
            raise ValueError(f"TIMESTAMP {text!r}: this fake knows no other time zone than Z")
        return Literal(TIMESTAMP, parse_timestamp(text), at=at)

    def _case(self, at: int) -> Node:
        """``CASE WHEN a THEN b ... ELSE c END``, as IFs inside one another."""
        cursor = self._cursor
        branches: list[tuple[Node, Node]] = []
        while cursor.take("WHEN"):
            condition = self.expression()
            cursor.expect("THEN")
            branches.append((condition, self.expression()))
        if not branches:
            raise cursor.unexpected("Expected WHEN")
        node: Node = self.expression() if cursor.take("ELSE") else Literal(None, None, at=at)
        cursor.expect("END")
        for condition, result in reversed(branches):
            node = Call("IF", (condition, result, node), at=at)
        return node

    def _array(self, element: Type | None) -> Node:
        at = self._cursor.token.start
        self._cursor.expect("[")
        items = () if self._cursor.ahead("]") else self._list(self.expression)
        self._cursor.expect("]")
        return ArrayItems(element, items, at=at)

    def _call(self, name: str, at: int) -> Node:
        cursor = self._cursor
        cursor.expect("(")
        if name == "COUNT" and cursor.take("*", ")"):
            return Call("COUNT(*)", (), at=at)
        if name == "TIMESTAMP_TRUNC":
            return self._truncation(name, at)
        arguments = () if cursor.ahead(")") else self._list(self.expression)
        cursor.expect(")")
        return Call(name, arguments, at=at)

    def _truncation(self, name: str, at: int) -> Node:
        """Its second argument is a word of its own kind, which the tree has as a STRING."""
        cursor = self._cursor
        moment = self.expression()
        cursor.expect(",")
        part = Literal(STRING, cursor.identifier().upper(), at=cursor.token.start)
        cursor.expect(")")
        return Call(name, (moment, part), at=at)


_KEYWORDS = frozenset({"TRUE", "FALSE", "NULL", "IF", "CASE", "ARRAY", "EXISTS", "TIMESTAMP"})
_SCALARS = {"BOOL": BOOL, "INT64": INT64, "FLOAT64": FLOAT64, "STRING": STRING, "BYTES": BYTES, "TIMESTAMP": TIMESTAMP}
