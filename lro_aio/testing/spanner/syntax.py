"""The grammar of the fake's SQL: parses text to a tree, without knowledge of tables and types.

::

    query  = [ "@{" hint "=" value "}" ] SELECT [ AS STRUCT ] item, ... [ FROM source, ... [ WHERE expression ] ]
             [ ORDER BY expression [ DESC ], ... ] [ LIMIT count ]
    item   = expression [ AS name ]
    source = table [ "@{FORCE_INDEX=" index "}" ] [ AS name ] | UNNEST(expression) AS name

    expression, from the loosest to the tightest: OR; AND; NOT; comparison, IN UNNEST(array), IN (query),
    IS [NOT] NULL (none of them chained); difference; literal, @parameter, name, function, (expression), ARRAY(query)

Precedence as in GoogleSQL. This is what ``SpannerStore`` sends and what its columns are generated from; everything else
is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from lro_aio.testing.spanner.tokens import Cursor
from lro_aio.testing.spanner.values import BOOL, INT64, STRING, TIMESTAMP, Type, parse_timestamp

__all__ = [
    "Binary",
    "Call",
    "From",
    "In",
    "IsNull",
    "Item",
    "Literal",
    "Name",
    "Node",
    "Not",
    "Order",
    "Parameter",
    "Query",
    "Subquery",
    "read_expression",
    "read_query",
]

COMPARISONS = ("=", "<", ">", "<=", ">=", "<>")
MAX_DEPTH = 60
"""The deepest nesting of expressions."""
_INT64_LIMIT = 2**63
_EMULATOR_HINT = "SPANNER_EMULATOR.DISABLE_QUERY_NULL_FILTERED_INDEX_CHECK"
_LOCK_HINT = "LOCK_SCANNED_RANGES"
"""The statement hints that are accepted: neither changes the answer."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression."""

    at: int = field(kw_only=True, compare=False)
    """Its position in the text."""


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A literal value."""

    type: Type
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
class Not(Node):
    """``NOT item``."""

    item: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """AND, OR, a comparison or a difference."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class IsNull(Node):
    """``item IS NULL``."""

    item: Node


@dataclass(frozen=True, slots=True)
class In(Node):
    """``item IN UNNEST(array)``; ``item IN (query)`` has an ARRAY subquery for its array."""

    item: Node
    array: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """``NAME(arguments)``, the name in upper case."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Subquery(Node):
    """``ARRAY(query)``."""

    query: Query


@dataclass(frozen=True, slots=True)
class Item:
    """A selected expression with its name ("": none)."""

    expression: Node
    name: str


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

    as_struct: bool
    items: tuple[Item, ...]
    sources: tuple[From, ...]
    where: Node | None
    order: tuple[Order, ...]
    limit: Node | None
    exclusive: bool = False
    """Of a whole statement: whether it locks what it reads as what is written is locked."""


def read_query(cursor: Cursor) -> Query:
    """A whole statement.

    Raises:
        ValueError: It is not in the dialect; says where.
    """
    parser = _Parser(cursor)
    hint = parser.hint(_EMULATOR_HINT, _LOCK_HINT)
    query = parser.query()
    cursor.end()
    return replace(query, exclusive=hint == (_LOCK_HINT, "exclusive"))


def read_expression(cursor: Cursor) -> Node:
    """The expression at the cursor.

    Raises:
        ValueError: It is not in the dialect; says where.
    """
    return _Parser(cursor).expression()


class _Parser:
    """Recursive descent, one method a rule."""

    __slots__ = ("_cursor", "_depth")

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._depth = 0

    def hint(self, *known: str) -> tuple[str, str] | None:
        cursor = self._cursor
        if not cursor.take("@{"):
            return None
        name = ".".join(cursor.path())
        if name.upper() not in known:
            raise ValueError(f"Unsupported hint: {name} (this fake takes {', '.join(known)} here)")
        cursor.expect("=")
        value = str(cursor.next().value)
        cursor.expect("}")
        return name.upper(), value

    def query(self) -> Query:
        cursor = self._cursor
        cursor.expect("SELECT")
        as_struct = cursor.take("AS", "STRUCT")
        items = self._list(self._item)
        sources = self._list(self._source) if cursor.take("FROM") else ()
        where = self.expression() if sources and cursor.take("WHERE") else None
        order = self._list(self._order) if cursor.take("ORDER", "BY") else ()
        limit = self._count() if cursor.take("LIMIT") else None
        return Query(as_struct, items, sources, where, order, limit)

    def _list(self, read: Callable[[], Any]) -> tuple[Any, ...]:
        found = [read()]
        while self._cursor.take(","):
            found.append(read())
        return tuple(found)

    def _item(self) -> Item:
        expression = self.expression()
        if self._cursor.take("AS"):
            return Item(expression, self._cursor.identifier())
        return Item(expression, expression.parts[-1] if isinstance(expression, Name) else "")

    def _source(self) -> From:
        cursor = self._cursor
        at = cursor.token.start
        if cursor.take("UNNEST", "("):
            array = self.expression()
            cursor.expect(")", "AS")
            return From(at, cursor.identifier(), array=array)
        parts = cursor.path()
        hint = self.hint("FORCE_INDEX")
        alias = cursor.identifier() if cursor.take("AS") else parts[-1]
        return From(at, alias, ".".join(parts), hint and hint[1])

    def _order(self) -> Order:
        return Order(self.expression(), self._cursor.take("DESC"))

    def _count(self) -> Node:
        if self._cursor.token.kind not in ("int", "param"):
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
        return Not(self._comparison(), at=at) if self._cursor.take("NOT") else self._comparison()

    def _comparison(self) -> Node:
        cursor = self._cursor
        left = self._difference()
        if cursor.token.kind == "op" and cursor.token.text in COMPARISONS:
            return Binary(cursor.next().text, left, self._difference(), at=left.at)
        if cursor.take("IS"):
            negated = cursor.take("NOT")
            cursor.expect("NULL")
            node = IsNull(left, at=left.at)
            return Not(node, at=left.at) if negated else node
        if cursor.take("IN", "UNNEST", "("):
            return self._closed(In(left, self.expression(), at=left.at))
        if cursor.take("IN", "("):
            return self._closed(In(left, Subquery(self.query(), at=left.at), at=left.at))
        return left

    def _difference(self) -> Node:
        left = self._primary()
        while self._cursor.take("-"):
            left = Binary("-", left, self._primary(), at=left.at)
        return left

    def _closed(self, node: Node) -> Node:
        self._cursor.expect(")")
        return node

    def _primary(self) -> Node:
        cursor = self._cursor
        token = cursor.token
        at = token.start
        if token.kind == "string":
            return Literal(STRING, cursor.next().value, at=at)
        if token.kind == "int":
            if token.value >= _INT64_LIMIT:
                raise ValueError(f"Invalid integer literal: {token.text}")
            return Literal(INT64, cursor.next().value, at=at)
        if token.kind == "param":
            return Parameter(str(cursor.next().value), at=at)
        if cursor.take("TRUE") or cursor.take("FALSE"):
            return Literal(BOOL, token.text == "TRUE", at=at)
        if cursor.take("("):
            return self._closed(self.expression())
        if cursor.take("ARRAY", "("):
            return self._closed(Subquery(self.query(), at=at))
        if cursor.take("IF", "("):  # the one function whose name is a keyword
            return self._closed(Call("IF", self._list(self.expression), at=at))
        return self._name()

    def _name(self) -> Node:
        cursor = self._cursor
        at, plain = cursor.token.start, cursor.token.kind == "word"
        parts = cursor.path()
        name = parts[0].upper()
        if not plain or len(parts) > 1:
            return Name(parts, at=at)
        if name == "TIMESTAMP" and cursor.token.kind == "string":
            return Literal(TIMESTAMP, parse_timestamp(cursor.next().value), at=at)
        if not cursor.take("("):
            return Name(parts, at=at)
        if name == "TIMESTAMP_TRUNC":
            return self._truncation(name, at)
        arguments = () if cursor.ahead(")") else self._list(self.expression)
        return self._closed(Call(name, arguments, at=at))

    def _truncation(self, name: str, at: int) -> Node:
        """Its second argument is a word of its own kind, which the tree has as a STRING."""
        cursor = self._cursor
        moment = self.expression()
        cursor.expect(",")
        unit = Literal(STRING, cursor.identifier().upper(), at=cursor.token.start)
        return self._closed(Call(name, (moment, unit), at=at))
