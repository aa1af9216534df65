"""What stands between ``${`` and ``}``: read once when a definition is deployed, then evaluated on plain values.

The grammar is that of https://cloud.google.com/workflows/docs/reference/syntax/expressions. The order of operations is
that of https://cloud.google.com/workflows/docs/reference/syntax/datatypes: ``not`` binds tighter than a comparison.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from lro_aio.testing.workflows.functions import FUNCTIONS
from lro_aio.testing.workflows.values import WorkflowError, integer, is_number, kind

__all__ = ["MAX_EXPRESSION", "Context", "DefinitionError", "Evaluate", "Expression", "item", "parse"]

MAX_EXPRESSION = 400
"""Characters, with ``${`` and ``}`` (https://cloud.google.com/workflows/quotas)."""


class DefinitionError(ValueError):
    """A definition cannot be deployed: Workflows refuses it, or it uses what this interpreter does not cover."""


class Context(Protocol):
    """What an expression reads."""

    def lookup(self, name: str) -> Any:
        """The value of a variable.

        Raises:
            UndefinedError: It has none yet.
        """
        ...

    def now(self) -> float:
        """Epoch seconds."""
        ...


Evaluate = Callable[[Context], Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read."""

    text: str
    """With ``${`` and ``}``."""
    evaluate: Evaluate
    """Raises WorkflowError for what a workflow can catch."""
    variables: frozenset[str]
    """The variables that it reads."""


class _Token(NamedTuple):
    kind: str
    """ "number", "string", "name", "symbol" or "end"."""
    text: str


_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<name>[A-Za-z_]\w*)
    |(?P<symbol>==|!=|<=|>=|//|[-+*/%<>()\[\].,]))""",
    re.ASCII | re.DOTALL | re.VERBOSE,
)
_LITERALS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False, "null": None}
_WORDS = {"and": "and", "AND": "and", "or": "or", "OR": "or", "not": "not", "NOT": "not", "in": "in"}
_BLOCKING = ("http.", "googleapis.", "events.", "sys.sleep", "sys.log")
"""How the names of functions begin that only a ``call`` step may call."""


def parse(text: str) -> Expression:
    """Read an expression.

    Args:
        text: With ``${`` and ``}``.

    Raises:
        DefinitionError: It is not an expression, is too long, or uses what this interpreter does not cover.
    """
    if len(text) > MAX_EXPRESSION:
        raise DefinitionError(
            f"an expression has {len(text)} characters; the limit is {MAX_EXPRESSION}: {text[:60]}..."
        )
    parser = _Parser(text)
    evaluate = parser.binary(1)
    parser.expect("end", "")
    return Expression(text, evaluate, frozenset(parser.variables))


class _Parser:
    """Reads tokens by recursive descent; each method reads one construct and returns what evaluates it."""

    def __init__(self, text: str) -> None:
        self.variables: set[str] = set()
        self._text = text
        self._tokens: list[_Token] = []
        position, inner = 0, text[2:-1].rstrip()
        while position < len(inner):
            match = _TOKEN.match(inner, position)
            if match is None or match.lastgroup is None:
                raise self._refusal(f"unexpected {inner[position:].lstrip()[:1]!r}")
            self._tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self._tokens.append(_Token("end", ""))
        self._tokens.reverse()  # the next token is the last: it can be popped

    def _refusal(self, problem: str) -> DefinitionError:
        return DefinitionError(f"{problem}: {self._text}")

    def _next_is(self, text: str) -> bool:
        token = self._tokens[-1]
        return token.kind == "symbol" and token.text == text

    def _skip(self, text: str) -> bool:
        found = self._next_is(text)
        if found:
            self._tokens.pop()
        return found

    def expect(self, kind: str, text: str) -> None:
        """Read a token that must come next."""
        token = self._tokens.pop()
        if token != (kind, text):
            raise self._refusal(f"unexpected {token.text or 'end of the expression'!r}")

    def _operator(self) -> str:
        """The binary operator that comes next; "" for none."""
        token = self._tokens[-1]
        name = _WORDS.get(token.text, "") if token.kind == "name" else token.text if token.kind == "symbol" else ""
        return name if name in _LEVELS else ""

    def binary(self, level: int) -> Evaluate:
        """Operations of this level and those that bind tighter; operators of the same level go from left to right."""
        left = self._prefix()
        compared = False
        while (name := self._operator()) and _LEVELS[name] >= level:
            self._tokens.pop()
            if compared and _LEVELS[name] == _COMPARISON:
                raise self._refusal("comparisons cannot be chained without parentheses")
            compared = _LEVELS[name] == _COMPARISON
            left = _operation(name, left, self.binary(_LEVELS[name] + 1))
        return left

    def _prefix(self) -> Evaluate:
        token = self._tokens[-1]
        if self._skip("-"):
            operand = self._prefix()
            return lambda context: _negated(operand(context))
        if token.kind == "name" and _WORDS.get(token.text) == "not":
            self._tokens.pop()
            operand = self._prefix()
            return lambda context: not _boolean("not", operand(context))
        return self._postfix()

    def _postfix(self) -> Evaluate:
        value = self._primary()
        while True:
            if self._skip("."):
                value = _indexed(value, _constant(self._name()))
            elif self._skip("["):
                value = _indexed(value, self.binary(1))
                self.expect("symbol", "]")
            elif self._next_is("("):
                raise self._refusal("only functions can be called")
            else:
                return value

    def _name(self) -> str:
        token = self._tokens.pop()
        if token.kind != "name":
            raise self._refusal(f"unexpected {token.text or 'end of the expression'!r}")
        return token.text

    def _primary(self) -> Evaluate:
        token = self._tokens.pop()
        if token.kind == "number":
            return _constant(float(token.text) if "." in token.text else integer(int(token.text)))
        if token.kind == "string":
            return _constant(self._string(token.text))
        if token == ("symbol", "("):
            value = self.binary(1)
            self.expect("symbol", ")")
            return value
        if token == ("symbol", "["):
            items = self._list("]")
            return lambda context: [item(context) for item in items]
        if token.kind != "name" or token.text in _WORDS:
            raise self._refusal(f"unexpected {token.text or 'end of the expression'!r}")
        if token.text in _LITERALS:
            return _constant(_LITERALS[token.text])
        return self._variable_or_call(token.text)

    def _string(self, token: str) -> str:
        try:
            return str(json.loads(token, strict=False))
        except ValueError as exc:
            raise self._refusal(f"unknown escape in {token}") from exc

    def _list(self, closing: str) -> list[Evaluate]:
        items: list[Evaluate] = []
        while not self._skip(closing):
            if items:
                self.expect("symbol", ",")
            items.append(self.binary(1))
        return items

    def _variable_or_call(self, name: str) -> Evaluate:
        if self._next_is("("):
            return self._call(name)
        dotted = [token.text for token in reversed(self._tokens[-3:])]  # as in `math.max(`
        if len(dotted) == 3 and dotted[0] == "." and dotted[2] == "(":
            self._tokens = self._tokens[:-2]
            return self._call(f"{name}.{dotted[1]}")
        self.variables.add(name)
        return lambda context: context.lookup(name)

    def _call(self, name: str) -> Evaluate:
        self.expect("symbol", "(")
        arguments = self._list(")")
        if name == "sys.now" and not arguments:
            return lambda context: context.now()
        if name.startswith(_BLOCKING):
            raise self._refusal(f"{name} blocks, so only a call step may call it")
        function = FUNCTIONS.get(name)
        if function is None:
            raise self._refusal(f"this interpreter does not have the function {name!r}")
        if len(arguments) != len(function.parameters):
            raise self._refusal(f"{name} takes {len(function.parameters)} arguments, not {len(arguments)}")
        return lambda context: function.call(*[argument(context) for argument in arguments])


# Evaluation


def _constant(value: Any) -> Evaluate:
    return lambda context: value  # noqa: ARG005 (the same in every context)


def _boolean(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise WorkflowError(f"{what} takes booleans, not {kind(value)}", "TypeError")
    return value


def _negated(value: Any) -> Any:
    if not is_number(value):
        raise WorkflowError(f"- takes a number, not {kind(value)}", "TypeError")
    return integer(-value) if isinstance(value, int) else -value


def item(owner: Any, key: Any) -> Any:
    """A member of a map, or an element of a list.

    Args:
        owner: The map or list.
        key: A string for a map, an integer for a list.

    Raises:
        WorkflowError: KeyError, IndexError or TypeError.
    """
    if isinstance(owner, dict) and isinstance(key, str):
        if key not in owner:
            raise WorkflowError(f"key not found: {key}", "KeyError")
        return owner[key]
    if isinstance(owner, list) and isinstance(key, int) and not isinstance(key, bool):
        if not 0 <= key < len(owner):
            raise WorkflowError(f"index {key} is out of range: the list has {len(owner)} elements", "IndexError")
        return owner[key]
    raise WorkflowError(f"{kind(owner)} has no item {key!r}", "TypeError")


def _indexed(owner: Evaluate, key: Evaluate) -> Evaluate:
    return lambda context: item(owner(context), key(context))


def _operation(name: str, left: Evaluate, right: Evaluate) -> Evaluate:
    if name == "and":
        return lambda context: _boolean("and", left(context)) and _boolean("and", right(context))
    if name == "or":
        return lambda context: _boolean("or", left(context)) or _boolean("or", right(context))
    if name in _COMPARED:
        compare = _COMPARED[name]
        return lambda context: compare(left(context), right(context))
    return lambda context: _arithmetic(name, left(context), right(context))


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON is: true is not 1, but 1 is 1.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def checked(one: Any, other: Any) -> bool:
        if not (is_number(one) and is_number(other)) and not (isinstance(one, str) and isinstance(other, str)):
            raise WorkflowError(f"cannot compare {kind(one)} with {kind(other)}", "TypeError")
        return compare(one, other)

    return checked


def _contains(key: Any, owner: Any) -> bool:
    if isinstance(owner, list):
        return any(_same(key, element) for element in owner)
    if not isinstance(owner, dict):
        raise WorkflowError(f"in takes a list or a map, not {kind(owner)}", "TypeError")
    return isinstance(key, str) and key in owner


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "==": _same,
    "!=": lambda one, other: not _same(one, other),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": _contains,
}
_NUMERIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
_COMPARISON = 3
_LEVELS = {"or": 1, "and": 2, **dict.fromkeys(_COMPARED, _COMPARISON), "+": 4, "-": 4, "*": 5, "/": 5, "//": 5, "%": 5}
"""How tightly each binary operator binds; the unary ones bind tighter than all of these."""


def _arithmetic(name: str, one: Any, other: Any) -> Any:
    if name == "+" and isinstance(one, str) and isinstance(other, str):
        return one + other
    if not (is_number(one) and is_number(other)):
        raise WorkflowError(f"{name} cannot take {kind(one)} and {kind(other)}", "TypeError")
    try:
        result = _NUMERIC[name](one, other)
    except ZeroDivisionError as exc:
        raise WorkflowError(f"division by zero: {one} {name} {other}", "ZeroDivisionError") from exc
    return integer(result) if isinstance(result, int) else result
