"""What errors are worded of: lists that stay short, and variables as AIP-193 names them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

__all__ = ["call", "listed", "variables"]


def call(name: str) -> str:
    """The call to another service for an operation, or the one that starts it and has no name yet."""
    return f"a call for operation {name!r}" if name else "the call that starts an operation"


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first few names in one line: gRPC carries errors in headers, which must stay small."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def variables(attributes: Mapping[str, object], hidden: Collection[str]) -> dict[str, str]:
    """Those attributes of an error that are texts, numbers or lists of names, with keys in lowerCamelCase."""
    found: dict[str, str] = {}
    for name, value in attributes.items():
        if name.startswith("_") or name in hidden:
            continue
        key = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
        if isinstance(value, str | int | float):
            found[key] = str(value)
        elif isinstance(value, tuple) and value and all(isinstance(item, str) for item in value):
            found[key] = listed(value)
    return found
