"""The words of the fake's SQL and DDL, with their places, after GoogleSQL's lexical rules.

Out of the dialect, and refused: triple-quoted strings.
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
    | (?P<comment>--[^\n]*|\#[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)
    | (?P<string>(?P<prefix>[rR]|[bB]|[rR][bB]|[bB][rR])?(?P<quote>['"])(?P<body>(?:[^\\\n]|\\.)*?)(?P=quote))
    | (?P<name>`[^`\n]+`)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    | (?P<int>0[xX][0-9A-Fa-f]+|\d+)
    | (?P<param>@[A-Za-z_][A-Za-z0-9_]*)
    | (?P<op><=|>=|<>|!=|\|\||@\{|[-+*/=<>(),.;{}\[\]])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|X[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[0-7]{3}|.)", re.DOTALL)
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "?": 63, '"': 34, "'": 39, "`": 96}


@dataclass(frozen=True, slots=True)
class Token:
    """One word."""

    kind: str
    """word, name (between backticks), string, bytes, int, float, param, op or end."""
    text: str
    """Of a word in upper case; of a name without backticks; of a parameter without ``@``."""
    value: Any
    """Of a literal; of a word, as written."""
    start: int
    end: int


def place(text: str, position: int) -> str:
    """Where a position is: " [at 1:8]", by line and column, as Spanner says it."""
    line = text.count("\n", 0, position)
    return f" [at {line + 1}:{position - text.rfind(chr(10), 0, position)}]"


def tokenize(text: str, *, comments: bool = True) -> list[Token]:
    """The words of a statement, the last of the kind "end".

    Raises:
        ValueError: A character, a string or an escape that is none.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or (match.lastgroup == "comment" and not comments):
            what = "Unclosed string literal" if text[at] in "'\"" else f"Illegal input character {text[at]!r}"
            raise ValueError(f"Syntax error: {what}{place(text, at)}")
        if match.lastgroup not in ("space", "comment"):
            tokens.append(_token(text, match))
        at = match.end()
    tokens.append(Token("end", "", None, at, at))
    return tokens


def _token(text: str, match: re.Match[str]) -> Token:
    kind = str(match.lastgroup)
    found, start, end = match[0], match.start(), match.end()
    if kind == "string":
        prefix = (match["prefix"] or "").lower()
        body = _unescape(text, match["body"], match.start("body"), raw="r" in prefix, binary="b" in prefix)
        return Token("bytes" if "b" in prefix else "string", found, body, start, end)
    if kind == "word":
        return Token(kind, found.upper(), found, start, end)
    if kind in ("name", "param"):
        return Token(kind, found.strip("`@"), found.strip("`@"), start, end)
    if kind == "int":
        return Token(kind, found, int(found, 16 if found[:2] in ("0x", "0X") else 10), start, end)
    if kind == "float":
        return Token(kind, found, float(found), start, end)
    return Token(kind, found, None, start, end)


def _unescape(text: str, body: str, start: int, *, raw: bool, binary: bool) -> str | bytes:
    if raw or "\\" not in body:
        return body.encode() if binary else body
    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(body):
        code = match[1]
        unicode = code[0] in "uU"
        if (len(code) == 1 and code not in _ESCAPES) or (unicode and binary):
            raise ValueError(f"Syntax error: Illegal escape sequence: \\{code}{place(text, start + match.start())}")
        number = _ESCAPES[code] if len(code) == 1 else int(code, 8) if code.isdigit() else int(code[1:], 16)
        parts.append(body[at : match.start()].encode())
        parts.append(bytes([number]) if binary else chr(number).encode())
        at = match.end()
    parts.append(body[at:].encode())
    joined = b"".join(parts)
    return joined if binary else joined.decode()


class Cursor:
    """Reads words from left to right; keywords are given in upper case."""

    __slots__ = ("_at", "_tokens", "text")

    def __init__(self, text: str, *, comments: bool = True) -> None:
        self.text = text
        self._tokens = tokenize(text, comments=comments)
        self._at = 0

    @property
    def token(self) -> Token:
        """The next word."""
        return self._tokens[self._at]

    def ahead(self, *words: str) -> bool:
        """Whether these keywords or marks come next."""
        # Each word is looked at only after the one before it matched, so never past the end.
        for offset, word in enumerate(words):
            token = self._tokens[self._at + offset]
            if token.text != word or token.kind not in ("word", "op"):
                return False
        return True

    def take(self, *words: str) -> bool:
        """Whether these keywords or marks come next; they are passed over."""
        found = self.ahead(*words)
        self._at += len(words) if found else 0
        return found

    def expect(self, *words: str) -> None:
        """Pass over these keywords or marks, one by one."""
        for word in words:
            if not self.take(word):
                raise self.unexpected(f"Expected {word!r}")

    def next(self) -> Token:
        """The next word, which is passed over."""
        token = self._tokens[self._at]
        self._at += 1 if token.kind != "end" else 0
        return token

    def mark(self) -> int:
        """Where it is, for ``reset``."""
        return self._at

    def reset(self, mark: int) -> None:
        """Go back to where it was."""
        self._at = mark

    def literal(self, *kinds: str) -> Any:
        """The value of a literal of one of these kinds, which is passed over."""
        if self.token.kind not in kinds:
            raise self.unexpected(f"Expected {' or '.join(kinds)}")
        return self.next().value

    def identifier(self) -> str:
        """A name, as written, without backticks."""
        token = self.token
        if token.kind not in ("name", "word") or (token.kind == "word" and token.text in RESERVED):
            raise self.unexpected("Expected a name")
        return str(self.next().value)

    def end(self) -> None:
        """Nothing may follow."""
        if self.token.kind != "end":
            raise self.unexpected("Expected end of input")

    def unexpected(self, expected: str) -> ValueError:
        """The error that the next word is not what was expected."""
        token = self.token
        found = "end of statement" if token.kind == "end" else self.text[token.start : token.end][:40]
        return ValueError(f"Syntax error: {expected} but got {found}{place(self.text, token.start)}")
