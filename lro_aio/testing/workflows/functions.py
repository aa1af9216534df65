"""The functions that expressions can call, from https://cloud.google.com/workflows/docs/reference/stdlib/overview.

Here are the expression helpers and the parts of ``list``, ``map``, ``math`` and ``text`` that work on plain values.
A definition that calls any other function is refused.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from lro_aio.testing.workflows.values import WorkflowError, integer, is_number, kind

__all__ = ["FUNCTIONS", "Function"]


class Function(NamedTuple):
    """A function without side effects."""

    call: Callable[..., Any]
    parameters: tuple[str, ...]
    """In order, as a ``call`` step names them. All are required."""


def _type_error(function: str, wanted: str, value: Any) -> WorkflowError:
    return WorkflowError(f"{function} takes {wanted}, not {kind(value)}", "TypeError")


def _text(function: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _type_error(function, "a string", value)
    return value


def _list(function: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _type_error(function, "a list", value)
    return value


def _map(function: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _type_error(function, "a map", value)
    return value


def _number(function: str, value: Any) -> int | float:
    if not is_number(value):
        raise _type_error(function, "a number", value)
    return value


# Expression helpers


def _default(val: Any, defaultVal: Any) -> Any:  # noqa: N803 (the documented name)
    return defaultVal if val is None else val


def _if(condition: Any, ifTrue: Any, ifFalse: Any) -> Any:  # noqa: N803 (the documented names)
    if not isinstance(condition, bool):
        raise _type_error("if", "a boolean", condition)
    return ifTrue if condition else ifFalse


def _int(value: Any) -> int:
    if not is_number(value) and not isinstance(value, str):
        raise _type_error("int", "a string or a number", value)
    try:
        return integer(int(value))
    except (ValueError, OverflowError) as exc:
        raise WorkflowError(f"int cannot convert {value!r}", "ValueError") from exc


def _double(value: Any) -> float:
    if not is_number(value) and not isinstance(value, str):
        raise _type_error("double", "a string or a number", value)
    try:
        return float(value)
    except ValueError as exc:
        raise WorkflowError(f"double cannot convert {value!r}", "ValueError") from exc


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not is_number(value) and not isinstance(value, str):
        raise _type_error("string", "a string, a number or a boolean", value)
    return str(value)


def _keys(value: Any) -> list[str]:
    return list(_map("keys", value))


def _len(value: Any) -> int:
    if not isinstance(value, dict | list | str):
        raise _type_error("len", "a list, a map or a string", value)
    return len(value)


# list, map


def _concat(objs: Any, val: Any) -> list[Any]:
    return [*_list("list.concat", objs), val]


def _prepend(objs: Any, val: Any) -> list[Any]:
    return [val, *_list("list.prepend", objs)]


def _get(map_: Any, keys: Any) -> Any:
    for key in keys if isinstance(keys, list) else [keys]:
        if not isinstance(key, str):
            raise _type_error("map.get", "a string or a list of strings", key)
        map_ = map_.get(key) if isinstance(map_, dict) else None
    return map_


def _delete(map_: Any, key: Any) -> dict[str, Any]:
    _text("map.delete", key)
    return {name: value for name, value in _map("map.delete", map_).items() if name != key}


def _merge(first: Any, second: Any) -> dict[str, Any]:
    return {**_map("map.merge", first), **_map("map.merge", second)}


# math


def _abs(x: Any) -> int | float:
    return abs(_number("math.abs", x))


def _floor(x: Any) -> int:
    value = _number("math.floor", x)
    if not math.isfinite(value):
        raise WorkflowError(f"math.floor cannot convert {value}", "ValueError")
    return integer(math.floor(value))


def _max(x: Any, y: Any) -> int | float:
    return max(_number("math.max", x), _number("math.max", y))


def _min(x: Any, y: Any) -> int | float:
    return min(_number("math.min", x), _number("math.min", y))


# text


def _split(source: Any, separator: Any) -> list[str]:
    if not _text("text.split", separator):  # what the service does then is not documented
        raise WorkflowError("text.split takes a separator that is not empty", "ValueError")
    return _text("text.split", source).split(separator)


def _substring(source: Any, start: Any, end: Any) -> str:
    _text("text.substring", source)
    for index in (start, end):
        if not isinstance(index, int) or isinstance(index, bool):
            raise _type_error("text.substring", "integers", index)
    if not 0 <= start <= end <= len(source):
        raise WorkflowError(f"text.substring: {start} to {end} of {len(source)} characters", "IndexError")
    return source[start:end]  # type: ignore[no-any-return]  # checked above


def _replace_all(source: Any, substr: Any, repl: Any) -> str:
    name = "text.replace_all"
    return _text(name, source).replace(_text(name, substr), _text(name, repl))


def _to_lower(source: Any) -> str:
    return _text("text.to_lower", source).lower()


def _to_upper(source: Any) -> str:
    return _text("text.to_upper", source).upper()


_CALLS: dict[str, Callable[..., Any]] = {
    "default": _default,
    "double": _double,
    "if": _if,
    "int": _int,
    "keys": _keys,
    "len": _len,
    "list.concat": _concat,
    "list.prepend": _prepend,
    "map.delete": _delete,
    "map.get": _get,
    "map.merge": _merge,
    "math.abs": _abs,
    "math.floor": _floor,
    "math.max": _max,
    "math.min": _min,
    "string": _string,
    "text.replace_all": _replace_all,
    "text.split": _split,
    "text.substring": _substring,
    "text.to_lower": _to_lower,
    "text.to_upper": _to_upper,
}
FUNCTIONS = {
    name: Function(call, tuple(parameter.rstrip("_") for parameter in inspect.signature(call).parameters))
    for name, call in _CALLS.items()
}
"""By the name that expressions use. ``sys.now`` is not among them: it needs the clock of the execution."""
