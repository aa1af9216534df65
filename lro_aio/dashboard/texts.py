"""Texts of strangers as a page may show them, and moments and lengths of time in words."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["Moment", "ago", "cut", "exact", "exact_length", "jsonable", "length", "number", "plain"]

LONGEST = 20_000
"""Characters of a text that a page shows."""
DEEPEST = 100
"""Levels of a JSON value that are shown."""
_YEAR_10000 = 253_402_300_800.0
_HARMFUL = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of characters that are not seen, or that turn others around: terminal codes, bidi, lone surrogates."""
_KEPT = frozenset("\n\t")
_JOINERS = frozenset("\u200c\u200d")
"""Scripts and emoji need them."""


class Moment(float):
    """Epoch seconds, which the JSON API gives as RFC 3339."""


def plain(text: str) -> str:
    r"""The text with what cannot be seen made visible: ``\x1b`` for the character that begins a terminal's codes."""
    if text.isprintable():
        return text
    return "".join(_seen(character) for character in text)


def _seen(character: str) -> str:
    if character.isprintable() or character in _KEPT or character in _JOINERS:
        return character
    if unicodedata.category(character) not in _HARMFUL:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cut(text: str, most: int = LONGEST) -> str:
    """The text, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def exact(when: float) -> str:
    """A moment as RFC 3339, to the millisecond."""
    if not 0 <= when < _YEAR_10000:
        return "never" if when > 0 else "before 1970"
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%S}.{int(when % 1 * 1000):03d}Z"


def ago(when: float, now: float) -> str:
    """A moment as seen from now."""
    if when >= _YEAR_10000:
        return "never"
    seconds = now - when
    if abs(seconds) < 1:
        return "now"
    return f"{_rough(seconds)} ago" if seconds > 0 else f"in {_rough(-seconds)}"


def _rough(seconds: float) -> str:
    for most, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < most:
            return f"{int(seconds / size)} {unit}"
    days = int(seconds / 86400)
    return f"{days} day{'' if days == 1 else 's'}"


def length(seconds: float) -> str:
    """A length of time, to two figures or so."""
    if seconds < 0.0005:
        return "0 s"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for size, unit, part, smaller in ((60, "min", 1, "s"), (3600, "h", 60, "min"), (86400, "d", 3600, "h")):
        if seconds < size * (60 if size < 3600 else 24) or size == 86400:
            whole, rest = divmod(int(seconds), size)
            return f"{whole} {unit} {rest // part} {smaller}" if rest // part else f"{whole} {unit}"
    raise AssertionError("a length is longer than days")


def exact_length(seconds: float) -> str:
    """A length of time, to its last figure."""
    told = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        whole, seconds = divmod(seconds, size)
        if whole:
            told.append(f"{whole:.0f} {unit}")
    if seconds or not told:
        told.append(f"{seconds:g} s")
    return " ".join(told)


def number(count: Mapping[str, Any]) -> str:
    """A count as people write it; "+" where there are more."""
    return f"{count['count']:,}{'+' if count.get('more') else ''}"


def jsonable(value: Any, depth: int = 0) -> Any:
    """What a page shows as JSON values that every reader takes: no NaN, and nothing too deep."""
    if isinstance(value, Moment):
        return exact(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping | list | tuple) and depth >= DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item, depth + 1) for item in value]
    return value
