"""The words of the fake's SQL and DDL, with their positions, after GoogleSQL's lexical rules.

Not in the dialect, and refused: comments, numbers with a fraction, bytes literals, triple-quoted strings, and all
escapes but those of a line feed, a backslash and the quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["RESERVED", "Cursor", "Token", "place", "tokenize"]

RESERVED = frozenset(
    """ALL AND ANY ARRAY AS ASC ASSERT_ROWS_MODIFIED AT BETWEEN BY CASE CAST COLLATE CONTAINS CREATE CROSS CUBE CURRENT
    DEFAULT DEFINE DESC DISTINCT ELSE END ENUM ESCAPE EXCEPT EXCLUDE EXISTS EXTRACT FALSE FETCH FOLLOWING FOR FROM FULL
    GROUP GROUPING GROUPS HASH HAVING IF IGNORE IN INNER INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT LOOKUP
    MERGE NATURAL NEW NO NOT NULL NULLS OF ON OR ORDER OUTER OVER PARTITION PRECEDING PROTO RANGE RECURSIVE RESPECT
    RIGHT ROLLUP ROWS SELECT SET SOME STRUCT TABLESAMPLE THEN TO TREAT TRUE UNBOUNDED UNION UNNEST USING WHEN WHERE
    WINDOW WITH WITHIN""".split()  # noqa: SIM905 - a hundred quoted words are harder to read
)
"""GoogleSQL's keywords that are a name only between backticks."""

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<string>(?P<raw>[rR])?(?P<quote>['"])(?P<body>(?:[^\\\n]|\\.)*?)(?P=quote))
    | (?P<name>`[^`\n]+`)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<int>\d+)
    | (?P<param>@[A-Za-z_][A-Za-z0-9_]*)
    | (?P<op><=|>=|<>|@\{|[=<>(),.;{}]|-(?!-))
    """,
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "\\": "\\", "'": "'", '"': '"'}


@dataclass(frozen=True, slots=True)
class Token:
    """One word."""

    kind: str
    """word, name (between backticks), string, int, param, op or end."""
    text: str
    """A word in upper case; a name without backticks; a parameter without ``@``."""
    value: Any
    """The value of a literal; a word as written."""
    start: int
    end: int


def place(text: str, position: int) -> str:
    """A position as Spanner writes it, by line and column: " [at 1:8]"."""
    line = text.count("\n", 0, position)
    return f" [at {line + 1}:{position - text.rfind(chr(10), 0, position)}]"


def tokenize(text: str) -> list[Token]:
    """The words of a statement; the last one has the kind "end".

    Raises:
        ValueError: A character, string or escape that the dialect does not have.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            what = "Unclosed string literal" if text[at] in "'\"" else f"Illegal input character {text[at]!r}"
            raise ValueError(f"Syntax error: {what}{place(text, at)}")
        if match.lastgroup != "space":
            tokens.append(_token(text, match))
        at = match.end()
    tokens.append(Token("end", "", None, at, at))
    return tokens


def _token(text: str, match: re.Match[str]) -> Token:
    kind = str(match.lastgroup)
    found, start, end = match[0], match.start(), match.end()
    if kind == "string":
        body = match["body"] if match["raw"] else _unescape(text, match["body"], match.start("body"))
        return Token(kind, found, body, start, end)
    if kind == "word":
        return Token(kind, found.upper(), found, start, end)
    if kind in ("name", "param"):
        return Token(kind, found.strip("`@"), found.strip("`@"), start, end)
    return Token(kind, found, int(found) if kind == "int" else None, start, end)


def _unescape(text: str, body: str, start: int) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            where = place(text, start + match.start())
            raise ValueError(
                f"Syntax error: Illegal escape sequence (or this fake does not know it): {match[0]}{where}"
            )
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", character, body)


class Cursor:
    """Reads words from left to right; keywords are given in upper case."""

    __slots__ = ("_at", "_tokens", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = tokenize(text)
        self._at = 0

    @property
    def token(self) -> Token:
        """The next word."""
        return self._tokens[self._at]

    def ahead(self, *words: str) -> bool:
        """Whether these keywords or marks come next."""
        # Each word is compared only after the one before it matched, so never past the end.
        for offset, word in enumerate(words):
            token = self._tokens[self._at + offset]
            if token.text != word or token.kind not in ("word", "op"):
                return False
        return True

    def take(self, *words: str) -> bool:
        """Consume these keywords or marks if they come next; say whether they did."""
        found = self.ahead(*words)
        self._at += len(words) if found else 0
        return found

    def expect(self, *words: str) -> None:
        """Consume these keywords or marks, one by one.

        Raises:
            ValueError: Something else comes next.
        """
        for word in words:
            if not self.take(word):
                raise self.unexpected(f"Expected {word!r}")

    def next(self) -> Token:
        """Consume the next word."""
        token = self._tokens[self._at]
        self._at += 1 if token.kind != "end" else 0
        return token

    def literal(self, kind: str) -> Any:
        """Consume a literal of this kind and return its value.

        Raises:
            ValueError: Something else comes next.
        """
        if self.token.kind != kind:
            raise self.unexpected(f"Expected {kind}")
        return self.next().value

    def identifier(self) -> str:
        """Consume a name; as written, without backticks.

        Raises:
            ValueError: Something else comes next.
        """
        token = self.token
        if token.kind not in ("name", "word") or (token.kind == "word" and token.text in RESERVED):
            raise self.unexpected("Expected a name")
        return str(self.next().value)

    def path(self) -> tuple[str, ...]:
        """Consume names with dots between them."""
        parts = [self.identifier()]
        while self.take("."):
            parts.append(self.identifier())
        return tuple(parts)

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            ValueError: Something does.
        """
        if self.token.kind != "end":
            raise self.unexpected("Expected end of input")

    def unexpected(self, expected: str) -> ValueError:
        """The error that the next word is not what was expected."""
        token = self.token
        found = "end of statement" if token.kind == "end" else self.text[token.start : token.end][:40]
        return ValueError(f"Syntax error: {expected} but got {found}{place(self.text, token.start)}")
