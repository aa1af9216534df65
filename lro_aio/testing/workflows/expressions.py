"""What stands between ``${`` and ``}``: parsed once, checked against the documented syntax, evaluated on plain values.

The engine's own evaluation hands the text to Python and the result through YAML: null becomes the word "None", a map
that lacks a key looks like an undefined variable, ``default`` replaces 0 and "", and ``if(...)`` cannot be parsed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

__all__ = ["MAX_EXPRESSION", "Scope", "UndefinedError", "evaluate", "expressions", "library", "parse", "render"]

MAX_EXPRESSION = 400
"""Characters (https://cloud.google.com/workflows/quotas)."""

_WHOLE = re.compile(r"\$\{(.*)\}", re.DOTALL)
_STRING = re.compile(r'("(?:[^"\\]|\\.)*")')
_IF = re.compile(r"\bif\s*\(")
_LITERALS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False, "null": None}
_BLOCKING = ("http.", "sys.sleep", "sys.log")

_SYNTAX: tuple[type[ast.AST], ...] = (
    ast.Expression, ast.Name, ast.Load, ast.Constant, ast.Attribute, ast.Subscript, ast.Call, ast.List,
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.FloorDiv,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
)  # fmt: skip
"""https://cloud.google.com/workflows/docs/reference/syntax/expressions"""

Library = Mapping[str, Any]


class Scope(dict[str, Any]):
    """The names of one evaluation: the variables, then the library."""

    def __init__(self, variables: Mapping[str, Any], standard: Library) -> None:
        super().__init__(_member=_member, _same=_same)
        self._variables = variables
        self._standard = standard

    def __missing__(self, name: str) -> Any:
        if name in self._variables:
            return self._variables[name]
        if name in self._standard:
            return self._standard[name]
        raise UndefinedError(name)


class UndefinedError(Exception):
    """A variable that has no value: not an error that the workflow could catch as a missing key."""


def render(value: Any, variables: Mapping[str, Any], standard: Library) -> Any:
    """The value with every string that is an expression replaced by what that evaluates to."""
    if isinstance(value, str):
        whole = _WHOLE.fullmatch(value.strip())
        return evaluate(whole[1], variables, standard) if whole else value
    if isinstance(value, dict):
        return {key: render(item, variables, standard) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, variables, standard) for item in value]
    return value


def evaluate(text: str, variables: Mapping[str, Any], standard: Library) -> Any:
    """The value of an expression.

    Raises:
        SyntaxError: Workflows would not take it at all.
        UndefinedError: A name in it has no value.
        Exception: As the operation or function raises it: TypeError, KeyError, IndexError, ZeroDivisionError.
    """
    return eval(parse(text), {"__builtins__": {}}, Scope(variables, standard))  # noqa: S307 (checked above)


@lru_cache(maxsize=1024)
def parse(text: str) -> CodeType:
    """Read an expression, without its ``${}``.

    Raises:
        SyntaxError: Workflows would not take it.
    """
    if len(text) + len("${}") > MAX_EXPRESSION:
        raise SyntaxError(f"an expression of {len(text)} characters: {text[:60]}...")
    parts = _STRING.split(text.strip())
    for index in range(0, len(parts), 2):
        if "'" in parts[index]:
            raise SyntaxError(f"a string that is not in double quotes: {text}")
        parts[index] = _IF.sub("if_(", parts[index]).replace("\n", " ")
    tree = ast.parse("".join(parts), mode="eval")
    for node in ast.walk(tree):
        if not isinstance(node, _SYNTAX) or (isinstance(node, ast.Call) and node.keywords):
            raise SyntaxError(f"{type(node).__name__} in an expression: {text}")
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(_BLOCKING):
            raise SyntaxError(f"{ast.unparse(node.func)} must be called by a step of its own: {text}")
    return compile(ast.fix_missing_locations(_Members().visit(tree)), "<expression>", "eval")


class _Members(ast.NodeTransformer):
    """``a.b`` reads a key of a map, ``null`` is a value, and true is not 1."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        owner = self.visit(node.value)
        return ast.Call(ast.Name("_member", ast.Load()), [owner, ast.Constant(node.attr)], [])

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) > 1:
            raise SyntaxError("two comparisons in a row")
        if isinstance(node.ops[0], ast.Eq | ast.NotEq):
            same = ast.Call(ast.Name("_same", ast.Load()), [node.left, node.comparators[0]], [])
            return same if isinstance(node.ops[0], ast.Eq) else ast.UnaryOp(ast.Not(), same)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(_LITERALS[node.id]) if node.id in _LITERALS else node


def _same(one: Any, other: Any) -> bool:
    """Equal, and both booleans or neither: to Python, 1 is true."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _member(owner: Any, name: str) -> Any:
    if isinstance(owner, ModuleType | SimpleNamespace):
        return getattr(owner, name)
    if not isinstance(owner, dict):
        raise TypeError(f"{_kind(owner)} has no members, not even {name!r}")
    if name not in owner:
        raise KeyError(f"key not found: {name}")
    return owner[name]


def library(modules: Mapping[str, Any], *, now: Callable[[], float]) -> dict[str, Any]:
    """The functions of expressions and of call steps.

    Args:
        modules: The engine's own, by name.
        now: What ``sys.now`` returns.
    """
    maps = modules["map"]
    return {
        **modules,
        "sys": SimpleNamespace(now=now),
        "map": SimpleNamespace(get=_map_get, delete=maps.delete, merge=_merge, merge_nested=maps.merge_nested),
        "list": SimpleNamespace(concat=_concat, prepend=modules["list"].prepend),
        "default": lambda value, other: other if value is None else value,
        "if_": _if,
        "int": _int,
        "double": float,
        "string": _string,
        "keys": _keys,
        "len": _len,
    }


def _if(condition: Any, yes: Any, no: Any) -> Any:
    if condition is not None and not isinstance(condition, bool):
        raise TypeError(f"the condition of if() is {_kind(condition)}, not a boolean")
    return yes if condition else no


def _map_get(owner: Any, keys: Any) -> Any:
    for key in keys if isinstance(keys, list) else [keys]:
        if not isinstance(key, str):
            raise TypeError(f"a key is a string, not {_kind(key)}")
        owner = owner.get(key) if isinstance(owner, dict) else None
    return owner


def _merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(first, dict) or not isinstance(second, dict):
        raise TypeError("map.merge takes two maps")
    return {**first, **second}


def _concat(items: list[Any], item: Any) -> list[Any]:
    if not isinstance(items, list):
        raise TypeError(f"list.concat takes a list, not {_kind(items)}")
    return [*items, item]


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"int() takes a string or a number, not {_kind(value)}")
    return int(value)


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise TypeError(f"string() takes a string, number or boolean, not {_kind(value)}")


def _keys(value: Any) -> list[str]:
    if not isinstance(value, dict):
        raise TypeError(f"keys() takes a map, not {_kind(value)}")
    return list(value)


def _len(value: Any) -> int:
    if not isinstance(value, dict | list | str):
        raise TypeError(f"len() takes a list, map or string, not {_kind(value)}")
    return len(value)


def _kind(value: Any) -> str:
    names = {dict: "a map", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def expressions(value: Any) -> Iterator[str]:
    """Every expression in a definition, without its ``${}``."""
    if isinstance(value, str) and (whole := _WHOLE.fullmatch(value.strip())):
        yield whole[1]
    elif isinstance(value, dict):
        for item in value.values():
            yield from expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item)
