"""The functions and arithmetic operators of the fake's SQL, each with the types that it takes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from lro_aio.testing.spanner.binding import NOW, NULL, Compiled, EvaluationError, Frame, coerce, common, constant
from lro_aio.testing.spanner.values import BOOL, BYTES, FLOAT64, INT64, STRING, TIMESTAMP, Type

__all__ = ["call", "lift"]

_SECOND = 1_000_000_000
_MIN_TIME, _MAX_TIME = -62_135_596_800 * _SECOND, 253_402_300_800 * _SECOND - 1
_PARTS = {
    "MICROSECOND": 1000,
    "MILLISECOND": 1_000_000,
    "SECOND": _SECOND,
    "MINUTE": 60 * _SECOND,
    "HOUR": 3600 * _SECOND,
}


def call(name: str, arguments: list[Compiled]) -> Compiled:
    """A function (its name in upper case) or an arithmetic operator on its arguments.

    Raises:
        ValueError: This fake has no such function, or it takes no arguments of these types.
    """
    special = _SPECIAL.get(name)
    if special is not None:
        return special(name, arguments)
    if name in ("COUNT(*)", "COUNT", "MIN", "MAX"):
        raise ValueError(f"Aggregate function {name} not allowed here (it stands alone in a SELECT list)")
    if name not in _FUNCTIONS:
        raise ValueError(f"Function not found: {name} (or this fake does not have it)")
    if not name[0].isalpha() and any(argument.type == NULL for argument in arguments):
        raise ValueError(f"Operands of {name} cannot be literal NULL")
    for takes, gives, function in _FUNCTIONS[name]:
        if len(takes) == len(arguments):
            coerced = [coerce(argument, type_) for argument, type_ in zip(arguments, takes)]
            fitting = [item for item in coerced if item is not None]
            if len(fitting) == len(takes):
                return lift(gives, function, fitting)
    raise _mismatch(name, arguments)


def lift(gives: Type, function: Callable[..., Any], arguments: Sequence[Compiled]) -> Compiled:
    """The function of the arguments' values, and NULL if one of them is NULL."""
    depends = frozenset[int]().union(*(argument.depends for argument in arguments))
    runs = [argument.run for argument in arguments]
    if len(runs) == 1:
        run = runs[0]
        return Compiled(gives, lambda frame: None if (x := run(frame)) is None else function(x), depends)
    if len(runs) == 2 and arguments[1].literal and (known := runs[1]([])) is not None:
        run = runs[0]
        return Compiled(gives, lambda frame: None if (x := run(frame)) is None else function(x, known), depends)
    if len(runs) == 2:
        left, right = runs
        return Compiled(
            gives,
            lambda frame: None if (x := left(frame)) is None or (y := right(frame)) is None else function(x, y),
            depends,
        )

    def many(frame: Frame) -> Any:
        values = [run(frame) for run in runs]
        return None if None in values else function(*values)

    return Compiled(gives, many, depends)


def _mismatch(name: str, arguments: list[Compiled]) -> ValueError:
    types = ", ".join(str(argument.type) for argument in arguments)
    kind = "function" if name[0].isalpha() else "operator"
    return ValueError(f"No matching signature for {kind} {name} for argument types: {types or 'none'}")


def _alike(name: str, arguments: list[Compiled], *, of: list[Compiled]) -> list[Compiled]:
    """Some of the arguments as one type."""
    type_ = common(of)
    coerced = [None if type_ is None else coerce(argument, type_) for argument in of]
    fitting = [item for item in coerced if item is not None]
    if len(fitting) < len(of):
        raise _mismatch(name, arguments)
    return fitting


def _if(name: str, arguments: list[Compiled]) -> Compiled:
    if len(arguments) != 3:
        raise ValueError("Number of arguments does not match for function IF: IF(BOOL, ANY, ANY)")
    condition = coerce(arguments[0], BOOL)
    then, otherwise = _alike(name, arguments, of=arguments[1:])
    if condition is None:
        raise _mismatch(name, arguments)
    test, yes, no = condition.run, then.run, otherwise.run
    depends = condition.depends | then.depends | otherwise.depends
    return Compiled(then.type, lambda frame: yes(frame) if test(frame) else no(frame), depends)


def _coalesce(name: str, arguments: list[Compiled]) -> Compiled:
    if not arguments or (name == "IFNULL" and len(arguments) != 2):
        raise ValueError(f"Number of arguments does not match for function {name}")
    alike = _alike(name, arguments, of=arguments)
    runs = [argument.run for argument in alike]

    def first(frame: Frame) -> Any:
        for run in runs:
            value = run(frame)
            if value is not None:
                return value
        return None

    return Compiled(alike[0].type, first, frozenset[int]().union(*(argument.depends for argument in alike)))


def _concat(name: str, arguments: list[Compiled]) -> Compiled:
    if not arguments:
        raise _mismatch(name, arguments)
    if all(argument.type == NULL for argument in arguments):
        return constant(STRING, None)
    alike = _alike(name, arguments, of=arguments)
    if alike[0].type not in (STRING, BYTES):
        raise _mismatch(name, arguments)
    empty: Any = "" if alike[0].type == STRING else b""
    return lift(alike[0].type, lambda *values: empty.join(values), alike)


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
        raise ValueError(f"Number of arguments does not match for function {name}")
    return Compiled(TIMESTAMP, lambda frame: frame[NOW])


def _truncate(name: str, arguments: list[Compiled]) -> Compiled:
    moment = coerce(arguments[0], TIMESTAMP)
    part = arguments[1].run([])
    if moment is None:
        raise _mismatch(name, arguments[:1])
    if part not in _PARTS:  # Days and more depend on a time zone.
        raise ValueError(f"TIMESTAMP_TRUNC to {part}: this fake knows {', '.join(_PARTS)}")
    unit = _PARTS[part]
    return lift(TIMESTAMP, lambda value: value - value % unit, [moment])


def _substr(value: Any, position: int, length: int | None = None) -> Any:
    """Counted from 1, or from the end; a position before the beginning is the beginning."""
    if length is not None and length < 0:
        raise EvaluationError("Third argument in SUBSTR() cannot be negative")
    start = position - 1 if position > 0 else max(0, len(value) + position) if position else 0
    return value[start:] if length is None else value[start : start + length]


_PIECE = re.compile(
    r"""\\[dDwWbBAznrtfv] | \\[^\w\s] | \((?!\?) | \(\?: | [*+?}](?!\+) | [^\\\[(*+?}]
    | \[\^?\]?(?:[^]\\[] | \\[dDwWnrtfv] | \\[^\w\s])*\]""",
    re.VERBOSE | re.DOTALL,
)
"""What RE2 and Python write alike."""
_ENDS = {"$": r"\Z", r"\z": r"\Z"}
"""The end of the text; Python's ``$`` is also before a last newline."""


@lru_cache(maxsize=256)
def _regexp(text: str) -> re.Pattern[str]:
    """RE2's pattern as Python's. Look-around, back references, flags, named groups, classes by name are refused."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None:
            raise EvaluationError(f"Cannot parse regular expression: {text!r} at {at} (or this fake does not know it)")
        parts.append(_ENDS.get(match[0], match[0]))
        at = match.end()
    try:
        return re.compile("".join(parts), re.ASCII)
    except re.error as exc:
        raise EvaluationError(f"Cannot parse regular expression: {exc}: {text}") from exc


def _regexp_extract(value: str, pattern: str) -> str | None:
    compiled = _regexp(pattern)
    if compiled.groups > 1:
        raise EvaluationError("Regular expressions passed into extraction functions must not have more than 1 group")
    match = compiled.search(value)
    return None if match is None else match[compiled.groups]


def _in_range(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise EvaluationError(f"int64 overflow: {value}")
    return value


def _moment(unit: int) -> Callable[[int], int]:
    def of(value: int) -> int:
        if not _MIN_TIME <= value * unit <= _MAX_TIME:
            raise EvaluationError(f"Input value {value} cannot be converted into a TIMESTAMP: out of the allowed range")
        return value * unit

    return of


def _arithmetic(function: Callable[..., Any], takes: int) -> list[_Signature]:
    whole: _Signature = ((INT64,) * takes, INT64, lambda *values: _in_range(function(*values)))
    return [whole, ((FLOAT64,) * takes, FLOAT64, function)]


def _sha256(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


_Signature = tuple[tuple[Type, ...], Type, Callable[..., Any]]
_SPECIAL: dict[str, Callable[[str, list[Compiled]], Compiled]] = {
    "IF": _if,
    "IFNULL": _coalesce,
    "COALESCE": _coalesce,
    "CONCAT": _concat,
    "ARRAY_CONCAT": _array_concat,
    "ARRAY_LENGTH": _array_length,
    "CURRENT_TIMESTAMP": _current,
    "TIMESTAMP_TRUNC": _truncate,
}
_FUNCTIONS: dict[str, list[_Signature]] = {
    "SUBSTR": [
        ((STRING, INT64), STRING, _substr),
        ((STRING, INT64, INT64), STRING, _substr),
        ((BYTES, INT64), BYTES, _substr),
        ((BYTES, INT64, INT64), BYTES, _substr),
    ],
    "TO_HEX": [((BYTES,), STRING, bytes.hex)],
    "SHA256": [((BYTES,), BYTES, _sha256), ((STRING,), BYTES, lambda text: _sha256(text.encode()))],
    "LENGTH": [((STRING,), INT64, len), ((BYTES,), INT64, len)],
    "LOWER": [((STRING,), STRING, str.lower)],
    "UPPER": [((STRING,), STRING, str.upper)],
    "STARTS_WITH": [((STRING, STRING), BOOL, str.startswith), ((BYTES, BYTES), BOOL, bytes.startswith)],
    "REGEXP_EXTRACT": [((STRING, STRING), STRING, _regexp_extract)],
    "REGEXP_CONTAINS": [((STRING, STRING), BOOL, lambda value, pattern: _regexp(pattern).search(value) is not None)],
    "TIMESTAMP_SECONDS": [((INT64,), TIMESTAMP, _moment(_SECOND))],
    "TIMESTAMP_MILLIS": [((INT64,), TIMESTAMP, _moment(1_000_000))],
    "TIMESTAMP_MICROS": [((INT64,), TIMESTAMP, _moment(1000))],
    "UNIX_SECONDS": [((TIMESTAMP,), INT64, lambda value: value // _SECOND)],
    "UNIX_MILLIS": [((TIMESTAMP,), INT64, lambda value: value // 1_000_000)],
    "UNIX_MICROS": [((TIMESTAMP,), INT64, lambda value: value // 1000)],
    "+": _arithmetic(lambda x, y: x + y, 2),
    "-": [*_arithmetic(lambda x, y: x - y, 2), *_arithmetic(lambda x: -x, 1)],
    "*": _arithmetic(lambda x, y: x * y, 2),
}
