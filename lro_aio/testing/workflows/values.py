"""The values of a workflow: their kinds, the memory they take, and the errors of an execution."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = [
    "MAX_MEMORY",
    "MAX_STRING",
    "ResourceLimitError",
    "UndefinedError",
    "WorkflowError",
    "integer",
    "is_number",
    "kind",
    "size",
]

MAX_STRING = 256 * 1024
"""Bytes of one string (https://cloud.google.com/workflows/quotas)."""
MAX_MEMORY = 512 * 1024
"""Bytes of all variables of an execution, from the same page."""


class WorkflowError(Exception):
    """An error that a workflow can catch.

    Args:
        message: For people.
        tags: https://cloud.google.com/workflows/docs/reference/syntax/error-types
        more: Other members of the error map.
    """

    def __init__(self, message: str, *tags: str, **more: Any) -> None:
        super().__init__(message)
        self.payload: Any = {"message": message, "tags": list(tags), **more}
        """What ``except`` binds: this map, or what was raised."""

    @classmethod
    def raised(cls, payload: Any) -> WorkflowError:
        """The error of a ``raise`` step.

        Args:
            payload: The map or string that it raises.
        """
        error = cls(str(payload.get("message", payload)) if isinstance(payload, dict) else str(payload))
        error.payload = payload
        return error


class ResourceLimitError(Exception):
    """A limit of the service was exceeded. That ends the execution; nothing catches it."""


class UndefinedError(Exception):
    """A variable was read before it had a value. That ends the execution."""


def kind(value: Any) -> str:
    """The type of a value, as messages name it.

    Args:
        value: Any value of a workflow.
    """
    names = {dict: "a map", list: "a list", str: "a string", bool: "a boolean", int: "an integer", float: "a double"}
    return "null" if value is None else names[type(value)]


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is an integer or a double.

    Args:
        value: Any value of a workflow.
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def integer(value: int) -> int:
    """The integer, if 64 bits hold it (https://cloud.google.com/workflows/docs/reference/syntax/datatypes).

    Args:
        value: The result of an operation.

    Raises:
        ResourceLimitError: It is larger. What the service does then is not documented.
    """
    if not -(2**63) <= value < 2**63:
        raise ResourceLimitError("an integer has more than 64 bits")
    return value


def size(value: Any) -> int:
    """The bytes that a variable takes: https://cloud.google.com/workflows/docs/reference/syntax/variables#memory.

    Args:
        value: What it holds.

    Raises:
        ResourceLimitError: A string in it is too long.
    """
    if isinstance(value, str):
        length = len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        if length > MAX_STRING:
            raise ResourceLimitError(f"a string has {length} bytes; the limit is {MAX_STRING}")
        return 8 + length
    if isinstance(value, dict):
        return 8 + sum(size(key) + size(item) for key, item in value.items())
    if isinstance(value, list):
        return 8 + sum(map(size, value))
    return 8
