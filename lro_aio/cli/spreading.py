"""Options that several commands have in common, as one parameter of each."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, get_type_hints

__all__ = ["spread"]


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer is to see it: a parameter that is a dataclass is one option for each field of it.

    Args:
        command: It has annotations, and takes keywords.
    """
    seen: list[Parameter] = []
    groups: dict[str, tuple[Any, list[str]]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            seen.append(parameter)
            continue
        hints, fields = get_type_hints(kind, include_extras=True), dataclasses.fields(kind)
        groups[parameter.name] = kind, [field.name for field in fields]
        seen += [
            Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
            for field in fields
        ]

    def called(**given: Any) -> None:
        made = {name: kind(**{field: given.pop(field) for field in fields}) for name, (kind, fields) in groups.items()}
        command(**given, **made)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in seen}
    called.__dict__["__signature__"] = inspect.Signature(seen)
    return called
