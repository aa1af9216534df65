"""The grammar of filters (AIP-160): text to a tree of conditions, knowing nothing of fields.

::

    filter      = [ expression ]
    expression  = factor { [ "AND" ] factor }
    factor      = term { "OR" term }
    term        = [ "NOT" | "-" ] ( "(" expression ")" | restriction )
    restriction = path comparator value
    path        = name { "." name }

A name is a word or a quoted string. A value is a quoted string or everything up to the next space, parenthesis, comma,
quote or one of ``=<>``, so that timestamps and type names need no quotes. One pass, with a stack of its own.
"""

from __future__ import annotations

import re
from dataclasses import field

from lro_aio.core.errors import InvalidFilterError
from lro_aio.core.quick import dataclass

__all__ = [
    "MAX_DEPTH",
    "MAX_LENGTH",
    "MAX_TERMS",
    "AllOf",
    "AnyOf",
    "Node",
    "Not",
    "Restriction",
    "Value",
    "parse_tree",
]

MAX_LENGTH = 2000
"""Characters of a filter."""
MAX_DEPTH = 20
"""Levels of nested parentheses."""
MAX_TERMS = 100
"""Conditions."""

_KEYWORDS = frozenset({"AND", "OR", "NOT"})
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"""[^\s.=<>!:(),"']+""")
_WORD = re.compile(r"""[^\s=<>(),"']+""")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_COMPARATOR = re.compile(r"[!<>]=|[=<>:]")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "*": "*", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Value:
    """The right side of a condition, as written."""

    text: str
    """Without quotes and escapes, with its asterisks."""
    position: int
    quoted: bool
    open_start: bool = False
    """It begins with an asterisk that was not escaped: a wildcard for ``=``."""
    open_end: bool = False
    """It ends with such an asterisk."""

    @property
    def anything(self) -> bool:
        """Whether it is the ``*`` of ``field:*``."""
        return not self.quoted and self.text == "*"


@dataclass(frozen=True, slots=True)
class Restriction:
    """``path comparator value``."""

    path: tuple[str, ...]
    position: int
    comparator: str
    comparator_position: int
    value: Value

    @property
    def field(self) -> str:
        """The path as written, without quotes."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    item: Node


@dataclass(frozen=True, slots=True)
class AllOf:
    """Conjunction of two or more."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Disjunction of two or more."""

    items: tuple[Node, ...]


Node = Restriction | Not | AllOf | AnyOf


def parse_tree(text: str) -> Node | None:
    """The tree of a filter; None for one without conditions.

    Raises:
        InvalidFilterError: It does not follow the grammar, or is over ``MAX_LENGTH``, ``MAX_DEPTH`` or ``MAX_TERMS``.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidFilterError(f"the filter has {len(text)} characters; the limit is {MAX_LENGTH}", MAX_LENGTH)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidFilterError("half of a surrogate pair is not a character", exc.start) from exc
    scanner = _Scanner(text)
    return None if scanner.at_end() else _expression(scanner)


@dataclass(slots=True)
class _Level:
    """One pair of parentheses, or the filter itself, while it is being read: an AND of ORs."""

    opened: int = 0
    negated: bool = False
    groups: list[list[Node]] = field(default_factory=list)
    alternative: bool = False
    """The next term belongs to the last group: an OR was read."""

    def add(self, node: Node, *, negated: bool) -> None:
        item = Not(node) if negated else node
        if self.alternative:
            self.groups[-1].append(item)
        else:
            self.groups.append([item])

    def close(self) -> Node:
        items = tuple(group[0] if len(group) == 1 else AnyOf(tuple(group)) for group in self.groups)
        return items[0] if len(items) == 1 else AllOf(items)


def _expression(scanner: _Scanner) -> Node:
    levels = [_Level()]
    terms = 0
    while True:
        negated = scanner.negation()
        opened = scanner.skip()
        if scanner.take("("):
            if len(levels) > MAX_DEPTH:
                raise InvalidFilterError(f"parentheses are nested more than {MAX_DEPTH} deep", opened)
            levels.append(_Level(opened, negated))
            continue
        terms += 1
        if terms > MAX_TERMS:
            raise InvalidFilterError(f"the filter has more than {MAX_TERMS} conditions", opened)
        levels[-1].add(scanner.restriction(), negated=negated)
        while len(levels) > 1 and scanner.take(")"):
            closed = levels.pop()
            levels[-1].add(closed.close(), negated=closed.negated)
        if scanner.at_end():
            break
        here = scanner.skip()
        if scanner.take(")"):
            raise InvalidFilterError("this ')' closes nothing", here)
        levels[-1].alternative = scanner.joiner()
    if len(levels) > 1:
        raise InvalidFilterError("this '(' is never closed", levels[-1].opened)
    return levels[0].close()


class _Scanner:
    """Reads the pieces of a filter from left to right."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def skip(self) -> int:
        """Pass over white space; return where it ends."""
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return self._at

    def at_end(self) -> bool:
        return self.skip() == len(self._text)

    def take(self, mark: str) -> bool:
        """Whether ``mark`` comes next; if so, pass over it."""
        found = self._text.startswith(mark, self.skip())
        self._at += len(mark) if found else 0
        return found

    def negation(self) -> bool:
        if self._keyword("NOT"):
            return True
        if not self.take("-"):
            return False
        if self._text[self._at : self._at + 1].isspace():
            raise InvalidFilterError("'-' must stand directly before the condition that it negates", self._at)
        return True

    def joiner(self) -> bool:
        """Pass over what joins two terms: True for OR, False for AND or nothing."""
        if self._keyword("OR"):
            return True
        self._keyword("AND")
        return False

    def restriction(self) -> Restriction:
        start = self.skip()
        path = self._path()
        after_path = self.skip()
        match = _COMPARATOR.match(self._text, after_path)
        if match is None:
            raise self._bare(self._text[start:after_path].rstrip(), start)
        self._at = match.end()
        return Restriction(path, start, match[0], after_path, self._value(match[0]))

    def _keyword(self, word: str) -> bool:
        match = _NAME.match(self._text, self.skip())
        if match is None or match[0] != word:
            return False
        self._at = match.end()
        return True

    def _path(self) -> tuple[str, ...]:
        match = _NAME.match(self._text, self._at)
        if match is not None and match[0] in _KEYWORDS:
            raise self._unexpected("a condition")
        names = [self._name("a condition")]
        while self._text.startswith(".", self._at):
            self._at += 1
            names.append(self._name("a field name after '.'"))
        return tuple(names)

    def _name(self, expected: str) -> str:
        if self._text.startswith(('"', "'"), self._at):
            return self._string().text
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._unexpected(expected)
        self._at = match.end()
        return match[0]

    def _value(self, comparator: str) -> Value:
        start = self.skip()
        if self._text.startswith(('"', "'"), start):
            return self._string()
        if self._text.startswith("(", start):
            raise InvalidFilterError("a list of values is not supported: write (a=1 OR a=2), not a=(1 OR 2)", start)
        match = _WORD.match(self._text, start)
        if match is None:
            raise self._unexpected(f"a value after {comparator!r}")
        word = match[0]
        if word in _KEYWORDS:
            raise InvalidFilterError(f"{word} is a keyword; as a value it must be quoted", start)
        if word == "*" and comparator != ":":
            raise InvalidFilterError("'*' alone asks for presence and goes with ':', as in field:*", start)
        if word != "*" and (word[0] == "*" or word[-1] == "*"):
            raise InvalidFilterError("a value with a wildcard must be quoted", start)
        self._at = match.end()
        return Value(word, start, quoted=False)

    def _string(self) -> Value:
        start = self._at
        match = _QUOTED.match(self._text, start)
        if match is None:
            raise InvalidFilterError("this quote is never closed", start)
        self._at = match.end()
        body = match[0][1:-1]
        for escape in _ESCAPE.finditer(body):
            if escape[1] not in _ESCAPES:
                raise InvalidFilterError(f"unknown escape {escape[0]!r}", start + 1 + escape.start())
        # An asterisk after an odd number of backslashes is escaped.
        slashes = len(body) - 1 - len(body[:-1].rstrip("\\"))
        return Value(
            _ESCAPE.sub(lambda escape: _ESCAPES[escape[1]], body),
            start,
            quoted=True,
            open_start=body.startswith("*"),
            open_end=body.endswith("*") and slashes % 2 == 0,
        )

    def _unexpected(self, expected: str) -> InvalidFilterError:
        match = _NAME.match(self._text, self._at)
        found = match[0] if match is not None else self._text[self._at : self._at + 1]
        if not found:
            return InvalidFilterError(f"expected {expected}; the filter ends here", self._at)
        return InvalidFilterError(f"expected {expected}, found {_short(found)!r}", self._at)

    def _bare(self, word: str, position: int) -> InvalidFilterError:
        if word.upper() in _KEYWORDS:
            return InvalidFilterError(f"keywords are upper case: write {word.upper()}, not {word}", position)
        if self._text.startswith("(", self._at):
            return InvalidFilterError(f"functions such as {_short(word)}() are not supported", position)
        return InvalidFilterError(
            f"{_short(word)!r} stands alone: a search over all fields is not supported; write field=value or field:*",
            position,
        )


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
