"""The functions of the fake's SQL, each with the types that it takes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from lro_aio.testing.spanner.binding import NOW, Compiled, EvaluationError
from lro_aio.testing.spanner.values import BOOL, BYTES, INT64, STRING, TIMESTAMP, Type

__all__ = ["call", "lift"]


def call(name: str, arguments: list[Compiled]) -> Compiled:
    """A function (its name in upper case) of its arguments.

    Raises:
        ValueError: This fake has no such function, or it takes no arguments of these types.
    """
    if name in _SPECIAL:
        return _SPECIAL[name](name, arguments)
    if name not in _FUNCTIONS:
        raise ValueError(f"Function not found: {name} (or this fake does not have it)")
    takes, gives, function = _FUNCTIONS[name]
    if [argument.type for argument in arguments] != takes:
        raise _mismatch(name, arguments)
    return lift(gives, function, arguments)


def lift(gives: Type, function: Callable[..., Any], arguments: Sequence[Compiled]) -> Compiled:
    """The function of the arguments' values, and NULL if one of them is NULL."""
    depends = frozenset[int]().union(*(argument.depends for argument in arguments))
    runs = [argument.run for argument in arguments]
    if len(runs) == 1:
        run = runs[0]
        return Compiled(gives, lambda frame: None if (x := run(frame)) is None else function(x), depends)
    if len(runs) == 2:
        left, right = runs
        return Compiled(
            gives,
            lambda frame: None if (x := left(frame)) is None or (y := right(frame)) is None else function(x, y),
            depends,
        )

    def many(frame: Any) -> Any:
        values = [run(frame) for run in runs]
        return None if None in values else function(*values)

    return Compiled(gives, many, depends)


def _mismatch(name: str, arguments: list[Compiled]) -> ValueError:
    types = ", ".join(str(argument.type) for argument in arguments)
    return ValueError(f"No matching signature for function {name} for argument types: {types or 'none'}")


def _if(name: str, arguments: list[Compiled]) -> Compiled:
    if len(arguments) != 3 or arguments[0].type != BOOL or arguments[1].type != arguments[2].type:
        raise _mismatch(name, arguments)
    test, yes, no = (argument.run for argument in arguments)
    depends = frozenset[int]().union(*(argument.depends for argument in arguments))
    return Compiled(arguments[1].type, lambda frame: yes(frame) if test(frame) else no(frame), depends)


def _if_null(name: str, arguments: list[Compiled]) -> Compiled:
    if len(arguments) != 2 or arguments[0].type != arguments[1].type:
        raise _mismatch(name, arguments)
    one, other = (argument.run for argument in arguments)
    depends = arguments[0].depends | arguments[1].depends
    return Compiled(arguments[0].type, lambda frame: x if (x := one(frame)) is not None else other(frame), depends)


def _concat(name: str, arguments: list[Compiled]) -> Compiled:
    if not arguments or any(argument.type != STRING for argument in arguments):
        raise _mismatch(name, arguments)
    return lift(STRING, lambda *values: "".join(values), arguments)


def _array_concat(name: str, arguments: list[Compiled]) -> Compiled:
    if not arguments or arguments[0].type.code != "ARRAY" or any(a.type != arguments[0].type for a in arguments):
        raise _mismatch(name, arguments)
    return lift(arguments[0].type, lambda *values: [item for value in values for item in value], arguments)


def _array_length(name: str, arguments: list[Compiled]) -> Compiled:
    if len(arguments) != 1 or arguments[0].type.code != "ARRAY":
        raise _mismatch(name, arguments)
    return lift(INT64, len, arguments)


def _current(name: str, arguments: list[Compiled]) -> Compiled:
    if arguments:
        raise _mismatch(name, arguments)
    return Compiled(TIMESTAMP, lambda frame: frame[NOW])


def _truncate(name: str, arguments: list[Compiled]) -> Compiled:
    moment, unit = arguments
    if moment.type != TIMESTAMP:
        raise _mismatch(name, arguments[:1])
    if unit.run([]) != "MICROSECOND":
        raise ValueError(f"TIMESTAMP_TRUNC to {unit.run([])}: this fake knows MICROSECOND")
    return lift(TIMESTAMP, lambda value: value - value % 1000, [moment])


def _substr(value: str, position: int, length: int) -> str:
    if position < 1 or length < 0:
        raise EvaluationError(f"SUBSTR from {position}, {length} characters: this fake counts from 1")
    return value[position - 1 : position - 1 + length]


_PIECE = re.compile(r"\((?!\?)|\)|[*+](?![*+?])|[.^$/]|\[\^?[\w/-]+\]|\w", re.ASCII)
"""Pattern elements that mean the same to RE2 and to Python."""


@lru_cache(maxsize=256)
def _regexp(text: str) -> re.Pattern[str]:
    """An RE2 pattern as a Python pattern."""
    parts = _PIECE.findall(text)
    if "".join(parts) != text or parts.count("(") != 1:
        raise EvaluationError(f"Cannot parse regular expression (or this fake does not know it): {text}")
    try:  # Python's $ also matches before a last newline.
        return re.compile("".join(r"\Z" if part == "$" else part for part in parts), re.ASCII)
    except re.error as exc:
        raise EvaluationError(f"Cannot parse regular expression: {exc}: {text}") from exc


def _regexp_extract(value: str, pattern: str) -> str | None:
    match = _regexp(pattern).search(value)
    return None if match is None else match[1]


_SPECIAL: dict[str, Callable[[str, list[Compiled]], Compiled]] = {
    "IF": _if,
    "IFNULL": _if_null,
    "CONCAT": _concat,
    "ARRAY_CONCAT": _array_concat,
    "ARRAY_LENGTH": _array_length,
    "CURRENT_TIMESTAMP": _current,
    "TIMESTAMP_TRUNC": _truncate,
}
_FUNCTIONS: dict[str, tuple[list[Type], Type, Callable[..., Any]]] = {
    "SUBSTR": ([STRING, INT64, INT64], STRING, _substr),
    "TO_HEX": ([BYTES], STRING, bytes.hex),
    "SHA256": ([STRING], BYTES, lambda text: hashlib.sha256(text.encode()).digest()),
    "REGEXP_EXTRACT": ([STRING, STRING], STRING, _regexp_extract),
}
